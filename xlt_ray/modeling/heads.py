"""Heads: from one state per piece to logits and their loss; one class for each kind of task.

A head is called with ``hidden`` ``(batch, length, hidden)``, or ``(batch, options, length,
hidden)`` if a batch shows several options for every example, and with ``attention_mask`` of
the same shape without the last dimension.

Losses are sums over a denominator: given the number of labels in the full batch, the losses (and
gradients) of micro-batches and workers add up to the mean over the full batch.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from xlt_ray.config.trial import Ranking
from xlt_ray.modeling.fusion.dlfa import masked_mean

IGNORED = -100
"""Label where nothing is predicted."""


def summed_loss(logits: Tensor, labels: Tensor, denominator: Tensor) -> Tensor:
    """Cross entropy over labels other than -100, summed in float32, over ``denominator``.

    ``logits`` ``(..., classes)`` and ``labels`` ``(...)``; zero, with a gradient of zero,
    where every label is -100.
    """
    total = functional.cross_entropy(
        logits.float().reshape(-1, logits.shape[-1]),
        labels.reshape(-1),
        ignore_index=IGNORED,
        reduction="sum",
    )
    return total / denominator


class Head(nn.Module):
    """Made by ``Head(hidden_size, num_labels, dropout)``."""

    auto_classes: ClassVar[str] = ""
    """Name of the mapping in transformers, from configuration to class, whose classes may compute
    the same; empty without one."""
    layer_names: ClassVar[tuple[dict[str, str], ...]] = ()
    """What the head's layers may be called there."""

    def loss(self, logits: Tensor, labels: Tensor, denominator: Tensor) -> Tensor:
        """A float32 scalar, sums over ``denominator``."""
        return summed_loss(logits, labels, denominator)

    def answers(self, logits: Tensor) -> Tensor:
        """What is decoded: the number of the likeliest class."""
        return logits.argmax(dim=-1)


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


class PairHead(Head):
    """Dropout, dense, tanh, dropout, linear on one state: logits ``(..., num_labels)``.

    The first piece ([CLS], <s>) stands for the sequence of one or two sentences, as in XTREME's
    baselines, so that scores can be compared with published ones; or the mean over its pieces, or
    the last one.

    Args:
        pooling: ``first``, ``mean`` or ``last`` (``model.pooling``).
        drops_states: whether the first dropout exists, as in RoBERTa's and XLM-R's classes for
            sequences. Those of BERT have none, since their dense layer is the encoder's pooler.
    """

    auto_classes = "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING"
    layer_names = (
        {"dense": "classifier.dense", "output": "classifier.out_proj"},
        {"dense": "{base}.pooler.dense", "output": "classifier"},
        {"dense": "{base}.pooler", "output": "classifier"},
    )

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        dropout: float,
        *,
        drops_states: bool = True,
        pooling: str = "first",
    ) -> None:
        super().__init__()
        self.drops_states, self.pooling = drops_states, pooling
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_labels)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        state = hidden[..., 0, :]
        if self.pooling == "mean":
            is_piece = attention_mask.unsqueeze(-1).to(hidden.dtype)
            state = (hidden * is_piece).sum(dim=-2) / is_piece.sum(dim=-2).clamp(min=1)
        elif self.pooling == "last":
            last = (attention_mask.sum(dim=-1) - 1).clamp(min=0)[..., None, None]
            state = hidden.take_along_dim(last, dim=-2).squeeze(-2)
        pooled = torch.tanh(self.dense(self.dropout(state) if self.drops_states else state))
        logits: Tensor = self.output(self.dropout(pooled))
        return logits


class ChoiceHead(PairHead):
    """As for pairs, with one output for every option: logits ``(batch, options)``.

    It scores each option by itself, so a head that was trained on three options works on two.
    """

    auto_classes = ""

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        dropout: float,
        *,
        drops_states: bool = True,
        pooling: str = "first",
    ) -> None:
        super().__init__(hidden_size, 1, dropout, drops_states=drops_states, pooling=pooling)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        return super().forward(hidden, attention_mask).squeeze(-1)


class ScoreHead(ChoiceHead):
    """One number for a whole sequence: logits ``(batch,)``, trained by their squared error."""

    def loss(self, logits: Tensor, labels: Tensor, denominator: Tensor) -> Tensor:
        """Squared errors where labels are not -100, summed in float32; both ``(batch,)``."""
        is_labelled = labels != IGNORED
        errors = functional.mse_loss(
            logits[is_labelled].float(), labels[is_labelled].float(), reduction="sum"
        )
        return errors / denominator

    def answers(self, logits: Tensor) -> Tensor:
        return logits.float()


class SpanHead(Head):
    """Begin and end of a span of pieces: logits ``(batch, 2, length)``.

    As BERT's head for SQuAD (arXiv 1810.04805, section 4.2): one linear layer, two numbers a
    piece, a softmax over the pieces for each, no dropout; the loss is the mean of both cross
    entropies. Padding has the lowest logit that the type has.
    """

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


class RankingHead(Head):
    """Queries and candidates as vectors: one encoder for both, compared by the cosine.

    Logits ``(batch, candidates)`` of rows ``(batch, 1 + candidates, length)``; for single sentences
    ``(batch, length)`` their vectors of length s, ``(batch, hidden)``.

    With q the vector of a row's query and c_0 .. c_n those of its candidates, the right one first,
    each the mean over pieces of the fused states with length 1, the logits are s * q . c_j, and the
    loss is their cross entropy: a softmax over candidates in one direction, with a learned scale s.
    That is the loss of XTREME-R's dual encoder (arXiv 2104.07412, its code seen) with three
    differences: there the vector is BERT's pooled output, all candidates of a batch are the wrong
    ones, and s begins at 100; here ``ranking.negatives`` says how many a row has, and s begins at
    1 / ``ranking.temperature``, 20 by default. Adam moves s by about the learning rate a step (0.02
    in 1,000 steps at 2e-5), so that the temperature stays what it was.
    """

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
