"""A saturating power law through scores by dataset size, or the reason why there is none.

``score(n) = a - b * n**-c``: a ceiling ``a`` that is approached from below at the rate ``c``.
Fits are refused rather than drawn where the data do not ask for a rising curve.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_SIZES = 4
"""One more than the law has parameters."""
NUM_SHUFFLES = 999
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


def fit_power_law(
    sizes: Sequence[float], scores: Sequence[float], *, seed: int = 0
) -> PowerLaw | str:
    """The law with its band, or why it is refused.

    Args:
        sizes: positive; one for each score.
        scores: higher is better.
        seed: of the shuffles that monotony is judged by.
    """
    from scipy import optimize, stats

    x, y = np.asarray(sizes, dtype=float), np.asarray(scores, dtype=float)
    distinct = np.unique(x)
    if len(distinct) < MIN_SIZES:
        return f"{len(distinct)} sizes do not determine a curve of three parameters"
    p = monotony_p(sizes, scores, seed=seed)
    if p <= ALPHA:
        return f"scores do not rise with size: a monotone fit is rejected (p = {p:.3f})"
    unit, spread = float(distinct[0]), float(np.ptp(y))
    if spread < 1e-9:
        return "all scores are equal"

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
    a, b, c = (float(one) for one in best)
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


def monotony_p(sizes: Sequence[float], scores: Sequence[float], *, seed: int = 0) -> float:
    """P-value of a rising curve: how rare so large a misfit of isotonic regression is by chance.

    Chance is sizes shuffled among the scores, the null hypothesis least in favour of rejecting.
    """
    y = np.asarray(scores, dtype=float)
    _, index, counts = np.unique(
        np.asarray(sizes, dtype=float), return_inverse=True, return_counts=True
    )
    random = np.random.default_rng(seed)
    seen = _misfit(index, counts, y)
    drawn = [_misfit(random.permutation(index), counts, y) for _ in range(NUM_SHUFFLES)]
    return (1 + sum(one >= seen - 1e-12 for one in drawn)) / (NUM_SHUFFLES + 1)


def _misfit(index: np.ndarray, counts: np.ndarray, y: np.ndarray) -> float:
    """Sum of squares between the means of the sizes and the best rising curve through them.

    Args:
        index: place of each score's size among the sizes in order.
        counts: scores of each size.
    """
    from scipy import optimize

    means = np.bincount(index, weights=y) / counts
    fitted = optimize.isotonic_regression(means, weights=counts).x
    return float((counts * (means - fitted) ** 2).sum())
