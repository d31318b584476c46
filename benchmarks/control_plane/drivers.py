"""Trials that only report, through Ray Tune: this project's driver, and ``OptunaSearch``."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import Spent
from benchmarks.control_plane.scenario import (
    NUM_EVALUATIONS,
    QuietReporter,
    make_facts,
    make_sweep,
    scores_of,
    sync_of,
)
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, TrialView, open_ledger
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.runner import _TUNE
from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import Report, TrialTask


@dataclass(frozen=True)
class Load:
    """What a driver is given."""

    trials: int
    slots: int
    """Trials at a time."""
    cpus: float = 1.0
    """Of a trial."""
    folder: Path = Path()
    sampler: str = "tpe"
    """``tpe`` or ``random``."""
    mlflow: str = "none"
    """``none``, or ``sqlite`` for a database of its own beside each driver."""
    max_waiting: int = 10**9
    """No trial ends while more updates than these wait for MLflow."""
    training_s: float = 0.0
    """How long a trial trains and sends heartbeats."""
    interval_s: float = 0.0
    """Seconds between two heartbeats; 0 is as the driver asks for."""
    is_simulated: bool = True
    """Whether actors are simulated, and seconds are those of their own time."""

    @property
    def search(self) -> str:
        return (
            f"search={{trials: {self.trials}, sampler: {self.sampler}, concurrent: {self.slots}}}"
        )


@dataclass
class Marks:
    """When trials ended: on the wall, and in CPU seconds of all threads of this process."""

    simulation_s: Callable[[], float] = lambda: 0.0
    """CPU seconds of this process that are not the driver's."""
    on_end: Callable[[int], None] = lambda _: None
    """Called with the number of ended trials."""
    on_report: Callable[[], None] = lambda: None
    ends: list[Spent] = field(default_factory=list)

    def end(self) -> None:
        self.ends.append(Spent(time.perf_counter(), self.cpu_s()))
        self.on_end(len(self.ends))

    def cpu_s(self) -> float:
        """CPU seconds of the driver."""
        return time.process_time() - self.simulation_s()

    def per_trial(self, first: int, last: int) -> Spent:
        """Mean over the trials between two."""
        total, number = self.ends[last - 1] + -self.ends[first], last - 1 - first
        return Spent(total.wall / number, total.cpu / number)


Driver = Callable[[Load, Marks], None]


def by_scheduler(load: Load, marks: Marks) -> None:
    """This project's driver, with trials that report and do nothing else."""
    from ray import tune

    from xlt_ray.config.retry_policy import Failures
    from xlt_ray.sweep.failures import ProcessFailures
    from xlt_ray.sweep.trainable import INTERVAL, REPORT, REPORT_INTERVAL_S, report_interval
    from xlt_ray.sweep.tune import LiveTrialScheduler, SchedulerSearcher

    class Reporter(tune.Trainable):
        step_s: float | None = None
        """How long the next step takes if actors are simulated."""

        def setup(self, config: dict[str, Any]) -> None:
            self._interval_s = load.interval_s or REPORT_INTERVAL_S
            self._reports = self._all_reports(config["task"].open())

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def set_report_interval(self, seconds: float) -> None:
            self._interval_s = load.interval_s or seconds

        def _all_reports(self, task: TrialTask) -> Iterator[Report]:
            yield Report("begun")
            for stage in stages_to_run(task.path):
                if stage.kind == "target":
                    passed_s = random.uniform(0, self._interval_s)
                    while passed_s < load.training_s:
                        self.step_s = self._interval_s
                        passed_s += self._interval_s
                        yield Report("ticked", stage="target", examples=1, total_examples=9)
                    self.step_s = None
                    for index in range(NUM_EVALUATIONS):
                        yield Report(
                            "evaluated", stage="target", examples=index + 1, total_examples=9,
                            metrics={"accuracy": random.random(), "loss": 1.0},
                        )  # fmt: skip
                folder = Path(task.store) / "stages" / stage.key
                is_reused = (folder / "record.json").exists()
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "record.json").write_text("{}")
                use = StageUse(stage.kind, stage.key, stage.label, is_reused, 1, 1.0)
                yield Report("stage", stage=stage.kind, finished_stage=use)
            yield Report("complete", scores=scores_of(random.random()))

        def step(self) -> dict[str, Any]:
            report = next(self._reports)
            if not load.is_simulated:
                time.sleep(self.step_s or 0.0)
            # With a fixed interval, report the one that the driver would ask for.
            interval_s = report_interval(load.slots) if load.interval_s else self._interval_s
            return {REPORT: report, INTERVAL: interval_s, "done": report.kind == "complete"}

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

        def load_checkpoint(self, checkpoint: Any) -> None: ...

    os.environ.update(_TUNE)
    sweep, facts, home = make_sweep([load.search]), make_facts(), Home(load.folder / "home")
    ledger, store = open_ledger(home, sweep), StageStore(home.stages)
    with sync_of(load.mlflow, sweep, facts, home, ledger, store) as sync:

        class Ends(QuietReporter):
            def reported(self, view: TrialView, report: Report) -> None:
                marks.on_report()

            def finished(self, view: TrialView) -> None:
                while sync.num_dirty > load.max_waiting:
                    time.sleep(0.01)
                marks.end()

        scheduler = TrialScheduler(sweep, facts, home, ledger, store, sync, Ends())
        process_failures = ProcessFailures(Failures(), home.hangs(sweep.name))
        tune.Tuner(
            tune.with_resources(Reporter, {"cpu": load.cpus}),
            tune_config=tune.TuneConfig(
                search_alg=SchedulerSearcher(scheduler, process_failures, lambda: load.slots),
                scheduler=LiveTrialScheduler(scheduler, process_failures),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=str(home.tune), verbose=0),
        ).fit()
        print(f"{sync.num_dirty} updates wait for MLflow at the end", flush=True)
        scheduler.close(is_finished=True)
    assert [trial.state for trial in ledger.trials()] == ["complete"] * load.trials


def by_optuna_search(load: Load, marks: Marks) -> None:
    """Plain Ray Tune: a study in memory, and MLflow's callback.

    Tune's own files (CSV, JSON and TensorBoard of each trial, and snapshots of the experiment) are
    off for both drivers.
    """
    from optuna.samplers import RandomSampler
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

    class Ends(tune.Callback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            marks.end()

    os.environ.update(_TUNE)
    space = {
        "model": tune.choice(["toy:2x64", "toy:4x64"]),
        "size": tune.choice(list(range(50, 501, 50))),
        "rate": tune.choice([1e-5, 2e-5, 3e-5, 5e-5, 1e-4]),
        "target_rate": tune.loguniform(1e-5, 1e-3),
        "ratio": tune.uniform(0.0, 1.0),
        "layer": tune.choice([None, 0, 1, 2, 3]),
    }
    callbacks: list[tune.Callback] = [Ends()]
    if load.mlflow == "sqlite":
        database = f"sqlite:///{load.folder}/peer.db"
        callbacks.insert(0, MLflowLoggerCallback(database, experiment_name="scale"))
    tune.Tuner(
        tune.with_resources(Reporter, {"cpu": load.cpus}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                metric="accuracy",
                mode="max",
                # None is Optuna's TPE.
                sampler=RandomSampler() if load.sampler == "random" else None,
            ),
            num_samples=load.trials,
            max_concurrent_trials=load.slots,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(load.folder / "peer"), verbose=0, callbacks=callbacks
        ),
    ).fit()


DRIVERS: dict[str, Driver] = {"xlt-ray": by_scheduler, "OptunaSearch": by_optuna_search}
