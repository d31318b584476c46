"""What a sweep has spent of its budget: hours since its first trial, GPU-hours of its stages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from xlt_ray.ledger import Ledger, TrialView
from xlt_ray.spec.sweep import Settings


class Spending:
    """Read from the ledger once; after that it is told what is spent."""

    def __init__(
        self, settings: Settings, ledger: Ledger, num_gpus: Callable[[TrialView], float]
    ) -> None:
        """``num_gpus``: what a trial occupies, by its model; a share where it has no whole one."""
        self._budget = settings.budget
        self._num_gpus = num_gpus
        self._ledger = ledger
        self._began: float | None = None
        self._gpu_seconds = 0.0
        if self._budget.gpu_hours is not None:
            self._gpu_seconds = math.fsum(
                num_gpus(one) * use.seconds for one in ledger.trials() for use in one.stages
            )

    def add(self, view: TrialView, seconds: float) -> None:
        """A stage of a trial took so long on all its GPUs."""
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
            started = (one.started for one in self._ledger.trials())
            self._began = min((one.timestamp() for one in started if one), default=None)
        return self._began
