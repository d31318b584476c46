"""What the driver hands to the thread that writes MLflow: values that never change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xlt_ray.ledger import Ledger, Standing, TrialView, Winner
from xlt_ray.store.stage import Stage


class Point(NamedTuple):
    """One value of a curve."""

    name: str
    step: int
    """Examples seen."""
    value: float
    time_ms: int | None = None
    """When it was measured, in milliseconds since 1970; None where that is unknown."""


@dataclass(frozen=True)
class LedgerSnapshot:
    """A ledger at one moment; the ledger goes on, this does not."""

    sweep: Mapping[str, Any]
    views: tuple[TrialView, ...]
    winner: Winner | None

    @classmethod
    def of(cls, ledger: Ledger) -> LedgerSnapshot:
        """The ledger as it is now."""
        return cls(ledger.sweep, tuple(ledger.trials()), ledger.best())

    def trials(self) -> list[TrialView]:
        """All trials, by number."""
        return list(self.views)

    def best(self) -> Winner | None:
        """What the sweep selects; None before any trial is complete."""
        return self.winner


@dataclass(frozen=True)
class TrialSnapshot:
    """A trial at one moment, with what its run in MLflow shows besides its stages' curves."""

    view: TrialView
    standing: Standing
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved trial, kept as ``config.json``; empty where it is not at hand."""
    path: Sequence[Stage] = ()
    """Its stages, whose data are named as the run's inputs; empty where they are not at hand.
    Without them the curves of stages that it began and did not finish are not known."""
    points: Sequence[Point] = ()
    """What it reported to the driver that has it at work."""
    is_begun_here: bool = False
    """Whether this process has it at work, and is named as the origin of its run."""
