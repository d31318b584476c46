"""How long the trainings of a sweep are, and settings for which they are too short."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from xlt_ray.config.checks import Problem
from xlt_ray.config.facts import Facts
from xlt_ray.config.methods import Training
from xlt_ray.config.mixture import mixture_of
from xlt_ray.config.search_space import (
    SearchParameter,
    Value,
    assignments,
    extremes,
    num_configurations,
)
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import (
    TrialSpec,
    evaluation_points,
    num_steps,
    train_size,
    with_lengths,
)
from xlt_ray.errors import SpecErrors

Trials = Sequence[TrialSpec]
"""Probes of a sweep whose tasks have training data."""
TRAINED = ("align", "intermediate", "target", "few_shot")
"""Sections with a training, in the order of a path."""
_LENGTH = ("task", "source_language", "size", "epochs", "batch_size", "robust")
"""Keys of ``target`` that its number of examples depends on."""


def target_examples(trial: TrialSpec, facts: Facts) -> int:
    """Examples that the target stage of a trial sees; the last batch is full."""
    target = trial.target
    size = train_size(target.size, facts.tasks[target.task], target.source_language)
    steps = num_steps(size, target.epochs * target.robust.repeats, target.batch_size)
    return steps * target.batch_size


def grace_of(sweep: SweepSpec, facts: Facts) -> Fraction | None:
    """The share of its training after which a trial can be stopped; None without early stopping."""
    stop = sweep.settings.early_stop
    if stop is None:
        return None
    if stop.grace is not None:
        return Fraction(stop.grace).limit_denominator(10**6)
    assert stop.grace_examples is not None
    return Fraction(stop.grace_examples, shortest_training(sweep, facts))


def shortest_training(sweep: SweepSpec, facts: Facts) -> int:
    """Fewest examples that the target stage of any configuration sees."""

    def tried(parameter: SearchParameter) -> tuple[Value, ...]:
        section, _, key = parameter.path.partition(".")
        values = extremes(parameter.distribution)
        is_relevant = section == "target" and (not key or key.partition(".")[0] in _LENGTH)
        return values if is_relevant else values[:1]

    lengths = []
    for assignment in assignments(sweep.space, tried, facts.model_bounds):
        # Other checks refuse options that exclude each other.
        with contextlib.suppress(SpecErrors, KeyError):
            lengths.append(target_examples(sweep.trial_of(assignment, facts.model_bounds), facts))
    return min(lengths, default=1)


def early_stop_acts(sweep: SweepSpec, facts: Facts, trials: Trials) -> Iterator[Problem]:
    """Early stopping can stop some trial of a sweep."""
    grace, stop = grace_of(sweep, facts), sweep.settings.early_stop
    if grace is None or stop is None or not trials:
        return
    evaluations = {trial.target.evaluations for trial in trials}
    if len(evaluations) > 1:
        yield (
            "target.evaluations",
            "with early_stop trials are compared at their evaluations, which here are at "
            "different shares of the training",
            "give one value",
        )
        return
    if num_configurations(sweep.space, facts.model_bounds) == 1:
        yield (
            "early_stop",
            "it cannot stop any trial: configurations compete, and this sweep has one",
            "leave it out, or search over something",
        )
        return
    last = max(_last_evaluations(trials, facts), default=Fraction(1))
    if grace <= last:
        return
    if not last:
        remedy = "target.evaluations: 2 or more" if evaluations == {1} else "a longer training"
    elif stop.grace is not None:
        remedy = f"grace: at most {float(last):.3g}, or more target.evaluations"
    else:
        most = int(last * shortest_training(sweep, facts))
        remedy = f"grace_examples: at most {most}, or more target.evaluations"
    yield (
        "early_stop",
        f"it cannot stop any trial: {100 * float(grace):,.0f} % of the shortest training may pass "
        "first, and no evaluation follows before the end",
        remedy,
    )


def early_stop_acts_on_all(sweep: SweepSpec, facts: Facts, trials: Trials) -> Iterator[Problem]:
    """Early stopping can stop trials of every configuration."""
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


def _last_evaluations(trials: Trials, facts: Facts) -> Iterator[Fraction]:
    """The share of each trial's training at the last evaluation before its end, or 0."""
    for trial in trials:
        steps = target_examples(trial, facts) // trial.target.batch_size
        points = evaluation_points(steps, trial.target.evaluations)
        yield Fraction(max(points - {steps}, default=0), steps)


Extent = tuple[int, int]
"""The lowest and the highest value over the configurations of a sweep."""


