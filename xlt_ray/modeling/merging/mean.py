"""Uniform model soup (arXiv 2203.05482): the mean of the weights of all members."""

from __future__ import annotations

from torch import Tensor

from xlt_ray.config.methods import MeanMerge
from xlt_ray.modeling.merging import Part


def mean(part: Part, _: MeanMerge) -> Tensor:
    total = part.members[0].clone()
    for tensor in part.members[1:]:
        total += tensor
    return total / len(part.members)
