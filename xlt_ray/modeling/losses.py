"""Losses as sums over a denominator, so that micro-batches and workers add up.

Given the number of labels in the full batch as ``denominator``, the losses (and gradients) of
micro-batches add up to the mean over the full batch.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

IGNORED = -100


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


def squared_loss(values: Tensor, labels: Tensor, denominator: Tensor) -> Tensor:
    """Squared errors where labels are not -100, summed in float32, over ``denominator``.

    Both ``(batch,)``.
    """
    asked = labels != IGNORED
    return (
        functional.mse_loss(values[asked].float(), labels[asked].float(), reduction="sum")
        / denominator
    )
