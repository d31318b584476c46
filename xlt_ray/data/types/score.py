"""Regression: a number for two sentences, read from TSV files with a header.

The number is trained on as its place in the task's range, 0 to 1, so that a new head starts
near it whatever the scale; predictions are put back on the scale and not cut to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xlt_ray.config.task_types import SCORE_METRICS
from xlt_ray.data.item_scores import Parts, jackknife_of
from xlt_ray.data.text.lines import line_error
from xlt_ray.data.types.base import Frame, Predictions, Row, known_label
from xlt_ray.data.types.pair import SentencePairType, TwoSentences


@dataclass(frozen=True, slots=True)
class ScoreExample(TwoSentences):
    """Two sentences and a number."""

    label_field = "score"
    score: float | None


class ScoreType(SentencePairType):
    """Gold and predictions are one number per pair, on the task's scale."""

    example = ScoreExample

    def of_text(
        self, name: str, first: str, second: str, label: str, path: Path, number: int
    ) -> ScoreExample:
        low, high = self.task.range
        try:
            score = float(label)
        except ValueError:
            score = math.nan
        if not low <= score <= high:
            raise line_error(path, number, f"{label!r} is not a score from {low:g} to {high:g}")
        return ScoreExample(name, first, second, score)

    def unlabelled(self, name: str, first: str, second: str) -> ScoreExample:
        return ScoreExample(name, first, second, self.task.range[0])

    def numbers(self, example: ScoreExample) -> np.ndarray:
        """() float32: 0 at the low end of the range, 1 at the high end."""
        low, high = self.task.range
        return np.array((known_label(example) - low) / (high - low), np.float32)

    def decode(self, items: Sequence[Row], predicted: np.ndarray, frame: Frame) -> list[float]:
        """``predicted`` (batch,): places in the range."""
        low, high = self.task.range
        return [low + (high - low) * place for place in np.asarray(predicted).tolist()]

    def measured(self, metric: str, split: Predictions) -> float | None:
        return SCORE_METRICS[metric].measured(split.gold, split.predicted)

    def parts(self, metric: str, value: float, split: Predictions) -> Parts:
        return jackknife_of(SCORE_METRICS[metric], value, split.gold, split.predicted)

    def answers(self, predicted: Sequence[float]) -> list[float]:
        """Numbers count as the same that are in the same hundredth of the range."""
        low, high = self.task.range
        hundredths: list[float] = np.round(
            100 * (np.asarray(predicted, np.float64) - low) / (high - low)
        ).tolist()
        return hundredths
