"""What the ledger said at one moment, as a value that another thread may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from xlt_ray.ledger import TrialView, Winner


class TrialReader(Protocol):
    """What MLflow is told of a sweep can be read here: a ledger, or an account of it."""

    @property
    def sweep(self) -> Mapping[str, Any]: ...

    def trials(self) -> list[TrialView]: ...

    def best(self) -> Winner | None: ...


@dataclass(frozen=True)
class LedgerSnapshot:
    """A copy of the books; they go on, it does not."""

    sweep: Mapping[str, Any]
    views: tuple[TrialView, ...]
    winner: Winner | None

    @classmethod
    def of(cls, books: TrialReader) -> LedgerSnapshot:
        """The account of this moment."""
        return cls(books.sweep, tuple(books.trials()), books.best())

    def trials(self) -> list[TrialView]:
        """All trials, by number."""
        return list(self.views)

    def best(self) -> Winner | None:
        """What the sweep selects; None before any trial is complete."""
        return self.winner
