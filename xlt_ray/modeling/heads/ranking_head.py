"""Queries and candidates as vectors: one encoder for both, compared by the cosine.

With q the vector of a row's query and c_0 .. c_n those of its candidates, the right one first, each
the mean over pieces of the fused states made 1 long, the logits are s * q . c_j, and the loss is
their cross entropy: a softmax over candidates in one direction, with a learned scale s. That is the
loss of XTREME-R's dual encoder (arXiv 2104.07412, its code seen) but for three things: there the
vector is BERT's pooled output, all candidates of a batch are the wrong ones, and s begins at 100;
here they are as many as ``ranking.negatives`` gives to a row, and s begins at 1 /
``ranking.temperature``, 20 by default. Adam moves s by about the learning rate a step (0.02 in
1,000 steps at 2e-5), so that the temperature stays what it was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from xlt_ray.config.trial import Ranking
from xlt_ray.modeling.fusion.dlfa import masked_mean
from xlt_ray.modeling.heads.base import Head


class RankingHead(Head):
    """Logits ``(batch, candidates)`` of rows ``(batch, 1 + candidates, length)``; of single
    sentences ``(batch, length)`` their vectors, all s long, ``(batch, hidden)``."""

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        dropout: float,
        temperature: float = Ranking().temperature,
    ) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0 / temperature]))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.dropout(hidden).flatten(0, -3)
        mean = masked_mean(states, attention_mask.flatten(0, -2)).squeeze(1)
        vectors = functional.normalize(mean.float(), dim=-1)
        vectors = vectors.reshape(*hidden.shape[:-2], hidden.shape[-1])
        if hidden.dim() == 3:
            return self.scale * vectors
        query, candidates = vectors[:, :1], vectors[:, 1:]
        return self.scale * (query * candidates).sum(dim=-1)

    def answers(self, logits: Tensor) -> Tensor:
        """The vectors themselves."""
        return logits.float()
