"""Are the spaces of two languages' sentences of one shape?

With X and Y the means over the pieces of n sentences and of their translations, ``(n, hidden)``,
linear CKA (arXiv 1905.00414, section 3) is::

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),    K = X X^T,  L = Y Y^T

which for HSIC as it was defined first is ``|Yc^T Xc|^2 / (|Xc^T Xc| |Yc^T Yc|)`` in Frobenius
norms, Xc and Yc centred. That estimate is too high where n is not far above the width: of two
independent random spaces of 768 it is 0.75 at n = 256. So the unbiased estimate of HSIC stands
in its place (arXiv 2010.15327, equation 3, after Song et al. 2012); with K' and L' the matrices
without their diagonals::

    HSIC = 1 / (n (n - 3)) * (tr(K' L') + sum(K') sum(L') / ((n - 1) (n - 2))
                              - 2 / (n - 2) * sum(K' L'))

Its expectation for independent spaces is 0, so values may fall a little below 0. Rotations,
reflections, shifts and one common scale of either space leave it as it is.
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
    """At most 1; NaN of fewer than four sentences, and where all sentences have one state."""
    one, other = (_gram(side.sentences.double()) for side in (first, second))
    if one.shape[-1] < FEWEST:
        return torch.full((len(one),), torch.nan, dtype=torch.float64)
    own = _hsic(one, one) * _hsic(other, other)
    value = _hsic(one, other) / own.clamp(min=0).sqrt()
    return torch.where(own > 0, value, torch.nan).cpu()


def _gram(vectors: Tensor) -> Tensor:
    """Products of the centred vectors ``(layers, n, n)``, zero on the diagonal."""
    centred = vectors - vectors.mean(dim=1, keepdim=True)
    # One scale does not matter to CKA, but it does to what can be told from 0.
    scale = centred.norm(dim=(1, 2), keepdim=True)
    tiny = 1e-9 * vectors.norm(dim=(1, 2), keepdim=True)
    centred = torch.where(scale > tiny, centred / scale, torch.zeros_like(centred))
    gram = centred @ centred.transpose(1, 2)
    eye = torch.eye(gram.shape[-1], dtype=torch.bool, device=gram.device)
    return gram.masked_fill(eye, 0.0)


def _hsic(one: Tensor, other: Tensor) -> Tensor:
    """n (n - 3) times the unbiased estimate, ``(layers,)``."""
    n = one.shape[-1]
    trace = (one * other).sum(dim=(1, 2))
    sums = one.sum(dim=(1, 2)) * other.sum(dim=(1, 2)) / ((n - 1) * (n - 2))
    crossed = (one.sum(dim=1) * other.sum(dim=1)).sum(dim=-1)
    return trace + sums - 2 / (n - 2) * crossed
