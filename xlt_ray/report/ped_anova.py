"""PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255) of many samples of the same points at once.

It compares where the best points lie on a parameter with where all do. The numbers are those of
Optuna's ``PedAnovaImportanceEvaluator``, which walks over all points of every sample; a bootstrap
and its permutations are hundreds of samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

TARGET_QUANTILE = 0.25
"""What is explained is being among the best of so many; a tenth of few would be one or two."""
NUM_CELLS = 50
LEAST_WIDTH = 0.5 / 1.64
"""Of a kernel, in cells: 90 % of it lie in its own one."""


@dataclass(frozen=True)
class Axis:
    """Where all points lie on one parameter."""

    cells: np.ndarray
    """Number of the cell of every point, ``(points,)``."""
    num_cells: int
    is_numeric: bool
    """Whether neighbouring cells are alike."""

    @classmethod
    def of_numbers(cls, values: Sequence[float]) -> Axis:
        """Equal cells from the lowest value to the highest, on a logarithmic scale if they span
        more than a factor of 15."""
        numbers = np.asarray(values, float)
        if numbers.min() > 0 and numbers.max() / numbers.min() > 15:
            numbers = np.log(numbers)
        size = (numbers.max() - numbers.min()) / (NUM_CELLS - 1)
        cells = np.ceil((numbers - numbers.min()) / size - 0.5).astype(int)
        return cls(cells.clip(0, NUM_CELLS - 1), NUM_CELLS, is_numeric=True)

    @classmethod
    def of_options(cls, values: Sequence[str]) -> Axis:
        """A cell for each option."""
        options, cells = np.unique(values, return_inverse=True)
        return cls(cells, len(options), is_numeric=False)


def ped_anova(axes: Sequence[Axis], points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Importance of every axis in every sample, ``(samples, axes)``; not divided by their sum.

    Args:
        points: the points of each sample, ``(samples, size)``; a point may occur several times.
        scores: of these, higher is better, in the same shape.
    """
    num_best = math.ceil(TARGET_QUANTILE * scores.shape[1])
    # With equal scores more are the best.
    is_best = scores >= -np.partition(-scores, num_best - 1)[:, num_best - 1 : num_best]
    importances = np.empty((len(points), len(axes)))
    for place, axis in enumerate(axes):
        density = _density_on_numbers if axis.is_numeric else _density_on_options
        cells = axis.cells[points] + axis.num_cells * np.arange(len(points))[:, None]
        best, everything = (
            density(
                np.bincount(part, minlength=len(points) * axis.num_cells).reshape(len(points), -1)
            )
            + 1e-12
            for part in (cells[is_best], cells.ravel())
        )
        importances[:, place] = (everything * (best / everything - 1) ** 2).sum(axis=1)
    return importances * is_best.mean(axis=1, keepdims=True) ** 2


def _density_on_options(counts: np.ndarray) -> np.ndarray:
    """A kernel for each option that occurs, and one that is uniform; ``(samples, cells)``."""
    total, num_cells = counts.sum(axis=1, keepdims=True), counts.shape[1]
    num_kernels = (counts > 0).sum(axis=1, keepdims=True) + 1
    kernels = (counts + total / num_kernels) / (1 + num_cells / num_kernels)
    return np.asarray((kernels + 1 / num_cells) / (total + 1))


def _density_on_numbers(counts: np.ndarray) -> np.ndarray:
    """Normal kernels cut at the ends, their width by Scott's rule, and one as wide as the axis."""
    places, total = np.arange(counts.shape[1]), counts.sum(axis=1)
    mean = counts @ places / total
    variance = (counts * (places - mean[:, None]) ** 2).sum(axis=1) / np.maximum(1, total - 1)
    below = counts.cumsum(axis=1)
    first = (below >= np.maximum(total // 4, 1)[:, None]).argmax(axis=1)
    third = (below > (total * 3 // 4)[:, None]).argmax(axis=1)
    width = 1.059 * np.minimum((third - first) / 1.34, np.sqrt(variance)) * total**-0.2
    kernels = _kernels(places, np.maximum(width, LEAST_WIDTH)[:, None], len(places))
    prior = _kernels(places.mean(keepdims=True), np.array(float(len(places))), len(places))
    return np.asarray((np.einsum("sk,skc->sc", counts, kernels) + prior) / (total + 1)[:, None])


def _kernels(middles: np.ndarray, widths: np.ndarray, num_cells: int) -> np.ndarray:
    """Mass in every cell of normal kernels with these middles, ``(..., middles, cells)``."""
    edges = np.arange(num_cells + 1) - 0.5
    reached = ndtr((edges - middles[:, None]) / widths[..., None])
    return np.asarray(np.diff(reached) / (reached[..., -1:] - reached[..., :1]))
