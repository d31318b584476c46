"""Both drivers through Ray Tune: with simulated actors, heartbeats alone, and with real Ray."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common import print_table
from benchmarks.control_plane.drivers import DRIVERS, Load, Marks, by_scheduler
from benchmarks.control_plane.simulated_ray import simulated_ray
from xlt_ray.sweep.trainable import REPORT_INTERVAL_S
from xlt_ray.tracking.client import set_environment

SLOTS = 8
"""Trials at a time with real Ray, on two cores."""
TRAINING_S = 900.0
"""In the actors' own time."""
FROM_S, TO_S = 300.0, 800.0
"""The measured part of it, in which all trials train."""
REAL_INTERVAL_S, REAL_SHARE = 0.1, 0.1
"""With real Ray: seconds between two heartbeats of a trial, and the share of the times above."""


@contextmanager
def local_ray() -> Iterator[None]:
    """A quiet Ray of two CPUs on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    set_environment()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             logging_level="ERROR", object_store_memory=100 * 2**20)  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def run_tune(trials: int) -> None:
    """Real Ray, and a few real processes that report."""
    marks_of = {driver: Marks() for driver in DRIVERS}
    with tempfile.TemporaryDirectory() as name, local_ray():
        load = Load(trials, SLOTS, 2 / SLOTS, Path(name), mlflow="sqlite", is_simulated=False)
        for driver, run in DRIVERS.items():
            run(load, marks_of[driver])
    rows, third = [], trials // 3
    for first, last in ((third, 2 * third), (2 * third, trials)):
        spent = {driver: marks.per_trial(first, last) for driver, marks in marks_of.items()}
        rows += [
            (f"{first} to {last}", driver, f"{trial.cpu * 1e3:.0f}", f"{trial.wall * 1e3:.0f}")
            for driver, trial in spent.items()
        ]
        ours, peer = spent.values()
        print(f"{first} to {last}: the peer's CPU / ours {peer.cpu / ours.cpu:.2f}, "
              f"wall {peer.wall / ours.wall:.2f}")  # fmt: skip
    print_table(("trials", "driver", "CPU per trial, ms", "wall per trial, ms"), rows)


@dataclass(frozen=True)
class Tenth:
    """A tenth of the trials of one driver."""

    num_trials: int
    """Ended trials."""
    cpu_s: float
    """Mean of a trial of this tenth."""
    memory_mib: float


def run_controller(load: Load) -> None:
    """Tune's real controller and simulated actors; one process for each driver, both at once."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(DRIVERS), mp_context=context) as pool:
        futures = [pool.submit(_tenths, driver, load) for driver in DRIVERS]
        tenths_of = [future.result() for future in futures]
    head = [f"{driver}, {unit}" for driver in DRIVERS for unit in ("CPU ms", "memory MiB")]
    rows = [
        (
            f"{ours.num_trials:,}", f"{ours.cpu_s * 1e3:.0f}", f"{ours.memory_mib:.0f}",
            f"{peer.cpu_s * 1e3:.0f}", f"{peer.memory_mib:.0f}", f"{peer.cpu_s / ours.cpu_s:.2f}",
        )
        for ours, peer in zip(*tenths_of, strict=True)
    ]  # fmt: skip
    print_table(("trials", *head, "CPU ratio"), rows)


def _tenths(driver: str, load: Load) -> list[Tenth]:
    tenths: list[Tenth] = []
    with local_ray(), tempfile.TemporaryDirectory() as name, simulated_ray(load.slots) as world:

        def on_end(number: int) -> None:
            if number % (load.trials // 10) == 0:
                cpu_s = marks.per_trial(number - load.trials // 10, number).cpu
                memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                tenths.append(Tenth(number, cpu_s, memory_mib))
                print(driver, tenths[-1], flush=True)

        marks = Marks(lambda: world.simulation.seconds, on_end)
        DRIVERS[driver](replace(load, folder=Path(name)), marks)
    return tenths


@dataclass
class Window:
    """The driver's CPU and reports within a part of the actors' time."""

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
    """Every two seconds, as rarely as the driver asks, and with real Ray; a process for each."""
    context = multiprocessing.get_context("spawn")
    cases = [(number, every_s, True) for number in numbers for every_s in (REPORT_INTERVAL_S, 0.0)]
    rows = []
    for number, interval_s, is_simulated in [*cases, (SLOTS, REAL_INTERVAL_S, False)]:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            window = pool.submit(_heartbeats, number, interval_s, is_simulated).result()
        rows.append((
            f"{number}{'' if is_simulated else ', real Ray'}",
            f"every {interval_s:g} s" if interval_s else "as the driver asks",
            f"{window.per_s:.0f}", f"{window.share / window.per_s * 1e3:.2f}",
            f"{window.share:.1%}",
        ))  # fmt: skip
        print(*rows[-1], flush=True)
    print_table(("trials", "heartbeats", "per second", "CPU each, ms", "share of a core"), rows)


def _heartbeats(number: int, interval_s: float, is_simulated: bool) -> Window:
    scale = 1.0 if is_simulated else REAL_SHARE
    window = Window(scale * FROM_S, scale * TO_S)
    with local_ray(), tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        load = Load(
            number, number, 1.0 if is_simulated else 2 / number, Path(name), "random",
            training_s=scale * TRAINING_S, interval_s=interval_s, is_simulated=is_simulated,
        )  # fmt: skip
        began = time.monotonic()
        now_s: Callable[[], float] = lambda: time.monotonic() - began  # noqa: E731
        marks = Marks()
        if is_simulated:
            world = stack.enter_context(simulated_ray(number))
            now_s, marks.simulation_s = lambda: world.now, lambda: world.simulation.seconds
        marks.on_report = lambda: window.on_report(now_s(), marks.cpu_s())
        by_scheduler(load, marks)
    return window
