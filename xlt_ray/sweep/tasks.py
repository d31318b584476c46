"""What passes between the driver and a trial's process: an order there, reports back.

What a trial that was asked comes to: its path of stages, its order, what it occupies.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xlt_ray.config.checks.check_schedules import grace_of
from xlt_ray.config.facts import Facts
from xlt_ray.config.retry_policy import Failures
from xlt_ray.config.search_space import Assignment
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import TrialSpec
from xlt_ray.home import Home
from xlt_ray.ledger import AskedTrial, Halving, TrialView
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage_path import StagePath, path_of, stages_to_run
from xlt_ray.sweep.objective import languages_of
from xlt_ray.versions import commit_of

Kind = Literal[
    "begun", "evaluated", "stage", "waiting", "ticked", "complete", "failed",
    # An attempt failed, and the same process makes another one, or pauses before it; or the
    # process itself was lost, and another one begins.
    "retrying", "pausing", "lost",
]  # fmt: skip


@dataclass(frozen=True)
class TrialTask:
    """One trial, ready to be run anywhere the home can be reached."""

    number: int
    trial: TrialSpec
    path: StagePath
    store: str
    cache: str
    resources: Mapping[str, Any]
    """Of the model: :class:`xlt_ray.config.resources.WorkerResources` by its field names."""
    progress_every: float
    made_by: Mapping[str, Any]
    failures: Failures = field(default_factory=Failures)
    tries: Mapping[str, int] = field(default_factory=dict)
    """Further attempts that earlier processes of the trial used up, by cause."""
    fits_file: str = ""
    """See :mod:`xlt_ray.sweep.batch_limits`."""
    fits: Mapping[int, int] = field(default_factory=dict)
    """As :attr:`xlt_ray.training.runtime.Runtime.batch_limits`; whoever runs the order reads it."""
    watched: tuple[str, ...] = ()
    """As :attr:`xlt_ray.training.runtime.Runtime.watched`."""
    until: str = ""
    """As of :func:`xlt_ray.training.walk.walk`."""
    hangs: str = ""
    """Folder for tracebacks of processes that hang; nobody looks for hangs where it is empty."""


@dataclass(frozen=True)
class PackedTask:
    """An order as Tune carries it.

    Tune prints and copies the configuration of a trial, gets it back with every result, and keeps
    all that for as long as the sweep runs; of an order that is some bytes.
    """

    number: int
    model: str
    letter: bytes = field(repr=False)
    left_nodes: tuple[str, ...] = field(default=(), repr=False)
    """Ids of nodes that the trial is not placed on."""

    def open(self) -> TrialTask:
        order: TrialTask = pickle.loads(zlib.decompress(self.letter))
        return order


def pack(order: TrialTask, left_nodes: tuple[str, ...] = ()) -> PackedTask:
    """An order for Tune's hands."""
    letter = zlib.compress(pickle.dumps(order))
    return PackedTask(order.number, order.trial.model.name, letter, left_nodes)


def task_for(
    number: int, trial: TrialSpec, path: StagePath, sweep: SweepSpec, home: Home
) -> TrialTask:
    """The order of one concrete trial of a sweep."""
    settings = sweep.settings
    return TrialTask(
        number=number,
        trial=trial,
        path=path,
        store=settings.places.store or home.stages,
        cache=str(home.cache),
        resources=settings.resources.of(trial.model.name).model_dump(
            exclude={"precision", "by_model"}
        ),
        progress_every=settings.progress.every,
        made_by={"sweep": sweep.name, "trial": number, **_commit()},
        failures=settings.failures,
        fits_file=str(home.fits),
        watched=_watched(trial, path, sweep),
        hangs=str(home.hangs(sweep.name)),
    )


def _watched(trial: TrialSpec, path: StagePath, sweep: SweepSpec) -> tuple[str, ...]:
    """What early stopping looks at beside the source language, to judge by what it selects by."""
    if not sweep.is_judged_by_oracle:
        return ()
    scored = path[-1].settings["languages"]["dev"]
    return tuple(languages_of(sweep.settings.objective, trial.target.source_language, scored))


