"""What a sweep takes, simulated: the scheduler's own rule of dispatch on a cluster, with stages
that take as long as :mod:`xlt_ray.sweep.cost` expects.

Nothing fails, nothing is stopped early and nothing is freed, so that hours and bytes are upper
bounds in these respects. Hours count from the first trial, as those of ``budget.hours``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xlt_ray.sweep.scheduler import StageQueue, next_to_start


class Job(NamedTuple):
    """A trial that is not finished: its missing stages, in the order in which it makes them."""

    stages: tuple[str, ...]
    """Keys; a stage that another trial makes first is not made again."""
    slots: float = 1.0
    """Places that it takes of those of the cluster."""


@dataclass(frozen=True)
class Outcome:
    """One simulated run."""

    finish_s: float
    busy_s: tuple[float, ...]
    """For how long each trial has its place."""
    peak_bytes: float
    """Most that the run adds to the store."""
    made: tuple[str, ...]
    """Keys in the order in which they were finished."""


def simulate(
    jobs: Sequence[Job],
    seconds: Mapping[str, float],
    num_slots: int,
    *,
    learns: bool,
    trial_s: float | Sequence[float] = 0.0,
    result_bytes: Mapping[str, float] = {},
    progress_bytes: Mapping[str, float] = {},
) -> Outcome:
    """Run the jobs on ``num_slots`` places.

    Args:
        seconds: of every stage.
        learns: whether the sampler uses scores, and so looks ahead less.
        trial_s: of a trial before its first stage.
        result_bytes: of every stage, once it is made.
        progress_bytes: of a training while it runs.
    """
    made: dict[str, None] = {}
    missing = [list(reversed(job.stages)) for job in jobs]
    waiting_for: dict[str, list[int]] = {}
    makers: set[str] = set()
    events: list[tuple[float, int, int, str]] = []
    began: dict[int, float] = {}
    busy_s = [0.0] * len(jobs)
    stored = peak = 0.0
    num_events = num_asked = 0

    def next_key(number: int) -> str | None:
        keys = missing[number]
        while keys and keys[-1] in made:
            keys.pop()
        return keys[-1] if keys else None

    queue = StageQueue(next_key)

    def push(at_s: float, number: int, key: str) -> None:
        nonlocal num_events
        heapq.heappush(events, (at_s, num_events, number, key))
        num_events += 1

    def advance(number: int, now_s: float) -> None:
        """Begin the next stage of a running trial, wait for it, or end the trial."""
        key = next_key(number)
        if key is None:
            queue.finish(number)
            busy_s[number] = now_s - began.pop(number)
        elif key in makers:
            waiting_for.setdefault(key, []).append(number)
        else:
            makers.add(key)
            push(now_s + seconds[key], number, key)

    def ask() -> bool:
        nonlocal num_asked
        if num_asked == len(jobs):
            return False
        queue.add(num_asked)
        num_asked += 1
        return True

    def dispatch(now_s: float) -> None:
        """Start trials while there is a place, and one that can start."""
        while sum(jobs[number].slots for number in began) < num_slots:
            num_known = num_asked
            number = next_to_start(queue, ask, learns=learns, num_running=len(began))
            if number is not None:
                queue.start(number)
                began[number] = now_s
                own_s = trial_s if isinstance(trial_s, int | float) else trial_s[number]
                push(now_s + own_s, number, "")
            elif num_asked == num_known:
                return

    now_s = 0.0
    dispatch(now_s)
    while events:
        now_s, _, number, key = heapq.heappop(events)
        if key:
            made[key] = None
            makers.discard(key)
            stored += result_bytes.get(key, 0.0)
            queue.advance(number)
        advance(number, now_s)
        for waiter in waiting_for.pop(key, ()):
            queue.advance(waiter)
            advance(waiter, now_s)
        dispatch(now_s)
        peak = max(peak, stored + sum(progress_bytes.get(key, 0.0) for key in makers))
    return Outcome(now_s, tuple(busy_s), peak, tuple(made))


def critical_path(jobs: Iterable[Job], seconds: Mapping[str, float]) -> tuple[str, ...]:
    """The stages of the trial that takes longest from the beginning to its end: no cluster ends
    the sweep sooner.

    >>> critical_path([Job(("a", "b")), Job(("a", "c", "d"))], {"a": 1, "b": 9, "c": 3, "d": 4})
    ('a', 'b')
    """
    paths = [job.stages for job in jobs]
    return max(paths, key=lambda path: sum(seconds[key] for key in path), default=())


def best_concurrency(
    finish_s: Callable[[int], float], most: int, *, within: float = 0.05
) -> tuple[int, Mapping[int, float]]:
    """The fewest places that end within 5 % of the fastest, and the finish for each number tried:
    powers of two, and ``most``.
    """
    tried = sorted({*(2**power for power in range(most.bit_length())), most} - {0})
    times = {places: finish_s(places) for places in tried if places <= most}
    fastest = min(times.values())
    best = next(places for places, time_s in times.items() if time_s <= (1 + within) * fastest)
    return best, times
