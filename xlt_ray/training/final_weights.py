"""Weights that a training keeps beside its last ones: of its best evaluation, or an average.

``target.select: best`` and ``target.average``. Both are kept in float32 as part of the progress,
so an interrupted training ends with the same bits; the training loop does not depend on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xlt_ray.config.trial import evaluation_points
from xlt_ray.modeling.trimmed_embedding import with_whole_embeddings
from xlt_ray.training.deepspeed_engine import Engine

AVERAGE = "average.safetensors"
"""In a result: the mean of every trained parameter. In progress: the sum so far."""

History = Sequence[Mapping[str, Any]]
"""The evaluations of a training."""


class KeptWeights:
    """Weights that are part of a training's progress, held by the worker that ``is_keeper``; all
    workers call its methods together."""

    file: ClassVar[str]

    def __init__(self, *, is_keeper: bool) -> None:
        self._is_keeper = is_keeper
        self._weights: dict[str, Tensor] = {}

    def after_step(self, engine: Engine, step: int, history: History) -> None:
        """Keep the current weights, if this step is one to keep."""
        if not self._is_due(step, history):
            return
        for name, weights in engine.weights():
            if self._is_keeper:
                self._weights[name] = self._updated(self._weights.get(name), weights)

    def snapshot(self) -> dict[str, dict[str, Tensor]]:
        """The kept weights, if there are any, by file and name; nothing changes these tensors."""
        return {self.file: dict(self._weights)} if self._weights else {}

    def load(self, folder: Path) -> None:
        """Read a :meth:`snapshot` that was written as progress."""
        if self._is_keeper and (folder / self.file).exists():
            self._weights = load_file(folder / self.file)

    def _is_due(self, step: int, history: History) -> bool:
        raise NotImplementedError

    def _updated(self, kept: Tensor | None, weights: Tensor) -> Tensor:
        return weights


class Average(KeptWeights):
    """Mean of a training's weights after the steps ``points``, which may be empty."""

    file = AVERAGE

    def __init__(self, points: frozenset[int], *, is_keeper: bool) -> None:
        super().__init__(is_keeper=is_keeper)
        self.points = points

    def _is_due(self, step: int, history: History) -> bool:
        return step in self.points

    def _updated(self, kept: Tensor | None, weights: Tensor) -> Tensor:
        # A new tensor: a thread may be writing the old one.
        return weights if kept is None else kept + weights

    def write(self, network: nn.Module, folder: Path) -> None:
        """Write the mean into the folder of the finished training of ``network``."""
        if self._weights:
            means = {name: total / len(self.points) for name, total in self._weights.items()}
            save_file(with_whole_embeddings(means, network), folder / AVERAGE)


class Best(KeptWeights):
    """Weights of a training's best evaluation by a ``metric`` of the dev set; None keeps none."""

    file = "best.safetensors"

    def __init__(self, metric: str | None, *, is_keeper: bool) -> None:
        super().__init__(is_keeper=is_keeper)
        self.metric = metric

    def _is_due(self, step: int, history: History) -> bool:
        return self.metric is not None and self.step(history) == step

    def step(self, history: History) -> int | None:
        """The step of the best evaluation; None where nothing is selected or evaluated."""
        return None if self.metric is None else best_step(history, self.metric)

    def put(self, network: nn.Module) -> None:
        """Give a finished network the best weights in the place of its last ones."""
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in self._weights:
                    parameter.data = self._weights[name].to(parameter.device)


def averaged_points(num_steps: int, settings: Mapping[str, Any]) -> frozenset[int]:
    """Steps whose weights a stage averages, those of its last evaluations; empty by default.

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
            # Weights that were not trained are their own mean.
            if name in means:
                parameter.copy_(means[name])


def best_step(history: History, metric: str) -> int | None:
    """The step of the evaluation with the highest metric; the first of equals, as in XTREME's
    scripts (seen). The last one if the metric is undefined or not a number in all of them.

    >>> scores = [(10, 0.5), (20, float("nan")), (30, 0.7), (40, 0.7)]
    >>> best_step([{"step": step, "metrics": {"f1": f1}} for step, f1 in scores], "f1")
    30
    """
    scored = [entry for entry in history if not math.isnan(entry["metrics"].get(metric, math.nan))]
    if scored:
        step: int = max(scored, key=lambda entry: entry["metrics"][metric])["step"]
        return step
    return history[-1]["step"] if history else None
