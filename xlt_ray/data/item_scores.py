"""What every item of a test set contributes to a metric, and what answering blindly would score.

Every metric is the ratio of two sums over items, of points and of what they are out of, so that
items can be resampled, and paired with those of another system, without predictions and without
labels. A contribution is not a label: a right answer is one of several. Whoever has the network can
predict again and learn from "right" what the label was, as from any published list of results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, TypeVar

import numpy as np

from xlt_ray.config.task_types import Metric

_NUMBERS_AT_ONCE = 2**22
"""Ranks that are taken at once."""

_Answer = TypeVar("_Answer", bound=Hashable)

Parts = tuple[np.ndarray, np.ndarray]
"""(n,) float64 each: points, and what they are out of."""


@dataclass(frozen=True)
class ItemScores:
    """All metrics of one evaluation, item by item."""

    owners: np.ndarray
    """(n,) int64: the number of the example that every item is; no example is there twice."""
    parts: Mapping[str, Parts]
    """Metric -> points and what they are out of."""
    values: Mapping[str, float]
    """Metric -> score, headline first: the sums' ratio, but for rounding. A metric that gold
    leaves undefined is missing here, in ``parts`` and in ``chance``."""
    top_share: float
    """Share of the most frequent prediction, of words for tags; 0.0 of no items. Of vectors it is
    the share of queries that are nearest to one and the same candidate."""
    gold_top_share: float
    """The same of the right answers."""
    chance: Mapping[str, float]
    """Metric -> what is scored without looking at the text: by the most frequent right answer for
    all, or, of vectors, by a random order of the candidates (its expectation)."""


def ratio(points: np.ndarray, out_of: np.ndarray) -> float:
    """The score of items; 0.0 where there is nothing to score."""
    total = float(out_of.sum())
    return float(points.sum()) / total if total else 0.0


def each(points: Sequence[float] | np.ndarray) -> Parts:
    """Items that count alike, out of 1 each."""
    array = np.asarray(points, np.float64)
    return array, np.ones(len(array))


def of_counts(measure: str, right: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> Parts:
    """``f1`` (2 * right out of predicted + gold), ``precision`` or ``recall`` from (n,) counts."""
    right = np.asarray(right, np.float64)
    parts = {
        "f1": (2 * right, np.asarray(predicted, np.float64) + gold),
        "precision": (right, np.asarray(predicted, np.float64)),
        "recall": (right, np.asarray(gold, np.float64)),
    }
    return parts[measure]


def of_jackknife(value: float, without: np.ndarray) -> Parts:
    """Points of a score that is not a ratio of sums, from (n,) scores without each item.

    They are the jackknife's pseudo-values (Efron and Tibshirani 1993, chapter 11, without the
    correction for bias): with the score s of all n items and s_i without item i they are

        s + (n - 1) * (mean of all s_j - s_i)

    whose mean is s itself, and whose spread over items is that of the jackknife.
    """
    return each(value + (len(without) - 1) * (without.mean() - without) if len(without) else [])


def top_share(answers: Iterable[Hashable]) -> float:
    """Share of the most frequent answer.

    >>> top_share(["yes", "no", "yes", "yes"]), top_share([])
    (0.75, 0.0)
    """
    counts = Counter(answers)
    return max(counts.values()) / counts.total() if counts else 0.0


def most_frequent(answers: Iterable[_Answer]) -> _Answer | None:
    """The most frequent answer, the first one seen among equals; None of no answers."""
    counts = Counter(answers).most_common(1)
    return counts[0][0] if counts else None


def jackknife_of(
    metric: Metric, value: float, gold: Sequence[Any], predicted: Sequence[Any]
) -> Parts:
    """Pseudo-values of a metric; without the other items it is 0 if they leave it undefined.

    Items with the same gold and prediction are measured once.
    """
    if metric.without:
        return of_jackknife(value, resolve_name(metric.without)(gold, predicted))
    items = list(zip(gold, predicted, strict=True))
    scores: dict[Any, float] = {}
    for place, item in enumerate(items):
        if item not in scores:
            others = items[:place] + items[place + 1 :]
            scores[item] = metric.measured(*zip(*others, strict=True)) or 0.0 if others else 0.0
    return of_jackknife(value, np.array([scores[item] for item in items]))


def macro_f1_without_each(gold: Sequence[str], predicted: Sequence[str]) -> np.ndarray:
    """:func:`macro_f1_without` of items with one label each."""
    counts = label_counts([[label] for label in gold], [[label] for label in predicted])
    return macro_f1_without(*counts)


def weighted_f1_without_each(gold: Sequence[str], predicted: Sequence[str]) -> np.ndarray:
    """(n,): F1 weighted by the labels of the gold data, without each item."""
    counts = label_counts([[label] for label in gold], [[label] for label in predicted])
    right, predicted_counts, gold_counts = (side.sum(axis=0) - side for side in counts)
    f1 = np.divide(
        2 * right, predicted_counts + gold_counts,
        out=np.zeros(right.shape), where=gold_counts > 0,
    )  # fmt: skip
    total = gold_counts.sum(axis=1)
    return np.divide(
        (f1 * gold_counts).sum(axis=1), total, out=np.zeros(len(total)), where=total > 0
    )


def macro_f1_without(right: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """(n,): macro F1 over the labels of the gold data without each item.

    Args:
        right: (n, labels) counts of every item, as ``predicted`` and ``gold``.
    """
    right, predicted, gold = (counts.sum(axis=0) - counts for counts in (right, predicted, gold))
    occurs = gold > 0
    f1 = np.divide(2 * right, predicted + gold, out=np.zeros(occurs.shape), where=occurs)
    num_labels = occurs.sum(axis=1)
    return np.divide(f1.sum(axis=1), num_labels, out=np.zeros(len(occurs)), where=num_labels > 0)


def label_counts(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, labels) right, predicted and gold ones of every item, by label of the gold data."""
    labels = {label: place for place, label in enumerate(sorted({x for row in gold for x in row}))}
    right, predictions, wanted = (np.zeros((len(gold), len(labels))) for _ in range(3))
    for number, (row, answers) in enumerate(zip(gold, predicted, strict=True)):
        for label, answer in zip(row, answers, strict=True):
            wanted[number, labels[label]] += 1
            if answer in labels:
                predictions[number, labels[answer]] += 1
                right[number, labels[answer]] += label == answer
    return right, predictions, wanted


