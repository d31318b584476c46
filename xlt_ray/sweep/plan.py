"""What a sweep is going to train, told beforehand: all its trials, as one tree of stages.

Trials that the ledger has are taken from it, the rest is asked from a rehearsal of it; their
paths are laid over each other, and every stage counts once. Early stopping, budgets and failures
are not foreseen, so trials and examples are an upper bound. Reads ledger and store, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from xlt_ray.config.facts import Coverage, Facts
from xlt_ray.config.search_space import Value
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError
from xlt_ray.ledger import AskedTrial, Ledger, TrialView, rehearsal
from xlt_ray.store.canonical import Json, differences
from xlt_ray.store.stage import Kind, Stage
from xlt_ray.store.stage_path import StagePath, path_of, stages_to_run
from xlt_ray.store.store import StageStore

_NOTHING = object()


@dataclass(frozen=True)
class PlannedTrial:
    """A trial of the sweep, asked already or expected."""

    number: int
    seed: int
    assignment: Mapping[str, Value]
    path: StagePath
    is_finished: bool
    """Whether the ledger has its fate: complete, stopped early, or failed."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the plan, which one trial needs or several share."""

    stage: Stage
    trials: tuple[int, ...]
    """Numbers of the trials whose paths it is on."""
    is_in_store: bool
    is_needed: bool
    """Whether a trial has still to make it: one that is not finished, and that has no later
    stage in the store, as what that one was made from is needed no more."""

    @property
    def parent(self) -> Stage | None:
        """The stage that it is made from; None where that is the given model."""
        parent = self.stage.parent
        return None if parent is None or parent.is_pretrained else parent

    @property
    def model(self) -> Stage:
        """The given model that its path starts from."""
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
    """Whether the sampler chooses some of the trials by scores that are not there yet."""
    is_whole_space: bool = False
    """Whether the trials are all that there are, and fewer than ``search.trials`` asks for."""
    is_stopped_early: bool = False
    """Whether the sweep stops trials early: those it stops are not repeated."""
    coverage: tuple[Coverage, ...] = ()
    """Share of the words of the texts that lexicons and lists of neighbours have."""
    changed_facts: str = ""
    """Which data, weights or code have changed since earlier trials were made: a run requires
    ``accept_changes``."""

    @cached_property
    def stages_naive(self) -> int:
        """Stages to be made if every trial made its whole path alone."""
        return sum(len(stages_to_run(trial.path)) for trial in self.trials)

    @cached_property
    def examples_naive(self) -> int:
        """Examples to be trained if every trial trained its whole path alone."""
        return sum(
            stage.num_examples for trial in self.trials for stage in stages_to_run(trial.path)
        )

    @cached_property
    def examples_shared(self) -> int:
        """Examples to be trained if every stage is trained once, from an empty store."""
        return sum(stage.stage.num_examples for stage in self.stages)

    @cached_property
    def examples_left(self) -> int:
        """Examples of the stages that have still to be made."""
        return sum(stage.stage.num_examples for stage in self.stages if stage.is_needed)

    @property
    def ratio(self) -> float:
        """How many times fewer examples sharing trains, from an empty store."""
        return self.examples_naive / self.examples_shared

    @cached_property
    def unshared_sizes(self) -> tuple[int, ...]:
        """Sizes of intermediate data of the same tasks that a decaying rate keeps from sharing."""
        sizes: dict[tuple[str, ...], set[int]] = {}
        for stage in self.stages:
            settings = stage.stage.settings
            if stage.stage.kind == "intermediate" and "schedule" not in settings:
                tasks = settings.get("tasks") or [settings["task"]["name"]]
                sizes.setdefault(tuple(tasks), set()).add(settings["size"])
        return max((tuple(sorted(size)) for size in sizes.values()), key=len, default=())

    def trial(self, number: int) -> PlannedTrial:
        """One trial; raises LedgerError where there is none of this number."""
        if not 0 <= number < len(self.trials):
            raise LedgerError(
                f"{self.name}: there is no trial {number} in this plan; "
                f"the last one is {len(self.trials) - 1}"
            )
        return self.trials[number]