@dataclass(frozen=True)
class StageSize:
    """The trainings of one kind of stage on the same tasks, over all configurations."""

    kind: str
    content: str
    """Its tasks, or the objective of an alignment."""
    steps: Extent
    batch_size: Extent
    max_length: Extent

    def __str__(self) -> str:
        """The sizes in one line.

        >>> str(StageSize("target", "pos", (94, 1176), (32, 32), (128, 128)))
        'target pos: 94 to 1,176 steps of 32 rows, each of at most 128 pieces'
        """
        return (
            f"{self.kind} {self.content}: {_extent(self.steps)} steps of "
            f"{_extent(self.batch_size)} rows, each of at most {_extent(self.max_length)} pieces"
        )


def trainings(trial: TrialSpec, facts: Facts) -> dict[str, tuple[Training, int]]:
    """Kind of stage -> its settings and its optimizer steps, in the order of a path.

    Raises:
        KeyError: a task has no training data.
    """
    by_kind: dict[str, tuple[Training, int]] = {}
    if trial.align is not None:
        by_kind["align"] = trial.align, trial.align.steps
    if trial.intermediate is not None:
        settings = trial.intermediate
        mixture = mixture_of(settings, trial.target.source_language, facts.tasks)
        size = mixture.size(settings.size)
        steps = mixture.num_steps(size, settings.epochs, settings.batch_size)
        by_kind["intermediate"] = settings, steps
    by_kind["target"] = trial.target, target_examples(trial, facts) // trial.target.batch_size
    if trial.few_shot is not None:
        by_kind["few_shot"] = trial.few_shot, trial.few_shot.steps
    return by_kind


def stage_sizes(trials: Iterable[TrialSpec], facts: Facts) -> list[StageSize]:
    """The sizes of every stage; ``trials`` are the probes of a sweep without problems."""
    grouped: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for trial in trials:
        for kind, (settings, steps) in trainings(with_lengths(trial, facts), facts).items():
            row = (steps, settings.batch_size, settings.max_length or 0)
            grouped.setdefault((kind, _content(trial, kind)), []).append(row)
    return [
        StageSize(*names, *((min(column), max(column)) for column in zip(*rows, strict=True)))
        for names, rows in sorted(grouped.items(), key=lambda item: TRAINED.index(item[0][0]))
    ]


def _content(trial: TrialSpec, kind: str) -> str:
    if kind == "align":
        return str(getattr(trial.align, "objective", ""))
    if kind == "intermediate" and trial.intermediate is not None:
        return " and ".join(trial.intermediate.tasks)
    return trial.target.task


def _extent(extent: Extent) -> str:
    low, high = extent
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def averages_act(trials: Trials, facts: Facts) -> Iterator[Problem]:
    """Some configuration has several weights for ``target.average``."""
    averaged = [trial for trial in trials if trial.target.average > 1]
    if averaged and all(_num_evaluations(trial, facts) == 1 for trial in averaged):
        yield (
            "target.average",
            "with one evaluation the average is over one set of weights",
            "target.evaluations: 2 or more, or average: 1",
        )


def short_trainings(sweep: SweepSpec, facts: Facts, trials: Trials) -> Iterator[Problem]:
    """Every training is long enough for its settings, and every first point is tried."""
    for trial in trials:
        for kind, (settings, steps) in trainings(trial, facts).items():
            has_warmup = "warmup" in settings.model_fields_set and settings.warmup > 0
            if has_warmup and not int(steps * settings.warmup):
                yield (
                    f"{kind}.warmup",
                    f"of {steps} steps a share of {settings.warmup:g} is less than one, so the "
                    "rate begins at its peak",
                    "a larger share, or 0",
                )
        target, number = trial.target, _num_evaluations(trial, facts)
        if "evaluations" in target.model_fields_set and number < target.evaluations:
            yield (
                "target.evaluations",
                f"a training of {number} steps is evaluated {number} times, not "
                f"{target.evaluations}",
                f"at most {number}, or a longer training",
            )
        if target.average > number:
            yield (
                "target.average",
                f"weights of {number} evaluations are averaged, as there are no more",
                f"at most {number}, or more target.evaluations",
            )
    num_points, num_trials = len(sweep.settings.search.first), sweep.settings.search.trials
    if num_points > num_trials:
        yield (
            "search.first",
            f"it has {num_points} points and search.trials is {num_trials}, so the last ones are "
            "not tried",
            f"search.trials: {num_points} or more",
        )


def _num_evaluations(trial: TrialSpec, facts: Facts) -> int:
    steps = target_examples(trial, facts) // trial.target.batch_size
    return min(steps, trial.target.evaluations)
