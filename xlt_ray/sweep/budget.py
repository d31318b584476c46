"""What a sweep has spent of its budget, and what still fits into the rest.

A trial spends while it has its GPUs, in every attempt: from the start of its process to its end,
with the loading of libraries, evaluations, saving and waiting for a stage that another trial makes.
A failed trial and the one that retries it both count. The ledger keeps what ended attempts took and
when the running ones began. Its heartbeat bounds the attempts of a driver that was killed.

A trial starts if it can finish inside the budget, beside what runs already (:func:`has_room`). What
it needs follows from the stages that the sweep has made (:class:`Durations`). Trials that take
longer than that end with their progress when the budget is used up (:func:`is_used_up`).
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from xlt_ray.config.sweep import Budget
from xlt_ray.ledger import Ledger, Occupation, TrialView
from xlt_ray.store.stage import Stage
from xlt_ray.sweep.tasks import Planner, Report

HEARTBEAT_S = 60.0
"""Seconds between two heartbeats in the ledger: what a killed driver leaves uncounted."""
UNKNOWN_SHARE = 0.1
"""Share of the budget for which a trial counts whose need is not known."""
LATEST = 20
"""How many of the latest stages of a kind, or trials, an estimate looks at."""
CAUTION = 0.9
"""Share of these that took no longer than the estimate."""


# -- what fits: functions of values -----------------------------------------------------------


@dataclass(frozen=True)
class Spending:
    """Seconds since the first trial, and GPU-seconds of all trials: spent, or the limits of them
    (infinite without a limit)."""

    seconds: float
    gpu_seconds: float


@dataclass(frozen=True)
class Work:
    """A trial that runs or waits."""

    gpus: float
    left_s: float | None
    """Seconds that it still needs; None if that is unknown."""
    taken_s: float = 0.0
    """Seconds for which it has run."""

    def expected_s(self, limit_s: float) -> float:
        """The seconds to plan with.

        An unknown need is a share of the limit, and after that as much again as it has taken.
        """
        if self.left_s is not None:
            return self.left_s
        if math.isinf(limit_s):
            return 0.0
        return max(UNKNOWN_SHARE * limit_s - self.taken_s, self.taken_s)


def limits_of(budget: Budget) -> Spending:
    """What the trials of a sweep may spend, without the share that is kept for ``xlt confirm``."""
    share = 1.0 - budget.confirm_share
    hours, gpu_hours = (
        math.inf if limit is None else 3600 * limit * share
        for limit in (budget.hours, budget.gpu_hours)
    )
    return Spending(hours, gpu_hours)


def is_used_up(limits: Spending, spent: Spending) -> bool:
    """Whether running trials end now, with their progress."""
    return spent.seconds >= limits.seconds or spent.gpu_seconds >= limits.gpu_seconds


def has_room(limits: Spending, spent: Spending, running: Iterable[Work], trial: Work) -> bool:
    """Whether a trial may start: it and all that runs can finish inside the limits.

    >>> limits = Spending(math.inf, 100.0)
    >>> has_room(limits, Spending(0, 50), [Work(1, 20)], Work(1, 30))
    True
    >>> has_room(limits, Spending(0, 50), [Work(1, 20)], Work(2, 30))
    False
    """
    if is_used_up(limits, spent):
        return False

    def gpu_seconds(work: Work) -> float:
        share_s = limits.gpu_seconds / work.gpus if work.gpus else math.inf
        return work.gpus * work.expected_s(share_s)

    needed = math.fsum(map(gpu_seconds, (*running, trial)))
    return (
        spent.seconds + trial.expected_s(limits.seconds) <= limits.seconds
        and spent.gpu_seconds + needed <= limits.gpu_seconds
    )


def seconds_left(
    limits: Spending,
    spent: Spending,
    running: Sequence[Work],
    num_to_start: int,
    trial_s: float | None,
) -> float | None:
    """Seconds until a sweep ends, as it runs now; None if that is unknown.

    Args:
        num_to_start: trials that have not started.
        trial_s: what a trial takes on average; None if that is unknown.

    >>> limits, spent = Spending(math.inf, math.inf), Spending(0, 0)
    >>> seconds_left(limits, spent, [Work(1, 60), Work(1, 20)], num_to_start=4, trial_s=50)
    140.0
    """
    known = [work.left_s for work in running if work.left_s is not None]
    if len(known) < len(running) or (trial_s is None and num_to_start):
        return None
    work_s = math.fsum(known) + num_to_start * (trial_s or 0.0)
    ends = [max([work_s / max(len(running), 1), *known]), limits.seconds - spent.seconds]
    if gpus := math.fsum(work.gpus for work in running):
        ends.append((limits.gpu_seconds - spent.gpu_seconds) / gpus)
    return max(min(ends), 0.0)


class Durations:
    """How long the stages and trials of a sweep took."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, str], deque[float]] = defaultdict(_latest)
        """Model and kind -> seconds an example; of stages that train nothing, seconds."""
        self._besides = _latest()
        """Seconds of trials that were not those of their stages: loading, saving, waiting."""
        self._trials = _latest()

    def note_stage(self, model: str, kind: str, examples: int, seconds: float) -> None:
        if seconds > 0:
            self._stages[model, kind].append(seconds / (examples or 1))

    def note_trial(self, seconds: float, stages_s: float) -> None:
        """A trial has ended after so many seconds, of which its own stages took ``stages_s``."""
        self._trials.append(seconds)
        self._besides.append(max(seconds - stages_s, 0.0))

    @property
    def trial_s(self) -> float | None:
        """Mean seconds of a trial; None before one has ended."""
        return statistics.fmean(self._trials) if self._trials else None

    def left_s(self, model: str, stages: Iterable[tuple[str, int]]) -> float | None:
        """Seconds that a trial needs for stages, by kind and examples; None if one is unknown.

        >>> durations = Durations()
        >>> durations.note_stage("m", "target", 100, 20.0)
        >>> durations.left_s("m", [("target", 50)]), durations.left_s("m", [("evaluate", 0)])
        (10.0, None)
        """
        total = _high(self._besides) if self._besides else 0.0
        for kind, examples in stages:
            known = self._stages.get((model, kind))
            if not known:
                return None
            total += _high(known) * (examples or 1)
        return total


