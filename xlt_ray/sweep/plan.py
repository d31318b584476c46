"""What a sweep is going to train: all its trials, as one tree of stages.

Trials come from the ledger, and those that it does not have yet from a dry run of it. A stage that
several trials share counts once. Early stopping, budgets and failures are not predicted, so trials
and examples are an upper bound. Reads ledger and store, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, get_args

from xlt_ray.config.facts import Coverage, Facts
from xlt_ray.config.search_space import Value
from xlt_ray.config.seed_race import seed_levels
from xlt_ray.config.sweep import SAMPLERS, SweepSpec
from xlt_ray.errors import LedgerError
from xlt_ray.ledger import AskedTrial, Ledger, TrialView, rehearsal
from xlt_ray.store.canonical import Json, differences
from xlt_ray.store.stage import Kind, Stage
from xlt_ray.store.stage_path import StagePath, stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.tasks import Planner

if TYPE_CHECKING:
    from xlt_ray.sweep.forecast import Forecast

_NOTHING = object()


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that the ledger has, or that the sweep is expected to ask."""

    number: int
    seed: int
    assignment: Mapping[str, Value]
    path: StagePath
    is_finished: bool
    """Whether it is complete, stopped early or failed in the ledger."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage that one or several trials need."""

    stage: Stage
    trials: tuple[int, ...]
    """Numbers of the trials whose paths it is on."""
    is_in_store: bool
    is_needed: bool
    """Whether an unfinished trial must still make it; not if a later stage of that trial is in the
    store."""

    @property
    def parent(self) -> Stage | None:
        """The stage that it is made from; None if that is the pretrained model."""
        parent = self.stage.parent
        return None if parent is None or parent.is_pretrained else parent

    @property
    def model(self) -> Stage:
        """The pretrained model at the start of its path."""
        stage = self.stage
        while stage.parent is not None:
            stage = stage.parent
        return stage


@dataclass(frozen=True)
class Plan:
    """All trials of a sweep and the stages that they need, parents before children."""

    name: str
    trials: tuple[PlannedTrial, ...]
    stages: tuple[PlannedStage, ...]
    is_estimate: bool
    """Whether the sampler chooses some of the trials by scores that do not exist yet."""
    is_whole_space: bool = False
    """Whether the space has no more trials, though ``search.trials`` requests more."""
    is_stopped_early: bool = False
    """Whether the sweep stops trials early; it does not repeat a trial that it has stopped."""
    coverage: tuple[Coverage, ...] = ()
    """Share of the words of the texts that lexicons and lists of neighbours have."""
    changed_facts: str = ""
    """Which data, weights or code have changed since earlier trials were made: a run requires
    ``accept_changes``."""
    forecast: Forecast | None = None
    """Hours, disk, memory and money of what is left."""

    @cached_property
    def stages_naive(self) -> int:
        """Stages to make if trials shared none."""
        return sum(len(stages_to_run(trial.path)) for trial in self.trials)

    @cached_property
    def examples_naive(self) -> int:
        """Examples to train if trials shared no stage."""
        return sum(
            stage.num_examples for trial in self.trials for stage in stages_to_run(trial.path)
        )

    @cached_property
    def examples_shared(self) -> int:
        """Examples to train from an empty store, each stage once."""
        return sum(stage.stage.num_examples for stage in self.stages)

    @cached_property
    def examples_left(self) -> int:
        """Examples of the stages that must still be made."""
        return sum(stage.stage.num_examples for stage in self.stages if stage.is_needed)

    @property
    def ratio(self) -> float:
        """By which factor sharing reduces the examples, from an empty store."""
        return self.examples_naive / self.examples_shared

    @cached_property
    def unshared_sizes(self) -> tuple[int, ...]:
        """Sizes of intermediate data that cannot share a training because its rate decays."""
        sizes: dict[tuple[str, ...], set[int]] = {}
        for stage in self.stages:
            settings = stage.stage.settings
            if stage.stage.kind == "intermediate" and "schedule" not in settings:
                tasks = settings.get("tasks") or [settings["task"]["name"]]
                sizes.setdefault(tuple(tasks), set()).add(settings["size"])
        return max((tuple(sorted(size)) for size in sizes.values()), key=len, default=())

    def trial(self, number: int) -> PlannedTrial:
        """One trial; raises LedgerError if the plan has no trial of this number."""
        if not 0 <= number < len(self.trials):
            raise LedgerError(
                f"{self.name}: there is no trial {number} in this plan; "
                f"the last one is {len(self.trials) - 1}"
            )
        return self.trials[number]


@dataclass(frozen=True)
class Divergence:
    """The first stage that two trials do not share; they share no later one."""

    kind: Kind
    first: Stage | None
    second: Stage | None
    """The two stages; None if a trial has no stage of this kind."""
    differences: tuple[tuple[str, Json, Json], ...]
    """Dotted field, which begins with the kind, and its values in both trials."""


