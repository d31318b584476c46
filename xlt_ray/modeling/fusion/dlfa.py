"""The last layer and one lower layer, weighted channel by channel by attention over both.

With X the last layer's states, Y those of layer k, both ``(batch, length, hidden)``::

    U = X + Y
    L(U) = norm(W2 relu(norm(W1 U + b1)) + b2)               local: each piece by itself
    G(U) = the same stack, weights of its own, of mean(U)    global: mean over the sentence
    M = sigmoid(L(U) + G(U))
    Z = 2 M * X + 2 (1 - M) * Y

W1 is ``hidden -> hidden / r`` and W2 back; mean and G are one vector a sentence, spread over
its pieces.

That is ``placement: pieces``. Pooled, X and Y are one state a sentence each, that of the first
piece (``first``) or the mean over pieces (``mean``), L and G look at the same, and Z is what every
piece of the sentence has then: for heads that read one state a sentence.

Source. arXiv 2205.08497 (DLFA: feature aggregation with mBERT) says in its abstract that the
last layer is fused with a lower one by an attention-based module. The module's equations were
not available and no code is public, so **every equation above is a reconstruction**: it is
AFF of arXiv 2009.14082 (*Attentional Feature Fusion*) as in its authors' code, from which the
factor 2 comes. The choice of k and of r = 4 is ours too, and whether pieces or pooled states are
fused is not stated.

Different from AFF, both on purpose:

- The mean is over pieces that are not padding, and ``norm`` is LayerNorm over channels instead
  of BatchNorm. BatchNorm's statistics in training run over padding and over the other rows, so
  a sentence's result would depend on its batch, and gradient accumulation or a different
  number of workers would train another model at the same effective batch size. AFF's gain and
  bias per channel are kept.
- The outer norms start with a gain of 0.1 instead of 1. Then M starts at 0.50 with a
  standard deviation of 0.03 and a new module gives nearly X + Y, which is what the factor 2 is
  for; with a gain of 1, a third of M starts outside 0.2 to 0.8. A gain of 0 would give
  X + Y exactly but would leave all inner weights without a gradient in the first step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlt_ray.config import methods
from xlt_ray.errors import SpecError

INITIAL_GAIN = 0.1


class Branch(nn.Module):
    """Bottleneck ``hidden -> inner -> hidden`` with a norm after either layer."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, inner_size)
        self.inner_norm = nn.LayerNorm(inner_size)
        self.up = nn.Linear(inner_size, hidden_size)
        self.outer_norm = nn.LayerNorm(hidden_size)
        nn.init.constant_(self.outer_norm.weight, INITIAL_GAIN)

    def forward(self, states: Tensor) -> Tensor:
        inner = torch.relu(self.inner_norm(self.down(states)))
        return self.outer_norm(self.up(inner))


class LayerFusion(nn.Module):
    """The last layer fused with layer ``settings.layer`` (0: the embeddings).

    Raises:
        SpecError: the layer is not below the last one, or ``hidden_size // settings.reduction``,
            the width of the branches, is too small.
    """

    def __init__(self, num_layers: int, hidden_size: int, settings: methods.LayerFusion) -> None:
        super().__init__()
        self.layer, self.placement = settings.layer, settings.placement
        self.layers = (self.layer, -1)
        self.inner_size = hidden_size // settings.reduction
        narrowest = settings.narrowest
        if self.layer >= num_layers:
            raise SpecError(
                f"layer {self.layer} of a model of {num_layers} layers",
                key="target.fusion.layer",
                remedy=f"0 (the embeddings) to {num_layers - 1} can be fused with the last",
            )
        if self.inner_size < narrowest:
            raise SpecError(
                f"reduction {settings.reduction} of a width of {hidden_size} "
                f"leaves {self.inner_size}",
                key="target.fusion.reduction",
                remedy=f"at most {hidden_size // narrowest} for this model",
            )

    def forward(self, hidden_states: tuple[Tensor, ...], attention_mask: Tensor) -> Tensor:
        last, lower, mask = hidden_states[-1], hidden_states[self.layer], attention_mask
        if self.placement == "mean":
            last, lower = masked_mean(last, mask), masked_mean(lower, mask)
        elif self.placement == "first":
            last, lower = last[:, :1], lower[:, :1]
        if self.placement != "pieces":
            mask = mask[:, :1]
        return self.fused(last, lower, mask).expand_as(hidden_states[-1])

    def fused(self, last: Tensor, lower: Tensor, mask: Tensor) -> Tensor:
        """``(batch, length or 1, hidden)``, as the two states are; ``mask`` without the last
        dimension."""
        raise NotImplementedError


class DlfaFusion(LayerFusion):
    """AFF, the equations above."""

    def __init__(self, num_layers: int, hidden_size: int, settings: methods.DlfaFusion) -> None:
        super().__init__(num_layers, hidden_size, settings)
        self.local = Branch(hidden_size, self.inner_size)
        self.whole = Branch(hidden_size, self.inner_size)

    def fused(self, last: Tensor, lower: Tensor, mask: Tensor) -> Tensor:
        both = last + lower
        attention = torch.sigmoid(self.local(both) + self.whole(masked_mean(both, mask)))
        return 2 * attention * last + 2 * (1 - attention) * lower

    def initial(self, hidden_states: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """With ``placement: pieces``: M is within 0.12 of one half, so Z is near X + Y."""
        last, lower = hidden_states[-1], hidden_states[self.layer]
        return last + lower, 0.24 * (last - lower).abs()


def masked_mean(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over the pieces of each row, ``(batch, 1, hidden)``; zero for a row of padding alone.

    Summed in float32 at least: bf16 cannot count above 256.
    """
    wide = torch.promote_types(states.dtype, torch.float32)
    weights = attention_mask.unsqueeze(-1).to(wide)
    mean = (states.to(wide) * weights).sum(dim=1, keepdim=True) / weights.sum(
        dim=1, keepdim=True
    ).clamp(min=1.0)
    return mean.to(states.dtype)
