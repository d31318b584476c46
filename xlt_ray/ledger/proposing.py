"""What is proposed next: samplers, suggestions and prescribed points in Optuna's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import optuna
from optuna.trial import Trial

from xlt_ray.ledger.bounded import BoundedTPE, History
from xlt_ray.spec.space import (
    Choice,
    FloatRange,
    IntRange,
    Knob,
    ModelBounds,
    Value,
    draw,
    extremes,
)
from xlt_ray.spec.sweep import SweepSpec


def sampler_for(sweep: SweepSpec, number: int, history: History) -> optuna.samplers.BaseSampler:
    """The sampler of one ask; ``history`` is that of the study."""
    search = sweep.settings.search
    # Seeded by trial, not by process: a continued sweep draws what an unbroken one would.
    seed = (search.seed * 1_000_003 + number) % 2**31
    if search.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    return BoundedTPE(seed, history)


def suggest(trial: Trial, knob: Knob) -> Value:
    found = knob.distribution
    if isinstance(found, Choice):
        return trial.suggest_categorical(knob.parameter, list(found.labels()))
    if isinstance(found, FloatRange):
        return trial.suggest_float(knob.parameter, found.low, found.high, log=found.log)
    assert isinstance(found, IntRange)
    low, high = cast(int, found.low), cast(int, found.high)
    return trial.suggest_int(knob.parameter, low, high, step=found.step, log=found.log)


def parameters_of(
    sweep: SweepSpec, point: Mapping[str, Value], model_bounds: ModelBounds
) -> dict[str, Value]:
    """Sampler parameters of a (partial) assignment, for every model it may meet."""
    found: dict[str, Value] = {}

    def pick_for(model: Value) -> Callable[[Knob], Value]:
        def pick(knob: Knob) -> Value:
            if knob.path in point and _has(knob, point[knob.path]):
                found[knob.parameter] = point[knob.path]
                return point[knob.path]
            return model if knob.path == "model" else extremes(knob.distribution)[0]

        return pick

    model = sweep.space.tree.get("model")
    for label in model.labels() if isinstance(model, Choice) else (None,):
        draw(sweep.space, pick_for(label), model_bounds)
    return found


def _has(knob: Knob, value: Value) -> bool:
    """Whether a value lies in a distribution; a layer of one model may be none of another."""
    found = knob.distribution
    if isinstance(found, Choice):
        return value in found.labels()
    if isinstance(found, IntRange):
        return value in found.values()
    return isinstance(value, int | float) and found.low <= value <= found.high


def identity(configuration: int, repeat: int, sweep: SweepSpec) -> dict[str, Any]:
    return {
        "configuration": configuration,
        "repeat": repeat,
        "seed": sweep.settings.search.training_seed + repeat,
    }
