"""What a sweep has spent of its budget: hours since its first trial, GPU-hours of its trials.

A trial spends while it has its GPUs, in every attempt: from the start of its process to its end,
with the loading of libraries, evaluations, saving and waiting for a stage that another trial makes.
A failed trial and the one that retries it both count. The ledger keeps what ended attempts took and
when the running ones began. Its heartbeat bounds the attempts of a driver that was killed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from xlt_ray.config.sweep import Settings
from xlt_ray.ledger import Ledger, Occupation, TrialView

HEARTBEAT_S = 60.0
"""Seconds between two heartbeats in the ledger: what a killed driver leaves uncounted."""


class BudgetTracker:
    """Reads the ledger once; after that the scheduler reports every attempt.

    Args:
        num_gpus: the GPUs that a trial occupies, by its model; may be a fraction.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, num_gpus: Callable[[TrialView], float]
    ) -> None:
        self._budget = settings.budget
        self._num_gpus = num_gpus
        self._ledger = ledger
        self._began_s: float | None = None
        self._running: dict[int, Occupation] = {}
        # Setting the clock while the sweep runs changes nothing.
        self._epoch_s = time.time() - time.monotonic()
        self._heartbeat_s = 0.0
        self._released = math.fsum(map(self._gpu_seconds, ledger.trials()))
        """GPU-seconds of the trials that are not running."""
        for view in ledger.trials():
            if view.occupied.since is not None and not view.is_finished:
                ledger.set_occupied(view.number, view.occupied.released())

    def begin(self, number: int, *, since_s: float = 0.0) -> None:
        """An attempt at a trial begins, and has had its GPUs for ``since_s`` seconds."""
        self.release(number)
        view = self._ledger.trial(number)
        self._released -= view.occupied.gpu_seconds
        self._running[number] = replace(
            view.occupied,
            gpus=self._num_gpus(view),
            since=self._now_s() - since_s,
            driver=self._ledger.driver,
        )
        self._ledger.set_occupied(number, self._running[number])

    def release(self, number: int) -> None:
        """An attempt ends, and other trials may have its GPUs; does nothing if none is running."""
        occupied = self._running.pop(number, None)
        if occupied is not None:
            occupied = occupied.at(self._now_s()).released()
            self._released += occupied.gpu_seconds
            self._ledger.set_occupied(number, occupied)

    def record_heartbeat(self) -> None:
        """Write a heartbeat while trials run, at most every ``HEARTBEAT_S`` seconds."""
        now = self._now_s()
        if self._running and now - self._heartbeat_s >= HEARTBEAT_S:
            self._heartbeat_s = now
            self._ledger.record_heartbeat(now)

    @property
    def is_over(self) -> bool:
        """Whether no further trial may begin."""
        hours, gpu_hours = self._budget.hours, self._budget.gpu_hours
        if hours is not None:
            began = self._first_start_s()
            if began is not None and time.time() - began >= hours * 3600:
                return True
        if gpu_hours is None:
            return False
        now = self._now_s()
        running = math.fsum(occupied.at(now).gpu_seconds for occupied in self._running.values())
        return (self._released + running) / 3600 >= gpu_hours

    def _gpu_seconds(self, view: TrialView) -> float:
        if view.occupied == Occupation():
            # An old ledger has only the seconds of stages.
            return self._num_gpus(view) * math.fsum(stage.seconds for stage in view.stages)
        return view.occupied.gpu_seconds

    def _now_s(self) -> float:
        return self._epoch_s + time.monotonic()

    def _first_start_s(self) -> float | None:
        """When the first trial was asked (seconds since 1970)."""
        if self._began_s is None:
            # Optuna keeps UTC, and returns it in this process's zone without naming it.
            started = (trial.started for trial in self._ledger.trials())
            self._began_s = min((moment.timestamp() for moment in started if moment), default=None)
        return self._began_s
