"""Failures that other trials would meet, too: a bug in several trials, a stage in two of them, a
full disk, data that cannot be scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from xlt_ray.errors import CHANGED
from xlt_ray.spec.failures import RepeatedBug
from xlt_ray.sweep.order import Report

LASTING = ("nan", "data", "oom", "bug")
"""Causes of failure that every try at the same stage would meet again, once two trials have."""


@dataclass(frozen=True)
class BrokenStage:
    """A stage that two trials failed to make."""

    first: int
    second: int
    failure: Report
    """Of the second one."""

    def message(self, label: str) -> str:
        return f"{label} failed in trials {self.first} and {self.second}: {self.failure.message}"


class Repeated:
    """Counts how the trials of one run ended."""

    def __init__(self, rule: RepeatedBug) -> None:
        self._rule = rule
        self._num_ended = 0
        self._bugs: Counter[str] = Counter()
        self._failed_once: dict[str, int] = {}
        self.bug = ""
        """The bug that ended enough trials alike, by place and message, or nothing."""
        self.broken: dict[str, BrokenStage] = {}
        """By key."""

    def end(self, bug: str = "") -> None:
        """One more trial has ended: by this bug, or in some other way."""
        self._num_ended += 1
        if not bug:
            return
        self._bugs[bug] += 1
        if self._rule.is_met(self._bugs[bug], self._num_ended):
            self.bug = self.bug or bug

    def fail(self, key: str, number: int, failure: Report) -> bool:
        """A trial failed at a stage for a lasting cause; True where it is not the first one.

        The first one's node or process may have been at fault, so another trial tries the stage, in
        another process, as one in which a trial has failed takes no other.
        """
        first = self._failed_once.setdefault(key, number)
        if first == number or key in self.broken:
            return False
        self.broken[key] = BrokenStage(first, number, failure)
        return True


def reason_to_stop(number: int, failure: Report, sweep: str) -> str:
    """Why no further trial is to begin after this failure of trial ``number``, and what to do;
    nothing where others may fare better."""
    if failure.cause == "disk":
        return (
            f"a disk is full (trial {number}: {failure.message}); free some space, and the same "
            "command goes on"
        )
    if failure.cause == "data" and (failure.stage == "evaluate" or CHANGED in failure.message):
        # The next trial would meet them, too, and might be trained before.
        return (
            f"trial {number} cannot be made with the data as they are now ({failure.message}); "
            f"mend them, and `xlt resume {sweep} --failed` goes on with it, without training again "
            "what was trained, and with the other trials"
        )
    return ""
