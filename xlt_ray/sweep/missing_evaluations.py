"""What the store has lost of finished trials, made again: evaluations, and the best weights.

Tune's searcher and scheduler put the same questions to :class:`MissingEvaluations` as to the desk.
The ledger is only read: these trials have ended, and their objectives stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import DamagedStage
from xlt_ray.ledger import AskedTrial, Ledger, StageUse
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.progress_reporter import ProgressReporter
from xlt_ray.sweep.tasks import Planner, Report, TrialTask


class MissingEvaluations:
    """Hands out finished trials whose evaluation is gone or damaged, and the best trial where its
    weights are.

    Files are compared with their sizes, weights with their headers as well.

    Args:
        is_verified: compare all files of these stages with their digests, too, and so read them.
    """

    def __init__(
        self,
        sweep: SweepSpec,
        facts: Facts,
        planner: Planner,
        ledger: Ledger,
        store: StageStore,
        watcher: ProgressReporter,
        *,
        is_verified: bool = False,
    ) -> None:
        self.sweep = sweep
        self.facts = facts
        self.watcher = watcher
        self._ledger = ledger
        self._left = list(_lost(ledger, store, planner, is_verified=is_verified))
        self._running: set[int] = set()
        self.new_stages: dict[str, StageUse] = {}
        self.stopped_by = ""
        self._failed: list[str] = []
        if self._left:
            told = ", ".join(f"{one.until} of trial {one.number}" for one in self._left)
            watcher.warned(f"gone from the store or damaged, and made again: {told}")

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def is_done(self) -> bool:
        """Whether no trial is left to be handed out."""
        return bool(self.stopped_by) or not self._left

    @property
    def is_interrupted(self) -> bool:
        """Whether somebody stopped it, or Ray has died, before all were made."""
        return bool(self.stopped_by or self._left or self._running)

    @property
    def complaint(self) -> str:
        """What is still lost, and why; nothing where everything is there again."""
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
        order = self._left.pop(0)
        self._running.add(order.number)
        return order

    def on_report(self, number: int, report: Report) -> bool:
        """Show what happens; never True, as the trial has ended already."""
        self.watcher.heard(self._ledger.trial(number), report)
        stage = report.finished_stage
        if stage is not None and not stage.reused:
            self.new_stages[stage.key] = StageUse(**asdict(stage))
        return False

    def finish(self, number: int, report: Report | None) -> None:
        self._running.discard(number)
        if report is None or report.kind != "complete":
            why = "its process was lost" if report is None else f"{report.cause}: {report.message}"
            self._failed.append(f"trial {number} ({why})")


def _lost(
    ledger: Ledger, store: StageStore, planner: Planner, *, is_verified: bool
) -> Iterator[TrialTask]:
    """Orders for what is lost, as far as the same can be made again; what is damaged is set aside.

    With other data, or another version of a stage, it would be another evaluation.
    """
    best = ledger.best()
    for view in ledger.trials():
        if view.state != "complete" or view.evaluation_key is None:
            continue
        is_best = best is not None and view.number == best.trial.number
        if not is_best and _is_sound(view.evaluation_key, store, is_verified=is_verified):
            continue
        ticket = AskedTrial(view.number, dict(view.assignment), view.seed, view.attempts)
        order = planner.planned(ticket).order
        if order.path[-1].key != view.evaluation_key:
            continue
        asked = order.path[-2:] if is_best else order.path[-1:]
        lost = [one for one in asked if not _is_sound(one.key, store, is_verified=is_verified)]
        for stage in lost:
            # A node's copy may be sound, and would be found in its place.
            with suppress(FileNotFoundError):
                store.set_aside(stage.key)
        if lost:
            yield replace(order, until=lost[-1].kind)


def _is_sound(key: str, store: StageStore, *, is_verified: bool) -> bool:
    try:
        return store.verify(key, by_size=not is_verified) is not None
    except DamagedStage:
        return False
