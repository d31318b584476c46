"""Which configurations get further trials: seeds in a race, or the next value of the parameter of
``search.fidelity`` (:mod:`xlt_ray.config.seed_race`).

The configurations of a rung are compared by their means over the same seeds. A trial that failed or
was stopped early takes its configuration out of the race, until it is run again and completes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

from xlt_ray.config.seed_race import Rung

Results = Mapping[int, Mapping[int, float | None]]
"""Configuration -> place of a trial among its own -> objective; None before the trial ends, NaN
without a result. In a race of seeds the place is the repeat; with a fidelity it is the rung, and
the further seeds of the last rung follow."""


def next_trials(
    results: Results, rungs: Sequence[Rung], *, maximize: bool
) -> list[tuple[int, int]]:
    """(configuration, place) of the trials to add, lower rungs and better configurations first.

    A configuration gets the trials of a rung as soon as it is sure to be among the best, whatever
    the trials that have not ended will score. So few slots wait for the end of a rung, and which
    trials a race has does not depend on the order in which they end.

    >>> rungs = [Rung(1, 4), Rung(2, 2)]
    >>> next_trials({0: {0: 0.7}, 1: {0: 0.9}, 2: {0: None}, 3: {0: 0.8}}, rungs, maximize=True)
    [(1, 1)]
    """
    sign = -1.0 if maximize else 1.0

    def rank(configuration: int) -> tuple[bool, float, int]:
        # Whatever has not ended may be the best.
        mean = means[configuration]
        return mean is not None, sign * (mean or 0.0), configuration

    competing = sorted(results)
    missing: list[tuple[int, int]] = []
    for rung, above in pairwise(rungs):
        means = {
            configuration: _mean(results[configuration], range(rung.since, rung.num_trials))
            for configuration in competing
        }
        whole = (number for number, mean in means.items() if mean is None or not math.isnan(mean))
        competing = sorted(whole, key=rank)[: above.num_configurations]
        missing += [
            (configuration, place)
            for configuration in competing
            if means[configuration] is not None
            for place in range(rung.num_trials, above.num_trials)
            if place not in results[configuration]
        ]
    return missing


def is_undecided(results: Results, rungs: Sequence[Rung]) -> bool:
    """Whether further trials may follow when those that have not ended do."""
    return len(rungs) > 1 and any(
        value is None
        for trials in results.values()
        for place, value in trials.items()
        if place < rungs[-2].num_trials
    )


def contenders(results: Results, rungs: Sequence[Rung], *, maximize: bool) -> frozenset[int]:
    """Configurations that may still get trials beyond the first rung; none when that is over."""
    missing = next_trials(results, rungs, maximize=maximize)
    if not missing and not is_undecided(results, rungs):
        return frozenset()
    return frozenset(
        configuration
        for configuration, repeats in results.items()
        if len(repeats) < rungs[-1].num_trials
        and not any(value is not None and math.isnan(value) for value in repeats.values())
    )


def ranking(results: Results, *, maximize: bool) -> tuple[list[int], list[int]]:
    """Configurations with a result by their mean over all of them, the best first; and the others.

    >>> ranking({0: {0: 0.7}, 1: {0: 0.9, 1: None}, 2: {0: None}}, maximize=True)
    ([1, 0], [2])
    """
    means: dict[int, float] = {}
    for configuration, repeats in results.items():
        values = [
            value for value in repeats.values() if value is not None and not math.isnan(value)
        ]
        if values:
            means[configuration] = statistics.fmean(values)
    sign = -1.0 if maximize else 1.0
    ranked = sorted(means, key=lambda configuration: (sign * means[configuration], configuration))
    return ranked, [configuration for configuration in results if configuration not in means]


def _mean(trials: Mapping[int, float | None], places: range) -> float | None:
    """Over some trials: NaN if one of them has no result, else None if one has not ended."""
    known = [value for place in places if (value := trials.get(place)) is not None]
    mean = statistics.fmean(known or [0.0])
    return None if len(known) < len(places) and not math.isnan(mean) else mean
