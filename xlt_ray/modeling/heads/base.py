"""What every head promises; as it stands here it chooses one of several classes."""

from __future__ import annotations

from torch import Tensor, nn

from xlt_ray.modeling.losses import summed_loss


class Head(nn.Module):
    """Made by ``Head(hidden_size, num_labels, dropout)``; see the package for its call."""

    def loss(self, logits: Tensor, labels: Tensor, denominator: Tensor) -> Tensor:
        """A float32 scalar, sums over ``denominator``."""
        return summed_loss(logits, labels, denominator)

    def answers(self, logits: Tensor) -> Tensor:
        """What is decoded: the number of the likeliest class."""
        return logits.argmax(dim=-1)
