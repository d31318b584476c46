"""Weights that a training keeps beside its last ones: of its best evaluation, or an average.

``target.select: best`` and ``target.average``. Both are kept in float32 as part of the progress,
so an interrupted training ends with the same bits; the training loop does not depend on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xlt_ray.config.trial import evaluation_points
from xlt_ray.training.engine import Engine

AVERAGE = "average.safetensors"
"""Of a result: the mean of every parameter. Of progress: the sum so far."""


class Average:
    """Mean of a training's weights at its last evaluations; all workers call it together.

    Args:
        points: steps after which the weights are added; may be empty.
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


BEST = "best.safetensors"
"""Of progress: every parameter as it was at the best evaluation so far."""


class Best:
    """Weights of a training's best evaluation; all workers call it together.

    Args:
        metric: of the dev set, by which an evaluation is better than another; None keeps nothing.
        is_keeper: whether this worker holds the weights.
    """

    def __init__(self, metric: str | None, *, is_keeper: bool) -> None:
        self.metric = metric
        self.is_keeper = is_keeper
        self._weights: dict[str, Tensor] = {}

    def after_step(self, engine: Engine, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Take the weights as they are, where this step was evaluated and is the best so far."""
        if self.metric is None or self.step(history) != step:
            return
        for name, weights in engine.weights():
            if self.is_keeper:
                self._weights[name] = weights

    def step(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """The step of the best evaluation; None where nothing is selected or evaluated."""
        return None if self.metric is None else best_step(history, self.metric)

    def save(self, folder: Path) -> None:
        """Write the best weights so far, if there are any, beside the rest of the progress."""
        if self._weights:
            save_file(self._weights, folder / BEST)

    def load(self, folder: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        if self.is_keeper and (folder / BEST).exists():
            self._weights = load_file(folder / BEST)

    def put(self, network: nn.Module) -> None:
        """Give a finished network the best weights in the place of its last ones."""
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in self._weights:
                    parameter.data = self._weights[name].to(parameter.device)


def best_step(history: Sequence[Mapping[str, Any]], metric: str) -> int | None:
    """The step of the evaluation with the highest metric: of equals the first, as in XTREME's
    scripts (seen). The last where the dev set leaves it undefined, or it is no number in any.

    >>> scores = [(10, 0.5), (20, float("nan")), (30, 0.7), (40, 0.7)]
    >>> best_step([{"step": step, "metrics": {"f1": f1}} for step, f1 in scores], "f1")
    30
    """
    scored = [entry for entry in history if not math.isnan(entry["metrics"].get(metric, math.nan))]
    if scored:
        step: int = max(scored, key=lambda entry: entry["metrics"][metric])["step"]
        return step
    return history[-1]["step"] if history else None
