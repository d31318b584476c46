"""What every item of a test set contributes to a metric, and what answering blindly would score.

Every metric of every kind is the ratio of two sums over items,

    score = sum of points / sum of what they are out of,

so that items can be resampled, and paired with those of another system, without predictions and
without labels:

- right or wrong, or a score (accuracy, F1 and EM of an answer, AP of a query): the item's own
  score out of 1; out of the number of its words for tags, out of 0 for a query that a metric
  leaves out;
- F1, precision and recall of counts (entities, mined pairs): F1 is ``2 * tp`` out of
  ``predicted + gold``, precision ``tp`` out of ``predicted``, recall ``tp`` out of ``gold``;
- what is no such ratio (macro F1, correlations): the jackknife's pseudo-value out of 1. With
  ``s`` the score of all n items and ``s_i`` that without item i it is

      s + (n - 1) * (mean of all s_j - s_i)

  (Efron and Tibshirani 1993, chapter 11, without the correction for bias), whose mean is ``s``
  itself and whose spread over items is that of the jackknife.

A contribution is no label: a pseudo-value of a correlation is one number made from two, a right
answer is one of several. Who has the network can predict again and learn from "right" what the
label was, as from any published list of results.

What a network says to everything is told by :attr:`ItemScores.top_share`; what it would score by
that, :attr:`ItemScores.chance`.
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
    """``f1``, ``precision`` or ``recall`` from (n,) counts of every item."""
    right = np.asarray(right, np.float64)
    parts = {
        "f1": (2 * right, np.asarray(predicted, np.float64) + gold),
        "precision": (right, np.asarray(predicted, np.float64)),
        "recall": (right, np.asarray(gold, np.float64)),
    }
    return parts[measure]


def of_jackknife(value: float, without: np.ndarray) -> Parts:
    """Pseudo-values of a score, from (n,) scores without each item."""
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
    found = Counter(answers).most_common(1)
    return found[0][0] if found else None


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


def macro_f1_without_pairs(gold: Sequence[str], predicted: Sequence[str]) -> np.ndarray:
    """:func:`macro_f1_without` of items with one label each."""
    counts = label_counts([[label] for label in gold], [[label] for label in predicted])
    return macro_f1_without(*counts)


def macro_f1_without(right: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """(n,): macro F1 over the labels of the gold data without each item.

    Args:
        right: (n, labels) counts of every item, as ``predicted`` and ``gold``.
    """
    left = [one.sum(axis=0) - one for one in (right, predicted, gold)]
    there = left[2] > 0
    f1 = np.divide(2 * left[0], left[1] + left[2], out=np.zeros(there.shape), where=there)
    num_labels = there.sum(axis=1)
    return np.divide(f1.sum(axis=1), num_labels, out=np.zeros(len(there)), where=num_labels > 0)


def label_counts(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, labels) right, predicted and gold ones of every item, by label of the gold data."""
    labels = {label: place for place, label in enumerate(sorted({x for row in gold for x in row}))}
    right, said, wanted = (np.zeros((len(gold), len(labels))) for _ in range(3))
    for number, (row, other) in enumerate(zip(gold, predicted, strict=True)):
        for one, two in zip(row, other, strict=True):
            wanted[number, labels[one]] += 1
            if two in labels:
                said[number, labels[two]] += 1
                right[number, labels[two]] += one == two
    return right, said, wanted


def pearson_without(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    """(n,): correlation of values without each item, 0 where one side is constant then."""
    if not len(first):
        return np.zeros(0)
    x, y = (np.asarray(side, np.float64) - np.mean(side) for side in (first, second))
    # Sums of squares about the mean of the others, in closed form.
    factor = len(x) / max(len(x) - 1, 1)
    xx, yy, xy = (
        (one * other).sum() - factor * one * other for one, other in ((x, x), (y, y), (x, y))
    )
    return _correlations(xx, yy, xy, 1e-12 * (x * x).sum(), 1e-12 * (y * y).sum())


def spearman_without(first: Sequence[float], second: Sequence[float]) -> np.ndarray:
    """(n,): correlation of ranks without each item; as :func:`pearson_without`."""
    from scipy.stats import rankdata

    x, y = (np.asarray(side, np.float64) for side in (first, second))
    sides = [(side, rankdata(side)) for side in (x, y)]
    found = np.zeros(len(x))
    step = max(1, _NUMBERS_AT_ONCE // max(len(x), 1))
    for begin in range(0, len(x), step):
        part = slice(begin, begin + step)
        rows = np.arange(len(x[part]))
        one, other = (_ranks_without(side, ranks, part, rows) for side, ranks in sides)
        found[part] = _correlations(
            (one * one).sum(axis=1), (other * other).sum(axis=1), (one * other).sum(axis=1), 0, 0
        )
    return found


def _ranks_without(
    values: np.ndarray, ranks: np.ndarray, part: slice, rows: np.ndarray
) -> np.ndarray:
    """(block, n): ranks of all without the item of each row, about their mean; 0 of itself."""
    own = values[part, None]
    left = ranks - (own < values) - (own == values) / 2 - len(values) / 2
    left[rows, rows + part.start] = 0
    return np.asarray(left)


def _correlations(
    xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, least_x: float, least_y: float
) -> np.ndarray:
    varies = (xx > least_x) & (yy > least_y)
    scale = np.sqrt(np.where(varies, xx * yy, 1.0))
    return np.where(varies, xy / scale, 0.0)
