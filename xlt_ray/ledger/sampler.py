"""What is proposed next: a configuration that was not asked before, drawn by Optuna's samplers.

A configuration is drawn whole before anything is written, so that one which was asked already can
be drawn again, and a driver that dies meanwhile leaves nothing behind.

Optuna without its announcements.

TPE whose asks take no longer as a sweep grows beyond a thousand trials.
"""

from __future__ import annotations

import contextlib
import datetime
import warnings
from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import islice
from typing import Any, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from xlt_ray.config.first_points import has
from xlt_ray.config.search_space import (
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
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.ledger.views import points_of


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna announces its experimental features and every study; users did not ask."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


HISTORY = 1000
"""Trials that ended, as many of the latest ones as are looked at."""
NUM_BEST = 25
"""The best of the earlier ones are looked at besides: as many as TPE ever calls good."""


class History:
    """What is looked at of the trials of one study, kept up from ask to ask.

    A trial that has ended changes no more, so only those that had not are looked at again.

    Args:
        length: as :data:`HISTORY`.
    """

    def __init__(self, length: int = HISTORY) -> None:
        self._length = length
        self._num_known = 0
        self._open: list[int] = []
        self._ended: list[int] = []
        self._ranking: list[tuple[float, int]] = []

    def seen(self, trials: list[FrozenTrial], direction: StudyDirection) -> list[FrozenTrial]:
        """What is looked at of all trials of the study, by number; all where few have ended."""
        self._keep_up(trials, -1.0 if direction == StudyDirection.MAXIMIZE else 1.0)
        if len(self._ended) <= self._length:
            return trials
        latest = self._ended[-self._length :]
        earlier = (number for _, number in self._ranking if number < latest[0])
        running = (one for one in self._open if trials[one].state == TrialState.RUNNING)
        return [trials[one] for one in sorted([*islice(earlier, NUM_BEST), *latest, *running])]

    def _keep_up(self, trials: list[FrozenTrial], sign: float) -> None:
        self._open += range(self._num_known, len(trials))
        self._num_known = len(trials)
        still_open = []
        for number in self._open:
            state = trials[number].state
            if not state.is_finished():
                still_open.append(number)
            elif state != TrialState.FAIL:
                insort(self._ended, number)
                if state == TrialState.COMPLETE:
                    insort(self._ranking, (sign * cast(float, trials[number].value), number))
        self._open = still_open


class BoundedTPE(optuna.samplers.TPESampler):
    """Multivariate, grouped TPE with constant liar (Watanabe 2023, arXiv 2304.11127).

    An ask of Optuna's costs 25 ms for every thousand trials that ended. Of more than
    :data:`HISTORY` this one sees those that run, the latest of them that ended, and the best
    :data:`NUM_BEST` of all before them. Optuna never counts more than 25 trials as good, so the
    density of the good ones is what it would be without a bound; that of the others, in which
    Optuna gives the older ones less and less weight, is of the latest alone.

    Args:
        seed: of this ask; a sampler serves one.
        history: of the study that is asked.
    """

    def __init__(self, seed: int, history: History) -> None:
        with quiet():
            super().__init__(seed=seed, multivariate=True, group=True, constant_liar=True)
        self.random = optuna.samplers.RandomSampler(seed=seed)
        self._history = history
        self._part: Study | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return super().sample_independent(self._seen(study), trial, param_name, param_distribution)

    def _seen(self, study: Study) -> Study:
        if self._part is None:
            trials = study.get_trials(deepcopy=False)
            self._part = cast(Study, _Part(study, self._history.seen(trials, study.direction)))
        return self._part


class _Part:
    """A study of which a sampler sees a part of the trials, and into which it writes nothing."""

    def __init__(self, study: Study, trials: list[FrozenTrial]) -> None:
        self._study = study
        self._trials = [_counted(trial) for trial in trials]
        self._storage = _Unwritten()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Any = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """As Optuna's samplers ask; none of them changes a trial, so that nothing is copied."""
        del deepcopy, use_cache
        return [trial for trial in self._trials if states is None or trial.state in states]


def _counted(trial: FrozenTrial) -> FrozenTrial:
    """A trial that was stopped early, with its evaluations counted.

    TPE takes those that came further for better, and values count among equals only. In examples
    the larger training would be the one that came further.
    """
    if trial.state != TrialState.PRUNED:
        return trial
    counted = copy(trial)
    values = sorted(points_of(trial).items())
    counted.intermediate_values = {number: value for number, (_, value) in enumerate(values, 1)}
    return counted


class _Unwritten:
    """Where TPE would note what it draws, for other processes that ask at the same time."""

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None: ...


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
    return next(
        (assignment for assignment in assignments if configuration_from(assignment) not in asked),
        None,
    )


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
        within: values of some parameters, which are kept.
    """
    sampler = sampler_for(sweep, number, history)

    def drawn() -> Assignment:
        draft = _Draft(study, sampler)

        def pick(parameter: SearchParameter) -> Value:
            return within[parameter.path] if parameter.path in within else draft.suggest(parameter)

        return draw(sweep.space, pick, model_bounds)[1]

    if isinstance(sampler, BoundedTPE):
        for _ in range(TPE_DRAWS):
            yield drawn()
        sampler = sampler.random
    for _ in range(RANDOM_DRAWS):
        yield drawn()
    draft = _Draft(study, sampler)

    def values(parameter: SearchParameter) -> Sequence[Value]:
        found = parameter.distribution
        if isinstance(found, Choice):
            return found.labels()
        # A real number that is drawn has practically never been drawn before.
        return found.values() if isinstance(found, IntRange) else (draft.suggest(parameter),)

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

    def suggest(self, parameter: SearchParameter) -> Value:
        name, distribution = parameter.name, distribution_of(parameter)
        if distribution.single():
            return extremes(parameter.distribution)[0]
        if name in self._relative and has(parameter.distribution, self._relative[name]):
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


def suggest(trial: Trial, parameter: SearchParameter) -> Value:
    """The value of a parameter in a trial whose parameters were enqueued."""
    name, found = parameter.name, distribution_of(parameter)
    if isinstance(found, CategoricalDistribution):
        return trial.suggest_categorical(name, found.choices)
    if isinstance(found, FloatDistribution):
        return trial.suggest_float(name, found.low, found.high, log=found.log)
    return trial.suggest_int(name, found.low, found.high, step=found.step, log=found.log)


def distribution_of(
    parameter: SearchParameter,
) -> CategoricalDistribution | FloatDistribution | IntDistribution:
    """The values of a parameter in Optuna's terms."""
    found = parameter.distribution
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

    def pick(parameter: SearchParameter) -> Value:
        found[parameter.name] = assignment[parameter.path]
        return assignment[parameter.path]

    draw(sweep.space, pick, model_bounds)
    return found


def identity(configuration: int, repeat: int, sweep: SweepSpec) -> dict[str, Any]:
    return {
        "configuration": configuration,
        "repeat": repeat,
        "seed": sweep.settings.search.training_seed + repeat,
    }
