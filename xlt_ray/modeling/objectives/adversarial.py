"""Adversarial training: the loss at the worst perturbation that gradient ascent finds.

With L the loss of the batch, x the word embeddings and d a perturbation of them::

    min over theta of   max over |d_i| <= epsilon of   L(x + d)

and the inner maximum by projected gradient ascent (arXiv 1706.06083), from d = 0, K steps of
size a, each piece i by itself::

    d_i <- P(d_i + a * s_i),   s_i = g_i / |g_i|_2  (l2)   or   sign(g_i)  (linf),
                               g = gradient of L at x + d with respect to d

P projects onto the ball of radius epsilon in the norm chosen. The step is normalised, so neither
the scale of the loss nor the size of a batch or micro-batch changes d. Weights get gradients
from the last pass alone; dropout is drawn anew in every pass.

Source. arXiv 2104.08645 (*ADV*). Its abstract says adversarial training against noise in the
embedding space (seen); the authors' code has data augmentation alone (seen). The min-max form with
projected ascent on the embeddings is a **reconstruction**, and the number of steps, their size,
epsilon and the norm were not available: all are settings without a recommendation. That a piece has
a ball of its own, the start at zero and the loss without a term at d = 0 are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlt_ray.config import methods
from xlt_ray.modeling.network import Batch
from xlt_ray.modeling.objectives.perturbed import TINY, LossAt, projected


class Adversarial:
    """Costs ``settings.steps`` forward and backward passes besides the training's own."""

    def __init__(self, settings: methods.AdversarialRobust) -> None:
        self._settings = settings

    def loss(self, loss_at: LossAt, may: Tensor, width: int, batch: Batch) -> Tensor:
        return loss_at(self.worst(loss_at, may, width))

    def worst(self, loss_at: LossAt, may: Tensor, width: int) -> Tensor:
        """The perturbation where the ascent ends."""
        settings = self._settings
        delta = may.new_zeros((*may.shape[:-1], width))
        for _ in range(settings.steps):
            delta.requires_grad_()
            # The gradient of the perturbation only: those of the weights do not change.
            (slope,) = torch.autograd.grad(loss_at(delta), delta)
            moved = delta.detach() + settings.step_size * _direction(slope, settings.norm)
            delta = projected(moved * may, settings.epsilon, settings.norm)
        return delta.detach()


def _direction(slope: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return slope.sign()
    return slope / slope.norm(dim=-1, keepdim=True).clamp(min=TINY)
