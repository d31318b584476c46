"""What a sweep selects: configurations by their mean objective, and of the first its best seed."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from xlt_ray.ledger.views import TrialView


@dataclass(frozen=True)
class Winner:
    """The configuration that a sweep selects."""

    trial: TrialView
    """That of its complete trials with the best objective."""
    objective: float
    """Mean over its complete trials."""
    num_seeds: int
    """How many these are."""
    runner_up: int | None
    """The configuration that comes next."""

    @property
    def configuration(self) -> int:
        return self.trial.configuration


def ranked(trials: Sequence[TrialView], seeds: int, mode: str) -> list[int]:
    """Configurations with a complete trial by their mean objective, the best first.

    Those of which every seed is complete go before those that lack one; of equals the first that
    was tried: the order of the report and of ``xlt compare``.
    """
    values: dict[int, list[float]] = defaultdict(list)
    for one in trials:
        if one.state == "complete" and one.objective is not None:
            values[one.configuration].append(one.objective)
    sign = _sign(mode)
    return sorted(
        values,
        key=lambda one: (len(values[one]) < seeds, -sign * statistics.fmean(values[one]), one),
    )


def winner(trials: Sequence[TrialView], seeds: int, mode: str) -> Winner | None:
    """What a sweep selects; None before any trial is complete."""
    order = ranked(trials, seeds, mode)
    if not order:
        return None
    own = {
        one.number: one.objective
        for one in trials
        if (one.configuration, one.state) == (order[0], "complete") and one.objective is not None
    }
    sign = _sign(mode)
    best = max(own, key=lambda number: sign * own[number])
    return Winner(
        trial=next(one for one in trials if one.number == best),
        objective=statistics.fmean(own.values()),
        num_seeds=len(own),
        runner_up=order[1] if len(order) > 1 else None,
    )


def _sign(mode: str) -> float:
    return 1.0 if mode == "max" else -1.0
