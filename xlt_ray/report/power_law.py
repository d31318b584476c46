"""A saturating power law through scores by dataset size, or the reason why no curve is fitted.

``score(n) = a - b * n**-c``: a ceiling ``a`` that is approached from below at the rate ``c``.
A fit is refused rather than drawn where the data do not ask for a rising curve: where no rising
curve fits them, and where a constant does as well.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_SIZES = 4
"""One more than the law has parameters."""
MIN_REPEATS = 3
"""Degrees of freedom that the spread of repeats must have for curves to be judged by it."""
ALPHA = 0.05


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
    from scipy import optimize, stats

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
    quantile = float(stats.t.ppf(0.975, max(len(x) - 3, 1)))
    error = quantile * math.sqrt(max(float(covariance[0, 0]), 0.0))
    if error > 1.0:
        return "the scores do not say where the curve ends: its ceiling is known to no 100 points"
    grid = np.geomspace(distinct[0], distinct[-1], 60)
    power = (grid / unit) ** -c
    gradient = np.stack([np.ones_like(grid), -power, b * power * np.log(grid / unit)])
    variance = np.einsum("ig,ij,jg->g", gradient, covariance, gradient)
    half = quantile * np.sqrt(np.maximum(variance, 0.0))
    curve = law(grid, a, b, c)
    return PowerLaw(
        ceiling=a,
        ceiling_error=error,
        exponent=c,
        grid=tuple(grid.tolist()),
        curve=tuple(curve.tolist()),
        low=tuple((curve - half).tolist()),
        high=tuple((curve + half).tolist()),
    )


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
    from scipy import optimize, stats

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
    return float(stats.f.sf(misfit / error, num_pooled, num_repeats))


def _why_not_rising(x: np.ndarray, y: np.ndarray) -> str | None:
    distinct = np.unique(x)
    if len(y) - len(distinct) >= MIN_REPEATS:
        p = monotony_p(x.tolist(), y.tolist())
        if p > ALPHA:
            return None
        return f"scores do not rise with size: repeats reject every rising curve (p = {p:.2g})"
    means = [float(y[x == size].mean()) for size in distinct]
    pairs = itertools.pairwise(zip(distinct, means, strict=True))
    for (size, mean), (larger, after) in pairs:
        if after <= mean:
            return (
                f"scores do not rise from {size:g} to {larger:g}, and too few repeats of a size "
                "could tell whether that is chance"
            )
    return None


def _constant_p(y: np.ndarray, fitted: np.ndarray) -> float:
    """P-value of a constant against the three parameters of the law."""
    from scipy import stats

    left, flat = float(((y - fitted) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    degrees = len(y) - 3
    if left <= 1e-12 * flat:
        return 0.0
    return float(stats.f.sf((flat - left) / 2 / (left / degrees), 2, degrees))
