"""Randomised smoothing: the mean loss over random perturbations of the word embeddings.

With L the loss of the batch, x the word embeddings and n draws::

    1/n * sum_j L(x + d_j),    d_j uniform in |d_i| <= epsilon for every piece i

In ``linf`` every component is uniform in (-epsilon, epsilon) by itself, in ``l2`` the direction
is uniform and the length epsilon * u^(1/width) with u uniform in (0, 1).

A row's noise follows from the row's own ``noise_seed``
(:mod:`xlt_ray.data.batches.mixture_batches`), so it is the same whatever the micro-batch and the
number of workers, and after a resume.

Source. arXiv 2104.08645 (*RS-RP*): its abstract names random perturbations in the embedding
space. Where they enter, their size and the number of draws were not available. Uniform noise and
the mean over 3 draws are those of a re-implementation by others, which adds it to the last
hidden states; adding it to the word embeddings, the place the abstract names, is a
**reconstruction**, and so is the l2 ball.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from xlt_ray.config import methods
from xlt_ray.modeling.network import Batch
from xlt_ray.modeling.objectives.perturbed import TINY, LossAt, projected


class Smoothing:
    """Costs ``settings.draws`` forward and backward passes, held in memory together."""

    def __init__(self, settings: methods.RandomRobust) -> None:
        self._settings = settings

    def loss(self, loss_at: LossAt, may: Tensor, width: int, batch: Batch) -> Tensor:
        settings = self._settings
        shape = (*may.shape[1:-1], width)
        total = torch.zeros((), device=may.device)
        for draw in range(settings.draws):
            noise = torch.stack(
                [
                    _uniform(seed, draw, shape, settings.norm)
                    for seed in batch["noise_seed"].tolist()
                ]
            )
            total = total + loss_at(
                projected(
                    settings.epsilon * noise.to(may.device) * may, settings.epsilon, settings.norm
                )
            )
        return total / settings.draws


def _uniform(seed: int, draw: int, shape: tuple[int, ...], norm: str) -> Tensor:
    """A point of the unit ball for every piece of one row, ``(..., length, width)``.

    Piece by piece, so that a piece has the same one however long the row is padded.
    """
    *options, length, width = shape
    random, radii = (np.random.default_rng((seed, draw, stream)) for stream in (0, 1))
    if norm == "linf":
        points = 2 * random.random((length, *options, width), np.float32) - 1
    else:
        points = random.standard_normal((length, *options, width), np.float32)
        points /= np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), TINY)
        points *= radii.random((length, *options, 1), np.float32) ** (1 / width)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(points, 0, -2)))
