"""Early stopping against the facts: where its rungs lie, and whether it can stop anything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from xlt_ray.errors import SpecErrors
from xlt_ray.spec.facts import Facts
from xlt_ray.spec.space import SearchParameter, Value, assignments, extremes, num_configurations
from xlt_ray.spec.steps import evaluation_points, num_steps, train_size
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.spec.trainable import Problem
from xlt_ray.spec.trial import TrialSpec

_LENGTH = ("task", "source_language", "size", "epochs", "batch_size", "robust")
"""Keys of ``target`` that its number of examples depends on."""


def target_examples(trial: TrialSpec, facts: Facts) -> int:
    """Examples that the target stage of a trial sees; the last batch is full."""
    target = trial.target
    size = train_size(target.size, facts.tasks[target.task], target.source_language)
    steps = num_steps(size, target.epochs * target.robust.repeats, target.batch_size)
    return steps * target.batch_size


def grace_of(sweep: SweepSpec, facts: Facts) -> Fraction | None:
    """The share of its training that no trial is stopped before; None without early stopping.

    ``grace_examples`` is that of the shortest training: every other one gets more.
    """
    stop = sweep.settings.early_stop
    if stop is None:
        return None
    if stop.grace is not None:
        return Fraction(stop.grace).limit_denominator(10**6)
    assert stop.grace_examples is not None
    return Fraction(stop.grace_examples, shortest_training(sweep, facts))


def shortest_training(sweep: SweepSpec, facts: Facts) -> int:
    """Fewest examples that the target stage of any configuration sees."""

    def tried(knob: SearchParameter) -> tuple[Value, ...]:
        section, _, key = knob.path.partition(".")
        values = extremes(knob.distribution)
        is_relevant = section == "target" and (not key or key.partition(".")[0] in _LENGTH)
        return values if is_relevant else values[:1]

    def bounds(model: str) -> Mapping[str, int]:
        return facts.models[model].bounds()

    lengths = []
    for assignment in assignments(sweep.space, tried, bounds):
        # Options that exclude each other are complained about elsewhere.
        with contextlib.suppress(SpecErrors, KeyError):
            lengths.append(target_examples(sweep.trial_of(assignment, bounds), facts))
    return min(lengths, default=1)


def early_stop_acts(
    sweep: SweepSpec, facts: Facts, trials: Sequence[TrialSpec]
) -> Iterator[Problem]:
    """Why early stopping could stop no trial of a sweep whose trials these are probes of."""
    grace = grace_of(sweep, facts)
    if grace is None or not trials:
        return
    evaluations = {trial.target.evaluations for trial in trials}
    if len(evaluations) > 1:
        yield (
            "target.evaluations",
            "with early_stop trials are compared at their evaluations, and here these lie at "
            "different shares of the training",
            "give one value",
        )
        return
    if num_configurations(sweep.space, lambda name: facts.models[name].bounds()) == 1:
        yield (
            "early_stop",
            "it could stop no trial: configurations compete, and this sweep has one",
            "leave it out, or search over something",
        )
        return
    last = max(_last_evaluations(trials, facts), default=Fraction(1))
    if grace <= last:
        return
    share = f"{100 * float(grace):,.0f} % of the shortest training"
    if not last:
        remedy = "target.evaluations: 2 or more" if evaluations == {1} else "a longer training"
    elif sweep.settings.early_stop is not None and sweep.settings.early_stop.grace is not None:
        remedy = f"grace: at most {float(last):.3g}, or more target.evaluations"
    else:
        most = int(last * shortest_training(sweep, facts))
        remedy = f"grace_examples: at most {most}, or more target.evaluations"
    yield (
        "early_stop",
        f"it could stop no trial: {share} may pass first, and no evaluation lies between that and "
        "the end",
        remedy,
    )


def early_stop_acts_on_all(
    sweep: SweepSpec, facts: Facts, trials: Sequence[TrialSpec]
) -> Iterator[Problem]:
    """Why it stops nothing in some configurations, or as long as the sweep has one of many."""
    grace = grace_of(sweep, facts)
    if grace is None:
        return
    if sweep.settings.search.trials == 1:
        yield (
            "early_stop",
            "it stops nothing as long as search.trials is 1: configurations compete",
            "search.trials: 2 or more",
        )
    last = min(_last_evaluations(trials, facts), default=grace)
    if last < grace:
        yield (
            "early_stop",
            f"it stops no trial whose training has its last evaluation before the end at "
            f"{100 * float(last):,.0f} %: {100 * float(grace):,.0f} % may pass first",
            "a smaller grace, or longer trainings",
        )


def _last_evaluations(trials: Sequence[TrialSpec], facts: Facts) -> Iterator[Fraction]:
    """Of each trial the share of its training at the last evaluation before its end; 0 where there
    is none."""
    for trial in trials:
        # A task without training data is complained about elsewhere.
        with contextlib.suppress(KeyError):
            steps = target_examples(trial, facts) // trial.target.batch_size
            points = evaluation_points(steps, trial.target.evaluations)
            yield Fraction(max((point for point in points if point < steps), default=0), steps)
