"""Both drivers with real Ray, and a few real processes that report."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.control_plane.drivers import DRIVERS, Load, Marks
from xlt_ray.tracking.client import set_environment

SLOTS = 8
"""Trials at a time through Ray Tune, on two cores."""


def start_ray() -> None:
    """A Ray of two CPUs on this machine, which says little."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    set_environment()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             logging_level="ERROR", object_store_memory=100 * 2**20)  # fmt: skip


def run_tune(trials: int) -> None:
    import ray

    found: dict[str, Marks] = {}
    with tempfile.TemporaryDirectory() as name:
        start_ray()
        try:
            for driver, run in DRIVERS.items():
                found[driver] = Marks()
                run(
                    Load(trials, SLOTS, 2 / SLOTS, Path(name), mlflow="sqlite", is_played=False),
                    found[driver],
                )
        finally:
            ray.shutdown()
    table = Table("trials", "driver", "cpu per trial, ms", "wall per trial, ms")
    third = trials // 3
    for first, last in ((third, 2 * third), (2 * third, trials)):
        ours, peer = (one.per_trial(first, last) for one in found.values())
        for driver, one in zip(found, (ours, peer), strict=True):
            table.add_row(
                f"{first} to {last}", driver, f"{one.cpu * 1e3:.0f}", f"{one.wall * 1e3:.0f}"
            )
        print(f"{first} to {last}: the peer's cpu / ours {peer.cpu / ours.cpu:.2f}, "
              f"wall {peer.wall / ours.wall:.2f}")  # fmt: skip
    Console(width=100).print(table)
