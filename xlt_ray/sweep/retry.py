"""Counts the failures of every trial by cause, and decides whether another process may retry it.

Tune has one limit of failures for all causes, so it is configured to retry for ever, and the
limits of each cause are enforced here. Retries within a process count, too, and the next process
gets the counts in its task.
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
    """Failures of trials and nodes in one run of a sweep."""

    def __init__(self, failures: Failures, hangs: Path) -> None:
        self._failures = failures
        self._hang_folder = hangs
        self._num_retries: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._num_lost: Counter[int] = Counter()
        self._last_failure: dict[int, Failure] = {}
        self._silent_s: dict[int, float] = {}
        self._device_failures: Counter[str] = Counter()
        """Node -> failures since a stage was last made there."""
        self.left_nodes: tuple[str, ...] = ()
        """Ids of nodes that get no further trials, in the order in which they were excluded."""
        self.write_error: Exception | None = None
        """The error that kept the end of a trial from being written; it ends the run."""

    def on_report(self, number: int, report: Report) -> None:
        """Count a retry within the process; a finished stage clears the failures of its nodes."""
        if report.kind == "retrying":
            self._num_retries[number][report.cause] += 1
        for node in report.nodes:
            self._device_failures.pop(node, None)

    def with_retries(self, task: TrialTask) -> TrialTask:
        """A task for the next process of its trial, with the retries that are used up."""
        return replace(task, retries=dict(self._num_retries[task.number]))

    def note_silence(self, number: int, seconds: float) -> None:
        """Note that the process of this trial is ended after ``seconds`` without a report."""
        self._silent_s[number] = seconds

    def on_process_end(self, number: int, error: BaseException | None) -> Report | None:
        """Count the end of a trial's process; the report of it, or None if no retry is left.

        Args:
            error: the error of the process that Tune has, if it can be read.
        """
        failure = read_hang_report(self._hang_folder, number)
        silent_s = self._silent_s.pop(number, None)
        if failure is None and silent_s is not None:
            failure = Failure(
                "timeout", f"its process gave no sign of life for {silent_s:.0f} s", ""
            )
        if failure is None and error is not None:
            failure = classify(error)
        failure = failure or Failure("lost", "its process was lost", "")
        self._last_failure[number] = failure
        if failure.cause == "device" and failure.node:
            self._count_device(failure.node)
        self._num_lost[number] += 1
        retries = self._num_retries[number][failure.cause]
        self._num_retries[number][failure.cause] += 1
        if not self._failures.policy(failure.cause).allows(retries):
            return None
        return Report("lost", cause=failure.cause, message=failure.message, log=failure.log,
                      remedy="in another process")  # fmt: skip

    def _count_device(self, node: str) -> None:
        self._device_failures[node] += 1
        limit = self._failures.leave_node_after
        if self._device_failures[node] >= limit and node not in self.left_nodes:
            self.left_nodes = (*self.left_nodes, node)

    def final_report(self, number: int) -> Report | None:
        """The report of a trial that failed for good; None if nothing is known about it."""
        failure = self._last_failure.get(number)
        if failure is None:
            return None
        lost = self._num_lost[number]
        message = failure.message + (f" (attempts in this run: {lost})" if lost > 1 else "")
        return Report("failed", cause=failure.cause, message=message, log=failure.log)
