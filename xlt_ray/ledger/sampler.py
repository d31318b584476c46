"""The sampler: proposes configurations that were not asked before, drawn by Optuna's samplers.

A configuration is drawn whole before anything is written, so that a repeated one can be drawn
again, and a driver that dies meanwhile leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import datetime
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pkgutil import resolve_name
from typing import Any, Literal, cast

import optuna
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from xlt_ray.config.first_points import has
from xlt_ray.config.search_space import (
    Assignment,
    Choice,
    IntRange,
    ModelBounds,
    SearchParameter,
    Value,
    assignments,
    draw,
    extremes,
    grid,
)
from xlt_ray.config.sweep import SAMPLERS, SweepSpec, modes_of
from xlt_ray.ledger.distributions import distribution_of
from xlt_ray.ledger.observations import observed_trials
from xlt_ray.ledger.views import points_of


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its messages about experimental features and new studies."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def directions_of(sweep: SweepSpec) -> list[Literal["maximize", "minimize"]]:
    """The directions of the objectives, as a study has them."""
    modes = modes_of(sweep.settings.objective.model_dump())
    return ["maximize" if mode == "max" else "minimize" for mode in modes]


class StudyView:
    """A study as samplers read it.

    What samplers note in it for other processes is dropped, trials that were stopped early are
    compared by the number of their evaluations instead of examples, and trials of the sweeps of
    ``search.from`` come before its own.
    """

    def __init__(self, study: Study, sweep: SweepSpec) -> None:
        self._study = study
        self.sweep = sweep
        self._storage = _NoStorage()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @cached_property
    def _trials(self) -> list[FrozenTrial]:
        own = (_by_evaluations(trial) for trial in self._study.get_trials(deepcopy=False))
        return [*observed_trials(self._study.user_attrs), *own]

    def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Any = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """As Optuna's samplers call it; they change no trial, so nothing is copied."""
        del deepcopy, use_cache
        return [trial for trial in self._trials if states is None or trial.state in states]


def _by_evaluations(trial: FrozenTrial) -> FrozenTrial:
    """The trial; if it was stopped early, its steps are numbers of evaluations, not examples.

    TPE ranks pruned trials by their last step and compares values only between equal steps. In
    examples, a larger training would rank higher for its size alone.
    """
    if trial.state != TrialState.PRUNED:
        return trial
    pruned = copy(trial)
    values = sorted(points_of(trial).items())
    pruned.intermediate_values = {number: value for number, (_, value) in enumerate(values, 1)}
    return pruned


class _NoStorage:
    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None: ...

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None: ...

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return {}


Configuration = frozenset[tuple[str, Value]]
"""Paths and values: equal for two trials that differ only in their seeds."""
LEARNED_DRAWS = 8
"""Draws of a sampler that learns until one is new; each costs as much as an ask."""
RANDOM_DRAWS = 100
"""Random draws after that; then the whole space is enumerated."""


def configuration_from(assignment: Mapping[str, Value]) -> Configuration:
    return frozenset(assignment.items())


