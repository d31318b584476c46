"""The driver with simulated workers.

Real are the scheduler, the ledger (an Optuna study in a journal file), reads of the stage store,
the thread that writes MLflow, and with ``--mlflow sqlite`` MLflow, too. The trial processes are
simulated by an event loop, which puts empty records into the store and reports what a trial
reports.
"""

from __future__ import annotations

import heapq
import itertools
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Spent, median_and_p95, print_table, timed
from benchmarks.control_plane.drivers import Load
from benchmarks.control_plane.scenario import (
    NUM_EVALUATIONS,
    QuietReporter,
    make_facts,
    make_sweep,
    scores_of,
    sync_of,
)
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, load_ledger, open_ledger
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import Report, TrialTask

WINDOW = 200
"""Trials over which the median is taken."""
SECONDS = {"intermediate": 600.0, "target": 600.0, "evaluate": 60.0}
"""Mean duration of stages, in the workers' time."""


class Clocks:
    """What the driver spent, by trial and by the name of a call."""

    def __init__(self) -> None:
        self.by_trial: dict[int, Spent] = {}
        self.calls: dict[str, list[Spent]] = {}

    def _add(self, number: int, spent: Spent) -> None:
        self.by_trial[number] = self.by_trial.get(number, Spent()) + spent

    def trial(self, number: int, call: Callable[[], Any]) -> Any:
        """Call something for a trial."""
        result, spent = timed(call)
        self._add(number, spent)
        return result

    def next_task(self, scheduler: TrialScheduler, last: int) -> TrialTask | None:
        """The next task, charged to its trial, or without one to the last trial that reported.

        An ask is charged to the trial that is asked.
        """
        asks = self.calls["ask"]
        num_before = len(asks)
        task: TrialTask | None
        task, spent = timed(scheduler.next_task)
        for number in range(num_before, len(asks)):
            spent += -asks[number]
            self._add(number, asks[number])
        self._add(last if task is None else task.number, spent)
        return task

    def watch(self, owner: Any, name: str) -> None:
        """Time every call of a method of one object."""
        inner: Callable[..., Any] = getattr(owner, name)
        calls = self.calls.setdefault(name, [])

        def measured(*arguments: Any) -> Any:
            result, spent = timed(lambda: inner(*arguments))
            calls.append(spent)
            return result

        setattr(owner, name, measured)


