"""What scores and differences are worth: independent repeats, intervals, tests, a power law.

The unit of replication is the seed: two configurations are paired by it, and a mean over languages
is taken within a seed before anything else. Repeats that share a trained stage (``seed: shared``)
share its luck and are one sample of it; taking them for so many is pseudo-replication (Hurlbert
1984). Where both sides of a comparison go on from the very same stage, it favours neither, and what
is said holds *given* that stage. What is drawn is seeded: the same numbers give the same answer.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from xlt_ray.ledger import StageUse, TrialView

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
    if interval is not None and interval.method == "student":
        return replace(interval, method="student_given_stages")
    if interval is not None and interval.method == "two_level":
        return replace(interval, method="two_level_given_stages")
    return interval


@functools.cache
def student_quantile(num_values: int) -> float:
    """What a mean's standard error is multiplied by for half of Student's interval."""
    return _student_quantile(num_values - 1)


def _student_quantile(degrees: float) -> float:
    # Importing scipy.stats takes half a second.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def difference_interval(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Welch's interval of the mean of ``first`` minus that of ``second``, independent samples.

    None where either has fewer than two values, or neither has any spread.

    Raises:
        ValueError: a sample is empty, or a value is not finite.
    """
    samples = _finite(first), _finite(second)
    if min(map(len, samples)) < 2 or all(map(_all_equal, samples)):
        return None
    errors = [float(np.var(sample, ddof=1)) / len(sample) for sample in samples]
    terms = (error**2 / (len(sample) - 1) for error, sample in zip(errors, samples, strict=True))
    half = _student_quantile(sum(errors) ** 2 / sum(terms)) * math.sqrt(sum(errors))
    difference = float(np.mean(samples[0]) - np.mean(samples[1]))
    return Interval(difference - half, difference + half, "welch")


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


# -- repeats that share a training --------------------------------------------------------

_TRAINED = {
    "align": "alignment",
    "trunk": "intermediate",
    "intermediate": "intermediate",
    "target": "target",
    "few_shot": "few-shot",
}
"""Kinds of stages whose seed is luck, as notes call them; an evaluation has none."""

Trained = tuple[StageUse, ...]
"""The trained stages of one trial in the order of its path."""


def trained_stages(views: Iterable[TrialView]) -> dict[int, Trained]:
    """Number of a trial -> its trained stages."""
    return {
        view.number: tuple(stage for stage in view.stages if stage.kind in _TRAINED)
        for view in views
    }


def shared_by(repeats: Iterable[Trained]) -> Trained:
    """The stages that more than one of these repeats goes on from, each once."""
    by_path = [{stage.key: stage for stage in path} for path in repeats]
    number = Counter(key for path in by_path for key in path)
    stages = {key: stage for path in by_path for key, stage in path.items()}
    return tuple(stage for key, stage in stages.items() if number[key] > 1)


def shared_on_one_side(pairs: Iterable[tuple[Trained, Trained]]) -> Trained:
    """The stages that more than one pair has on one side alone: what makes pairs dependent.

    A stage that both sides of a pair go on from drops out of their difference.
    """
    return shared_by(
        tuple(stage for stage in (*first, *second) if stage.key in keys)
        for first, second in pairs
        for keys in ({stage.key for stage in first} ^ {stage.key for stage in second},)
    )


def units(members: Sequence[Collection[str]]) -> Iterator[list[int]]:
    """The members by place, those together that share a key with each other, directly or through
    others.

    >>> list(units([{"a"}, {"b"}, {"a", "c"}, {"c"}]))
    [[0, 2, 3], [1]]
    """
    places_of: dict[str, list[int]] = {}
    for place, keys in enumerate(members):
        for key in keys:
            places_of.setdefault(key, []).append(place)
    left = set(range(len(members)))
    for first in range(len(members)):
        group, reached = [], [first]
        while reached:
            place = reached.pop()
            if place in left:
                left.remove(place)
                group.append(place)
                # Each key leads to its members once.
                reached += [other for key in members[place] for other in places_of.pop(key, ())]
        if group:
            yield sorted(group)


