"""Heartbeats of trials that train: what they cost the driver, at one a trial every two seconds
and as rare as the driver asks for; and what one costs through real Ray."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.control_plane.drivers import Load, Marks, by_scheduler
from benchmarks.control_plane.tune import SLOTS, start_ray
from xlt_ray.sweep.trainable import REPORT_INTERVAL_S

SECONDS = 900.0
"""Of training, in the actors' own time."""
FROM_S, TO_S = 300.0, 800.0
"""What is measured of it: all trials train."""
REAL_S, REAL_SHARE = 0.1, 0.1
"""With real Ray: seconds between two heartbeats of a trial, and of the time above so much."""


@dataclass
class Window:
    """Driver's seconds and reports within a stretch of the actors' time."""

    from_s: float
    to_s: float
    begin_s: float = 0.0
    end_s: float = 0.0
    begin_cpu_s: float = 0.0
    end_cpu_s: float = 0.0
    num_reports: int = 0

    def on_report(self, now_s: float, cpu_s: float) -> None:
        if not self.from_s <= now_s <= self.to_s:
            return
        if not self.num_reports:
            self.begin_s, self.begin_cpu_s = now_s, cpu_s
        self.num_reports += 1
        self.end_s, self.end_cpu_s = now_s, cpu_s

    @property
    def per_s(self) -> float:
        return self.num_reports / (self.end_s - self.begin_s)

    @property
    def share(self) -> float:
        """Of one core."""
        return (self.end_cpu_s - self.begin_cpu_s) / (self.end_s - self.begin_s)


def run_heartbeats(numbers: tuple[int, ...]) -> None:
    """One process for each line, one after the other."""
    context = multiprocessing.get_context("spawn")
    table = Table("trials", "heartbeats", "a second", "CPU each, ms", "share of a core")
    lines = [
        (number, interval_s, True) for number in numbers for interval_s in (REPORT_INTERVAL_S, 0.0)
    ]
    for number, interval_s, is_played in [*lines, (SLOTS, REAL_S, False)]:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found = pool.submit(_measured, number, interval_s, is_played).result()
        table.add_row(
            f"{number}{'' if is_played else ', real Ray'}",
            f"every {interval_s:g} s" if interval_s else "as the driver asks",
            f"{found.per_s:.0f}",
            f"{found.share / found.per_s * 1e3:.2f}",
            f"{found.share:.1%}",
        )
        print(number, interval_s, found, flush=True)
    Console(width=90).print(table)


def _measured(number: int, interval_s: float, is_played: bool) -> Window:
    import ray

    from benchmarks.control_plane.actors import played

    scale = 1.0 if is_played else REAL_SHARE
    found = Window(scale * FROM_S, scale * TO_S)
    start_ray()
    try:
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            load = Load(
                number, number, 1.0 if is_played else 2 / number, Path(name), "random",
                seconds=scale * SECONDS, interval_s=interval_s, is_played=is_played,
            )  # fmt: skip
            if is_played:
                world = stack.enter_context(played(number))
                marks = Marks(
                    lambda: world.elsewhere.seconds,
                    heard=lambda: found.on_report(
                        world.now, time.process_time() - world.elsewhere.seconds
                    ),
                )
            else:
                began = time.monotonic()
                marks = Marks(
                    heard=lambda: found.on_report(time.monotonic() - began, time.process_time())
                )
            by_scheduler(load, marks)
    finally:
        ray.shutdown()
    return found
