"""Tune's two questions, put to the desk: which trial next, and go on or stop?"""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from xlt_ray.sweep.desk import Desk
from xlt_ray.sweep.order import Report
from xlt_ray.sweep.trainable import REPORT


class DeskSearcher(Searcher):
    """Suggests what the desk hands out; tells it what became of a trial.

    Tune stages every trial that it was given, whatever its scheduler says, so a trial that
    should not start yet is held back here: ``suggest`` returns None and is asked again.
    """

    def __init__(self, desk: Desk, concurrent: int) -> None:
        super().__init__()
        self._desk = desk
        self._concurrent = concurrent
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._desk.num_running < self._concurrent:
            order = self._desk.next_order()
            if order is not None:
                self._numbers[trial_id] = order.number
                return {"order": order}
            if self._desk.is_done:
                return Searcher.FINISHED
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        report: Report | None = None if error or result is None else result.get(REPORT)
        self._desk.finish(self._numbers.pop(trial_id), report)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see :meth:`save`."""


class DeskScheduler(FIFOScheduler):
    """Runs trials in order; the desk hears every report and may stop a trial early."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["order"].number
        is_to_stop = self._desk.hear(number, result[REPORT])
        return FIFOScheduler.STOP if is_to_stop else FIFOScheduler.CONTINUE
