"""Begin and end of a span of pieces.

As BERT's head for SQuAD (arXiv 1810.04805, section 4.2): one linear layer, two numbers a piece,
a softmax over the pieces for each, no dropout; the loss is the mean of both cross entropies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlt_ray.modeling.heads.base import Head


class SpanHead(Head):
    """Logits ``(batch, 2, length)``: begins, then ends; padding has the lowest there is."""

    auto_classes = "MODEL_FOR_QUESTION_ANSWERING_MAPPING"
    layer_names = ({"output": "qa_outputs"},)

    def __init__(self, hidden_size: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.output = nn.Linear(hidden_size, 2)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        logits = self.output(hidden).transpose(-1, -2)
        lowest = torch.finfo(logits.dtype).min
        return logits.masked_fill(attention_mask.unsqueeze(-2) == 0, lowest)

    def answers(self, logits: Tensor) -> Tensor:
        return logits.float()
