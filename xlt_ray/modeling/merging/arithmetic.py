"""Task arithmetic (arXiv 2212.04089): ``base + scale * sum_i (member_i - base)``.

For head and fusion the base is what they began with, so a member's change of them counts alike.
"""

from __future__ import annotations

from torch import Tensor

from xlt_ray.config.methods import ArithmeticMerge
from xlt_ray.modeling.merging import Part


def arithmetic(part: Part, settings: ArithmeticMerge) -> Tensor:
    base = part.base
    assert base is not None, "it needs the base"
    change = part.members[0] - base
    for tensor in part.members[1:]:
        change += tensor - base
    return base + settings.scale * change
