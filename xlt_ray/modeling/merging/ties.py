"""TIES (arXiv 2306.01708, section 4): trim, elect a sign, and average what agrees with it.

Of every member's change only the share ``density`` with the largest magnitudes is kept. The sign of
each weight is that of the sum over members. The merged change is the mean over the members whose
kept change has that sign; where none has, it is 0. The result is ``base + scale * change``.

Ours: the largest changes are those of each tensor. The paper trims all of a network at once, for
which every change would have to be in memory or be read twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlt_ray.config.methods import TiesMerge
from xlt_ray.modeling.merging import Part


def ties(part: Part, settings: TiesMerge) -> Tensor:
    base = part.base
    assert base is not None, "it needs the base"
    changes = [_trimmed(tensor - base, settings.density) for tensor in part.members]
    total = torch.zeros_like(base)
    for change in changes:
        total += change
    sign = total.sign_()
    kept, number = torch.zeros_like(base), torch.zeros_like(base)
    for change in changes:
        agrees = (change.sign() == sign) & (sign != 0)
        kept += change * agrees
        number += agrees
    return base + settings.scale * kept / number.clamp(min=1)


def _trimmed(change: Tensor, density: float) -> Tensor:
    """A change with 0 in the place of all but its ``density * n`` largest numbers; of equal
    ones at the border all are kept."""
    number = max(1, round(density * change.numel()))
    if number >= change.numel():
        return change
    magnitudes = change.abs().flatten()
    least = magnitudes.kthvalue(change.numel() - number + 1).values
    return torch.where(change.abs() >= least, change, 0.0)
