"""The messages between driver and trial process (a task there, reports back), and the planner that
makes the tasks of a sweep."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from xlt_ray.config.checks.check_schedules import grace_of
from xlt_ray.config.facts import Facts
from xlt_ray.config.progress_settings import ProgressSettings
from xlt_ray.config.retry_policy import Failures
from xlt_ray.config.search_space import Assignment, Value
from xlt_ray.config.sweep import Objective, SweepSpec
from xlt_ray.config.trial import TrialSpec
from xlt_ray.home import Home
from xlt_ray.ledger import AskedTrial, Halving, StageUse, TrialView
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage_path import StagePath, path_of, stages_to_run
from xlt_ray.versions import commit_of

Kind = Literal[
    "begun", "evaluated", "stage", "waiting", "ticked", "complete", "failed",
    # A retry in the same process, the pause before it, or the loss of the process.
    "retrying", "pausing", "lost",
]  # fmt: skip


@dataclass(frozen=True)
class TrialTask:
    """One trial with all that a process needs to run it, anywhere the home can be reached."""

    number: int
    trial: TrialSpec
    path: StagePath
    store: str
    cache: str
    resources: Mapping[str, Any]
    """:class:`xlt_ray.config.resources.WorkerResources` of the model, by field names."""
    progress: ProgressSettings
    made_by: Mapping[str, Any]
    failures: Failures = field(default_factory=Failures)
    batch_limits_file: str = ""
    """See :mod:`xlt_ray.sweep.batch_limits`."""
    batch_limits: Mapping[int, int] = field(default_factory=dict)
    """As :attr:`xlt_ray.training.runtime.Runtime.batch_limits`; the trial process fills it in."""
    watched: tuple[str, ...] = ()
    """As :attr:`xlt_ray.training.runtime.Runtime.watched`."""
    until: str = ""
    """As of :func:`xlt_ray.training.walk.walk`."""
    hangs: str = ""
    """Folder for the tracebacks of processes that hang; empty switches the watchdog off."""


@dataclass(frozen=True)
class PackedTask:
    """A compressed task: Tune copies the configuration of a trial with every result, and keeps it
    as long as the sweep runs."""

    number: int
    model: str
    payload: bytes = field(repr=False)
    left_nodes: tuple[str, ...] = field(default=(), repr=False)
    """Ids of nodes on which the trial is not placed."""

    def open(self) -> TrialTask:
        task: TrialTask = pickle.loads(zlib.decompress(self.payload))
        return task


def pack(task: TrialTask, left_nodes: tuple[str, ...] = ()) -> PackedTask:
    payload = zlib.compress(pickle.dumps(task))
    return PackedTask(task.number, task.trial.model.name, payload, left_nodes)


def task_for(
    number: int, trial: TrialSpec, path: StagePath, sweep: SweepSpec, home: Home
) -> TrialTask:
    """The task of one concrete trial of a sweep."""
    settings, commit = sweep.settings, commit_of()
    watched: tuple[str, ...] = ()
    if sweep.is_judged_by_oracle:
        # Early stopping evaluates the dev sets of these languages, too.
        scored, source = path[-1].settings["languages"]["dev"], trial.target.source_language
        watched = tuple(languages_of(settings.objective, source, scored))
    return TrialTask(
        number=number,
        trial=trial,
        path=path,
        store=settings.places.store or home.stages,
        cache=str(home.cache),
        resources=settings.resources.of(trial.model.name).model_dump(
            exclude={"precision", "by_model"}
        ),
        progress=settings.progress,
        made_by={"sweep": sweep.name, "trial": number, **({"commit": commit} if commit else {})},
        failures=settings.failures,
        batch_limits_file=str(home.batch_limits),
        watched=watched,
        hangs=str(home.hangs(sweep.name)),
    )


def languages_of(objective: Objective, source: str, scored: Iterable[str]) -> list[str]:
    """The languages over which an objective averages, out of those with scored dev sets."""
    if objective.languages == "source":
        return [source]
    if objective.languages == "target":
        return [language for language in scored if language != source]
    return list(scored) if objective.languages == "all" else list(objective.languages)


def maker_of(record: StageRecord) -> str:
    """The ``sweep/trial`` that made a stage, ``sweep`` if `xlt stage` made it, or nothing."""
    sweep, trial = record.made_by.get("sweep", ""), record.made_by.get("trial", -1)
    return f"{sweep}/{trial}" if sweep and trial >= 0 else sweep


@dataclass(frozen=True)
class Report:
    """An event of a trial."""

    kind: Kind
    stage: str = ""
    """Kind of the stage in which it happened."""
    examples: int = 0
    total_examples: int = 0
    metrics: Mapping[str, float] | None = None
    by_language: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics of the dev sets that are watched."""
    is_replay: bool = False
    system: Mapping[str, float] | None = None
    """Memory of the process, and examples per second since the last evaluation."""
    time_ms: int | None = None
    """When it was evaluated, in milliseconds since 1970; None for a replayed evaluation."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries that made a reused stage, if its record has them."""
    occupied_s: float = 0.0
    """Seconds for which the process has had its resources when an attempt begins."""
    finished_stage: StageUse | None = None
    """A stage of the path that is now in the store; with the examples and seconds that it took,
    whoever made it."""
    scores: tuple[Score, ...] = ()
    holder: str = ""
    cause: str = ""
    message: str = ""
    log: str = ""
    remedy: str = ""
    """How the trial is retried, in a few words; after a failure, what would be changed."""
    nodes: tuple[str, ...] = ()
    """Ids of the nodes on which a stage was made."""


