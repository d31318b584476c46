"""One label for a sequence, which holds one sentence or two."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PairHead(nn.Module):
    def __init__(self, hidden_size: int, num_labels: int, dropout: float, pooling="first") -> None:
        super().__init__()
        self.pooling = pooling
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_labels)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        if self.pooling == "first":
            pooled = hidden[:, 0]
        else:
            from xlt_ray.modeling.fusion.dlfa import masked_mean

            pooled = masked_mean(hidden, attention_mask).squeeze(1)
        return self.output(self.dropout(torch.tanh(self.dense(self.dropout(pooled)))))
