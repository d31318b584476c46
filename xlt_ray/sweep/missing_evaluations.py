"""Repeats stages of finished trials that the store has lost: evaluations, and the best weights.

:class:`MissingEvaluations` has the interface of the trial scheduler. It only reads the ledger:
these trials have ended, and their objectives stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from xlt_ray.errors import DamagedStage
from xlt_ray.home import Home
from xlt_ray.ledger import AskedTrial, Ledger, StageUse
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.tasks import Planner, ProgressReporter, Report, TrialTask


class MissingEvaluations:
    """Schedules finished trials whose evaluation is gone or damaged, and the best trial if its
    weights are.

    Args:
        is_verified: compare all files of these stages with their digests, not only their sizes and
            the headers of weights.
    """

    def __init__(
        self,
        planner: Planner,
        home: Home,
        ledger: Ledger,
        store: StageStore,
        reporter: ProgressReporter,
        *,
        is_verified: bool = False,
    ) -> None:
        self.sweep = planner.sweep
        self.facts = planner.facts
        self.reporter = reporter
        self._ledger = ledger
        self._left = list(_lost_stages(planner, home, ledger, store, is_verified=is_verified))
        self._running: set[int] = set()
        self.new_stages: dict[str, StageUse] = {}
        self.stopped_by = ""
        self._failed: list[str] = []
        if self._left:
            stages = ", ".join(f"{task.until} of trial {task.number}" for task in self._left)
            reporter.warned(f"missing from the store or damaged, and made again: {stages}")

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def is_done(self) -> bool:
        """Whether no trial is left to start."""
        return bool(self.stopped_by) or not self._left

    @property
    def is_interrupted(self) -> bool:
        """Whether the user or the death of Ray has stopped it before all were made."""
        return bool(self.stopped_by or self._left or self._running)

    @property
    def complaint(self) -> str:
        """What is still lost, and why; empty if everything was made again."""
        if self.stopped_by:
            return self.stopped_by
        if self._failed:
            return "stages could not be made again: " + "; ".join(self._failed)
        if self.is_interrupted:
            return "stages that the store has lost were not all made again"
        return ""

    def next_task(self) -> TrialTask | None:
        if self.is_done:
            return None
        task = self._left.pop(0)
        self._running.add(task.number)
        return task

    def on_report(self, number: int, report: Report) -> bool:
        """Show what happens; always False, because these trials are not stopped early."""
        self.reporter.reported(self._ledger.trial(number), report)
        stage = report.finished_stage
        if stage is not None and not stage.reused:
            self.new_stages[stage.key] = stage
        return False

    def keeps_progress(self, number: int) -> bool:
        return True

    def finish(self, number: int, report: Report | None) -> None:
        self._running.discard(number)
        if report is None or report.kind != "complete":
            why = "its process was lost" if report is None else f"{report.cause}: {report.message}"
            self._failed.append(f"trial {number} ({why})")


def _lost_stages(
    planner: Planner, home: Home, ledger: Ledger, store: StageStore, *, is_verified: bool
) -> Iterator[TrialTask]:
    """Tasks that make lost stages again; damaged stages are set aside.

    Skips a trial whose data or versions have changed: its evaluation would be another one.
    """
    best = ledger.best()
    for view in ledger.trials():
        if view.state != "complete" or view.evaluation_key is None:
            continue
        is_best = best is not None and view.number == best.trial.number
        if not is_best and _is_sound(view.evaluation_key, store, is_verified=is_verified):
            continue
        asked_trial = AskedTrial(view.number, dict(view.assignment), view.seed, view.attempts)
        task = planner.task(asked_trial, home)
        if task.path[-1].key != view.evaluation_key:
            continue
        wanted = task.path[-2:] if is_best else task.path[-1:]
        lost = [
            stage for stage in wanted if not _is_sound(stage.key, store, is_verified=is_verified)
        ]
        for stage in lost:
            # Without this, the sound copy of a node would be used in its place.
            with suppress(FileNotFoundError):
                store.set_aside(stage.key)
        if lost:
            yield replace(task, until=lost[-1].kind)


def _is_sound(key: str, store: StageStore, *, is_verified: bool) -> bool:
    try:
        return store.verify(key, by_size=not is_verified) is not None
    except DamagedStage:
        return False
