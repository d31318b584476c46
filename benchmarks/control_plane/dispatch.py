"""Who is handed out next: the rule alone."""

from __future__ import annotations

import heapq
import random
import statistics
import time
from collections import Counter

from rich.console import Console
from rich.table import Table

from xlt_ray.sweep.scheduler import LOOK_AHEAD, StageQueue


def run_dispatch(trials: int, workers: int, prefixes: int) -> None:
    """The rule alone: every trial needs one of the prefixes, then a stage of its own."""
    draw = random.Random(0)
    prefix_of = [draw.randrange(prefixes) for _ in range(trials)]
    there: set[str] = set()
    look_ahead = LOOK_AHEAD

    def next_key(number: int) -> str | None:
        keys = (f"prefix {prefix_of[number]}", f"own {number}")
        return next((key for key in keys if key not in there), None)

    turns = StageQueue(next_key)
    unasked = Counter(prefix_of)
    events: list[tuple[float, int]] = []
    making: dict[int, str] = {}
    asked, now, num_waits, num_idle = 0, 0.0, 0, 0
    spent: list[float] = []

    def could_run() -> bool:
        """Whether a trial could begin, asked or not."""
        busy = set(making.values())
        return any(next_key(turn) not in busy for turn in turns) or any(
            left and f"prefix {one}" not in busy for one, left in unasked.items()
        )

    def start(number: int) -> None:
        key = next_key(number)
        if key is None:
            turns.finish(number)
            making.pop(number, None)
            return
        making[number] = key
        heapq.heappush(events, (now + draw.uniform(300, 900), number))

    while True:
        while len(making) < workers:
            began = time.thread_time()
            number = turns.peek()
            while number is None and len(turns) < look_ahead and asked < trials:
                unasked[prefix_of[asked]] -= 1
                turns.add(asked)
                asked += 1
                number = turns.peek()
            if number is not None:
                turns.start(number)
            spent.append(time.thread_time() - began)
            if number is None:
                num_waits += 1
                if could_run():
                    assert len(turns) >= look_ahead, "a worker is idle while a trial could run"
                    num_idle += 1
                break
            start(number)
        keys = Counter(making.values())
        assert not keys or max(keys.values()) == 1, "two trainers of a stage"
        if not events:
            break
        now, number = heapq.heappop(events)
        there.add(making.pop(number))
        turns.advance(number)
        start(number)
    assert asked == trials
    assert not len(turns)
    table = Table("decisions", "median, us", "p95, us", "longest, ms")
    step = max(len(spent) // 10, 1)
    for start_at in range(0, len(spent) - step + 1, step):
        part = sorted(spent[start_at : start_at + step])
        table.add_row(
            f"{start_at:,} to {start_at + step:,}",
            f"{statistics.median(part) * 1e6:.1f}",
            f"{part[int(0.95 * len(part))] * 1e6:.1f}",
            f"{part[-1] * 1e3:.1f}",
        )
    Console(width=90).print(table)
    print(
        f"{trials:,} trials, {prefixes} prefixes, {workers:,} workers: no stage had two trainers; "
        f"{num_waits} times a worker found nothing, {num_idle} times of these a trial could have "
        f"begun beyond the {look_ahead:,} that were asked"
    )
