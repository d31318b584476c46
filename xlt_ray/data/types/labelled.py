"""What kinds share whose examples have one label each, whatever text they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xlt_ray.config.task_types import LABEL_METRICS
from xlt_ray.data.item_scores import Parts, each, jackknife_of
from xlt_ray.data.text.pipeline import Batch, collate
from xlt_ray.data.types.base import (
    AnswersType,
    Example,
    Frame,
    Predictions,
    Row,
    class_shares,
    known_label,
)


class LabelledType(AnswersType):
    """Gold and predictions are one label for each example."""

    def numbers(self, example: Example) -> np.ndarray:
        """()."""
        return np.array(self.task.number_of(known_label(example)), np.int64)

    def decode(self, items: Sequence[Row], predicted: np.ndarray, frame: Frame) -> list[str]:
        """``predicted`` (batch,): numbers of labels."""
        return [self.task.labels[number] for number in np.asarray(predicted).tolist()]

    def certainties(self, logits: Any, labels: np.ndarray) -> list[Any]:
        return class_shares(logits)

    def probability(
        self, answer: str, parts: Sequence[str], certainties: Sequence[Any]
    ) -> tuple[Any, dict[str, float] | None]:
        """The softmax of the logits, by label."""
        by_label = dict(zip(self.task.labels, certainties[0].tolist(), strict=True))
        return by_label[answer], by_label

    def measured(self, metric: str, split: Predictions) -> float | None:
        return LABEL_METRICS[metric].measured(split.gold, split.predicted)

    def parts(self, metric: str, value: float, split: Predictions) -> Parts:
        if metric == "accuracy":
            return each(split.is_right())
        return jackknife_of(LABEL_METRICS[metric], value, split.gold, split.predicted)


def labelled_batch(items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
    """Padded arrays of rows of one or two sentences, ``labels`` (batch,)."""
    batch, _ = collate(items, frame.template, frame.max_length)
    batch["labels"] = np.stack(labels)
    return batch
