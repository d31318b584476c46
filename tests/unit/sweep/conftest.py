"""A driver of a sweep without Ray: scheduler, ledger, store and MLflow, and the work of trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, TrialView, open_ledger
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.notify import Notifier
from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import Report, TrialTask
from xlt_ray.tracking import LedgerSnapshot, TrialSnapshot
from xlt_ray.tracking.sync import Replies

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
intermediate: {task: pairs, size: {choice: [100, 200]}}
target: {task: nli, source_language: qaa, learning_rate: {choice: [1e-4, 1e-3]}}
search: {trials: 4, sampler: grid}
"""
ReadSweep = Callable[..., SweepSpec]


@dataclass
class RecordingSync:
    """Keeps what the scheduler says of trials; answers at once, or (``is_slow``) when it waits."""

    trials: dict[str, TrialSnapshot] = field(default_factory=dict)
    points: list[tuple[str, int, Mapping[str, float]]] = field(default_factory=list)
    ends: list[tuple[str, float]] = field(default_factory=list)
    time_left: list[str] = field(default_factory=list)
    answers: Replies = field(default_factory=Replies)
    is_slow: bool = False

    @property
    def status(self) -> dict[str, str]:
        return {run_id: trial.standing for run_id, trial in self.trials.items()}

    def wait_until_open(self) -> None:
        pass

    def mark(self, trial: TrialSnapshot) -> None:
        run_id = f"run {trial.view.number}"
        assert trial.config["target"]["task"] == "nli"
        assert trial.path, "a run shows the stages that are planned"
        self.trials[run_id] = trial
        self.answers.runs[trial.view.number] = run_id

    def log(
        self, number: int, examples: int, metrics: Mapping[str, float], time_ms: int | None
    ) -> None:
        self.points.append((f"run {number}", examples, metrics))

    def show_time_left(self, text: str) -> None:
        self.time_left.append(text)

    def end(self, ledger: LedgerSnapshot, status: str) -> None:
        self.ends.append((status, 0.0))

    def flush(self, say: Callable[[str], None], timeout_s: float) -> None:
        self.ends.append(("flushed", timeout_s))
        self.is_slow = False

    def replies(self) -> Replies:
        if self.is_slow:
            return Replies()
        replies, self.answers = self.answers, Replies()
        return replies


@dataclass
class RecordingReporter:
    """Keeps what a user would see."""

    lines: list[tuple[str, int, str]] = field(default_factory=list)

    def preparing(self, step: str) -> None:
        self.lines.append(("preparing", -1, step))

    def continues(self, trials: Sequence[TrialView]) -> None:
        self.lines.append(("continues", -1, str(len(trials))))

    def begun(self, view: TrialView) -> None:
        self.lines.append(("begun", view.number, view.state))

    def reported(self, view: TrialView, report: Report) -> None:
        self.lines.append(("heard", view.number, report.kind))

    def finished(self, view: TrialView) -> None:
        self.lines.append(("finished", view.number, view.state))

    def timed(self, line: str) -> None:
        self.lines.append(("timed", -1, line))

    def warned(self, message: str) -> None:
        self.lines.append(("warned", -1, message))

    @property
    def warnings(self) -> list[str]:
        return [message for kind, _, message in self.lines if kind == "warned"]


@dataclass
class Driver:
    """A scheduler with everything around it; its methods do the work of trials."""

    sweep: SweepSpec
    facts: Facts
    home: Home
    scratch: Path
    sync: RecordingSync = field(default_factory=RecordingSync)
    reporter: RecordingReporter = field(default_factory=RecordingReporter)

    def __post_init__(self) -> None:
        self.store = StageStore(self.home.stages)
        self.restart()

    def restart(self) -> None:
        """A new driver, at first or after the last one died."""
        self.ledger = open_ledger(self.home, self.sweep)
        self.notifier = Notifier(self.sweep, self.ledger, self.reporter.warned)
        self.scheduler = TrialScheduler(
            self.sweep, self.facts, self.home, self.ledger, self.store,
            self.sync, self.reporter, notify=self.notifier,  # type: ignore[arg-type]
        )  # fmt: skip

    def next(self) -> TrialTask:
        task = self.scheduler.next_task()
        assert task is not None
        return task

    def begin_next(self) -> TrialTask:
        task = self.next()
        self.begin(task)
        return task

    def commit(
        self, stage: Stage, scores: tuple[Score, ...] = (), content: bytes | None = None
    ) -> None:
        lease = self.store.lease(stage.key)
        assert isinstance(lease, Lease)
        folder = self.scratch / stage.key
        folder.mkdir(parents=True)
        if content is not None:
            (folder / "model.safetensors").write_bytes(content)
        record = StageRecord(stage.key, stage.payload, stage.label, {}, scores=scores, seconds=2.0)
        with lease:
            self.store.commit(stage, folder, record, lease)

    def begin(self, task: TrialTask) -> None:
        assert not self.scheduler.on_report(task.number, Report("begun"))

    def make(self, task: TrialTask, *kinds: str, value: float = 0.5) -> None:
        """Make stages of a task, or find them in the store; all without ``kinds``."""
        for stage in stages_to_run(task.path):
            if kinds and stage.kind not in kinds:
                continue
            reused = stage in self.store
            if not reused:
                self.commit(stage, scores_of(value) if stage.kind == "evaluate" else ())
            examples = 0 if reused else stage.num_examples
            use = StageUse(stage.kind, stage.key, stage.label, reused, examples, 2.0)
            report = Report("stage", stage=stage.kind, finished_stage=use)
            self.scheduler.on_report(task.number, report)

    def complete(self, task: TrialTask, value: float = 0.5) -> TrialView:
        """Run a task from its begin to its end."""
        self.begin(task)
        return self.finish(task, value)

    def finish(self, task: TrialTask, value: float = 0.5) -> TrialView:
        """Do all that is left of a task that has begun."""
        self.make(task, value=value)
        return self.end(task, "complete", scores=scores_of(value))

    def end(self, task: TrialTask, kind: Any, **fields: Any) -> TrialView:
        """End a task that has begun."""
        self.scheduler.finish(task.number, Report(kind, **fields))
        return self.ledger.trial(task.number)

    def fail(self, task: TrialTask, message: str, cause: str = "bug") -> None:
        self.begin(task)
        self.end(task, "failed", cause=cause, message=message, log="traceback")

    def evaluated(self, number: int, examples: int, value: float, **fields: Any) -> bool:
        report = Report(
            "evaluated", stage="target", examples=examples, total_examples=100,
            metrics={"accuracy": value, "loss": 1.0}, **fields,
        )  # fmt: skip
        return self.scheduler.on_report(number, report)


def scores_of(value: float) -> tuple[Score, ...]:
    return (
        Score("nli", "qaa", "dev", "accuracy", value, 50),
        Score("nli", "qab", "dev", "accuracy", value / 2, 50),
        Score("nli", "qaa", "dev", "macro_f1", 0.0, 50),
        Score("nli", "qaa", "test", "accuracy", 0.99, 50),
    )


Start = Callable[..., Driver]


@pytest.fixture
def start(sweep_from: ReadSweep, facts: Facts, home: Home, tmp_path: Path) -> Start:
    """``start(*overrides)``: a driver of the sweep, changed."""

    def build(*overrides: str) -> Driver:
        return Driver(sweep_from(TEXT, *overrides), facts, home, tmp_path / "scratch")

    return build
