"""The faults of the chaos harness, injected into plain Ray Tune with OptunaSearch and MLflow.

    python -m benchmarks.chaos_baseline 21 --seed 7

The peer is what Ray's documentation recommends: a class trainable that saves a checkpoint at every
report, OptunaSearch on a durable storage, MLflowLoggerCallback on a server, two retries for every
trial, and `Tuner.restore(resume_errored=True)` after a death. It counts epochs for as long as a
trial of the harness trains, because only the bookkeeping is compared. Each round injects a fault
as `python -m tests.chaos.harness` does, restores the sweep up to three times, and compares it with
an unbroken one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.environment import Environment, start_environment
from tests.chaos.faults import FAULTS, Fault, RunningSweep
from tests.chaos.harness import Verdict, print_table
from tests.sweeps.conftest import Place

NUM_TRIALS = 4
EPOCHS = 12
EPOCH_S = 0.5
MAX_STARTS = 4
PATIENCE_S = 150.0
"""A sweep that takes longer hangs (an unbroken one takes a fifth of it)."""
OURS_ONLY = {"workers", "gc", "data", "database", "homes"}
KILLS = tuple(
    fault for fault in FAULTS if fault.inject and OURS_ONLY.isdisjoint(fault.name.split())
)
"""Faults that can happen to a sweep of any program."""


def score(learning_rate: float, epoch: int) -> float:
    """Stands in for an accuracy: a function of the parameter and of the epochs done."""
    return epoch / EPOCHS - abs(learning_rate - 1e-3)


def run_peer(root: Path, uri: str) -> int:
    """Start or restore the peer's sweep in ``root``; 0 when all of its trials are complete."""
    import optuna
    import ray
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    class Counting(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.rate, self.epoch = config["learning_rate"], 0

        def step(self) -> dict[str, Any]:
            time.sleep(EPOCH_S)
            self.epoch += 1
            print(f"{self.trial_id} {self.epoch}", flush=True)
            with (root / "epochs.txt").open("a") as file:
                file.write(f"{self.rate!r} {self.epoch}\n")
            return {"score": score(self.rate, self.epoch), "done": self.epoch == EPOCHS}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            (Path(checkpoint_dir) / "epoch.json").write_text(json.dumps(self.epoch))

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            self.epoch = json.loads((Path(checkpoint_dir) / "epoch.json").read_text())

    where = {} if os.environ.get("RAY_ADDRESS") else {"address": "local", "num_cpus": 2}
    ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=None, **where)
    trainable = tune.with_resources(Counting, {"cpu": 1})
    folder = root / "results" / root.name
    if tune.Tuner.can_restore(str(folder)):
        tuner = tune.Tuner.restore(str(folder), trainable, resume_errored=True)
    else:
        storage = JournalStorage(JournalFileBackend(str(root / "study.log")))
        sampler = optuna.samplers.TPESampler(seed=0)
        search = OptunaSearch(metric="score", mode="max", sampler=sampler, study_name=root.name,
                              storage=storage)  # fmt: skip
        tuner = tune.Tuner(
            trainable,
            param_space={"learning_rate": tune.loguniform(1e-5, 1e-1)},
            tune_config=tune.TuneConfig(search_alg=search, num_samples=NUM_TRIALS),
            run_config=tune.RunConfig(
                name=root.name,
                storage_path=str(root / "results"),
                failure_config=tune.FailureConfig(max_failures=2),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
                callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name=root.name)],
                verbose=0,
            ),
        )
    print("sweep begins", flush=True)
    results = tuner.fit()
    scores = {repr(result.config["learning_rate"]): (result.metrics or {}).get("score")
             for result in results}  # fmt: skip
    (root / "scores.json").write_text(json.dumps(scores))
    return int(len(scores) < NUM_TRIALS or any(result.error for result in results))


