"""Signs of life of trials that train: what they cost the driver, at one a trial every two seconds
and as rare as the driver asks for."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.control_plane.drivers import Load, Marks, by_desk
from benchmarks.control_plane.tune import start_ray

SECONDS = 900.0
"""Of training, in the actors' own time."""
FROM_S, TO_S = 300.0, 800.0
"""What is measured of it: all trials train."""


@dataclass
class Window:
    """Driver's seconds and reports within a stretch of the actors' time."""

    begin_s: float = 0.0
    end_s: float = 0.0
    begin_cpu_s: float = 0.0
    end_cpu_s: float = 0.0
    num_reports: int = 0

    def hear(self, now_s: float, cpu_s: float) -> None:
        if now_s < FROM_S or now_s > TO_S:
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


def run_signs(numbers: tuple[int, ...]) -> None:
    """One process for each line, one after the other."""
    context = multiprocessing.get_context("spawn")
    table = Table("trials", "signs of life", "a second", "CPU each, ms", "share of a core")
    for number in numbers:
        for is_told in (False, True):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found = pool.submit(_measured, number, is_told).result()
            table.add_row(
                str(number),
                "as the driver asks" if is_told else "every 2 s",
                f"{found.per_s:.0f}",
                f"{found.share / found.per_s * 1e3:.1f}",
                f"{found.share:.0%}",
            )
            print(number, is_told, found, flush=True)
    Console(width=90).print(table)


def _measured(number: int, is_told: bool) -> Window:
    import ray

    from benchmarks.control_plane.actors import played

    found = Window()
    start_ray()
    try:
        with tempfile.TemporaryDirectory() as name, played(number) as world:

            def heard() -> None:
                found.hear(world.now, time.process_time() - world.elsewhere.seconds)

            load = Load(number, number, 1.0, Path(name), "random", seconds=SECONDS, is_told=is_told)
            by_desk(load, Marks(lambda: world.elsewhere.seconds, heard=heard))
    finally:
        ray.shutdown()
    return found
