"""Evaluations of finished trials that the store has lost, made again.

Tune's searcher and scheduler put the same questions to :class:`Remaking` as to the desk. The ledger
is only read: these trials have ended, and their objectives stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from xlt_ray.errors import DamagedStage
from xlt_ray.ledger import Ledger, StageUse, Ticket, TrialView
from xlt_ray.spec.facts import Facts
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.stages.store import StageStore
from xlt_ray.sweep.order import Order, Report
from xlt_ray.sweep.planning import Planner
from xlt_ray.sweep.watcher import Watcher


class Remaking:
    """Hands out finished trials whose evaluation is gone or damaged."""

    def __init__(
        self,
        sweep: SweepSpec,
        facts: Facts,
        planner: Planner,
        ledger: Ledger,
        store: StageStore,
        watcher: Watcher,
    ) -> None:
        self.sweep = sweep
        self.facts = facts
        self.watcher = watcher
        self._ledger = ledger
        self._left = list(_lost(ledger, store, planner))
        self._running: set[int] = set()
        self.new_stages: dict[str, StageUse] = {}
        self.stopped_by = ""
        self._failed: list[str] = []
        if self._left:
            numbers = ", ".join(str(one.number) for one in self._left)
            watcher.warned(f"evaluations that the store has lost are made again: trials {numbers}")

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
        """What is still lost, and why; nothing where every evaluation is there again."""
        if self.stopped_by:
            return self.stopped_by
        if self._failed:
            return "evaluations could not be made again: " + "; ".join(self._failed)
        if self.is_interrupted:
            return "evaluations that the store has lost were not all made again"
        return ""

    def next_order(self) -> Order | None:
        if self.is_done:
            return None
        order = self._left.pop(0)
        self._running.add(order.number)
        return order

    def hear(self, number: int, report: Report) -> bool:
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


def _lost(ledger: Ledger, store: StageStore, planner: Planner) -> Iterator[Order]:
    """Complete trials without a readable evaluation, as far as the same one can be made again."""
    for view in ledger.trials():
        if view.state != "complete" or not _is_lost(view, store):
            continue
        ticket = Ticket(view.number, dict(view.assignment), view.seed, view.attempts)
        order = planner.planned(ticket).order
        # With other data, or another version of a stage, it would be another evaluation.
        if order.path[-1].key == view.evaluation_key:
            yield order


def _is_lost(view: TrialView, store: StageStore) -> bool:
    if view.evaluation_key is None:
        return False
    try:
        return store.record(view.evaluation_key) is None
    except DamagedStage:
        return True
