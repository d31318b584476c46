"""How often each trial was tried again in this run, and whether another process may try it.

Tune is told to start trials whose process is gone for ever; it knows one limit for all causes, and
this knows one for each. An attempt within a process counts here, too, and the next process is told
what was used up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from xlt_ray.config.retry_policy import Failures
from xlt_ray.sweep.failures import Failure, classify
from xlt_ray.sweep.tasks import Report, TrialTask
from xlt_ray.sweep.watchdog import read_hang_report


class ProcessFailures:
    """What became of processes in one run of a sweep."""

    def __init__(self, failures: Failures, hangs: Path) -> None:
        self._failures = failures
        self._hangs = hangs
        self._tries: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._lost: Counter[int] = Counter()
        self._last: dict[int, Failure] = {}
        self._silent_s: dict[int, float] = {}
        self._device_failures: Counter[str] = Counter()
        """By node, since a stage was made there."""
        self.left_nodes: tuple[str, ...] = ()
        """Ids of nodes that get no further trial, in the order in which they were left."""
        self.unwritten: Exception | None = None
        """Why the end of a trial could not be written down: the run ends with it."""

    def on_report(self, number: int, report: Report) -> None:
        """Count an attempt that the trial's process makes by itself, or a stage that it made."""
        if report.kind == "retrying":
            self._tries[number][report.cause] += 1
        for node in report.nodes:
            self._device_failures.pop(node, None)

    def counted(self, order: TrialTask) -> TrialTask:
        """An order for the next process of its trial, which counts on from the earlier ones."""
        return replace(order, tries=dict(self._tries[order.number]))

    def expect_silent(self, number: int, seconds: float) -> None:
        """The process of this trial is being ended, because it was silent for so long."""
        self._silent_s[number] = seconds

    def note(self, number: int, error: BaseException | None) -> Report | None:
        """Another process may try: what to say of the last one. None where its end is final.

        Args:
            error: what Tune heard of the process, if that could be read.
        """
        failure = read_hang_report(self._hangs, number)
        silent_s = self._silent_s.pop(number, None)
        if failure is None and silent_s is not None:
            failure = Failure(
                "timeout", f"its process gave no sign of life for {silent_s:.0f} s", ""
            )
        if failure is None and error is not None:
            failure = classify(error)
        failure = failure or Failure("lost", "its process was lost", "")
        self._last[number] = failure
        if failure.cause == "device" and failure.node:
            self._count_device(failure.node)
        self._lost[number] += 1
        tries = self._tries[number][failure.cause]
        self._tries[number][failure.cause] += 1
        if not self._failures.policy(failure.cause).allows(tries):
            return None
        return Report("lost", cause=failure.cause, message=failure.message, log=failure.log,
                      remedy="in another process")  # fmt: skip

    def _count_device(self, node: str) -> None:
        self._device_failures[node] += 1
        limit = self._failures.leave_node_after
        if self._device_failures[node] >= limit and node not in self.left_nodes:
            self.left_nodes = (*self.left_nodes, node)

    def fate(self, number: int) -> Report | None:
        """How a trial failed that no process tries any more; None where nothing is known."""
        failure = self._last.get(number)
        if failure is None:
            return None
        lost = self._lost[number]
        message = failure.message + (f" (attempts in this run: {lost})" if lost > 1 else "")
        return Report("failed", cause=failure.cause, message=message, log=failure.log)