@dataclass(frozen=True)
class Divergence:
    """Where the paths of two trials part; nothing after it can be shared."""

    kind: Kind
    one: Stage | None
    other: Stage | None
    """The stages there; None where a trial has no stage of this kind."""
    differences: tuple[tuple[str, Json, Json], ...]
    """Dotted field, beginning with the kind, and its values in the one and the other trial."""


def plan_of(sweep: SweepSpec, facts: Facts, store: StageStore, ledger: Ledger | None) -> Plan:
    """The plan of a sweep that fits its facts, given what ``store`` and ``ledger`` have.

    A grid, random search and whole points of ``search.first`` are exact. What tpe chooses
    depends on scores that are not there yet: beyond the ledger's trials that is an estimate.
    """
    known = [] if ledger is None else ledger.trials()
    finished = {view.number for view in known if view.is_finished}
    rehearsed = rehearsal(sweep, ledger)
    tickets = sorted(_tickets(rehearsed, sweep, facts), key=lambda one: one.number)
    trials = tuple(
        PlannedTrial(
            ticket.number,
            ticket.seed,
            ticket.assignment,
            path_of(
                sweep.trial_of(ticket.assignment, lambda model: facts.models[model].bounds()),
                facts,
                seed=ticket.seed,
                shared_seed=sweep.settings.search.training_seed,
                sizes=sweep.sizes,
            ),
            ticket.number in finished,
        )
        for ticket in tickets
    )
    return Plan(
        sweep.name,
        trials,
        _stages(trials, store),
        # Of the whole space nothing is chosen but its order.
        is_estimate=not rehearsed.is_exhausted
        and any(_may_turn_out_otherwise(view, sweep) for view in rehearsed.trials()[len(known) :]),
        is_whole_space=rehearsed.is_exhausted,
        is_stopped_early=sweep.settings.early_stop is not None,
    )


def divergence(one: PlannedTrial, other: PlannedTrial) -> Divergence | None:
    """The first stage at which two trials differ, and in what; None where they share all."""
    first = {stage.kind: stage for stage in one.path}
    second = {stage.kind: stage for stage in other.path}
    kind: Kind
    for kind in get_args(Kind):
        if kind == "trunk":
            # A path may have several, and what sets them apart is in its intermediate stage, too.
            continue
        ours, theirs = first.get(kind), second.get(kind)
        if ours is None or theirs is None:
            if ours is not theirs:
                absent = (kind, ours.label if ours else None, theirs.label if theirs else None)
                return Divergence(kind, ours, theirs, (absent,))
        elif ours.key != theirs.key:
            return Divergence(kind, ours, theirs, tuple(_differences(ours, theirs)))
    return None


def _tickets(rehearsed: Ledger, sweep: SweepSpec, facts: Facts) -> Iterator[AskedTrial]:
    """Every trial of the sweep: those that were asked before, then the rest."""

    def bounds(model: str) -> Mapping[str, int]:
        return facts.models[model].bounds()

    for view in rehearsed.trials():
        if view.is_finished:
            yield AskedTrial(view.number, dict(view.assignment), view.seed, view.attempts)
        elif view.state == "running":
            # A driver that died while asking has left a part of the parameters.
            yield rehearsed.resume_trial(view.number, sweep, bounds)
    while (ticket := rehearsed.ask(sweep, bounds)) is not None:
        yield ticket
    # As if early stopping ended none of them: every configuration gets all of its repeats.
    for number in rehearsed.running() if rehearsed.awaits_first_repeats else ():
        rehearsed.tell_complete(number, 0.0)
    while (ticket := rehearsed.ask(sweep, bounds)) is not None:
        yield ticket


def _may_turn_out_otherwise(view: TrialView, sweep: SweepSpec) -> bool:
    """Whether a rehearsed trial was drawn by a sampler that waits for scores."""
    search = sweep.settings.search
    if search.sampler != "tpe" or view.repeat:
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


def _differences(one: Stage, other: Stage) -> Iterator[tuple[str, Json, Json]]:
    if one.is_pretrained:
        # Digests of weights say nothing that the names do not.
        yield one.kind, one.label, other.label
        return
    for path, ours, theirs in differences(one.payload, other.payload):
        if path != "parent":
            yield f"{one.kind}.{path.removeprefix('settings.')}", ours, theirs
