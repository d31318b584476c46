"""What calls take, on the wall and on a core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import TrialTask


@dataclass(frozen=True)
class Spent:
    """Seconds of a clock on the wall, and of this thread on a core."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __neg__(self) -> Spent:
        return Spent(-self.wall, -self.cpu)


class Clocks:
    """What the driver spent, by trial and by the name of a call."""

    def __init__(self) -> None:
        self.by_trial: dict[int, Spent] = {}
        self.calls: dict[str, list[Spent]] = {}

    def trial(self, number: int, call: Callable[[], Any]) -> Any:
        """Call something for a trial."""
        found, spent = timed(call)
        self.by_trial[number] = self.by_trial.get(number, Spent()) + spent
        return found

    def next_task(self, scheduler: TrialScheduler, last: int) -> TrialTask | None:
        """Ask for an order, on account of the trial that gets it, else of the last one heard.

        What it takes to ask a trial is on account of that one, whoever waited for it.
        """
        asks = self.calls["_ask"]
        before = len(asks)
        task: TrialTask | None
        task, spent = timed(scheduler.next_task)
        for number in range(before, len(asks)):
            spent += -asks[number]
            self.by_trial[number] = self.by_trial.get(number, Spent()) + asks[number]
        number = last if task is None else task.number
        self.by_trial[number] = self.by_trial.get(number, Spent()) + spent
        return task

    def watch(self, owner: Any, name: str) -> None:
        """Time every call of a method of one object."""
        inner: Callable[..., Any] = getattr(owner, name)
        calls = self.calls.setdefault(name, [])

        def measured(*arguments: Any) -> Any:
            found, spent = timed(lambda: inner(*arguments))
            calls.append(spent)
            return found

        setattr(owner, name, measured)


def timed(call: Callable[[], Any]) -> tuple[Any, Spent]:
    """What a call gives, and what it took."""
    wall, cpu = time.perf_counter(), time.thread_time()
    found = call()
    return found, Spent(time.perf_counter() - wall, time.thread_time() - cpu)


def median_and_p95(seconds: Sequence[float]) -> tuple[str, str]:
    """Of some seconds, in milliseconds."""
    ordered = sorted(seconds)
    p95 = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
    return f"{statistics.median(ordered) * 1000:.1f}", f"{p95 * 1000:.1f}"
