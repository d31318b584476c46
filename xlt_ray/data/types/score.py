"""Regression: a number for two sentences, read from TSV files with a header.

The number is trained on as its place in the task's range, 0 to 1, so that a new head starts
near it whatever the scale; predictions are put back on the scale and not cut to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import (
    ItemScores,
    of_jackknife,
    pearson_without,
    spearman_without,
    top_share,
)
from xlt_ray.data.metrics import defined, pearson, spearman
from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, Names, line_error
from xlt_ray.data.types.base import Frame, Row
from xlt_ray.data.types.pair import SentencePairType, TwoSentences, both_sentences, pair_rows


@dataclass(frozen=True, slots=True)
class ScoreExample(TwoSentences):
    """Two sentences and a number; ``score`` is None where only the text may be seen."""

    score: float | None

    @property
    def gold(self) -> float | None:
        return self.score

    def hidden(self) -> ScoreExample:
        return replace(self, score=None)


class ScoreType(SentencePairType):
    """Gold and predictions are one number per pair, on the task's scale."""

    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[ScoreExample]:
        names = Names()
        for number, (name, first, second, text) in pair_rows(path, task, split, faults):
            with faults:
                score = _number(text, task, path, number)
                yield ScoreExample(names.unique(name), first, second, score)

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> ScoreExample | None:
        return ScoreExample(
            name, *both_sentences(row), _number(str(row["label"]), task, path, number)
        )

    def unlabelled(self, task: Task, name: str, first: str, second: str) -> ScoreExample:
        return ScoreExample(name, first, second, task.range[0])

    def numbers(self, task: Task, example: ScoreExample) -> np.ndarray:
        """() float32: 0 at the low end of the range, 1 at the high end."""
        assert example.score is not None, "text without labels cannot be trained or scored"
        low, high = task.range
        return np.array((example.score - low) / (high - low), np.float32)

    def decode(
        self, task: Task, items: Sequence[Row], predicted: np.ndarray, frame: Frame
    ) -> list[float]:
        """``predicted`` (batch,): places in the range."""
        low, high = task.range
        return [low + (high - low) * place for place in np.asarray(predicted).tolist()]

    def score(
        self, task: Task, language: str, gold: Sequence[float], predicted: Sequence[float]
    ) -> dict[str, float]:
        measures = {"pearson": pearson, "spearman": spearman}
        return defined({metric: measures[metric](gold, predicted) for metric in task.metrics})

    def item_scores(
        self, task: Task, language: str, gold: Sequence[float], predicted: Sequence[float]
    ) -> ItemScores:
        """Of predictions those count as the same that are in the same hundredth of the range."""
        values = self.score(task, language, gold, predicted)
        without = {"pearson": pearson_without, "spearman": spearman_without}
        low, high = task.range
        rough = [
            np.round(100 * (np.asarray(side, np.float64) - low) / (high - low)).tolist()
            for side in (predicted, gold)
        ]
        return ItemScores(
            owners=np.arange(len(gold)),
            parts={
                metric: of_jackknife(value, without[metric](gold, predicted))
                for metric, value in values.items()
            },
            values=values,
            top_share=top_share(rough[0]),
            gold_top_share=top_share(rough[1]),
            chance=dict.fromkeys(values, 0.0),
        )


KIND = ScoreType()


def _number(text: str, task: Task, path: Path, number: int) -> float:
    low, high = task.range
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not low <= score <= high:
        raise line_error(path, number, f"{text!r} is not a score from {low:g} to {high:g}")
    return score
