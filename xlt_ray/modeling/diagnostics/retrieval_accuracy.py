"""Does a sentence find its translation among all sentences of the sample?

With x_i and y_i the means over the pieces of sentence i and of its translation, special pieces
among them::

    accuracy = 1/2 (share of i with cos(x_i, y_i) > cos(x_i, y_j) for all j != i
                  + share of i with cos(y_i, x_i) > cos(y_i, x_j) for all j != i)

The measure of Tatoeba in XTREME (arXiv 2003.11080), in both directions. A tie is a miss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlt_ray.modeling.diagnostics.layer_states import Links, States


def retrieval(
    first: States,
    second: States,
    links: Links | None = None,  # noqa: ARG001 (diagnostics are called alike)
) -> Tensor:
    """Between 0 and 1; chance is 1 / n. NaN for a single sentence."""
    sources, targets = (_normalized(states.sentences.double()) for states in (first, second))
    cosines = sources @ targets.transpose(1, 2)
    if cosines.shape[-1] < 2:
        return torch.full((len(cosines),), torch.nan, dtype=torch.float64)
    translations = cosines.diagonal(dim1=1, dim2=2)
    eye = torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device)
    wrong = cosines.masked_fill(eye, -torch.inf)
    into, out_of = ((translations > wrong.amax(dim=dim)).double().mean(dim=-1) for dim in (2, 1))
    return ((into + out_of) / 2).cpu()


def _normalized(vectors: Tensor) -> Tensor:
    lengths = vectors.norm(dim=-1, keepdim=True)
    return vectors / torch.where(lengths == 0, torch.ones_like(lengths), lengths)
