"""What every head promises; as it stands here it chooses one of several classes.

Losses are sums over a denominator: given the number of labels in the full batch, the losses (and
gradients) of micro-batches and workers add up to the mean over the full batch.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

IGNORED = -100
"""Label of what is not asked."""


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
    """Made by ``Head(hidden_size, num_labels, dropout)``; see the package for its call."""

    auto_classes: ClassVar[str] = ""
    """Name of the mapping in transformers, from configuration to class, whose classes may compute
    the same; empty where there is none."""
    layer_names: ClassVar[tuple[dict[str, str], ...]] = ()
    """What the head's layers may be called there."""

    def loss(self, logits: Tensor, labels: Tensor, denominator: Tensor) -> Tensor:
        """A float32 scalar, sums over ``denominator``."""
        return summed_loss(logits, labels, denominator)

    def answers(self, logits: Tensor) -> Tensor:
        """What is decoded: the number of the likeliest class."""
        return logits.argmax(dim=-1)
