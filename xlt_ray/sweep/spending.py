"""What a sweep has spent of its budget: hours since its first trial, GPU-hours of its trials.

A stage that a trial made counts with the seconds in its record, which hold those of earlier
attempts that left progress. An attempt that ends without a stage (stopped early, failed, lost)
counts with the seconds since it began or made its last one, until this trial makes the stage after
all. A failed trial and the one that retries it count both. What a driver that was killed did
not write down is not known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from xlt_ray.ledger import Ledger, TrialView
from xlt_ray.spec.sweep import Settings


class Spending:
    """Read from the ledger once; after that it is told what is spent, and keeps it there."""

    def __init__(
        self, settings: Settings, ledger: Ledger, num_gpus: Callable[[TrialView], float]
    ) -> None:
        """``num_gpus``: what a trial occupies, by its model; a share where it has no whole one."""
        self._budget = settings.budget
        self._num_gpus = num_gpus
        self._ledger = ledger
        self._began: float | None = None
        self._since: dict[int, float] = {}
        """Trials at work -> when their attempt began, or made its last stage."""
        self._gpu_seconds = 0.0
        if self._budget.gpu_hours is not None:
            self._gpu_seconds = math.fsum(
                num_gpus(one) * seconds
                for one in ledger.trials()
                for seconds in (one.unfinished_s, *(use.seconds for use in one.stages))
            )

    def begin(self, number: int) -> None:
        """An attempt at a trial begins, and occupies its GPUs from now on."""
        self._since[number] = time.monotonic()

    def make(self, view: TrialView, seconds: float, *, is_own: bool) -> None:
        """A trial at work has a stage now.

        Args:
            seconds: that its making took beyond what was told of it before.
            is_own: whether this trial made it: then the seconds hold its earlier attempts.
        """
        if view.number in self._since:
            self.begin(view.number)
        self._add(view, seconds)
        if is_own and view.unfinished_s:
            self._add(view, -view.unfinished_s)
            self._ledger.set_unfinished(view.number, 0.0)

    def complete(self, number: int) -> None:
        """A trial has ended with its last stage."""
        self._since.pop(number, None)

    def break_off(self, number: int) -> None:
        """An attempt ends without the stage that it was at; its trial has not ended yet."""
        began = self._since.pop(number, None)
        if began is None:
            return
        seconds = time.monotonic() - began
        view = self._ledger.trial(number)
        self._ledger.set_unfinished(number, view.unfinished_s + seconds)
        self._add(view, seconds)

    def _add(self, view: TrialView, seconds: float) -> None:
        if self._budget.gpu_hours is not None:
            self._gpu_seconds += self._num_gpus(view) * seconds

    @property
    def is_over(self) -> bool:
        """Whether no further trial is to be begun."""
        hours, gpu_hours = self._budget.hours, self._budget.gpu_hours
        if hours is not None:
            began = self._first_start()
            if began is not None and time.time() - began >= hours * 3600:
                return True
        return gpu_hours is not None and self._gpu_seconds / 3600 >= gpu_hours

    def _first_start(self) -> float | None:
        """When the first trial was asked (seconds since 1970)."""
        if self._began is None:
            # Optuna keeps UTC, and hands it out in this process's zone without naming it.
            started = (one.started for one in self._ledger.trials())
            self._began = min((one.timestamp() for one in started if one), default=None)
        return self._began
