"""Which failed trials are run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from xlt_ray.errors import LedgerError
from xlt_ray.ledger.views import TrialView, standings

SHOWN = 20
"""Trials that a line names."""


@dataclass(frozen=True)
class Retry:
    """Which failed trials are to be run again: all of them, unless told otherwise."""

    cause: str = ""
    """Those that failed for this cause."""
    trials: tuple[int, ...] = ()
    """Those of these numbers."""


def still_failed(views: Sequence[TrialView]) -> list[TrialView]:
    """The failed trials that have not been queued again, by number."""
    retried = {one.retry_of for one in views}
    return [one for one in views if one.state == "failed" and one.number not in retried]


def by_cause(failed: Sequence[TrialView]) -> dict[str, list[TrialView]]:
    """Failed trials by their cause, the most frequent one first."""
    causes = Counter(one.cause or "bug" for one in failed).most_common()
    return {cause: [one for one in failed if (one.cause or "bug") == cause] for cause, _ in causes}


def again(name: str, cause: str) -> str:
    """The command that runs the trials of a sweep again that failed for a cause."""
    return f"xlt resume {name} --where {cause}"


def failures_told(views: Sequence[TrialView], name: str) -> list[str]:
    """One line for every cause for which trials have failed and were not run again: which they
    are, and the command that runs them again."""
    return [
        f"{len(alike)} trial{'s' * (len(alike) > 1)} failed for {cause} "
        f"({', '.join(str(one.number) for one in alike[:SHOWN])}"
        f"{', ...' * (len(alike) > SHOWN)}); again: {again(name, cause)}"
        for cause, alike in by_cause(still_failed(views)).items()
    ]


def retried(
    name: str, views: Sequence[TrialView], retry: Retry, driver: str = ""
) -> list[TrialView]:
    """The failed trials of a sweep that ``retry`` names and that have not been queued again yet.

    Args:
        driver: as that of :func:`~xlt_ray.ledger.views.standings`.

    Raises:
        LedgerError: a trial that was named has not failed, not for the cause that was given, or is
            queued again already; or no trial has failed for that cause.
    """
    failed = still_failed(views)
    if retry.trials:
        _refuse_unfailed(name, views, retry, driver)
        return [one for one in failed if one.number in retry.trials]
    if not retry.cause:
        return failed
    causes = Counter(one.cause for one in failed)
    if retry.cause not in causes:
        there = ", ".join(f"{cause} ({number})" for cause, number in causes.most_common())
        raise LedgerError(
            f"{name}: no failed trial has the cause {retry.cause}; "
            f"there is: {there or 'no failed trial'}"
        )
    return [one for one in failed if one.cause == retry.cause]


def _refuse_unfailed(name: str, views: Sequence[TrialView], retry: Retry, driver: str) -> None:
    by_number = {one.number: one for one in views}
    states = standings(views, driver=driver)
    for number in retry.trials:
        later = next((one.number for one in views if one.retry_of == number), None)
        if number not in by_number:
            last = max(by_number, default=-1)
            there = f"the last one is {last}" if by_number else "there are none yet"
            raise LedgerError(f"{name}: there is no trial {number}; {there}")
        if states[number] != "failed":
            numbers = ", ".join(str(one.number) for one in still_failed(views)) or "none"
            problem = f"is {states[number]}, not failed; failed: {numbers}"
        elif later is not None:
            problem = f"is run again as trial {later} already"
        elif retry.cause and by_number[number].cause != retry.cause:
            problem = f"failed for another cause, {by_number[number].cause}"
        else:
            continue
        raise LedgerError(f"{name}: trial {number} {problem}")
