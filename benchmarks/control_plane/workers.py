"""Workers that are played: what happens in trial processes, without processes."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Callable
from pathlib import Path

from benchmarks.control_plane.clocks import Clocks
from benchmarks.control_plane.scenario import NUM_EVALUATIONS, scores_of
from xlt_ray.ledger import StageUse
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import Report, TrialTask

SECONDS = {"intermediate": 600.0, "target": 600.0, "evaluate": 60.0}
"""What stages take in the workers' time, in the mean."""


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
        self.now = 0.0
        self.num_finished = 0

    def __len__(self) -> int:
        return len(self._events)

    def take(self, task: TrialTask) -> None:
        self._later(0.0, task.number, lambda: self._begin(task))

    def step(self) -> int:
        """Let the next thing happen; the number of the trial that it happens in."""
        self.now, _, number, happen = heapq.heappop(self._events)
        happen()
        return number

    def _later(self, seconds: float, number: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._count), number, happen))

    def _tell(self, task: TrialTask, report: Report) -> None:
        assert not self._clocks.trial(
            task.number, lambda: self._scheduler.on_report(task.number, report)
        ), "no trial is to be stopped early"

    def _begin(self, task: TrialTask) -> None:
        self._tell(task, Report("begun"))
        self._go_on(task, list(stages_to_run(task.path)))

    def _go_on(self, task: TrialTask, left: list[Stage]) -> None:
        if not left:
            report = Report("complete", scores=scores_of(self._random.random()))
            self._clocks.trial(task.number, lambda: self._scheduler.finish(task.number, report))
            self.num_finished += 1
            return
        stage = left[0]
        if stage in self._store:
            self._told_of(task, left, reused=True)
            return
        assert stage.key not in self._making, f"two trainers of {stage.label}"
        self._making.add(stage.key)
        seconds = SECONDS[stage.kind] * self._random.uniform(0.5, 1.5)
        if stage.kind == "target":
            for index in range(1, NUM_EVALUATIONS + 1):
                happen = functools.partial(self._evaluated, task, stage, index)
                self._later(seconds * index / (NUM_EVALUATIONS + 1), task.number, happen)
        self._later(seconds, task.number, lambda: self._commit(task, left))

    def _evaluated(self, task: TrialTask, stage: Stage, index: int) -> None:
        examples = stage.num_examples * index // (NUM_EVALUATIONS + 1)
        metrics = {"accuracy": self._random.random(), "loss": self._random.random()}
        system = {"memory_gib": 1.0, "examples_per_s": 100.0}
        self._tell(task, Report("evaluated", stage="target", examples=examples, metrics=metrics,
                                 total_examples=stage.num_examples, system=system))  # fmt: skip

    def _commit(self, task: TrialTask, left: list[Stage]) -> None:
        stage = left[0]
        # What a worker writes is no part of the driver's time: without waiting for the disk.
        folder = Path(self._store.storage.root) / "stages" / stage.key
        folder.mkdir(parents=True)
        (folder / "record.json").write_text("{}")
        self._making.remove(stage.key)
        self._told_of(task, left, reused=False)

    def _told_of(self, task: TrialTask, left: list[Stage], *, reused: bool) -> None:
        stage = left[0]
        examples, seconds = (0, 0.0) if reused else (stage.num_examples, 60.0)
        report = StageUse(stage.kind, stage.key, stage.label, reused, examples, seconds)
        self._tell(task, Report("stage", stage=stage.kind, finished_stage=report))
        self._later(0.0, task.number, lambda: self._go_on(task, left[1:]))
