"""The Pareto front: the configurations that no other beats in every objective."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.config.sweep import modes_of
from xlt_ray.ledger.views import TrialView, complete_by_configuration, is_feasible, ranked


def pareto_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each point is on the front, all coordinates the higher the better.

    A point is off the front if another is at least as good everywhere and better somewhere;
    equal points are on it together or not at all.

    >>> pareto_front([(1, 5), (2, 4), (1, 4), (2, 4)])
    [True, True, False, True]
    """
    known = [tuple(point) for point in points]
    # Points that beat many come first, so that few are compared with all others.
    strong = sorted(set(known), key=sum, reverse=True)
    return [not any(_beats(rival, point) for rival in strong) for point in known]


def _beats(first: Sequence[float], second: Sequence[float]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


@dataclass(frozen=True)
class FrontPoint:
    """One configuration on the front of a sweep."""

    configuration: int
    objectives: Mapping[str, float]
    """Name of each objective -> mean over its complete trials; the first selects."""
    num_seeds: int

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.objectives.items())
        return f"configuration {self.configuration}: {values}"


def front_of(trials: Sequence[TrialView], sweep: Mapping[str, Any]) -> list[FrontPoint]:
    """The front of a sweep with several objectives, the best by the first one first.

    Configurations that violate a constraint are not on it, nor are those that lack seeds while
    others have all of them. Empty for a sweep with one objective.
    """
    objective, seeds = sweep["objective"], sweep["search"]["seeds"]
    # A sweep that races seeds has one objective.
    if not objective["also"]:
        return []
    names, modes = [str(objective["metric"]), *objective["also"]], modes_of(objective)
    complete = complete_by_configuration(trials)
    candidates = [
        number for number in ranked(trials, seeds, *modes) if is_feasible(complete[number])
    ]
    whole = [number for number in candidates if len(complete[number]) >= seeds]
    points = [
        FrontPoint(
            number, dict(zip(names, means_of(complete[number]), strict=True)), len(complete[number])
        )
        for number in whole or candidates
    ]
    signs = [1.0 if mode == "max" else -1.0 for mode in modes]
    is_on_front = pareto_front(
        [
            [sign * value for sign, value in zip(signs, point.objectives.values(), strict=True)]
            for point in points
        ]
    )
    return [point for point, is_on in zip(points, is_on_front, strict=True) if is_on]


def means_of(trials: Sequence[TrialView]) -> list[float]:
    """Mean of every objective over complete trials."""
    return [
        statistics.fmean(values)
        for values in zip(*(trial.objectives for trial in trials), strict=True)
    ]
