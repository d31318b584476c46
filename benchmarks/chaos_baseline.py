"""The blows of the chaos harness, dealt to plain Ray Tune with OptunaSearch and MLflow's callback.

    python -m benchmarks.chaos_baseline 21 --seed 7

The peer is what Ray's documentation recommends: a class trainable that saves a checkpoint at every
report, OptunaSearch on a durable storage, MLflowLoggerCallback on a server, two retries for every
trial, and `Tuner.restore(resume_errored=True)` after a death. It counts epochs instead of training,
as long as a trial of the harness takes: only the bookkeeping is compared. Each round is hit as in
`python -m tests.chaos.harness`, continued up to three times, and compared with an unbroken one.
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

from tests.chaos.environment import Grounds, grounds
from tests.chaos.faults import BLOWS, Blow, Scene
from tests.chaos.harness import Verdict, runs_of, table
from tests.sweeps.conftest import Place

NUM_TRIALS = 4
EPOCHS = 12
EPOCH_S = 0.5
MAX_STARTS = 4
PATIENCE_S = 150.0
"""A sweep that has not ended by then waits for ever (an unbroken one takes a fifth of it)."""
OF_OURS = {"workers", "gc", "data", "database", "homes"}
KILLS = tuple(blow for blow in BLOWS if blow.strike and OF_OURS.isdisjoint(blow.name.split()))
"""What a sweep of any program can meet."""


def score(learning_rate: float, epoch: int) -> float:
    """What stands in for an accuracy: it depends on the parameter and on the epochs done."""
    return epoch / EPOCHS - abs(learning_rate - 1e-3)


# -- the peer, in a process of its own ------------------------------------------------


def run_peer(root: Path, uri: str) -> int:
    """Start the peer's sweep in ``root``, or restore it; 0 when all of its trials are complete."""
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
    found = {repr(result.config["learning_rate"]): (result.metrics or {}).get("score")
             for result in results}  # fmt: skip
    (root / "scores.json").write_text(json.dumps(found))
    return int(len(found) < NUM_TRIALS or any(result.error for result in results))


# -- the rounds -----------------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    """One sweep of the peer: its folder, and its process on the grounds."""

    root: Path
    ground: Grounds
    blow: Blow

    def start(self) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        own = {} if self.blow.own_ray else {"RAY_ADDRESS": self.ground.address}
        with (self.root / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks.chaos_baseline", "--peer", str(self.root),
                 "--uri", self.ground.server.uri],
                stdout=log, stderr=log, text=True, start_new_session=True,
                env={**kept, **own, "RAY_worker_niceness": "0"},
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
        found: dict[str, float | None] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def study(self) -> list[Any]:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = JournalStorage(JournalFileBackend(str(self.root / "study.log")))
        return list(optuna.load_study(study_name=self.root.name, storage=storage).trials)


def run_round(root: Path, ground: Grounds, blow: Blow, moment: float | None) -> Verdict:
    """The peer's sweep, hit ``moment`` seconds after its first epoch (None: not at all)."""
    root.mkdir(parents=True)
    peer = Peer(root, ground, blow)
    driver = peer.start()
    deadline = time.monotonic() + PATIENCE_S
    while not peer.epochs() and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    is_struck = False
    if blow.strike is not None and moment is not None:
        time.sleep(moment)
        is_struck = driver.poll() is None and blow.strike(Scene(driver, ground, Place(root), ()))
    starts = 1
    while peer.end(driver) != 0 and starts < MAX_STARTS:
        starts += 1
        driver = peer.start()
    ground.mend()
    return verdict_on(peer, is_struck)


def verdict_on(peer: Peer, is_struck: bool) -> Verdict:
    """What is wrong in results, study and MLflow; parameters are compared within the round, as a
    restored search asks anew."""
    scores, study = peer.scores(), peer.study()
    runs = runs_of(peer.ground, peer.root.name)
    told = {repr(one.params["learning_rate"]): one for one in study if one.params}
    finished = [score for score in scores.values() if score is not None]
    complete = [one for one in study if one.state.name == "COMPLETE"]
    counted = {repr(float(run.data.params["learning_rate"])) for run in runs
               if "learning_rate" in run.data.params}  # fmt: skip
    wrong = 0
    for rate, found in scores.items():
        right = score(float(rate), EPOCHS)
        known = told[rate].value if rate in told else None
        wrong += found is not None and abs(found - right) > 1e-9
        wrong += known is not None and abs(known - right) > 1e-9
    return Verdict(
        struck=int(is_struck),
        lost=max(NUM_TRIALS - len(finished), 0)
        + max(NUM_TRIALS - len(complete), 0)
        + max(NUM_TRIALS - len(counted), 0),
        doubled=max(len(study) - NUM_TRIALS, 0) + max(len(runs) - NUM_TRIALS, 0),
        zombies=sum(one.state.name == "RUNNING" for one in study)
        + sum(run.info.status == "RUNNING" for run in runs),
        wrong=wrong,
        repeated=sum(count - 1 for count in peer.epochs().values()),
    )


def rounds(root: Path, num_rounds: int, seed: int) -> Iterator[tuple[Blow, float, Verdict]]:
    """Blow, seconds after the first epoch, verdict."""
    random = Random(seed)
    with grounds(root) as ground:
        verdict = run_round(root / "unbroken", ground, Blow("none"), None)
        assert verdict == Verdict(), f"an unbroken sweep is not right: {verdict}"
        for number in range(num_rounds):
            blow = KILLS[number % len(KILLS)]
            moment = random.uniform(0, NUM_TRIALS / 2 * EPOCHS * EPOCH_S)
            yield blow, moment, run_round(root / f"round-{number}", ground, blow, moment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("rounds", type=int, nargs="?", default=len(KILLS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--uri", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer:
        raise SystemExit(run_peer(asked.peer, asked.uri))
    with tempfile.TemporaryDirectory() as root:
        table(rounds(Path(root), asked.rounds, asked.seed))


if __name__ == "__main__":
    main()
