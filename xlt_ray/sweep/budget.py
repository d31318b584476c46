"""What a sweep has spent of its budget: hours since its first trial, GPU-hours of its trials.

A trial spends for as long as it has its GPUs, in every attempt: from the start of its process to
its end, the loading of libraries, evaluations, saving and the wait for a stage that another trial
makes included. A failed trial and the one that retries it count both. The ledger keeps what ended
attempts took and since when the others are at work; once in a while the driver writes down a sign
of life, up to which the attempts of one that was killed count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from xlt_ray.config.sweep import Settings
from xlt_ray.ledger import Ledger, Occupation, TrialView

SIGN_S = 60.0
"""So often a sign of life is written: what a killed driver leaves uncounted of each trial."""


class BudgetTracker:
    """Read from the ledger once; after that it is told what is spent, and keeps it there."""

    def __init__(
        self, settings: Settings, ledger: Ledger, num_gpus: Callable[[TrialView], float]
    ) -> None:
        """``num_gpus``: what a trial occupies, by its model; a share where it has no whole one."""
        self._budget = settings.budget
        self._num_gpus = num_gpus
        self._ledger = ledger
        self._began: float | None = None
        self._at_work: dict[int, Occupation] = {}
        # A clock that is set while the sweep runs moves nothing.
        self._epoch = time.time() - time.monotonic()
        self._signed = 0.0
        self._released = math.fsum(map(self._gpu_seconds, ledger.trials()))
        """GPU-seconds of the trials that are not at work."""
        for view in ledger.trials():
            if view.occupied.since is not None and not view.is_finished:
                ledger.set_occupied(view.number, view.occupied.released())

    def begin(self, number: int, *, since_s: float = 0.0) -> None:
        """An attempt at a trial begins, and has had its GPUs for ``since_s`` seconds."""
        self.release(number)
        view = self._ledger.trial(number)
        self._released -= view.occupied.gpu_seconds
        occupied = replace(
            view.occupied,
            gpus=self._num_gpus(view),
            since=self._now() - since_s,
            driver=self._ledger.driver,
        )
        self._at_work[number] = occupied
        self._ledger.set_occupied(number, occupied)

    def release(self, number: int) -> None:
        """An attempt ends, and others may have its GPUs; nothing happens where none is at work."""
        occupied = self._at_work.pop(number, None)
        if occupied is not None:
            occupied = occupied.at(self._now()).released()
            self._released += occupied.gpu_seconds
            self._ledger.set_occupied(number, occupied)

    def sign(self) -> None:
        """Write down that trials are at work, if that was not done lately."""
        now = self._now()
        if self._at_work and now - self._signed >= SIGN_S:
            self._signed = now
            self._ledger.record_heartbeat(now)

    @property
    def is_over(self) -> bool:
        """Whether no further trial is to be begun."""
        hours, gpu_hours = self._budget.hours, self._budget.gpu_hours
        if hours is not None:
            began = self._first_start()
            if began is not None and time.time() - began >= hours * 3600:
                return True
        if gpu_hours is None:
            return False
        now = self._now()
        at_work = math.fsum(usage.at(now).gpu_seconds for usage in self._at_work.values())
        return (self._released + at_work) / 3600 >= gpu_hours

    def _gpu_seconds(self, view: TrialView) -> float:
        if view.occupied == Occupation():
            # Of a ledger that kept no more than what stages took.
            return self._num_gpus(view) * math.fsum(stage.seconds for stage in view.stages)
        return view.occupied.gpu_seconds

    def _now(self) -> float:
        return self._epoch + time.monotonic()

    def _first_start(self) -> float | None:
        """When the first trial was asked (seconds since 1970)."""
        if self._began is None:
            # Optuna keeps UTC, and hands it out in this process's zone without naming it.
            started = (trial.started for trial in self._ledger.trials())
            self._began = min((moment.timestamp() for moment in started if moment), default=None)
        return self._began
