"""The two decisions of the driver alone: the next configuration, and the trial that starts next."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from functools import partial

from benchmarks.common import median_and_p95, print_table, timed
from benchmarks.control_plane.scenario import make_facts, make_sweep
from xlt_ray.ledger import Ledger, rehearsal
from xlt_ray.sweep.scheduler import LOOK_AHEAD, StageQueue


def run_ask(trials: int, workers: int) -> None:
    """Time of an ask in memory, by the number of ended trials, while ``workers`` run."""
    facts, rows = make_facts(), []
    for size in [size for size in (100, 1000, 2000, 5000, 10_000, 20_000) if size <= trials]:
        row = [f"{size:,}"]
        for sampler in ("random", "tpe"):
            sweep = make_sweep([f"search={{trials: {10 * trials}, sampler: {sampler}}}"])
            ask = partial(_filled(size, min(workers, size)).ask, sweep, facts.model_bounds)
            spent = [timed(ask)[1] for _ in range(10)]
            row += median_and_p95(each.cpu for each in spent)
        rows.append(row)
    print_table(("trials", "random, ms", "p95", "tpe, ms", "p95"), rows)


def _filled(num_complete: int, num_running: int) -> Ledger:
    """A ledger in memory."""
    facts = make_facts()
    sweep = make_sweep([f"search={{trials: {num_complete + num_running}, sampler: random}}"])
    ledger, draw = rehearsal(sweep), random.Random(0)
    for number in range(num_complete + num_running):
        ledger.ask(sweep, facts.model_bounds)
        if number < num_complete:
            ledger.tell_complete(number, draw.random())
    return ledger


def run_dispatch(trials: int, workers: int, prefixes: int) -> None:
    """The queue alone: every trial needs one of the prefixes, then a stage of its own."""
    draw = random.Random(0)
    prefix_of = [draw.randrange(prefixes) for _ in range(trials)]
    made: set[str] = set()

    def next_key(number: int) -> str | None:
        keys = (f"prefix {prefix_of[number]}", f"own {number}")
        return next((key for key in keys if key not in made), None)

    queue = StageQueue(next_key)
    unasked = Counter(prefix_of)
    events: list[tuple[float, int]] = []
    making: dict[int, str] = {}
    num_asked, now, num_waits, num_idle = 0, 0.0, 0, 0
    spent: list[float] = []

    def could_run() -> bool:
        """Whether a trial could begin, asked or not."""
        busy = set(making.values())
        return any(next_key(number) not in busy for number in queue) or any(
            num_left and f"prefix {prefix}" not in busy for prefix, num_left in unasked.items()
        )

    def start(number: int) -> None:
        key = next_key(number)
        if key is None:
            queue.finish(number)
            making.pop(number, None)
            return
        making[number] = key
        heapq.heappush(events, (now + draw.uniform(300, 900), number))

    while True:
        while len(making) < workers:
            began = time.thread_time()
            number = queue.peek()
            while number is None and len(queue) < LOOK_AHEAD and num_asked < trials:
                unasked[prefix_of[num_asked]] -= 1
                queue.add(num_asked)
                num_asked += 1
                number = queue.peek()
            if number is not None:
                queue.start(number)
            spent.append(time.thread_time() - began)
            if number is None:
                num_waits += 1
                if could_run():
                    assert len(queue) >= LOOK_AHEAD, "a worker is idle while a trial could run"
                    num_idle += 1
                break
            start(number)
        keys = Counter(making.values())
        assert not keys or max(keys.values()) == 1, "two trials make one stage"
        if not events:
            break
        now, number = heapq.heappop(events)
        made.add(making.pop(number))
        queue.advance(number)
        start(number)
    assert num_asked == trials
    assert not len(queue)
    step = max(len(spent) // 10, 1)
    parts = [(begin, spent[begin : begin + step]) for begin in range(0, len(spent), step)]
    print_table(
        ("decisions", "median, us", "p95, us", "longest, ms"),
        [
            (f"{begin:,} to {begin + step:,}", *median_and_p95(part, 1e6), f"{max(part) * 1e3:.1f}")
            for begin, part in parts
            if len(part) == step
        ],
    )
    print(
        f"{trials:,} trials, {prefixes} prefixes, {workers:,} workers: no two trials made one "
        f"stage; {num_waits} times a worker found no trial, {num_idle} times of these a trial "
        f"could have begun beyond the {LOOK_AHEAD:,} that were asked"
    )
