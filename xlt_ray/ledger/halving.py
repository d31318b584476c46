"""Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934) at shares of a training.

A rung lies at a share of the training, not at a number of examples: configurations of other sizes
are evaluated at other numbers, but at the same share they are equally far in their schedules. Of
the trials that have reached a rung, one in ``reduction`` continues (at least one). A trial is
judged once, when it reaches the rung, by the first evaluation at or after it, so rungs between the
same two evaluations are one.

Only first repeats compete. If all did, the seeds of one good configuration would stop each other,
and the winner's score would be that of its lucky seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from optuna.trial import FrozenTrial, TrialState

from xlt_ray.ledger.views import points_of, repeat_of

LENGTH, JUDGED = "target_examples", "judged_at"
"""Attributes of a trial: examples of its target stage, and those at which it was last judged."""


@dataclass(frozen=True)
class Halving:
    """When trials are judged, and how many continue."""

    grace: Fraction
    """Share of its training that every trial gets: the lowest rung."""
    reduction: int
    """Rungs lie at ``grace`` times its powers."""

    def rung(self, after: Fraction, until: Fraction) -> Fraction | None:
        """The highest rung above one share of a training and not above another, if there is one.

        >>> halving = Halving(Fraction(1, 10), 3)
        >>> [halving.rung(Fraction(n, 4), Fraction(n + 1, 4)) for n in range(4)]
        [Fraction(1, 10), Fraction(3, 10), None, Fraction(9, 10)]
        """
        rung = self.grace
        while rung * self.reduction <= until:
            rung *= self.reduction
        return rung if after < rung <= until else None


def value_at(trial: FrozenTrial, rung: Fraction) -> float | None:
    """Value of a trial at its first evaluation at or after a rung; None before it."""
    length = trial.user_attrs[LENGTH]
    points = points_of(trial)
    reached = (step for step in sorted(points) if Fraction(step, length) >= rung)
    return next((points[step] for step in reached), None)


def falls_behind(
    trial: FrozenTrial,
    examples: int,
    trials: Iterable[FrozenTrial],
    halving: Halving,
    *,
    maximize: bool,
) -> bool:
    """Whether to stop a trial at its evaluation after ``examples``.

    Args:
        trials: all trials of the study, including this one.
    """
    length, sign = trial.user_attrs[LENGTH], 1.0 if maximize else -1.0
    before = max((step for step in points_of(trial) if step < examples), default=0)
    rung = halving.rung(Fraction(before, length), Fraction(examples, length))
    if rung is None:
        return False
    value_here = sign * points_of(trial)[examples]
    values = sorted(
        (
            sign * value
            for competitor in competing(trials)
            if competitor.number != trial.number
            and (value := value_at(competitor, rung)) is not None
            and not math.isnan(value)
        ),
        reverse=True,
    )
    num_going_on = max((len(values) + 1) // halving.reduction, 1)
    # Trials with equal values all continue.
    return math.isnan(value_here) or sum(value > value_here for value in values) >= num_going_on


def competing(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The first repeats that were judged; only the last attempt of one that was run again."""
    trials = list(trials)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    return [
        trial
        for trial in trials
        if LENGTH in trial.user_attrs
        and not repeat_of(trial)
        and not (trial.state == TrialState.FAIL and trial.number in retried)
    ]
