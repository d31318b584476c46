"""Settings that are there and change nothing, because a training is too short for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from xlt_ray.spec.facts import Facts
from xlt_ray.spec.stage_sizes import trainings
from xlt_ray.spec.steps import evaluation_points
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.spec.trainable import Problem
from xlt_ray.spec.trial import TrialSpec


def averages_act(trials: Sequence[TrialSpec], facts: Facts) -> Iterator[Problem]:
    """``target.average`` has several weights to average in some configuration."""
    numbers = []
    for trial in trials:
        if trial.target.average > 1:
            with contextlib.suppress(KeyError):
                numbers.append(_num_evaluations(trial, facts))
    if numbers and max(numbers) == 1:
        yield (
            "target.average",
            "there is one evaluation, so the average is that of one set of weights",
            "target.evaluations: 2 or more, or average: 1",
        )


def short_trainings(
    sweep: SweepSpec, trials: Sequence[TrialSpec], facts: Facts
) -> Iterator[Problem]:
    """What a sweep asks of its trainings that some of them are too short for."""
    for trial in trials:
        with contextlib.suppress(KeyError):
            yield from _too_short(trial, facts)
    num_points, asked = len(sweep.settings.search.first), sweep.settings.search.trials
    if num_points > asked:
        yield (
            "search.first",
            f"it has {num_points} points and search.trials is {asked}, so the last ones are not "
            "tried",
            f"search.trials: {num_points} or more",
        )


def _too_short(trial: TrialSpec, facts: Facts) -> Iterator[Problem]:
    for kind, (settings, steps) in trainings(trial, facts).items():
        is_asked = "warmup" in settings.model_fields_set and settings.warmup > 0
        if is_asked and not int(steps * settings.warmup):
            yield (
                f"{kind}.warmup",
                f"of {steps} steps a share of {settings.warmup:g} is less than one, so the rate "
                "begins at its peak",
                "a larger share, or 0",
            )
    number, asked = _num_evaluations(trial, facts), trial.target.evaluations
    if "evaluations" in trial.target.model_fields_set and number < asked:
        yield (
            "target.evaluations",
            f"a training of {number} steps is evaluated {number} times, not {asked}",
            f"at most {number}, or a longer training",
        )
    if trial.target.average > number:
        yield (
            "target.average",
            f"weights of {number} evaluations are averaged, as there are no more",
            f"at most {number}, or more target.evaluations",
        )


def _num_evaluations(trial: TrialSpec, facts: Facts) -> int:
    _, steps = trainings(trial, facts)["target"]
    return len(evaluation_points(steps, trial.target.evaluations))
