"""One of several options, each scored by itself.

The scorer knows neither how many options there are nor which one it looks at, so what was
trained on three of them can be used on two.
"""

from __future__ import annotations

from torch import Tensor

from xlt_ray.modeling.heads.pair_head import PairHead


class ChoiceHead(PairHead):
    """As for pairs, with one output for every option: logits ``(batch, options)``."""

    auto_classes = ""

    def __init__(
        self, hidden_size: int, num_labels: int, dropout: float, *, drops_states: bool = True
    ) -> None:
        super().__init__(hidden_size, 1, dropout, drops_states=drops_states)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        return super().forward(hidden, attention_mask).squeeze(-1)