def _commit() -> dict[str, str]:
    found = commit_of()
    return {"commit": found} if found else {}


@dataclass(frozen=True)
class StageReport:
    """A stage of a trial's path is in the store."""

    kind: str
    key: str
    label: str
    reused: bool
    """Whether this process found it there."""
    examples: int
    """That were trained to make it, by whoever made it."""
    seconds: float
    made_by: str = ""
    """As :attr:`xlt_ray.ledger.StageUse.made_by`."""


def maker_of(record: StageRecord) -> str:
    """Who made a stage, by its record: ``sweep/trial``, or ``sweep`` alone, or nothing.

    ``xlt stage`` makes stages outside of any trial, under the number -1.
    """
    sweep, trial = record.made_by.get("sweep", ""), record.made_by.get("trial", -1)
    return f"{sweep}/{trial}" if sweep and trial >= 0 else sweep


@dataclass(frozen=True)
class Report:
    """One thing that happened in a trial."""

    kind: Kind
    stage: str = ""
    """Kind of the stage it happened in."""
    examples: int = 0
    total_examples: int = 0
    metrics: Mapping[str, float] | None = None
    by_language: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics of the dev sets that are watched."""
    is_replay: bool = False
    system: Mapping[str, float] | None = None
    """Memory of the trial's process and examples per second since the last evaluation."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the libraries that made a stage which was reused, as far as its record has them."""
    occupied_s: float = 0.0
    """So long the process has had its resources when an attempt begins."""
    finished_stage: StageReport | None = None
    scores: tuple[Score, ...] = ()
    holder: str = ""
    cause: str = ""
    message: str = ""
    log: str = ""
    remedy: str = ""
    """How it is tried again."""
    nodes: tuple[str, ...] = ()
    """Ids of the nodes on which a stage was made."""


@dataclass(frozen=True)
class Planned:
    """A trial that was asked, with its path."""

    ticket: AskedTrial
    order: TrialTask


@dataclass(frozen=True)
class Planner:
    """Plans the trials of one sweep."""

    sweep: SweepSpec
    facts: Facts
    home: Home

    def planned(self, ticket: AskedTrial) -> Planned:
        trial = self.sweep.trial_of(ticket.assignment, self.bounds)
        path = self.path(trial, ticket.seed)
        return Planned(ticket, task_for(ticket.number, trial, path, self.sweep, self.home))

    def path(self, trial: TrialSpec, seed: int) -> StagePath:
        return path_of(
            trial,
            self.facts,
            seed=seed,
            shared_seed=self.sweep.settings.search.training_seed,
            sizes=self.sweep.sizes,
        )

    def keys(self, assignment: Assignment, seed: int) -> list[str]:
        """Keys of all stages that a trial makes or finds made."""
        path = self.path(self.sweep.trial_of(assignment, self.bounds), seed)
        return [stage.key for stage in stages_to_run(path)]

    def path_of_view(self, view: TrialView) -> StagePath:
        """The path of a trial as the ledger has it."""
        return self.path(self.sweep.trial_of(dict(view.assignment), self.bounds), view.seed)

    def bounds(self, model: str) -> Mapping[str, int]:
        return self.facts.models[model].bounds()

    def num_gpus(self, view: TrialView) -> float:
        """What a trial occupies, by its model."""
        resources = self.sweep.settings.resources
        if resources.by_model:
            trial = self.sweep.trial_of(dict(view.assignment), self.bounds)
            resources = resources.of(trial.model.name)
        return resources.workers * resources.gpus_per_worker


def halving_of(sweep: SweepSpec, facts: Facts) -> Halving | None:
    """The early stopping of a sweep, if it has any."""
    stop, grace = sweep.settings.early_stop, grace_of(sweep, facts)
    return None if stop is None or grace is None else Halving(grace, stop.reduction)
