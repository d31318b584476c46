"""Do the spaces of two languages' sentences have the same shape?

With X and Y the means over the pieces of n sentences and of their translations, ``(n, hidden)``,
linear CKA (arXiv 1905.00414, section 3) is::

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),    K = X X^T,  L = Y Y^T

which for the original HSIC is ``|Yc^T Xc|^2 / (|Xc^T Xc| |Yc^T Yc|)`` in Frobenius norms, Xc and Yc
centred. That estimate is too high unless n is far above the width: for two independent random
spaces of 768 it is 0.75 at n = 256. So the unbiased estimate of HSIC is used (arXiv 2010.15327,
equation 3, after Song et al. 2012); with K' and L' the matrices without their diagonals::

    HSIC = 1 / (n (n - 3)) * (tr(K' L') + sum(K') sum(L') / ((n - 1) (n - 2))
                              - 2 / (n - 2) * sum(K' L'))

Its expectation for independent spaces is 0, so values can be a little below 0. Rotations,
reflections, shifts and a common scale of either space do not change it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlt_ray.modeling.diagnostics.layer_states import Links, States

FEWEST = 4


def cka(
    first: States,
    second: States,
    links: Links | None = None,  # noqa: ARG001 (diagnostics are called alike)
) -> Tensor:
    """At most 1; NaN for fewer than four sentences, or if all sentences have the same state."""
    grams = [_gram(states.sentences.double()) for states in (first, second)]
    if grams[0].shape[-1] < FEWEST:
        return torch.full((len(grams[0]),), torch.nan, dtype=torch.float64)
    scale = _hsic(grams[0], grams[0]) * _hsic(grams[1], grams[1])
    value = _hsic(*grams) / scale.clamp(min=0).sqrt()
    return torch.where(scale > 0, value, torch.nan).cpu()


def _gram(vectors: Tensor) -> Tensor:
    """Products of the centred vectors ``(layers, n, n)``, zero on the diagonal."""
    centred = vectors - vectors.mean(dim=1, keepdim=True)
    # The scale does not change CKA, but decides which numbers are distinguishable from 0.
    scale = centred.norm(dim=(1, 2), keepdim=True)
    tiny = 1e-9 * vectors.norm(dim=(1, 2), keepdim=True)
    centred = torch.where(scale > tiny, centred / scale, torch.zeros_like(centred))
    gram = centred @ centred.transpose(1, 2)
    eye = torch.eye(gram.shape[-1], dtype=torch.bool, device=gram.device)
    return gram.masked_fill(eye, 0.0)


def _hsic(first: Tensor, second: Tensor) -> Tensor:
    """n (n - 3) times the unbiased estimate, ``(layers,)``."""
    n = first.shape[-1]
    trace = (first * second).sum(dim=(1, 2))
    sums = first.sum(dim=(1, 2)) * second.sum(dim=(1, 2)) / ((n - 1) * (n - 2))
    crossed = (first.sum(dim=1) * second.sum(dim=1)).sum(dim=-1)
    return trace + sums - 2 / (n - 2) * crossed