def named(stages: Trained) -> str:
    """Stages by their labels, those of a ladder by its end.

    >>> named((StageUse("align", "1", "align tlm 9 steps", False),
    ...        StageUse("trunk", "2", "trunk nli 80", False),
    ...        StageUse("intermediate", "3", "intermediate nli 100", False)))
    'align tlm 9 steps, intermediate nli 100'
    """
    has_end = any(stage.kind == "intermediate" for stage in stages)
    labels = [stage.label for stage in stages if not (has_end and stage.kind == "trunk")]
    return ", ".join(dict.fromkeys(labels))


def spread_note(configurations: Iterable[Sequence[Trained]]) -> str:
    """What a table has to say of its deviations and intervals; empty where repeats share nothing.

    Args:
        configurations: the repeats of each.
    """
    several = [repeats for repeats in configurations if len(repeats) > 1]
    shared = [shared_by(repeats) for repeats in several]
    stages = {stage.key: stage for part in shared for stage in part}
    if not stages:
        return ""
    if len({frozenset(stage.key for stage in part) for part in shared}) == 1:
        is_all = all(
            stages.keys() <= {stage.key for stage in path} for path in itertools.chain(*several)
        )
        return (
            f"{'All' if is_all else 'Several'} repeats share one training of "
            f"{named(tuple(stages.values()))}: deviations and intervals are of what was trained "
            "after it, given that one."
        )
    kinds = {stage.kind for stage in stages.values()}
    listed = " and ".join(dict.fromkeys(name for kind, name in _TRAINED.items() if kind in kinds))
    return (
        f"Repeats of a configuration share one {listed} training: deviations and intervals are of "
        "what was trained after it. They leave out the luck of that training and do not tell "
        "whether configurations with different ones differ (seed: per_trial would)."
    )


# -- a saturating power law ---------------------------------------------------------------

MIN_SIZES = 4
"""One more than the law has parameters."""
MIN_REPEATS = 3
"""Degrees of freedom that the spread of repeats must have for curves to be judged by it."""


@dataclass(frozen=True)
class PowerLaw:
    """The fitted law."""

    ceiling: float
    ceiling_error: float
    """Half the width of the ceiling's 95 % interval."""
    exponent: float
    grid: tuple[float, ...]
    curve: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    """The 95 % band of the curve (delta method), at each place of ``grid``."""


