"""Whoever shows a running sweep to its user."""

from __future__ import annotations

from typing import Protocol

from xlt_ray.ledger import TrialView
from xlt_ray.sweep.tasks import Report


class ProgressReporter(Protocol):
    """Told by the desk what happens; returns at once."""

    def begun(self, view: TrialView) -> None: ...

    def heard(self, view: TrialView, report: Report) -> None: ...

    def finished(self, view: TrialView) -> None: ...

    def warned(self, message: str) -> None: ...