def plan_of(sweep: SweepSpec, facts: Facts, store: StageStore, ledger: Ledger | None) -> Plan:
    """The plan of a sweep that fits its facts, with the contents of ``store`` and ``ledger``.

    It is exact but for trials that depend on scores of earlier ones: those that TPE draws later,
    and the further seeds of a race.
    """
    known = [] if ledger is None else ledger.trials()
    finished = {view.number for view in known if view.is_finished}
    rehearsed, planner = rehearsal(sweep, ledger), Planner(sweep, facts)
    rehearsed.examples_of = planner.examples
    asked_trials = sorted(_asked_trials(rehearsed, sweep, facts), key=lambda trial: trial.number)
    trials = tuple(
        PlannedTrial(
            asked_trial.number,
            asked_trial.seed,
            asked_trial.assignment,
            planner.path(planner.trial(asked_trial.assignment), asked_trial.seed),
            asked_trial.number in finished,
        )
        for asked_trial in asked_trials
    )
    return Plan(
        sweep.name,
        trials,
        _stages(trials, store),
        is_estimate=any(
            _may_turn_out_otherwise(view, sweep, is_exhausted=rehearsed.is_exhausted)
            for view in rehearsed.trials()[len(known) :]
        ),
        is_whole_space=rehearsed.is_exhausted,
        is_stopped_early=sweep.settings.early_stop is not None,
    )


def divergence(first: PlannedTrial, second: PlannedTrial) -> Divergence | None:
    """The first stage in which two trials differ, and how; None if they share all stages."""
    first_stages = {stage.kind: stage for stage in first.path}
    second_stages = {stage.kind: stage for stage in second.path}
    kind: Kind
    for kind in get_args(Kind):
        if kind == "trunk":
            # A path may have several; their settings are also in its intermediate stage.
            continue
        stage, other = first_stages.get(kind), second_stages.get(kind)
        if stage is None or other is None:
            if stage is not other:
                absent = (kind, stage.label if stage else None, other.label if other else None)
                return Divergence(kind, stage, other, (absent,))
        elif stage.key != other.key:
            return Divergence(kind, stage, other, tuple(_differences(stage, other)))
    return None


def _asked_trials(rehearsed: Ledger, sweep: SweepSpec, facts: Facts) -> Iterator[AskedTrial]:
    """All trials of the sweep: the ones that the ledger has, then the rest."""
    for view in rehearsed.trials():
        if view.is_finished:
            yield AskedTrial(view.number, dict(view.assignment), view.seed, view.attempts)
        elif view.state == "running":
            # A driver that died while it asked has left only some of the parameters.
            yield rehearsed.resume_trial(view.number, sweep, facts.model_bounds)
    while True:
        while (asked_trial := rehearsed.ask(sweep, facts.model_bounds)) is not None:
            yield asked_trial
        if not rehearsed.awaits_results(sweep):
            return
        # Pretend that early stopping ends no trial, and that all are equally good.
        for number in rehearsed.running():
            rehearsed.tell_complete(number, 0.0)


def _may_turn_out_otherwise(view: TrialView, sweep: SweepSpec, *, is_exhausted: bool) -> bool:
    """Whether the real sweep may ask another trial, because scores decide."""
    search = sweep.settings.search
    if view.rung or view.repeat >= seed_levels(search.seeds)[0]:
        # Of a higher rung.
        return True
    # If the space is exhausted, scores decide the order of its configurations only.
    if is_exhausted or view.repeat or not SAMPLERS[search.sampler].learns:
        return False
    is_first = view.configuration < len(sweep.first_points)
    point = sweep.first_points[view.configuration] if is_first else {}
    return any(point.get(path, _NOTHING) != value for path, value in view.assignment.items())


def _stages(trials: tuple[PlannedTrial, ...], store: StageStore) -> tuple[PlannedStage, ...]:
    unique = {stage.key: stage for trial in trials for stage in stages_to_run(trial.path)}
    users: dict[str, list[int]] = {key: [] for key in unique}
    in_store = {key for key, stage in unique.items() if stage in store}
    needed: set[str] = set()
    for trial in trials:
        keys = [stage.key for stage in stages_to_run(trial.path)]
        for key in keys:
            users[key].append(trial.number)
        if trial.is_finished:
            continue
        deepest = max((index for index, key in enumerate(keys) if key in in_store), default=-1)
        needed.update(keys[deepest + 1 :])
    return tuple(
        PlannedStage(stage, tuple(users[key]), key in in_store, key in needed)
        for key, stage in unique.items()
    )


def _differences(first: Stage, second: Stage) -> Iterator[tuple[str, Json, Json]]:
    if first.is_pretrained:
        # The names are enough; digests of weights would add nothing.
        yield first.kind, first.label, second.label
        return
    for path, before, after in differences(first.payload, second.payload):
        if path != "parent":
            yield f"{first.kind}.{path.removeprefix('settings.')}", before, after