def fit_power_law(sizes: Sequence[float], scores: Sequence[float]) -> PowerLaw | str:
    """The law with its band, or why it is refused.

    It is drawn where

    1. a rising curve is not rejected: ``monotony_p``. With too few repeats for that test the
       means by size must rise at every step;
    2. it beats a constant: the F test of two more parameters. As a constant leaves the law's rate
       undetermined, F's distribution is not exact (Gallant 1977, Testing a nonlinear regression
       specification: a nonregular case, JASA 72); simulated flat noise passes the test in 5 of
       100 at most (``benchmarks/statistics.py``).

    Args:
        sizes: positive; one for each score.
        scores: higher is better; each an independent repeat of its size, with its own luck in all
            that is trained.
    """
    from scipy import optimize

    x, y = np.asarray(sizes, dtype=float), np.asarray(scores, dtype=float)
    distinct = np.unique(x)
    if len(distinct) < MIN_SIZES:
        return f"{len(distinct)} sizes do not determine a curve of three parameters"
    unit, spread = float(distinct[0]), float(np.ptp(y))
    if spread < 1e-9:
        return "all scores are equal"
    not_rising = _why_not_rising(x, y)
    if not_rising is not None:
        return not_rising

    def law(n: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return a - b * (n / unit) ** -c

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", optimize.OptimizeWarning)
            best, covariance = optimize.curve_fit(
                law,
                x,
                y,
                p0=(float(y.max()) + 0.1 * spread, spread, 0.5),
                bounds=([-np.inf, 0.0, 1e-3], [np.inf, np.inf, 10.0]),
                max_nfev=5_000,
            )
    except (RuntimeError, optimize.OptimizeWarning):
        return "the fit of a power law does not converge"
    p = _constant_p(y, law(x, *best))
    if p > ALPHA:
        return f"a power law fits no better than a constant (F test, p = {p:.2f})"
    a, b, c = (float(parameter) for parameter in best)
    if b <= 1e-9 or c >= 9.99 or c <= 1.1e-3 or not np.isfinite(covariance).all():
        return "the scores show no saturating rise: the fit runs against its bounds"
    quantile = _student_quantile(max(len(x) - 3, 1))
    error = quantile * math.sqrt(max(float(covariance[0, 0]), 0.0))
    if error > 1.0:
        return "the scores do not say where the curve ends: its ceiling is known to no 100 points"
    grid = np.geomspace(distinct[0], distinct[-1], 60)
    power = (grid / unit) ** -c
    gradient = np.stack([np.ones_like(grid), -power, b * power * np.log(grid / unit)])
    variance = np.einsum("ig,ij,jg->g", gradient, covariance, gradient)
    half = quantile * np.sqrt(np.maximum(variance, 0.0))
    curve = law(grid, a, b, c)
    lines = (tuple(line.tolist()) for line in (grid, curve, curve - half, curve + half))
    return PowerLaw(a, error, c, *lines)


def monotony_p(sizes: Sequence[float], scores: Sequence[float]) -> float:
    """P-value of a rising curve: the lack of fit of isotonic regression, against pure error.

    The misfit is that of the means of k sizes, which isotonic regression pools into L levels; the
    pure error is the spread of repeats within their sizes. Where the sizes of a level do not
    differ, the misfit over the error has, given L, the F distribution of k - L and the repeats'
    degrees of freedom (Robertson, Wright & Dykstra 1988, Order restricted statistical inference,
    chapter 2); where they rise, it is smaller. So a rising curve is rejected in at most ``ALPHA``
    of all cases.

    It is 1 where the means rise at every step, and where no size has a repeat.
    """
    from scipy import optimize, special

    y = np.asarray(scores, dtype=float)
    distinct, index, counts = np.unique(
        np.asarray(sizes, dtype=float), return_inverse=True, return_counts=True
    )
    means = np.bincount(index, weights=y) / counts
    levels = optimize.isotonic_regression(means, weights=counts)
    num_pooled = len(distinct) - (len(levels.blocks) - 1)
    num_repeats = len(y) - len(distinct)
    if not num_pooled or not num_repeats:
        return 1.0
    misfit = float((counts * (means - levels.x) ** 2).sum()) / num_pooled
    error = float(((y - means[index]) ** 2).sum()) / num_repeats
    if error == 0:
        return 1.0 if misfit < 1e-18 else 0.0
    return float(special.fdtrc(num_pooled, num_repeats, misfit / error))


def _why_not_rising(x: np.ndarray, y: np.ndarray) -> str | None:
    distinct = np.unique(x)
    if len(y) - len(distinct) >= MIN_REPEATS:
        p = monotony_p(x.tolist(), y.tolist())
        if p > ALPHA:
            return None
        return f"scores do not rise with size: repeats reject every rising curve (p = {p:.2g})"
    means = {size: float(y[x == size].mean()) for size in distinct}
    for size, larger in itertools.pairwise(distinct):
        if means[larger] <= means[size]:
            return (
                f"scores do not rise from {size:g} to {larger:g}, and too few repeats of a size "
                "could tell whether that is chance"
            )
    return None


def _constant_p(y: np.ndarray, fitted: np.ndarray) -> float:
    """P-value of a constant against the three parameters of the law."""
    from scipy import special

    left, flat = float(((y - fitted) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    degrees = len(y) - 3
    if left <= 1e-12 * flat:
        return 0.0
    return float(special.fdtrc(2, degrees, max(flat - left, 0.0) / 2 / (left / degrees)))