class Proposer:
    """Proposes configurations, which depend only on study, sweep and number."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._grid: Iterator[Assignment] | None = None

    def configuration(
        self,
        number: int,
        sweep: SweepSpec,
        asked: Collection[Configuration],
        model_bounds: ModelBounds,
    ) -> Assignment | None:
        """The configuration of this number; None if all have been asked."""
        points, lowest = sweep.first_points, sweep.at_rung({}, 0)
        proposed = None
        if number < len(points):
            point = sweep.at_rung(points[number], 0)
            proposed = self._unasked_around(point, number, sweep, asked, model_bounds)
        # The sampler takes over once every variant of a first point has been tried.
        if proposed is None and sweep.settings.search.sampler == "grid":
            points_of_grid = grid(sweep.space, model_bounds, lowest)
            self._grid = self._grid or points_of_grid
            proposed = _unasked(self._grid, asked)
        elif proposed is None:
            proposed = self._unasked_around(lowest, number, sweep, asked, model_bounds)
        return proposed

    def around(
        self,
        point: Mapping[str, Value],
        number: int,
        sweep: SweepSpec,
        asked: Collection[Configuration],
        model_bounds: ModelBounds,
    ) -> Assignment:
        """The configuration of a point; the sampler draws what it leaves out."""
        within = sweep.at_rung(point, 0)
        new = self._unasked_around(within, number, sweep, asked, model_bounds)
        return new or next(_drawn(self._study, sweep, number, model_bounds, within))

    def _unasked_around(
        self,
        within: Assignment,
        number: int,
        sweep: SweepSpec,
        asked: Collection[Configuration],
        model_bounds: ModelBounds,
    ) -> Assignment | None:
        return _unasked(_drawn(self._study, sweep, number, model_bounds, within), asked)


def _unasked(
    assignments: Iterable[Assignment], asked: Collection[Configuration]
) -> Assignment | None:
    return next(
        (assignment for assignment in assignments if configuration_from(assignment) not in asked),
        None,
    )


def _drawn(
    study: optuna.Study,
    sweep: SweepSpec,
    number: int,
    model_bounds: ModelBounds,
    within: Assignment,
) -> Iterator[Assignment]:
    """Draws of the sampler, then random draws, and at last every configuration of the space.

    Args:
        within: values of some parameters, which are kept.
    """
    sampler, view = sampler_for(sweep, number), cast(Study, StudyView(study, sweep))

    def drawn() -> Assignment:
        draft = Draft(view, sampler, number)

        def pick(parameter: SearchParameter) -> Value:
            if parameter.path in within:
                return draft.note(parameter, within[parameter.path])
            return draft.note(parameter, draft.suggest(parameter))

        return draw(sweep.space, pick, model_bounds)[1]

    if SAMPLERS[sweep.settings.search.sampler].learns:
        for _ in range(LEARNED_DRAWS):
            yield drawn()
        sampler = optuna.samplers.RandomSampler(seed=_seed_of(sweep, number))
    for _ in range(RANDOM_DRAWS):
        yield drawn()
    draft = Draft(view, sampler, number)

    def values(parameter: SearchParameter) -> Sequence[Value]:
        distribution = parameter.distribution
        if isinstance(distribution, Choice):
            return distribution.labels()
        if isinstance(distribution, IntRange):
            return distribution.values()
        # A real number that is drawn has practically never been drawn before.
        return (draft.suggest(parameter),)

    yield from assignments(sweep.space, values, model_bounds, within)


class Draft:
    """A trial outside the study, for which a sampler suggests values as for one of the study."""

    def __init__(
        self, study: optuna.Study, sampler: optuna.samplers.BaseSampler, configuration: int
    ) -> None:
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
            user_attrs={"configuration": configuration},
            system_attrs={},
            intermediate_values={},
        )
        relative = sampler.infer_relative_search_space(study, self._trial)
        self._relative = sampler.sample_relative(study, self._trial, relative)

    def note(self, parameter: SearchParameter, value: Value) -> Value:
        """Let later parameters know a value."""
        distribution = distribution_of(parameter)
        if not distribution.single() and has(parameter.distribution, value):
            trial, name = self._trial, parameter.name
            trial.params = {**trial.params, name: value}
            trial.distributions = {**trial.distributions, name: distribution}
        return value

    def suggest(self, parameter: SearchParameter) -> Value:
        name, distribution = parameter.name, distribution_of(parameter)
        if distribution.single():
            return extremes(parameter.distribution)[0]
        if name in self._relative and has(parameter.distribution, self._relative[name]):
            return cast(Value, self._relative[name])
        value = self._sampler.sample_independent(self._study, self._trial, name, distribution)
        return cast(Value, value)


def sampler_for(sweep: SweepSpec, configuration: int) -> optuna.samplers.BaseSampler:
    """The sampler of one configuration."""
    make = resolve_name(SAMPLERS[sweep.settings.search.sampler].implementation)
    with quiet():
        sampler: optuna.samplers.BaseSampler = make(seed=_seed_of(sweep, configuration))
    return sampler


def _seed_of(sweep: SweepSpec, configuration: int) -> int:
    # By the number of the configuration, not by process or time: a continued sweep draws what an
    # uninterrupted one would, and so does one that stops trials early.
    search = sweep.settings.search
    return int((search.seed * 1_000_003 + configuration * search.most_seeds) % 2**31)


def suggest(trial: Trial, parameter: SearchParameter) -> Value:
    """The value of a parameter in a trial whose parameters were enqueued."""
    name, distribution = parameter.name, distribution_of(parameter)
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    return trial.suggest_int(
        name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def parameters_of(
    sweep: SweepSpec, assignment: Assignment, model_bounds: ModelBounds
) -> dict[str, Value]:
    """An assignment by names of parameters."""
    parameters: dict[str, Value] = {}

    def pick(parameter: SearchParameter) -> Value:
        parameters[parameter.name] = assignment[parameter.path]
        return assignment[parameter.path]

    draw(sweep.space, pick, model_bounds)
    return parameters


def identity(configuration: int, repeat: int, sweep: SweepSpec) -> dict[str, Any]:
    return {
        "configuration": configuration,
        "repeat": repeat,
        "seed": sweep.settings.search.training_seed + repeat,
    }
