"""One label for every piece; which pieces count is said by the labels, not here."""

from __future__ import annotations

from torch import Tensor, nn

from xlt_ray.modeling.heads.base import Head


class TagHead(Head):
    """Dropout and one linear layer: logits ``(batch, length, num_labels)``."""

    auto_classes = "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING"
    layer_names = ({"output": "classifier"},)

    def __init__(self, hidden_size: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_labels)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.output(self.dropout(hidden))
        return logits
