"""The last layer alone: the baseline that every fusion is compared with."""

from __future__ import annotations

from torch import Tensor, nn

from xlt_ray.config import methods


class NoFusion(nn.Module):
    """``Z = H_L``, without parameters."""

    layers = (-1,)

    def __init__(self, num_layers: int, hidden_size: int, settings: methods.NoFusion) -> None:
        super().__init__()

    def forward(
        self,
        hidden_states: tuple[Tensor, ...],
        attention_mask: Tensor,
    ) -> Tensor:
        return hidden_states[-1]

    @staticmethod
    def initial(hidden_states: tuple[Tensor, ...]) -> tuple[Tensor, float]:
        return hidden_states[-1], 0.0
