"""Trials that only report, through Ray Tune: this project's driver beside ``OptunaSearch``."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.control_plane.clocks import Spent
from benchmarks.control_plane.scenario import (
    NUM_EVALUATIONS,
    Silent,
    scores_of,
    the_facts,
    the_sweep,
)
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView, open_ledger
from xlt_ray.stages.path import made
from xlt_ray.stages.store import StageStore
from xlt_ray.sweep.desk import Desk
from xlt_ray.sweep.order import Order, Report, StageReport
from xlt_ray.sweep.runner import _TUNE
from xlt_ray.sweep.telling import courier_for
from xlt_ray.tracking.connection import settle_environment

SLOTS = 8
"""Trials at a time through Ray Tune, on two cores."""


class Marks(Silent):
    """When trials ended: by the clock, and in the seconds of all threads of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[Spent] = []

    def finished(self, view: TrialView) -> None:
        self.end()

    def end(self) -> None:
        self.ends.append(Spent(time.perf_counter(), time.process_time()))

    def per_trial(self, first: int, last: int) -> Spent:
        """Of the trials between two, in the mean."""
        begin, end = self.ends[first], self.ends[last - 1]
        number = last - 1 - first
        return Spent((end.wall - begin.wall) / number, (end.cpu - begin.cpu) / number)


def by_desk(trials: int, folder: Path) -> Marks:
    """This project's driver, with trials that report and do nothing else."""
    from ray import tune

    from xlt_ray.spec.failures import Failures
    from xlt_ray.sweep.losses import Losses
    from xlt_ray.sweep.searcher import DeskScheduler, DeskSearcher
    from xlt_ray.sweep.trainable import REPORT

    class Reporter(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._reports = self._all(config["order"])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def _all(self, order: Order) -> Iterator[dict[str, Any]]:
            yield {REPORT: Report("begun")}
            for stage in made(order.path):
                if stage.kind == "target":
                    for index in range(NUM_EVALUATIONS):
                        yield {REPORT: Report(
                            "evaluated", stage="target", examples=index + 1, total_examples=9,
                            metrics={"accuracy": random.random(), "loss": 1.0},
                        )}  # fmt: skip
                folder = Path(order.store) / "stages" / stage.key
                is_reused = (folder / "record.json").exists()
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "record.json").write_text("{}")
                told = StageReport(stage.kind, stage.key, stage.label, is_reused, 1, 1.0)
                yield {REPORT: Report("stage", stage=stage.kind, finished_stage=told)}
            yield {REPORT: Report("complete", scores=scores_of(random.random())), "done": True}

        def step(self) -> dict[str, Any]:
            return next(self._reports)

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

        def load_checkpoint(self, checkpoint: Any) -> None: ...

    search = f"search={{trials: {trials}, sampler: tpe, concurrent: {SLOTS}}}"
    sweep, facts, home = the_sweep([search]), the_facts(), Home(folder / "home")
    ledger, store, marks = open_ledger(home, sweep), StageStore(home.stages), Marks()
    with courier_for(sweep, facts, home, ledger, store) as courier:
        desk = Desk(sweep, facts, home, ledger, store, courier, marks)
        losses = Losses(Failures(), home.hangs(sweep.name))
        tune.Tuner(
            tune.with_resources(Reporter, {"cpu": 2 / SLOTS}),
            tune_config=tune.TuneConfig(
                search_alg=DeskSearcher(desk, losses, lambda: SLOTS),
                scheduler=DeskScheduler(desk, losses),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=str(home.tune), verbose=0),
        ).fit()
        print(f"{courier.num_waiting} letters wait for MLflow at the end", flush=True)
        desk.leave(is_finished=True)
    return marks


def by_optuna_search(trials: int, folder: Path) -> Marks:
    """Ray Tune as its users have it: a study in memory, and MLflow's callback."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    class Reporter(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._left = NUM_EVALUATIONS + 5

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self._left -= 1
            return {"accuracy": random.random(), "loss": 1.0, "done": not self._left}

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

        def load_checkpoint(self, checkpoint: Any) -> None: ...

    marks = Marks()

    class Ends(tune.Callback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            marks.end()

    space = {
        "model": tune.choice(["toy:2x64", "toy:4x64"]),
        "size": tune.choice(list(range(50, 501, 50))),
        "rate": tune.choice([1e-5, 2e-5, 3e-5, 5e-5, 1e-4]),
        "target_rate": tune.loguniform(1e-5, 1e-3),
        "ratio": tune.uniform(0.0, 1.0),
        "layer": tune.choice([None, 0, 1, 2, 3]),
    }
    tracking = MLflowLoggerCallback(f"sqlite:///{folder}/peer.db", experiment_name="scale")
    tune.Tuner(
        tune.with_resources(Reporter, {"cpu": 2 / SLOTS}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric="accuracy", mode="max"),
            num_samples=trials,
            max_concurrent_trials=SLOTS,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "peer"), verbose=0, callbacks=[tracking, Ends()]
        ),
    ).fit()
    return marks


def run_tune(trials: int) -> None:
    os.environ.update(_TUNE, RAY_USAGE_STATS_ENABLED="0")
    import ray

    table = Table("trials", "driver", "cpu per trial, ms", "wall per trial, ms")
    found: dict[str, Marks] = {}
    with tempfile.TemporaryDirectory() as name:
        settle_environment()
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
                 logging_level="ERROR", object_store_memory=100 * 2**20)  # fmt: skip
        try:
            found["xlt-ray"] = by_desk(trials, Path(name))
            found["OptunaSearch, MLflowLoggerCallback"] = by_optuna_search(trials, Path(name))
        finally:
            ray.shutdown()
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
