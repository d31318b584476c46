"""One encoder, a head for every task, and one for masked LM: what a mixture trains.

Each batch belongs to one head, and its rows carry the number of that head. The other heads are
called, too, in the same order, with no rows, so their gradients are exact zeros. Some optimizers
step and others skip parameters without a gradient, and ZeRO 3 gathers the parts of a layer when the
layer is called. So under every runtime Adam moves every head at every step, by what is left of its
moments and by weight decay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from xlt_ray.config.task_types import TaskKind
from xlt_ray.config.trial import Ranking
from xlt_ray.modeling.encoder import seeded
from xlt_ray.modeling.heads import IGNORED, Head, summed_loss
from xlt_ray.modeling.network import (
    INPUTS,
    Batch,
    build_head,
    last_states,
    masked_lm_head,
    predicting_states,
)

PART = "part"
"""Tensor of a batch: ``(batch,)``, the number of its head in every row."""


class MultitaskNetwork(nn.Module):
    """Encoder and heads by task; the head of masked LM, if there is one, comes last.

    ``network(batch)`` is the loss of the batch's own head, or its logits if the batch has no
    ``labels``.
    """

    def __init__(
        self, encoder: PreTrainedModel, heads: nn.ModuleDict, masked: nn.Module | None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = heads
        self.masked = masked

    def forward(self, batch: Batch) -> Tensor:
        number, shape = int(batch[PART][0]), batch["input_ids"].shape
        rows = {name: batch[name].reshape(-1, shape[-1]) for name in INPUTS if name in batch}
        states = last_states(self.encoder, rows)
        answer = states.new_zeros(())
        zero = states.new_zeros((), dtype=torch.float32)
        for place, head in enumerate(self.heads.values()):
            if place == number:
                answer = head(states.reshape(*shape, -1), batch["attention_mask"])
            else:
                zero = zero + head(states[:0], rows["attention_mask"][:0]).float().sum()
        if self.masked is not None:
            if number == len(self.heads):
                is_masked = batch["labels"] != IGNORED
                answer = self.masked(predicting_states(self.encoder, states)[is_masked])
                return summed_loss(answer, batch["labels"][is_masked], batch["denominator"]) + zero
            zero = zero + self.masked(states[:0].flatten(0, 1)).float().sum()
        if "labels" not in batch:
            return answer
        loss: Tensor = self.head(number).loss(answer, batch["labels"], batch["denominator"])
        return loss + zero

    def head(self, number: int) -> Head:
        """The head of one task."""
        head = list(self.heads.values())[number]
        assert isinstance(head, Head)
        return head


class OneTask(nn.Module):
    """One task of a network of several, to be scored: its logits and its head."""

    def __init__(self, network: MultitaskNetwork, number: int) -> None:
        super().__init__()
        self.network = network
        self.number = number

    @property
    def encoder(self) -> PreTrainedModel:
        return self.network.encoder

    @property
    def head(self) -> Head:
        return self.network.head(self.number)

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.network({**batch, PART: torch.tensor([self.number])})
        return logits


def build_multitask(
    encoder: PreTrainedModel,
    tasks: Sequence[tuple[str, TaskKind, int]],
    *,
    has_masked_lm: bool,
    seed: int,
    ranking: Ranking | None = None,
) -> MultitaskNetwork:
    """New heads on ``encoder``, in training mode; each follows from the seed and its task's name.

    Args:
        tasks: name, kind and number of labels of every task.
    """
    heads = nn.ModuleDict()
    for name, kind, num_labels in tasks:
        with seeded(seed, f"head {name}"):
            heads[name] = build_head(kind, encoder, num_labels, ranking)
    masked = masked_lm_head(encoder, seed) if has_masked_lm else None
    return MultitaskNetwork(encoder, heads, masked).train()
