"""The average of a training's weights at its last evaluations (``target.average``).

A running sum in float32 beside the training, part of its progress: an interrupted training ends in
the same average, bit by bit. The training itself knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xlt_ray.spec.steps import evaluation_points
from xlt_ray.training.engine import Engine

AVERAGE = "average.safetensors"
"""Of a result: the mean of every parameter. Of progress: the sum so far."""


class Average:
    """Collective: every worker adds; those that are no keeper lend their part and hold nothing.

    Args:
        points: steps after which the weights are taken; none averages nothing.
        is_keeper: whether this worker holds the sum.
    """

    def __init__(self, points: frozenset[int], *, is_keeper: bool) -> None:
        self.points = points
        self.is_keeper = is_keeper
        self._sums: dict[str, Tensor] = {}

    def after_step(self, engine: Engine, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Add the weights as they are, where this step is one of the points."""
        if step not in self.points:
            return
        for name, weights in engine.weights():
            if self.is_keeper:
                known = self._sums.get(name)
                self._sums[name] = weights if known is None else known.add_(weights)

    def save(self, folder: Path) -> None:
        """Write the sum so far, if there is any, beside the rest of the progress."""
        if self._sums:
            save_file(self._sums, folder / AVERAGE)

    def load(self, folder: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        if self.is_keeper and (folder / AVERAGE).exists():
            self._sums = load_file(folder / AVERAGE)

    def write(self, folder: Path) -> None:
        """Write the mean into the folder of a finished training."""
        if self._sums:
            means = {name: total / len(self.points) for name, total in self._sums.items()}
            save_file(means, folder / AVERAGE)


def averaged_points(num_steps: int, settings: Mapping[str, Any]) -> frozenset[int]:
    """Steps whose weights a stage averages: its last evaluations; none where it does not.

    >>> sorted(averaged_points(10, {"average": 2, "evaluations": 4}))
    [8, 10]
    >>> averaged_points(10, {})
    frozenset()
    """
    last = settings.get("average")
    if last is None:
        return frozenset()
    return frozenset(sorted(evaluation_points(num_steps, settings["evaluations"]))[-last:])


def put_average(network: nn.Module, folder: Path) -> None:
    """Replace the weights of a finished network by the mean that its training left."""
    means = load_file(folder / AVERAGE)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(means[name])
