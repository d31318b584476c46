"""One number for a whole sequence, trained by its squared error."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from xlt_ray.modeling.heads.base import IGNORED
from xlt_ray.modeling.heads.pair_head import PairHead


class ScoreHead(PairHead):
    """As for pairs, with one output: logits ``(batch,)``, which are the numbers themselves."""

    auto_classes = ""

    def __init__(
        self, hidden_size: int, num_labels: int, dropout: float, *, drops_states: bool = True
    ) -> None:
        super().__init__(hidden_size, 1, dropout, drops_states=drops_states)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        return super().forward(hidden, attention_mask).squeeze(-1)

    def loss(self, logits: Tensor, labels: Tensor, denominator: Tensor) -> Tensor:
        """Squared errors where labels are not -100, summed in float32; both ``(batch,)``."""
        asked = labels != IGNORED
        errors = functional.mse_loss(logits[asked].float(), labels[asked].float(), reduction="sum")
        return errors / denominator

    def answers(self, logits: Tensor) -> Tensor:
        return logits.float()
