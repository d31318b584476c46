"""The command line of ``benchmarks.control_plane``."""

from __future__ import annotations

import argparse
import cProfile
from pathlib import Path

from benchmarks import control_plane
from benchmarks.control_plane.asking import run_ask
from benchmarks.control_plane.controller import run_controller
from benchmarks.control_plane.dispatch import run_dispatch
from benchmarks.control_plane.drivers import Load
from benchmarks.control_plane.heartbeats import run_heartbeats
from benchmarks.control_plane.scheduler import run_scheduler
from benchmarks.control_plane.tune import run_tune


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.control_plane",
        description=control_plane.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "part", choices=["scheduler", "ask", "dispatch", "tune", "controller", "heartbeats"]
    )
    parser.add_argument("--trials", type=int)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--sampler", choices=["random", "tpe"])
    parser.add_argument("--waiting", type=int, default=1000, help="the workers wait beyond so many")
    parser.add_argument("--mlflow", choices=["none", "sqlite"], default="none")
    parser.add_argument("--prefixes", type=int, default=300)
    parser.add_argument("--profile", type=Path, help="write what cProfile saw to this file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_args()
    profile = cProfile.Profile() if asked.profile else None
    if profile is not None:
        profile.enable()
    if asked.part == "scheduler":
        trials = asked.trials or 10_000
        sampler = asked.sampler or "random"
        run_scheduler(trials, asked.workers, sampler, asked.waiting, asked.mlflow, asked.overrides)
    elif asked.part == "ask":
        run_ask(asked.trials or 10_000, asked.workers)
    elif asked.part == "dispatch":
        run_dispatch(asked.trials or 100_000, asked.workers, asked.prefixes)
    elif asked.part == "heartbeats":
        run_heartbeats((asked.trials,) if asked.trials else (100, 450))
    elif asked.part == "tune":
        run_tune(asked.trials or 150)
    elif asked.part == "controller":
        trials, sampler = asked.trials or 10_000, asked.sampler or "tpe"
        run_controller(
            Load(
                trials, asked.workers, 1.0,
                sampler=sampler, mlflow=asked.mlflow, most_waiting=asked.waiting,
            )
        )  # fmt: skip
    if profile is not None:
        profile.dump_stats(asked.profile)


if __name__ == "__main__":
    main()