def _latest() -> deque[float]:
    return deque(maxlen=LATEST)


def _high(values: Iterable[float]) -> float:
    """The value that a share of :data:`CAUTION` does not exceed; the largest of a few."""
    ranked = sorted(values)
    return ranked[min(math.ceil(CAUTION * (len(ranked) + 1)), len(ranked)) - 1]


def _shown(hours: float) -> str:
    return f"{hours:.3g}" if hours < 1000 else f"{hours:.0f}"


def shown_duration(seconds: float) -> str:
    """A duration in two units at most.

    >>> [shown_duration(seconds) for seconds in (40, 400, 8000, 200_000)]
    ['40 s', '7 min', '2 h 13 min', '2 d 7 h']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


# -- the budget of the sweep that this process drives -----------------------------------------


@dataclass
class _Need:
    """What a running trial still makes."""

    model: str
    stages: list[tuple[str, str, int]]
    """Kind, key and examples."""


class BudgetTracker:
    """Reads the ledger once; after that the scheduler reports every attempt."""

    def __init__(self, ledger: Ledger, planner: Planner) -> None:
        self.budget = planner.sweep.settings.budget
        self._planner = planner
        self._ledger = ledger
        self._began_s: float | None = None
        self._running: dict[int, Occupation] = {}
        self._needs: dict[int, _Need] = {}
        """Of the running trials, by number."""
        self._durations = Durations()
        # Setting the clock while the sweep runs changes nothing.
        self._epoch_s = time.time() - time.monotonic()
        self._heartbeat_s = 0.0
        views = ledger.trials()
        self._released = math.fsum(map(self._gpu_seconds, views))
        """GPU-seconds of the trials that are not running."""
        for view in views:
            if view.occupied.since is not None and not view.is_finished:
                ledger.set_occupied(view.number, view.occupied.released())
        for view in [view for view in views if view.state == "complete"][-LATEST:]:
            self._note_trial(view)

    def begin(self, number: int, stages: Sequence[Stage], *, since_s: float = 0.0) -> None:
        """An attempt at a trial begins, and has had its GPUs for ``since_s`` seconds.

        Args:
            stages: those that it still makes.
        """
        self.release(number)
        view = self._ledger.trial(number)
        self._released -= view.occupied.gpu_seconds
        self._needs[number] = _Need(
            self._planner.model(view),
            [(stage.kind, stage.key, stage.num_examples) for stage in stages],
        )
        self._running[number] = replace(
            view.occupied,
            gpus=self._planner.num_gpus(view),
            since=self._now_s() - since_s,
            driver=self._ledger.driver,
        )
        self._ledger.set_occupied(number, self._running[number])

    def note_progress(self, number: int, report: Report) -> None:
        """A running trial has made a stage or a part of one."""
        need = self._needs.get(number)
        if need is None:
            return
        left, made = need.stages, report.finished_stage
        if made is not None:
            keys = [key for _, key, _ in left]
            if made.key in keys:
                del left[: keys.index(made.key) + 1]
            if not made.reused:
                self._durations.note_stage(need.model, made.kind, made.examples, made.seconds)
        elif left and report.total_examples and left[0][0] == report.stage:
            left[0] = (*left[0][:2], report.total_examples - report.examples)

    def release(self, number: int) -> None:
        """An attempt ends, and other trials may have its GPUs; does nothing if none is running."""
        self._needs.pop(number, None)
        occupied = self._running.pop(number, None)
        if occupied is not None:
            occupied = occupied.at(self._now_s()).released()
            self._released += occupied.gpu_seconds
            self._ledger.set_occupied(number, occupied)

    def note_complete(self, number: int) -> None:
        """A trial is complete: others may take as long."""
        view = self._ledger.trial(number)
        stages_s = math.fsum(stage.seconds for stage in view.stages if not stage.reused)
        self._durations.note_trial(view.occupied.seconds, stages_s)

    @property
    def is_heartbeat_due(self) -> bool:
        """Whether trials run, and the last heartbeat is ``HEARTBEAT_S`` ago."""
        return bool(self._running) and self._now_s() - self._heartbeat_s >= HEARTBEAT_S

    def record_heartbeat(self, num_to_start: int) -> float | None:
        """Write a heartbeat; returns the seconds until the sweep ends, None if that is unknown."""
        self._heartbeat_s = now = self._now_s()
        left = seconds_left(
            limits_of(self.budget),
            self._spent(),
            self._work(),
            num_to_start,
            self._durations.trial_s,
        )
        self._ledger.record_heartbeat(now, left)
        return left

    @property
    def is_used_up(self) -> bool:
        """Whether no trial may start, and those that run end with their progress."""
        return self._is_limited and is_used_up(limits_of(self.budget), self._spent())

    def has_room(self, number: int, stages: Sequence[Stage]) -> bool:
        """Whether a trial that makes these stages may start."""
        if not self._is_limited:
            return True
        view = self._ledger.trial(number)
        sizes = [(stage.kind, stage.num_examples) for stage in stages]
        left_s = self._durations.left_s(self._planner.model(view), sizes)
        trial = Work(self._planner.num_gpus(view), left_s, view.occupied.seconds)
        return has_room(limits_of(self.budget), self._spent(), self._work(), trial)

    def describe(self) -> str:
        """What is spent of the budget, in words; empty without a budget."""
        spent, budget = self._spent(), self.budget
        parts = [
            f"{_shown(seconds / 3600)} of {_shown(limit)} {unit}"
            for seconds, limit, unit in (
                (spent.gpu_seconds, budget.gpu_hours, "GPU-hours"),
                (spent.seconds, budget.hours, "hours"),
            )
            if limit is not None
        ]
        kept = f", {100 * budget.confirm_share:g} % kept for xlt confirm"
        return ", ".join(parts) + kept * bool(parts and budget.confirm_share)

    @property
    def _is_limited(self) -> bool:
        return self.budget.hours is not None or self.budget.gpu_hours is not None

    def _spent(self) -> Spending:
        now = self._now_s()
        running = math.fsum(occupied.at(now).gpu_seconds for occupied in self._running.values())
        began = self._first_start_s()
        return Spending(0.0 if began is None else time.time() - began, self._released + running)

    def _work(self) -> list[Work]:
        """What runs now."""
        now, works = self._now_s(), []
        for number, occupied in self._running.items():
            need = self._needs[number]
            sizes = [(kind, examples) for kind, _, examples in need.stages]
            left_s = self._durations.left_s(need.model, sizes)
            works.append(Work(occupied.gpus, left_s, occupied.at(now).seconds))
        return works

    def _note_trial(self, view: TrialView) -> None:
        model = self._planner.model(view)
        for stage in view.stages:
            if not stage.reused:
                self._durations.note_stage(model, stage.kind, stage.examples, stage.seconds)
        if view.occupied.seconds:
            self.note_complete(view.number)

    def _gpu_seconds(self, view: TrialView) -> float:
        if view.occupied == Occupation():
            # An old ledger has only the seconds of stages.
            gpus = self._planner.num_gpus(view)
            return gpus * math.fsum(stage.seconds for stage in view.stages)
        return view.occupied.gpu_seconds

    def _now_s(self) -> float:
        return self._epoch_s + time.monotonic()

    def _first_start_s(self) -> float | None:
        """When the first trial was asked (seconds since 1970)."""
        if self._began_s is None:
            # Optuna keeps UTC, and returns it in this process's zone without naming it.
            started = (trial.started for trial in self._ledger.trials())
            self._began_s = min((moment.timestamp() for moment in started if moment), default=None)
        return self._began_s