class ProgressReporter(Protocol):
    """Shows a running sweep to its user; its methods return at once."""

    def preparing(self, step: str) -> None:
        """What the driver does until the first trial begins, in a few words."""

    def continues(self, trials: Sequence[TrialView]) -> None:
        """The trials that the ledger has before this run."""

    def begun(self, view: TrialView) -> None: ...

    def reported(self, view: TrialView, report: Report) -> None: ...

    def finished(self, view: TrialView) -> None: ...

    def timed(self, line: str) -> None:
        """How long the sweep still takes, and what it has spent; called every minute."""

    def warned(self, message: str) -> None: ...


@dataclass(frozen=True)
class Planner:
    """Makes stage paths and tasks of the trials of one sweep."""

    sweep: SweepSpec
    facts: Facts

    def task(self, asked_trial: AskedTrial, home: Home) -> TrialTask:
        trial = self.trial(asked_trial.assignment)
        path = self.path(trial, asked_trial.seed)
        return task_for(asked_trial.number, trial, path, self.sweep, home)

    def trial(self, assignment: Mapping[str, Value]) -> TrialSpec:
        """The concrete trial with these values of the searched parameters."""
        return self.sweep.trial_of(dict(assignment), self.facts.model_bounds)

    def path(self, trial: TrialSpec, seed: int) -> StagePath:
        return path_of(
            trial,
            self.facts,
            seed=seed,
            shared_seed=self.sweep.settings.search.training_seed,
            sizes=self.sweep.sizes,
        )

    def examples(self, assignment: Assignment, seed: int) -> dict[str, int]:
        """Keys of all stages that a trial makes or reuses, each with its examples."""
        path = self.path(self.trial(assignment), seed)
        return {stage.key: stage.num_examples for stage in stages_to_run(path)}

    def config_and_path(self, view: TrialView) -> tuple[dict[str, Any], StagePath]:
        """The resolved configuration of a trial as the ledger has it, and its path."""
        trial = self.trial(view.assignment)
        return trial.model_dump(mode="json"), self.path(trial, view.seed)

    def model(self, view: TrialView) -> str:
        """The name of a trial's model."""
        return self.trial(view.assignment).model.name

    def num_gpus(self, view: TrialView) -> float:
        """The GPUs that a trial occupies."""
        resources = self.sweep.settings.resources
        if resources.by_model:
            resources = resources.of(self.model(view))
        return resources.workers * resources.gpus_per_worker


def halving_of(sweep: SweepSpec, facts: Facts) -> Halving | None:
    """The early stopping of a sweep, if it has any."""
    stop, grace = sweep.settings.early_stop, grace_of(sweep, facts)
    return None if stop is None or grace is None else Halving(grace, stop.reduction)
