"""Both drivers with Tune's real controller and a thousand actors that are played.

Each is a process of its own, both at the same time, on two cores.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.control_plane.drivers import DRIVERS, Load, Marks
from benchmarks.control_plane.tune import start_ray


@dataclass(frozen=True)
class Tenth:
    """Of the trials of one driver."""

    num_trials: int
    """That had ended."""
    cpu_s: float
    """Of a trial of this tenth, in the mean."""
    memory_mib: float


def run_controller(load: Load) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(DRIVERS), mp_context=context) as pool:
        asked = {driver: pool.submit(_tenths, driver, load) for driver in DRIVERS}
        found = {driver: one.result() for driver, one in asked.items()}
    table = Table("trials", *(f"{driver}, {what}" for driver in found for what in
                              ("cpu ms", "memory MiB")), "cpu ratio")  # fmt: skip
    for ours, peer in zip(*found.values(), strict=True):
        table.add_row(
            f"{ours.num_trials:,}",
            *(text for one in (ours, peer)
              for text in (f"{one.cpu_s * 1e3:.0f}", f"{one.memory_mib:.0f}")),
            f"{peer.cpu_s / ours.cpu_s:.2f}",
        )  # fmt: skip
    Console(width=110).print(table)


def _tenths(driver: str, load: Load) -> list[Tenth]:
    """Run one driver here."""
    import ray

    from benchmarks.control_plane.actors import played

    found: list[Tenth] = []
    start_ray()
    try:
        with tempfile.TemporaryDirectory() as name, played(load.slots) as world:

            def ended(number: int) -> None:
                if number % (load.trials // 10) == 0:
                    cpu_s = marks.per_trial(number - load.trials // 10, number).cpu
                    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                    found.append(Tenth(number, cpu_s, memory))
                    print(driver, found[-1], flush=True)

            marks = Marks(lambda: world.elsewhere.seconds, ended)
            DRIVERS[driver](replace(load, folder=Path(name)), marks)
    finally:
        ray.shutdown()
    return found
