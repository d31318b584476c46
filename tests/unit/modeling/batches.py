"""A small batch of each kind of task, and the gradients of a network on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from xlt_ray.config.task_types import KINDS

ROWS, LENGTH, NUM_LABELS = 6, 8, 3


def batch_of(kind: str) -> dict[str, Tensor]:
    """Rows of different length; every third piece is labelled where labels are per piece.

    A choice has three options in each row, of different length; ranking a query and two candidates.
    """
    generator = torch.Generator().manual_seed(0)
    has_parts = kind in ("choice", "ranking")
    shape = (ROWS, NUM_LABELS, LENGTH) if has_parts else (ROWS, LENGTH)
    ids = torch.randint(5, 15, shape, generator=generator)
    lengths = torch.arange(3, 3 + ROWS)[:, None]
    mask = torch.arange(LENGTH) < lengths
    if has_parts:
        mask = torch.arange(LENGTH) < (lengths - torch.arange(NUM_LABELS) % 2)[..., None]
    mask = mask.long()
    if kind == "ranking":
        labels = torch.zeros(ROWS, dtype=torch.long)
    elif kind == "score":
        labels = ids[:, 0] / 15
    elif kind == "span":
        labels = torch.stack([ids[:, 0] % 2, 1 + ids[:, 1] % 2], dim=1)
    elif kind == "mlm" or KINDS[kind].is_by_piece:
        labels = torch.where(
            (mask == 1) & (ids % 3 == 0), ids if kind == "mlm" else ids % NUM_LABELS, -100
        )
    else:
        labels = ids.reshape(ROWS, -1)[:, 0] % NUM_LABELS
    return {
        "input_ids": torch.where(mask == 1, ids, 0),
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
        "labels": labels,
        "denominator": (labels != -100).sum().float(),
    }


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """Copies, of the parameters that have any."""
    return {
        name: parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
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
        part_loss = network(
            {name: part[rows] if part.dim() else part for name, part in batch.items()}
        )
        part_loss.backward()
        total += part_loss.detach()
    torch.testing.assert_close(total, loss.detach())
    summed = gradients(network)
    assert whole.keys() == summed.keys()
    for name in whole:
        torch.testing.assert_close(summed[name], whole[name], rtol=rtol, atol=atol)
