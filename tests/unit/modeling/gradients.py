"""Gradients of a network, and that they do not depend on how a batch is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """Copies, of the parameters that have any."""
    return {
        name: one.grad.clone() for name, one in network.named_parameters() if one.grad is not None
    }


def assert_parts_add_up(
    network: nn.Module,
    batch: Mapping[str, Tensor],
    parts: Sequence[slice],
    *,
    rtol: float,
    atol: float,
) -> None:
    """Losses and gradients of parts of a batch add up to those of the whole batch.

    ``rtol`` and ``atol`` are of gradients; what has no rows, the denominator, all parts share.
    """
    loss = network(batch)
    loss.backward()
    whole = gradients(network)
    network.zero_grad()
    total = torch.zeros(())
    for rows in parts:
        part_loss = network({name: one[rows] if one.dim() else one for name, one in batch.items()})
        part_loss.backward()
        total += part_loss.detach()
    torch.testing.assert_close(total, loss.detach())
    summed = gradients(network)
    assert whole.keys() == summed.keys()
    for name in whole:
        torch.testing.assert_close(summed[name], whole[name], rtol=rtol, atol=atol)
