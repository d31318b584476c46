"""Learned scalar weights over all layers.

The scalar mix of ELMo (arXiv 1802.05365, eq. 1) over the embeddings and every layer::

    Z = gamma * sum_j s_j H_j,    s = softmax(w)

It starts as the plain mean of all layers (``w = 0``, ``gamma = 1``). The layers are not
normalised first, which the paper calls optional.

Ours: ``w = 20 v`` and ``v`` is what is trained. AdamW moves every parameter by about the
learning rate in a step whatever its gradient, so at 2e-5 a plain ``w`` travels 0.02 in 1,000
steps and the mix stays the mean it began as. The factor gives ``w`` a learning rate of its own
without a second group of parameters; 20 was chosen by this arithmetic, not tuned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlt_ray.config import methods

SPEED = 20.0


class MixFusion(nn.Module):
    """``layer_weights`` ``(num_layers + 1,)`` is ``v`` above, ``gamma`` ``(1,)`` the common scale.

    ``gamma`` has one dimension because DeepSpeed cannot take a scalar parameter.
    """

    def __init__(self, num_layers: int, hidden_size: int, settings: methods.MixFusion) -> None:
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(num_layers + 1))
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(
        self,
        hidden_states: tuple[Tensor, ...],
        attention_mask: Tensor,
    ) -> Tensor:
        wide = torch.promote_types(self.layer_weights.dtype, torch.float32)
        shares = torch.softmax(SPEED * self.layer_weights.to(wide), dim=0)
        shares = (self.gamma.to(wide) * shares).to(hidden_states[-1].dtype)
        mixed = shares[0] * hidden_states[0]
        for share, states in zip(shares[1:], hidden_states[1:], strict=True):
            mixed = mixed + share * states
        return mixed

    @staticmethod
    def initial(hidden_states: tuple[Tensor, ...]) -> tuple[Tensor, float]:
        return torch.stack(hidden_states).mean(dim=0), 1e-5
