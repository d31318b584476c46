"""Real sweeps that are hit at random moments, continued, and compared with an unbroken one.

    python -m tests.chaos.harness 100 --seed 7

Each round runs the same small sweep in a home of its own, tracked by a real MLflow server; a
blow falls at a moment drawn from the seed, and the same command is given again until the sweep
is at its end. Ledger, MLflow (asked over HTTP) and scores must then be those of the unbroken
sweep: same trials, nothing lost or doubled, nothing left RUNNING.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

import psutil

from tests.sweeps.conftest import SMALL, Place
from tests.sweeps.test_outage import Server

PATIENCE_S = 240
MAX_STARTS = 4
LINE = re.compile(r"trial (\d+) (\w+) (\d+)/\d+ .*loss")
"""An evaluation that was reached; one that is only replayed prints no line."""

Kill = Callable[[subprocess.Popen[str], Server], None]


@dataclass(frozen=True)
class Verdict:
    """What was wrong after one round; all zero is right."""

    lost: int = 0
    """Trials or runs that are not there, or not complete."""
    doubled: int = 0
    """Trials, runs, or trained stages that are there twice."""
    zombies: int = 0
    """Runs that are RUNNING though nobody is at work."""
    wrong: int = 0
    """Trials whose parameters or scores are not those of the unbroken sweep."""
    repeated: int = 0
    """Evaluations that were reached more than once: training that was repeated."""

    @property
    def is_right(self) -> bool:
        return not (self.lost or self.doubled or self.zombies or self.wrong)


def below(driver: subprocess.Popen[str], title: str) -> list[psutil.Process]:
    """Processes that a driver has started and whose command line has ``title``."""
    found = []
    for one in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if title in " ".join(one.cmdline()):
                found.append(one)
    return found


def kill_one_of(*titles: str) -> Kill:
    """SIGKILL to the first process that has one of the titles; to none where there is none."""

    def kill(driver: subprocess.Popen[str], _: Server) -> None:
        for victim in [one for title in titles for one in below(driver, title)][:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()

    return kill


def kill_server(_: subprocess.Popen[str], server: Server) -> None:
    server.kill()
    time.sleep(3)
    server.start()


KINDS: dict[str, Kill] = {
    "driver": lambda driver, _: driver.kill(),
    "trial process": kill_one_of("ray::ResourceTrainable"),
    "one of two workers": kill_one_of("ray::Worker", "ray::ResourceTrainable"),
    "raylet": kill_one_of("raylet/raylet"),
    "MLflow server": kill_server,
    "SIGTERM": lambda driver, _: driver.send_signal(signal.SIGTERM),
}

SWEEP = ("target.epochs=12", "target.evaluations=8", "progress.every=1")
TWO = ("resources.workers=2", "resources.zero_stage=2", "search.concurrent=1", "search.trials=2")


def overrides(kind: str) -> tuple[str, ...]:
    return (*SWEEP, *(TWO if kind == "one of two workers" else ()))


def run_round(
    root: Path, server: Server, kind: str, delay_s: float | None, reference: Place | None
) -> tuple[Place, Verdict]:
    """One sweep, hit ``delay_s`` after its first trial began (None: not at all)."""
    root.mkdir(parents=True)
    place = Place(root)
    name = root.name
    place.sweep.write_text(SMALL.replace("name: small", f"name: {name}"))
    command = ("run", "small.yaml", f"places.tracking={server.uri}", *overrides(kind))
    driver = place.start(*command)
    if delay_s is not None:
        wait_until(lambda: "trial 0 begins" in place.log() or driver.poll() is not None, place)
        time.sleep(delay_s)
        if driver.poll() is None:
            KINDS[kind](driver, server)
    starts = 1
    while driver.wait(PATIENCE_S) != 0:
        assert starts < MAX_STARTS, place.log()
        starts += 1
        driver = place.start(*command)
    return place, verdict_on(place, name, server, reference)


def verdict_on(place: Place, name: str, server: Server, reference: Place | None) -> Verdict:
    trials = place.trials(name)
    expected = trials if reference is None else reference.trials(reference.root.name)
    runs = runs_of(server, name)
    by_trial = Counter(run.data.tags.get("xlt.trial", "sweep") for run in runs)
    told = {run.data.tags.get("xlt.trial"): run.data.metrics.get("objective") for run in runs}
    trained = Counter(
        stage["key"] for one in trials for stage in one["stages"] if not stage["reused"]
    )
    lines = Counter(LINE.findall(place.log()))
    return Verdict(
        lost=sum(one["state"] != "complete" for one in trials)
        + max(len(expected) - len(trials), 0)
        + sum(by_trial[str(one["number"])] == 0 for one in trials),
        doubled=max(len(trials) - len(expected), 0)
        + sum(count - 1 for count in (*by_trial.values(), *trained.values())),
        zombies=sum(run.info.status != "FINISHED" for run in runs),
        wrong=sum(outcome(one) != outcome(two) for one, two in zip(trials, expected, strict=False))
        + sum(told.get(str(one["number"])) != one["objective"] for one in trials),
        repeated=sum(count - 1 for count in lines.values()),
    )


def outcome(trial: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(trial[key] for key in ("number", "seed", "params", "objective", "scores"))


def runs_of(server: Server, name: str) -> list[Any]:
    """All runs of a sweep, over the server's HTTP API."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name(name)
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def wait_until(happened: Callable[[], bool], place: Place) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, place.log()
        time.sleep(0.05)


@contextlib.contextmanager
def mlflow_server(root: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(root, free.getsockname()[1])
    server.start()
    try:
        yield server
    finally:
        server.kill()


def rounds(
    root: Path, kinds: Sequence[str], num_rounds: int, seed: int
) -> Iterator[tuple[str, float, Verdict]]:
    """Kind, moment in seconds after the first trial began, and verdict of each round."""
    random = Random(seed)
    references: dict[tuple[str, ...], tuple[Place, float]] = {}
    with mlflow_server(root) as server:
        for number in range(num_rounds):
            kind = kinds[number % len(kinds)]
            key = overrides(kind)
            if key not in references:
                made, verdict = run_round(
                    root / f"unbroken-{len(references)}", server, kind, None, None
                )
                assert verdict.is_right, verdict
                references[key] = made, seconds_of_work(made.log())
            reference, seconds = references[key]
            delay_s = random.uniform(0, seconds)
            _, verdict = run_round(root / f"round-{number}", server, kind, delay_s, reference)
            yield kind, delay_s, verdict


def seconds_of_work(log: str) -> float:
    """From the first trial's begin to the last one's end, by the clock of the log."""
    times = [
        time.mktime(time.strptime(f"2000 {line[:8]}", "%Y %H:%M:%S"))
        for line in log.splitlines()
        if re.match(r"\d\d:\d\d:\d\d trial", line)
    ]
    return (times[-1] - times[0]) % 86400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found: dict[str, list[Verdict]] = {}
    with tempfile.TemporaryDirectory() as root:
        for kind, delay_s, verdict in rounds(Path(root), tuple(KINDS), asked.rounds, asked.seed):
            found.setdefault(kind, []).append(verdict)
            print(f"{kind} after {delay_s:.1f} s: {verdict}", flush=True)
    names = [field.name for field in fields(Verdict)]
    print(f"\n| kind of blow | rounds | {' | '.join(names)} |")
    print("|---" * (len(names) + 2) + "|")
    for kind, verdicts in found.items():
        sums = (str(sum(getattr(one, name) for one in verdicts)) for name in names)
        print(f"| {kind} | {len(verdicts)} | {' | '.join(sums)} |")


if __name__ == "__main__":
    main()
