"""A network that is trained at perturbed word embeddings and predicts at the true ones.

A perturbation ``(batch, length, width)``, or ``(batch, options, length, width)`` where pieces are
``(batch, options, length)``, is added to what the encoder's table of word
embeddings gives, before positions, norms and dropout. It is zero at padding and at the
tokenizer's special pieces (the unknown piece among them); every piece is perturbed within a
ball of its own, so that nothing depends on the length of a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from xlt_ray.config.methods import ROBUST, Robust
from xlt_ray.modeling.network import Batch, Network
from xlt_ray.modeling.trimmed_embedding import TrimmedEmbedding

LossAt = Callable[[Tensor], Tensor]
"""The loss of the batch, a scalar, at a perturbation of its pieces in float32."""

TINY = 1e-30


class Perturbation(Protocol):
    """How to find a batch's perturbations and combine the losses at them."""

    def loss(self, loss_at: LossAt, may: Tensor, width: int, batch: Batch) -> Tensor:
        """The loss to be trained on; ``may`` is 1 where pieces may move, of width 1."""


class PerturbedNetwork(Network):
    """A network's own parts under their own names, so that either loads what the other saved."""

    def __init__(
        self, network: Network, perturbation: Perturbation, special_ids: Iterable[int]
    ) -> None:
        super().__init__(network.encoder, network.fusion, network.head)
        self._perturbation = perturbation
        self._special_ids = tuple(sorted(special_ids))

    def forward(self, batch: Batch) -> Tensor:
        if not self.training or "labels" not in batch:
            return super().forward(batch)

        def loss_at(delta: Tensor) -> Tensor:
            with added(self._table, delta):
                return super(PerturbedNetwork, self).forward(batch)

        may = movable(batch, self._special_ids)
        return self._perturbation.loss(loss_at, may, self._table.embedding_dim, batch)

    @property
    def _table(self) -> nn.Embedding | TrimmedEmbedding:
        table = self.encoder.get_input_embeddings()
        assert isinstance(table, nn.Embedding | TrimmedEmbedding), "one table of pieces"
        return table


def robust_network(network: Network, settings: Robust, special_ids: Iterable[int]) -> Network:
    """The network trained as ``settings`` say; the same network where its embeddings stay."""
    if settings.perturbs != "embeddings":
        return network
    entry = next(entry for entry in ROBUST if type(settings) is entry.settings)
    return PerturbedNetwork(network, entry.load()(settings), special_ids).train()


def movable(batch: Batch, special_ids: tuple[int, ...]) -> Tensor:
    """Float32 of the shape of the pieces and 1: 1 where they are neither padding nor special."""
    ids = batch["input_ids"]
    special = torch.isin(ids, torch.tensor(special_ids, dtype=ids.dtype, device=ids.device))
    return ((batch["attention_mask"] != 0) & ~special).unsqueeze(-1).float()


def projected(delta: Tensor, epsilon: float, norm: str) -> Tensor:
    """The nearest perturbation whose every piece is within ``epsilon``.

    ``l2`` is the Euclidean length over the width, ``linf`` the largest component.
    """
    if norm == "linf":
        return delta.clamp(-epsilon, epsilon)
    length = delta.norm(dim=-1, keepdim=True)
    # A product may be rounded up: a hair less keeps the promise.
    return delta * (epsilon * (1 - 1e-6) / length.clamp(min=TINY)).clamp(max=1.0)


@contextmanager
def added(table: nn.Module, delta: Tensor) -> Iterator[None]:
    """Within the block, ``delta`` is added to what the table gives."""

    def add(_: nn.Module, __: object, embedded: Tensor) -> Tensor:
        # Options of one example are encoded as rows of their own.
        return embedded + delta.to(embedded.dtype).reshape(embedded.shape)

    handle = table.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
