"""What the driver costs per trial, from the first to the ten-thousandth, with a thousand workers.

    python -m benchmarks.control_plane scheduler [--trials N] [--workers N] [--sampler S] [K=V]
    python -m benchmarks.control_plane ask [--trials N] [--workers N]
    python -m benchmarks.control_plane dispatch [--trials N] [--workers N]
    python -m benchmarks.control_plane controller [--trials N] [--workers N] [--sampler S]
    python -m benchmarks.control_plane heartbeats [--trials N]
    python -m benchmarks.control_plane tune [--trials N]

``scheduler`` is the driver with simulated workers, ``ask`` the sampler on growing ledgers,
``dispatch`` the choice of the next trial. The others run trials that only report through Ray Tune:
``controller`` with Tune's real controller and simulated actors, ``heartbeats`` the same with trials
that only train on, ``tune`` with real Ray and MLflow. ``controller`` and ``tune`` compare this
project's driver with ``OptunaSearch``.
"""

from __future__ import annotations

import argparse
import cProfile
from contextlib import nullcontext
from pathlib import Path

from benchmarks.control_plane.decisions import run_ask, run_dispatch
from benchmarks.control_plane.drivers import Load
from benchmarks.control_plane.scheduler import run_scheduler
from benchmarks.control_plane.tune import run_controller, run_heartbeats, run_tune


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.control_plane",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "part", choices=["scheduler", "ask", "dispatch", "tune", "controller", "heartbeats"]
    )
    parser.add_argument("--trials", type=int)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--sampler", choices=["random", "tpe"])
    parser.add_argument(
        "--waiting", type=int, default=1000, help="workers pause while more updates than this wait"
    )
    parser.add_argument("--mlflow", choices=["none", "sqlite"], default="none")
    parser.add_argument("--prefixes", type=int, default=300)
    parser.add_argument("--profile", type=Path, help="write the profile of cProfile to this file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    trials, workers = arguments.trials, arguments.workers
    profile = cProfile.Profile() if arguments.profile else None
    with profile or nullcontext():
        if arguments.part == "scheduler":
            load = Load(
                trials or 10_000, workers, sampler=arguments.sampler or "random",
                mlflow=arguments.mlflow, max_waiting=arguments.waiting,
            )  # fmt: skip
            run_scheduler(load, arguments.overrides)
        elif arguments.part == "ask":
            run_ask(trials or 10_000, workers)
        elif arguments.part == "dispatch":
            run_dispatch(trials or 100_000, workers, arguments.prefixes)
        elif arguments.part == "heartbeats":
            run_heartbeats((trials,) if trials else (100, 450))
        elif arguments.part == "tune":
            run_tune(trials or 150)
        else:
            load = Load(
                trials or 10_000, workers, sampler=arguments.sampler or "tpe",
                mlflow=arguments.mlflow, max_waiting=arguments.waiting,
            )  # fmt: skip
            run_controller(load)
    if profile:
        profile.dump_stats(arguments.profile)


if __name__ == "__main__":
    main()
