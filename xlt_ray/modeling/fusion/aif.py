"""Iterated attentional fusion: attention over the last layer and layer k, twice.

With X the last layer's states, Y those of layer k, both ``(batch, length, hidden)``, L_s and
G_s the local and the global branch of stage s as in :mod:`xlt_ray.modeling.fusion.dlfa`::

    M1 = sigmoid(L1(U) + G1(U)),      U = X + Y
    Z1 = M1 * X + (1 - M1) * Y
    M2 = sigmoid(L2(Z1) + G2(Z1))
    Z  = M2 * X + (1 - M2) * Y

The first stage decides what the second one looks at instead of the plain sum. All four branches
have weights of their own; every gain and bias starts as in DLFA, so that M1 and M2 start near
0.5 and Z near (X + Y) / 2. Pooled (``placement``), X and Y are one state a sentence as in DLFA.

Source. iAFF of arXiv 2009.14082 (*Attentional Feature Fusion*), which has no factor 2, unlike
AFF. Its authors' first code gives the second stage a global branch of its own, which is
followed here; their later port, and copies of it, call the first stage's again by mistake.
arXiv 2205.08497 (feature aggregation with mBERT) names an iterated form, but its equations were
not available: that AIF is iAFF over a lower layer and the last one is a **reconstruction**, and
so are LayerNorm in the place of BatchNorm, the mean over pieces that are not padding, and the
small first gains, all for the reasons given in DLFA's module.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlt_ray.config import methods
from xlt_ray.modeling.fusion.dlfa import Branch, LayerFusion, masked_mean


class Attention(nn.Module):
    """``M(U) = sigmoid(L(U) + G(U))``, ``(batch, length, hidden)``, between 0 and 1."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.local = Branch(hidden_size, inner_size)
        self.whole = Branch(hidden_size, inner_size)

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        mean = masked_mean(states, attention_mask)
        return torch.sigmoid(self.local(states) + self.whole(mean))


class AifFusion(LayerFusion):
    """iAFF, the equations above."""

    def __init__(self, num_layers: int, hidden_size: int, settings: methods.AifFusion) -> None:
        super().__init__(num_layers, hidden_size, settings)
        self.first = Attention(hidden_size, self.inner_size)
        self.second = Attention(hidden_size, self.inner_size)

    def fused(self, last: Tensor, lower: Tensor, mask: Tensor) -> Tensor:
        attention = self.first(last + lower, mask)
        between = attention * last + (1 - attention) * lower
        attention = self.second(between, mask)
        return attention * last + (1 - attention) * lower

    def initial(self, hidden_states: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """With ``placement: pieces``: M2 is within 0.12 of one half."""
        last, lower = hidden_states[-1], hidden_states[self.layer]
        return (last + lower) / 2, 0.12 * (last - lower).abs()
