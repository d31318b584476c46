"""What is proposed next: a configuration that was not asked before, drawn by Optuna's samplers.

A configuration is drawn whole before anything is written, so that one which was asked already can
be drawn again, and a driver that dies meanwhile leaves nothing behind.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import optuna
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState

from xlt_ray.ledger.bounded import BoundedTPE, History
from xlt_ray.spec.first import has
from xlt_ray.spec.space import (
    Assignment,
    Choice,
    FloatRange,
    IntRange,
    ModelBounds,
    SearchParameter,
    Value,
    assignments,
    draw,
    extremes,
    grid,
)
from xlt_ray.spec.sweep import SweepSpec

Configuration = frozenset[tuple[str, Value]]
"""What two trials have in common that differ in their seeds alone: paths and their values."""
TPE_DRAWS = 8
"""Draws of tpe in search of a configuration that was not asked, each as dear as an ask."""
RANDOM_DRAWS = 100
"""Draws at random after that; then the space is gone through."""


def configuration_from(assignment: Mapping[str, Value]) -> Configuration:
    return frozenset(assignment.items())


class Proposer:
    """Proposes configurations of one study; they follow from study, sweep and number alone."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._grid: Iterator[Assignment] | None = None

    def configuration(
        self,
        number: int,
        sweep: SweepSpec,
        history: History,
        asked: Collection[Configuration],
        model_bounds: ModelBounds,
    ) -> Assignment | None:
        """The configuration of this number; None where all that there are have been asked."""
        points = sweep.first_points
        found = None
        if number < len(points):
            drawn = _drawn(self._study, sweep, number, history, model_bounds, points[number])
            found = _unasked(drawn, asked)
        # Where a point to try first has been tried in every way, the sampler goes on.
        if found is None and sweep.settings.search.sampler == "grid":
            self._grid = self._grid or grid(sweep.space, model_bounds)
            found = _unasked(self._grid, asked)
        elif found is None:
            drawn = _drawn(self._study, sweep, number, history, model_bounds, {})
            found = _unasked(drawn, asked)
        return found


def _unasked(
    assignments: Iterable[Assignment], asked: Collection[Configuration]
) -> Assignment | None:
    return next((one for one in assignments if configuration_from(one) not in asked), None)


def _drawn(
    study: optuna.Study,
    sweep: SweepSpec,
    number: int,
    history: History,
    model_bounds: ModelBounds,
    within: Assignment,
) -> Iterator[Assignment]:
    """Draws of the sampler, then draws at random, and at last every configuration there is.

    Args:
        within: values of some knobs, which are kept.
    """
    sampler = sampler_for(sweep, number, history)

    def drawn() -> Assignment:
        draft = _Draft(study, sampler)

        def pick(knob: SearchParameter) -> Value:
            return within[knob.path] if knob.path in within else draft.suggest(knob)

        return draw(sweep.space, pick, model_bounds)[1]

    if isinstance(sampler, BoundedTPE):
        for _ in range(TPE_DRAWS):
            yield drawn()
        sampler = sampler.random
    for _ in range(RANDOM_DRAWS):
        yield drawn()
    draft = _Draft(study, sampler)

    def values(knob: SearchParameter) -> Sequence[Value]:
        found = knob.distribution
        if isinstance(found, Choice):
            return found.labels()
        # A real number that is drawn has practically never been drawn before.
        return found.values() if isinstance(found, IntRange) else (draft.suggest(knob),)

    yield from assignments(sweep.space, values, model_bounds, within)


class _Draft:
    """A trial that nobody has written down: what a sampler suggests for it, as to Optuna's own."""

    def __init__(self, study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> None:
        self._study = study
        self._sampler = sampler
        self._trial = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.datetime.now(),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        relative = sampler.infer_relative_search_space(study, self._trial)
        self._relative = sampler.sample_relative(study, self._trial, relative)

    def suggest(self, knob: SearchParameter) -> Value:
        name, distribution = knob.parameter, distribution_of(knob)
        if distribution.single():
            return extremes(knob.distribution)[0]
        if name in self._relative and has(knob.distribution, self._relative[name]):
            return cast(Value, self._relative[name])
        found = self._sampler.sample_independent(self._study, self._trial, name, distribution)
        return cast(Value, found)


def sampler_for(
    sweep: SweepSpec, configuration: int, history: History
) -> optuna.samplers.BaseSampler:
    """The sampler of one configuration; ``history`` is that of the study."""
    search = sweep.settings.search
    # By the number of the configuration, not by process or time: a continued sweep draws what an
    # unbroken one would, and so does one that stops trials early.
    seed = (search.seed * 1_000_003 + configuration * search.seeds) % 2**31
    if search.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    return BoundedTPE(seed, history)


def suggest(trial: Trial, knob: SearchParameter) -> Value:
    """The value of a knob in a trial whose parameters were enqueued."""
    name, found = knob.parameter, distribution_of(knob)
    if isinstance(found, CategoricalDistribution):
        return trial.suggest_categorical(name, found.choices)
    if isinstance(found, FloatDistribution):
        return trial.suggest_float(name, found.low, found.high, log=found.log)
    return trial.suggest_int(name, found.low, found.high, step=found.step, log=found.log)


def distribution_of(
    knob: SearchParameter,
) -> CategoricalDistribution | FloatDistribution | IntDistribution:
    """The values of a knob in Optuna's terms."""
    found = knob.distribution
    if isinstance(found, Choice):
        return CategoricalDistribution(found.labels())
    if isinstance(found, FloatRange):
        return FloatDistribution(found.low, found.high, log=found.log)
    low, high = cast(int, found.low), cast(int, found.high)
    return IntDistribution(low, high, step=found.step, log=found.log)


def parameters_of(
    sweep: SweepSpec, assignment: Assignment, model_bounds: ModelBounds
) -> dict[str, Value]:
    """An assignment by names of parameters."""
    found: dict[str, Value] = {}

    def pick(knob: SearchParameter) -> Value:
        found[knob.parameter] = assignment[knob.path]
        return assignment[knob.path]

    draw(sweep.space, pick, model_bounds)
    return found


def identity(configuration: int, repeat: int, sweep: SweepSpec) -> dict[str, Any]:
    return {
        "configuration": configuration,
        "repeat": repeat,
        "seed": sweep.settings.search.training_seed + repeat,
    }
