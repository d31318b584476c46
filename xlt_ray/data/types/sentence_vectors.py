"""What kinds of task share whose predictions are vectors of sentences: nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xlt_ray.data.task import Task
from xlt_ray.data.text.pipeline import Batch, collate
from xlt_ray.data.types.base import Example, Frame, Row, TaskType

NUM_NEIGHBOURS = 4
"""Of a sentence, whose nearness its margin is measured against."""


class SentenceVectorsType(TaskType):
    """A sentence is the mean of its pieces at one layer."""

    def numbers(self, task: Task, example: Example) -> np.ndarray:
        """(): there is nothing to be learned."""
        return np.array(0, np.int64)

    def shown(self, task: Task, row: Row) -> Sequence[Row]:
        return [(sentence,) for sentence in row]

    def batch(
        self, task: Task, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame
    ) -> Batch:
        """Single sentences, without labels."""
        batch, _ = collate(items, frame.template, frame.max_length)
        return batch

    def decode(
        self, task: Task, items: Sequence[Row], predicted: np.ndarray, frame: Frame
    ) -> list[np.ndarray]:
        """``predicted`` (batch, hidden): vectors of sentences."""
        return list(np.asarray(predicted))

    def score(
        self, task: Task, language: str, gold: Sequence[Any], predicted: Sequence[Any]
    ) -> dict[str, float]:
        return dict(self.item_scores(task, language, gold, predicted).values)

    def score_tuned(
        self,
        task: Task,
        language: str,
        gold: Sequence[Any],
        predicted: Sequence[Any],
        dev: tuple[Sequence[Any], Sequence[Any]],
    ) -> dict[str, float]:
        return dict(self.item_scores_tuned(task, language, gold, predicted, dev).values)


def of_length_one(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, width) made 1 long; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1.0, lengths)