def pearson_without(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    """(n,): correlation of values without each item, 0 where one side is constant then."""
    if not len(first):
        return np.zeros(0)
    x, y = (np.asarray(side, np.float64) - np.mean(side) for side in (first, second))
    # Sums of squares about the mean of the others, in closed form.
    factor = len(x) / max(len(x) - 1, 1)
    xx, yy, xy = ((a * b).sum() - factor * a * b for a, b in ((x, x), (y, y), (x, y)))
    return _correlations(xx, yy, xy, 1e-12 * (x * x).sum(), 1e-12 * (y * y).sum())


def spearman_without(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    """(n,): correlation of ranks without each item; as :func:`pearson_without`."""
    from scipy.stats import rankdata

    x, y = (np.asarray(side, np.float64) for side in (first, second))
    sides = [(side, rankdata(side)) for side in (x, y)]
    without = np.zeros(len(x))
    step = max(1, _NUMBERS_AT_ONCE // max(len(x), 1))
    for begin in range(0, len(x), step):
        part = slice(begin, begin + step)
        rows = np.arange(len(x[part]))
        a, b = (_ranks_without(side, ranks, part, rows) for side, ranks in sides)
        without[part] = _correlations(
            (a * a).sum(axis=1), (b * b).sum(axis=1), (a * b).sum(axis=1), 0, 0
        )
    return without


def _ranks_without(
    values: np.ndarray, ranks: np.ndarray, part: slice, rows: np.ndarray
) -> np.ndarray:
    """(block, n): ranks of all without the item of each row, about their mean; 0 of itself."""
    dropped = values[part, None]
    left = ranks - (dropped < values) - (dropped == values) / 2 - len(values) / 2
    left[rows, rows + part.start] = 0
    return np.asarray(left)


def _correlations(
    xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, least_x: float, least_y: float
) -> np.ndarray:
    varies = (xx > least_x) & (yy > least_y)
    scale = np.sqrt(np.where(varies, xx * yy, 1.0))
    return np.where(varies, xy / scale, 0.0)