class Workers:
    """Simulated trial processes: a heap of what happens next, in their own time."""

    def __init__(self, scheduler: TrialScheduler, store: StageStore, clocks: Clocks) -> None:
        self._scheduler = scheduler
        self._store = store
        self._clocks = clocks
        self._random = random.Random(0)
        self._events: list[tuple[float, int, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._making: set[str] = set()
        self._now_s = 0.0
        self.num_finished = 0

    def __len__(self) -> int:
        return len(self._events)

    def take(self, task: TrialTask) -> None:
        def begin() -> None:
            self._report(task, Report("begun"))
            self._continue(task, list(stages_to_run(task.path)))

        self._later(0.0, task.number, begin)

    def step(self) -> int:
        """Let the next event happen; returns the number of its trial."""
        self._now_s, _, number, happen = heapq.heappop(self._events)
        happen()
        return number

    def _later(self, seconds: float, number: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now_s + seconds, next(self._count), number, happen))

    def _report(self, task: TrialTask, report: Report) -> None:
        assert not self._clocks.trial(
            task.number, lambda: self._scheduler.on_report(task.number, report)
        ), "no trial is to be stopped early"

    def _continue(self, task: TrialTask, stages: list[Stage]) -> None:
        if not stages:
            report = Report("complete", scores=scores_of(self._random.random()))
            self._clocks.trial(task.number, lambda: self._scheduler.finish(task.number, report))
            self.num_finished += 1
            return
        stage = stages[0]
        if stage in self._store:
            self._finish_stage(task, stages, is_reused=True)
            return
        assert stage.key not in self._making, f"two trials make {stage.label}"
        self._making.add(stage.key)
        seconds = SECONDS[stage.kind] * self._random.uniform(0.5, 1.5)
        if stage.kind == "target":
            for index in range(1, NUM_EVALUATIONS + 1):
                share = index / (NUM_EVALUATIONS + 1)
                examples = int(stage.num_examples * share)
                self._later(
                    seconds * share,
                    task.number,
                    lambda examples=examples: self._evaluate(task, stage, examples),  # type: ignore[misc]
                )
        self._later(seconds, task.number, lambda: self._commit(task, stages))

    def _evaluate(self, task: TrialTask, stage: Stage, examples: int) -> None:
        metrics = {"accuracy": self._random.random(), "loss": self._random.random()}
        system = {"memory_gib": 1.0, "examples_per_s": 100.0}
        self._report(task, Report("evaluated", stage="target", examples=examples, metrics=metrics,
                                  total_examples=stage.num_examples, system=system))  # fmt: skip

    def _commit(self, task: TrialTask, stages: list[Stage]) -> None:
        # Written without waiting for the disk, because this is not the driver's work.
        folder = Path(self._store.storage.root) / "stages" / stages[0].key
        folder.mkdir(parents=True)
        (folder / "record.json").write_text("{}")
        self._making.remove(stages[0].key)
        self._finish_stage(task, stages, is_reused=False)

    def _finish_stage(self, task: TrialTask, stages: list[Stage], *, is_reused: bool) -> None:
        stage = stages[0]
        examples, seconds = (0, 0.0) if is_reused else (stage.num_examples, 60.0)
        use = StageUse(stage.kind, stage.key, stage.label, is_reused, examples, seconds)
        self._report(task, Report("stage", stage=stage.kind, finished_stage=use))
        self._later(0.0, task.number, lambda: self._continue(task, stages[1:]))


@dataclass(frozen=True)
class Moment:
    """The state when this many trials have ended."""

    num_trials: int
    seconds: float
    num_waiting: int
    memory_mib: float
    ledger_mib: float


def run_scheduler(load: Load, overrides: Sequence[str]) -> None:
    sweep, facts = make_sweep([load.search, *overrides]), make_facts()
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name) / "home")
        ledger, store = open_ledger(home, sweep), StageStore(home.stages)
        clocks, reporter = Clocks(), QuietReporter()
        clocks.watch(ledger, "ask")
        clocks.watch(ledger, "tell_complete")
        moments: list[Moment] = []
        waited_s, began = 0.0, time.monotonic()
        with sync_of(load.mlflow, sweep, facts, home, ledger, store) as sync:

            def wait_for_mlflow(max_waiting: int) -> float:
                """The seconds until no more updates than these wait."""
                begin = time.perf_counter()
                while sync.num_dirty > max_waiting:
                    time.sleep(0.01)
                return time.perf_counter() - begin

            scheduler = TrialScheduler(sweep, facts, home, ledger, store, sync, reporter)
            workers = Workers(scheduler, store, clocks)
            due, last = load.trials // 10, 0
            while True:
                while scheduler.num_running < load.slots:
                    task = clocks.next_task(scheduler, last)
                    if task is None:
                        break
                    workers.take(task)
                if not workers:
                    assert scheduler.is_done, "nothing happens, and the sweep is not at its end"
                    break
                last = workers.step()
                if workers.num_finished >= min(due, load.trials):
                    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                    ledger_mib = home.ledger_journal("scale").stat().st_size / 2**20
                    moments.append(Moment(workers.num_finished, time.monotonic() - began,
                                          sync.num_dirty, memory_mib, ledger_mib))  # fmt: skip
                    print(moments[-1], flush=True)
                    due += load.trials // 10
                waited_s += wait_for_mlflow(load.max_waiting)
            print(f"{sync.num_dirty} updates were left; sent in {wait_for_mlflow(0):.0f} s")
            scheduler.close(is_finished=True)
        again, spent = timed(lambda: load_ledger(home, "scale"))
        print(f"reading the ledger again takes {spent.cpu:.1f} s of CPU")
        assert [trial.state for trial in again.trials()] == ["complete"] * load.trials
        assert not reporter.warnings, reporter.warnings
    medians, rows = [], []
    for moment in moments:
        window = range(max(moment.num_trials - WINDOW, 0), moment.num_trials)
        trials = [clocks.by_trial[number] for number in window]
        medians.append(statistics.median(trial.cpu for trial in trials))
        calls = [
            clocks.calls[name][window.start : window.stop] for name in ("ask", "tell_complete")
        ]
        rows.append((
            f"{moment.num_trials:,}",
            *median_and_p95(trial.cpu for trial in trials),
            *median_and_p95(trial.wall for trial in trials),
            *(median_and_p95(call.cpu for call in times)[0] for times in calls),
            f"{moment.num_waiting:,}", f"{moment.memory_mib:.0f}", f"{moment.ledger_mib:.1f}",
        ))  # fmt: skip
    print_table(("trial", "CPU, ms", "p95", "wall, ms", "p95", "ask, ms", "tell, ms", "waiting",
                 "memory, MiB", "ledger, MiB"), rows)  # fmt: skip
    print(f"CPU at trial {moments[-1].num_trials} / at {moments[0].num_trials}: "
          f"{medians[-1] / medians[0]:.2f}")  # fmt: skip
    print(f"the workers waited {waited_s:.0f} s for MLflow")