@dataclass(frozen=True)
class Peer:
    """One sweep of the peer: its folder and its process in the environment."""

    root: Path
    environment: Environment
    fault: Fault

    def start(self) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        address = {} if self.fault.own_ray else {"RAY_ADDRESS": self.environment.address}
        with (self.root / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks.chaos_baseline", "--peer", str(self.root),
                 "--uri", self.environment.server.uri],
                stdout=log, stderr=log, text=True, start_new_session=True,
                env={**kept, **address, "RAY_worker_niceness": "0"},
            )  # fmt: skip

    def end(self, driver: subprocess.Popen[str]) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return driver.wait(PATIENCE_S)
        driver.kill()
        return driver.wait()

    def epochs(self) -> Counter[str]:
        """How often each epoch of each trial was counted."""
        file = self.root / "epochs.txt"
        return Counter(file.read_text().splitlines() if file.exists() else ())

    def scores(self) -> Mapping[str, float | None]:
        file = self.root / "scores.json"
        scores: dict[str, float | None] = json.loads(file.read_text()) if file.exists() else {}
        return scores

    def study(self) -> list[Any]:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = JournalStorage(JournalFileBackend(str(self.root / "study.log")))
        return list(optuna.load_study(study_name=self.root.name, storage=storage).trials)

    def runs(self) -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.environment.server.uri)
        experiment = client.get_experiment_by_name(self.root.name)
        return list(client.search_runs([experiment.experiment_id])) if experiment else []


def run_round(root: Path, environment: Environment, fault: Fault, moment: float | None) -> Verdict:
    """Run the peer's sweep; inject ``fault`` ``moment`` seconds after its first epoch, if given."""
    root.mkdir(parents=True)
    peer = Peer(root, environment, fault)
    driver = peer.start()
    deadline = time.monotonic() + PATIENCE_S
    while not peer.epochs() and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    is_injected = False
    if fault.inject is not None and moment is not None:
        time.sleep(moment)
        is_injected = driver.poll() is None and fault.inject(
            RunningSweep(driver, environment, Place(root), ())
        )
    starts = 1
    while peer.end(driver) != 0 and starts < MAX_STARTS:
        starts += 1
        driver = peer.start()
    environment.mend()
    return verdict_on(peer, is_injected)


def verdict_on(peer: Peer, is_injected: bool) -> Verdict:
    """Compare results, study and MLflow. Parameters are compared within the round, because a
    restored search draws new ones."""
    scores, study = peer.scores(), peer.study()
    runs = peer.runs()
    by_rate = {repr(trial.params["learning_rate"]): trial for trial in study if trial.params}
    finished = [score for score in scores.values() if score is not None]
    complete = [trial for trial in study if trial.state.name == "COMPLETE"]
    counted = {repr(float(run.data.params["learning_rate"])) for run in runs
               if "learning_rate" in run.data.params}  # fmt: skip
    wrong = 0
    for rate, reported in scores.items():
        expected = score(float(rate), EPOCHS)
        in_study = by_rate[rate].value if rate in by_rate else None
        wrong += reported is not None and abs(reported - expected) > 1e-9
        wrong += in_study is not None and abs(in_study - expected) > 1e-9
    return Verdict(
        injected=int(is_injected),
        lost=max(NUM_TRIALS - len(finished), 0)
        + max(NUM_TRIALS - len(complete), 0)
        + max(NUM_TRIALS - len(counted), 0),
        doubled=max(len(study) - NUM_TRIALS, 0) + max(len(runs) - NUM_TRIALS, 0),
        zombies=sum(trial.state.name == "RUNNING" for trial in study)
        + sum(run.info.status == "RUNNING" for run in runs),
        wrong=wrong,
        repeated=sum(count - 1 for count in peer.epochs().values()),
    )


def rounds(root: Path, num_rounds: int, seed: int) -> Iterator[tuple[Fault, float, Verdict]]:
    """Yield fault, seconds after the first epoch, and verdict."""
    random = Random(seed)
    with start_environment(root) as environment:
        verdict = run_round(root / "unbroken", environment, Fault("none"), None)
        assert verdict == Verdict(), f"the unbroken sweep has errors: {verdict}"
        for number in range(num_rounds):
            fault = KILLS[number % len(KILLS)]
            moment = random.uniform(0, NUM_TRIALS / 2 * EPOCHS * EPOCH_S)
            yield fault, moment, run_round(root / f"round-{number}", environment, fault, moment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("rounds", type=int, nargs="?", default=len(KILLS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--uri", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        raise SystemExit(run_peer(arguments.peer, arguments.uri))
    with tempfile.TemporaryDirectory() as root:
        print_table(rounds(Path(root), arguments.rounds, arguments.seed))


if __name__ == "__main__":
    main()
