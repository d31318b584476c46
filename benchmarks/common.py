"""What several benchmarks use: clocks, tables, ``xlt run``, and a trial in this process."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from xlt_ray.sweep.tasks import TrialTask


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall, and of CPU."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __neg__(self) -> Spent:
        return Spent(-self.wall, -self.cpu)


def timed(
    call: Callable[[], Any], cpu_clock: Callable[[], float] = time.thread_time
) -> tuple[Any, Spent]:
    """The result of a call, and what it took; ``cpu_clock`` counts this thread or all threads."""
    wall, cpu = time.perf_counter(), cpu_clock()
    result = call()
    return result, Spent(time.perf_counter() - wall, cpu_clock() - cpu)


def median_and_p95(values: Iterable[float], scale: float = 1e3) -> tuple[str, str]:
    """Both, by default of seconds in milliseconds."""
    ordered = sorted(values)
    p95 = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
    return f"{statistics.median(ordered) * scale:.1f}", f"{p95 * scale:.1f}"


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


def xlt_run(file: Path, home: Path, *overrides: str) -> int:
    """Run a sweep as its users do; returns the exit code."""
    program = shutil.which("xlt", path=str(Path(sys.executable).parent)) or "xlt"
    command = [program, "run", str(file), *overrides]
    environment = os.environ | {"XLT_HOME": str(home)}
    return subprocess.run(command, check=False, env=environment).returncode


def make_stages(task: TrialTask) -> Iterator[Any]:
    """Make the stages of a trial in this process; yields each as it is committed."""
    from xlt_ray.sweep.workers import open_walk
    from xlt_ray.training.events import Committed

    events, _ = open_walk(task)
    return (event for event in events if isinstance(event, Committed))
