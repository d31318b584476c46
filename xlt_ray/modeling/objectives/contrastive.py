"""A sentence and its translation drawn together, and apart from the other sentences.

With u_i and v_i the mean over pieces of layer k's states of sentence i and of its translation,
each of length 1, in groups of G pairs and with temperature T::

    L = sum_i 1/2 * ( CE_i(u_i . v_j / T over j) + CE_i(v_i . u_j / T over j) )

CE_i is the cross entropy of choosing j = i among the G candidates j of the group. This is
InfoNCE (arXiv 1807.03748, eq. 4) in both directions with in-batch negatives; a candidate that is
the same sentence as i, drawn twice, is left out. The mean is over all pieces that are not
padding. No paper's recipe is followed in full; the defaults (T = 0.05, last layer) are ours.

Negatives stand within a group alone, and a pass holds whole groups, so that the loss does not
depend on micro-batches and workers. All layers get a gradient, those above layer k of zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from xlt_ray.config import methods
from xlt_ray.errors import SpecError
from xlt_ray.modeling.fusion.dlfa import masked_mean
from xlt_ray.modeling.heads import summed_loss
from xlt_ray.modeling.network import Batch, hidden_states

OTHER = "other_"


class ContrastiveNetwork(nn.Module):
    """An encoder without a head; without ``labels``, ``(batch, hidden)`` of the first sentences.

    There are no new parameters, so nothing depends on the seed.

    Raises:
        SpecError: a layer above the model, or, when called, a pass without whole groups.
    """

    def __init__(
        self, encoder: PreTrainedModel, settings: methods.Contrastive, seed: int = 0
    ) -> None:
        super().__init__()
        self.encoder = encoder
        depth = encoder.config.num_hidden_layers
        self._layer = depth if settings.layer is None else settings.layer
        if self._layer > depth:
            raise SpecError(
                f"layer {self._layer} of a model of {depth} layers",
                key="align.layer",
                remedy=f"0 (the embeddings) to {depth}",
            )
        self._temperature, self._group = settings.temperature, settings.group_size

    def forward(self, batch: Batch) -> Tensor:
        ours, unused = self._vectors(batch)
        if "labels" not in batch:
            return ours
        rows = len(batch["labels"])
        if rows % self._group:
            raise SpecError(
                f"a pass of {rows} pairs does not hold whole groups of {self._group}",
                key="align.group",
                remedy="a divisor of the micro-batch, or larger micro-batches on fewer workers",
            )
        others = {
            name.removeprefix(OTHER): part for name, part in batch.items() if name.startswith(OTHER)
        }
        theirs, unused_too = self._vectors(others)
        # A softmax at temperature 0.05 needs more than the three digits of bf16.
        with torch.autocast(ours.device.type, enabled=False):
            logits = self._grouped(ours) @ self._grouped(theirs).transpose(1, 2) / self._temperature
        meanings = self._grouped(batch["sentence"].unsqueeze(-1))
        same = (meanings == meanings.transpose(1, 2)) & ~torch.eye(
            self._group, dtype=torch.bool, device=logits.device
        )
        logits = logits.masked_fill(same, float("-inf"))
        labels = self._grouped(batch["labels"].unsqueeze(-1)).squeeze(-1)
        losses = [
            summed_loss(direction, labels, batch["denominator"])
            for direction in (logits, logits.transpose(1, 2))
        ]
        # What no loss reaches is stepped by some optimizers and skipped by others: all get zeros.
        return (losses[0] + losses[1]) / 2 + 0.0 * (unused + unused_too)

    def _vectors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Float32 vectors of length 1, ``(batch, hidden)``, and a sum that touches the top."""
        states = hidden_states(self.encoder, batch, (self._layer, -1))
        mean = masked_mean(states[self._layer], batch["attention_mask"]).squeeze(1)
        return functional.normalize(mean.float(), dim=-1), states[-1].float().sum()

    def _grouped(self, rows: Tensor) -> Tensor:
        return rows.reshape(-1, self._group, rows.shape[-1])
