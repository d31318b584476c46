"""What a difference between two configurations is worth: intervals, exact tests, corrections.

The unit of replication is the seed: two configurations are paired by it, and a mean over
languages is taken within a seed before anything else. What is drawn is seeded, so the same numbers
give the same answer.

- :func:`summary`: mean over seeds with Student's interval.
- :func:`student_quantile`: the same of a mean and a deviation that are known.
- :func:`paired`: mean difference with its interval and p-value.
- :func:`difference_interval`: of means of two samples that are not paired.
- :func:`holm`: p-values of a family (the languages of one comparison) corrected.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

LEVEL = 0.95
ALPHA = 0.05
MIN_SEEDS_FOR_STAR = 6
"""With fewer pairs no exact two-sided sign-flip test reaches 5 %: its least p is 2 / 2**n."""
MAX_EXACT_PAIRS = 20
"""Up to here all 2**(n-1) sign patterns are counted; above, so many are drawn:"""
NUM_FLIPS = 50_000

Method = Literal[
    "student", "student_given_stages", "welch", "two_level", "two_level_given_stages", "items"
]
"""``..._given_stages``: of what was trained after stages that samples have in common."""


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval and how it was made."""

    low: float
    high: float
    method: Method
    level: float = LEVEL


@dataclass(frozen=True)
class Summary:
    """Mean over seeds, their number, and the mean's interval (None of one seed)."""

    mean: float
    num_seeds: int
    interval: Interval | None


@dataclass(frozen=True)
class Paired:
    """The mean of paired differences (second minus first)."""

    difference: float
    num_pairs: int
    interval: Interval | None
    """None with one pair, or where all differences are equal: there is no spread to judge by."""
    p: float | None
    """Two-sided, of the sign-flip test; not corrected for other comparisons. None where pairs are
    not independent: one sample cannot be tested."""
    is_exact: bool
    """Whether all sign patterns were counted, or some drawn."""


def summary(values: Sequence[float]) -> Summary:
    """Mean of one number a seed, with Student's t interval.

    Raises:
        ValueError: ``values`` is empty, or one is not finite.
    """
    array = _finite(values)
    return Summary(float(array.mean()), len(array), _student(array))


def paired(differences: Sequence[float], *, are_independent: bool = True, seed: int = 0) -> Paired:
    """The mean of paired differences, Student's interval, and the p-value of no difference.

    Student's interval holds the truth in 95 % of normal samples of any size; a bootstrap's (BCa)
    of nominally 95 % holds it in 86 % with 6 pairs and 91 % with 10, because so few values do not
    show how far they spread (``benchmarks/statistics.py``).

    Args:
        differences: one a seed.
        are_independent: whether no luck is common to several of them. Where it is, there is no
            test, and the interval holds the truth *given* that luck.
        seed: of the sign patterns where not all are counted.

    Raises:
        ValueError: ``differences`` is empty, or one is not finite.
    """
    array = _finite(differences)
    p, is_exact = sign_flip_p(differences, seed=seed)
    interval = _student(array)
    if not are_independent:
        interval = given_stages(interval)
    return Paired(
        difference=float(array.mean()),
        num_pairs=len(array),
        interval=interval,
        p=p if are_independent else None,
        is_exact=is_exact,
    )


def given_stages(interval: Interval | None) -> Interval | None:
    """The same interval, said to hold given the stages that seeds share; of one seed's items, which
    are given its networks anyway, as it is."""
    if interval is None or interval.method not in ("student", "two_level"):
        return interval
    methods: dict[str, Method] = {
        "student": "student_given_stages",
        "two_level": "two_level_given_stages",
    }
    return replace(interval, method=methods[interval.method])


@functools.cache
def student_quantile(num_values: int) -> float:
    """What a mean's standard error is multiplied by for half of Student's interval."""
    from scipy import stats

    return float(stats.t.ppf((1 + LEVEL) / 2, num_values - 1))


def difference_interval(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Welch's interval of the mean of ``first`` minus that of ``second``, independent samples.

    None where either has fewer than two values, or neither has any spread.

    Raises:
        ValueError: a sample is empty, or a value is not finite.
    """
    from scipy import stats

    sample, reference = _finite(first), _finite(second)
    if min(len(sample), len(reference)) < 2 or (_all_equal(sample) and _all_equal(reference)):
        return None
    with warnings.catch_warnings():
        # One side without spread loses digits of a term that is next to nothing.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.ttest_ind(sample, reference, equal_var=False).confidence_interval(LEVEL)
    return Interval(float(interval.low), float(interval.high), "welch")


def sign_flip_p(differences: Sequence[float], *, seed: int = 0) -> tuple[float, bool]:
    """Two-sided p of the mean difference under random signs, and whether it is exact.

    If two configurations are alike, each seed's difference might as well have had the other sign;
    p is the share of sign patterns whose mean is at least as far from zero as the one seen. With
    more than ``MAX_EXACT_PAIRS`` pairs, patterns are drawn, and the one seen counts as drawn, too
    (Phipson and Smyth 2010), so that p is never zero. Equal differences and zeros are no special
    case: all zero gives 1.

    >>> sign_flip_p([0.1, 0.2, 0.15, 0.1, 0.3, 0.2])
    (0.03125, True)
    """
    array = _finite(differences)
    # Sums that are equal but for rounding count as equal.
    seen = abs(array.sum()) - 1e-12 * (np.abs(array).sum() or 1.0)
    if len(array) <= MAX_EXACT_PAIRS:
        sums = np.array([array[0]])
        # Every pattern has a mirror image, so that the first sign may stay.
        for difference in array[1:]:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= seen)), True
    random = np.random.default_rng(seed)
    beyond = 0
    for start in range(0, NUM_FLIPS, 10_000):
        signs = random.integers(0, 2, (min(10_000, NUM_FLIPS - start), len(array))) * 2 - 1
        beyond += int((np.abs(signs @ array) >= seen).sum())
    return (beyond + 1) / (NUM_FLIPS + 1), False


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """P-values corrected after Holm 1979, in the order given; None stays None and counts for none.

    The chance of any false positive in the family stays below alpha, however they depend.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((p, index) for index, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[index] = highest
    return corrected


def deserves_star(corrected_p: float | None, num_pairs: int) -> bool:
    """Whether a difference may be called significant: at 5 %, and never below six seeds."""
    return corrected_p is not None and num_pairs >= MIN_SEEDS_FOR_STAR and corrected_p <= ALPHA


def _student(array: np.ndarray) -> Interval | None:
    if len(array) < 2 or _all_equal(array):
        return None
    half = student_quantile(len(array)) * array.std(ddof=1) / math.sqrt(len(array))
    return Interval(float(array.mean() - half), float(array.mean() + half), "student")


def _all_equal(array: np.ndarray) -> bool:
    return bool(np.ptp(array) <= 1e-12 * max(1.0, float(np.abs(array).max())))


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError("a sample needs at least one number, and all must be finite")
    return array
