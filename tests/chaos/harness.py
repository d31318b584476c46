"""Inject faults into real sweeps, continue the sweeps, and compare them with an unbroken one.

    python -m tests.chaos.harness 100 --seed 7

Each round runs the same small sweep in a home of its own, tracked by a real MLflow server. A fault
is injected at a moment drawn from the seed, and the command is repeated until the sweep has ended.
Ledger, MLflow (over HTTP) and scores must then equal those of the unbroken sweep: same trials,
nothing lost, nothing duplicated, nothing left RUNNING. A round passes only if its fault was
injected and no trial repeated more training than lies between two saves.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.environment import Environment, start_environment, write_files
from tests.chaos.faults import FAULTS, ON_FILES, PATIENCE_S, Fault, RunningSweep, run_gc
from tests.sweeps.conftest import SMALL, Place

MAX_STARTS = 4
LINE = re.compile(r"trial (\d+) (\w+) (\d+)/\d+ .*loss")
"""The line of an evaluation; a replayed evaluation prints none."""

SWEEP = ("target.epochs=12", "target.evaluations=8", "progress.every=0.1")
STEPS = 96
"""Steps of a target stage."""
STAGES = 9
"""Stages that the trials of a sweep make, evaluations included."""
START_S, EVALUATION_S = 10.0, 1.0
"""About the time to start a trial's process, and between two evaluations."""
MOST_REPEATED = 2 * (192 + 32)
"""Examples that may be trained again after a fault: for each of the two running trials, those since
its last save (192 are 0.24 s or more, the time between two looks whether a save is due) and 32 of
interrupted steps."""
TOLERANCE = 0.02
"""Allowed difference of scores after passes were made smaller: a few of 300 examples."""

MUST_BE_ZERO = ("lost", "doubled", "zombies", "wrong", "misnamed", "freed")
"""Counts of a verdict that must be 0."""


@dataclass(frozen=True)
class Verdict:
    """What went wrong in one round, as counts."""

    injected: int = 0
    """Faults that were injected while the sweep ran."""
    lost: int = 0
    """Trials or runs that are missing or not complete."""
    doubled: int = 0
    """Trials, runs or trained stages that exist twice."""
    zombies: int = 0
    """Runs that are RUNNING although the sweep has ended."""
    wrong: int = 0
    """Trials whose parameters or scores differ from the unbroken sweep."""
    misnamed: int = 0
    """Faults reported with another cause, and drivers that ended without the expected line."""
    freed: int = 0
    """Stages and progress of the running sweep that `xlt gc` deleted."""
    repeated: int = 0
    """Examples that were trained again, including those of an interrupted step."""

    @property
    def is_sound(self) -> bool:
        """Whether the result equals that of the unbroken sweep."""
        return not any(getattr(self, name) for name in MUST_BE_ZERO)

    @property
    def has_passed(self) -> bool:
        """Whether the result is sound, the fault was injected, and progress was kept."""
        return self.is_sound and self.injected > 0 and self.repeated <= MOST_REPEATED


def run_round(
    root: Path,
    environment: Environment,
    fault: Fault,
    moment: float | None,
    reference: Place | None,
) -> tuple[Place, Verdict]:
    """Run one sweep and inject ``fault`` after ``moment`` evaluations, or before the step or the
    driver's note of that number (None: inject nothing)."""
    root.mkdir(parents=True)
    variables = {} if fault.own_ray else {"RAY_ADDRESS": environment.address}
    before = environment.num_examples()
    if fault.code and moment is not None:
        environment.arm(round(moment), fault.code)
    if fault.is_at_note and moment is not None:
        environment.arm_note(round(moment))
    place = Place(root, variables)
    name = root.name
    if set(ON_FILES) <= set(fault.overrides):
        write_files(root)
    place.sweep.write_text(SMALL.replace("name: small", f"name: {name}"))
    tracking = () if fault.own_mlflow else (f"places.tracking={environment.server.uri}",)
    command = ("run", "small.yaml", *tracking, *SWEEP, *fault.overrides)
    driver = place.start(*command)
    running = RunningSweep(driver, environment, place, command)
    is_injected = False
    if fault.inject is not None and moment is not None:
        _wait_for(moment, driver, place)
        is_injected = driver.poll() is None and fault.inject(running)
    starts, log_length = 1, 0
    # A sweep may end while its MLflow server is down; it then tells the user to run it again.
    while _end(driver, place) != 0 or "were not updated" in place.log()[log_length:]:
        assert starts < MAX_STARTS, place.log()
        starts, log_length = starts + 1, len(place.log())
        if fault.runs_gc:
            run_gc(running)
        driver = place.start(*(("resume", name, "--failed") if fault.is_final else command))
    for other, other_driver in running.others:
        assert _end(other_driver, other) == 0, other.log()
        # It has its own store and trains what the unbroken sweep trains.
        (other.root / "examples").write_text(str(_examples(reference or place)))
    environment.mend()
    is_injected |= environment.disarm()
    num_other = sum(_examples(other) for other, _ in running.others)
    (root / "examples").write_text(str(environment.num_examples() - before - num_other))
    verdict = verdict_on(place, name, environment, fault, reference, is_injected)
    for other, _ in running.others:
        other_verdict = verdict_on(other, name, environment, fault, reference, is_injected=False)
        verdict = Verdict(
            **{field.name: getattr(verdict, field.name) + getattr(other_verdict, field.name)
               for field in fields(Verdict)}
        )  # fmt: skip
    return place, replace(verdict, freed=len(running.freed))


def _examples(place: Place) -> int:
    return int((place.root / "examples").read_text())


def _end(driver: subprocess.Popen[str], place: Place) -> int:
    try:
        return driver.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        driver.kill()
        raise AssertionError(f"no end after {PATIENCE_S} s:\n{place.log()}") from None


def _wait_for(moment: float, driver: subprocess.Popen[str], place: Place) -> None:
    """Wait until ``int(moment)`` evaluations were printed, then for the fractional part of the time
    to the next one (before the first one: of the start of a process)."""
    deadline = time.monotonic() + PATIENCE_S
    while driver.poll() is None and (
        "trial 0 begins" not in place.log() or len(LINE.findall(place.log())) < int(moment)
    ):
        assert time.monotonic() < deadline, place.log()
        time.sleep(0.02)
    time.sleep((moment % 1) * (START_S if moment < 1 else EVALUATION_S))


def verdict_on(
    place: Place,
    name: str,
    environment: Environment,
    fault: Fault,
    reference: Place | None,
    is_injected: bool,
) -> Verdict:
    everything = place.trials(name)
    retried = {trial["retry_of"] for trial in everything}
    trials = [trial for trial in everything if trial["number"] not in retried]
    expected = trials if reference is None else reference.trials(reference.root.name)
    uri = (
        f"sqlite:///{place.home / 'mlflow' / 'mlflow.db'}"
        if fault.own_mlflow
        else environment.server.uri
    )
    runs = runs_of(place, uri)
    by_id = {run.info.run_id: run for run in runs}
    run_ids = Counter(trial["mlflow_run_id"] for trial in trials)
    trained = Counter(
        stage["key"] for trial in trials for stage in trial["stages"] if not stage["reused"]
    )
    by_params = {_params(trial): trial for trial in trials}
    pairs = [(by_params.get(_params(trial)), trial) for trial in expected]
    return Verdict(
        injected=int(is_injected),
        lost=sum(trial["state"] != "complete" for trial in trials)
        + sum(trial is None for trial, _ in pairs)
        + sum(trial["mlflow_run_id"] not in by_id for trial in trials),
        doubled=max(len(trials) - len(expected), 0)
        + _num_doubled(runs, len(expected))
        + sum(count - 1 for count in (*run_ids.values(), *trained.values())),
        zombies=sum(run.info.status != "FINISHED" for run in runs),
        wrong=sum(
            trial is not None and not _is_equal(trial, twin, 0.0 if fault.is_exact else TOLERANCE)
            for trial, twin in pairs
        )
        + sum(
            trial["mlflow_run_id"] in by_id
            and by_id[trial["mlflow_run_id"]].data.metrics.get("objective") != trial["objective"]
            for trial in trials
        ),
        misnamed=int(is_injected and not _is_named(fault, place.log())),
        repeated=_examples(place) - _examples(reference or place),
    )


def _num_doubled(runs: Sequence[Any], num_trials: int) -> int:
    """Runs beyond one per trial, one per configuration, and one for the sweep."""
    all_tags = [run.data.tags for run in runs]
    num_runs = Counter(tags["xlt.kind"] for tags in all_tags)
    configurations = [
        tags["xlt.configuration"] for tags in all_tags if tags["xlt.kind"] == "configuration"
    ]
    return (
        max(num_runs["trial"] - num_trials, 0)
        + max(num_runs["sweep"] - 1, 0)
        + len(configurations)
        - len(set(configurations))
    )


def _is_named(fault: Fault, log: str) -> bool:
    if fault.last_words:
        return re.search(rf"{fault.last_words}$", log, re.MULTILINE) is not None
    return not fault.cause or re.search(rf"\b{fault.cause}: ", log) is not None


def _params(trial: Mapping[str, Any]) -> tuple[Any, ...]:
    return trial["seed"], *sorted(trial["params"].items())


def _is_equal(first: Mapping[str, Any], second: Mapping[str, Any], tolerance: float) -> bool:
    values = [dict(_leaves({key: trial[key] for key in ("objective", "scores")}))
              for trial in (first, second)]  # fmt: skip
    return values[0].keys() == values[1].keys() and all(
        abs(value - values[1][key]) <= tolerance for key, value in values[0].items()
    )


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}/")
        elif value is not None:
            yield above + key, value


def runs_of(place: Place, uri: str) -> list[Any]:
    """All runs in the experiment of a home's only sweep, over the server's HTTP API."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    identity = (place.home / "identity").read_text().strip()
    experiments = client.search_experiments(filter_string=f"tags.`xlt.ledger` = '{identity}'")
    return list(client.search_runs([experiment.experiment_id for experiment in experiments]))


def rounds(
    root: Path, faults: Sequence[Fault], num_rounds: int, seed: int
) -> Iterator[tuple[Fault, float, Verdict]]:
    """Yield every round: fault, moment (number of evaluations, steps or notes) and verdict."""
    random = Random(seed)
    references: dict[tuple[str, ...], Place] = {}
    with start_environment(root) as environment:
        for number in range(num_rounds):
            fault = faults[number % len(faults)]
            key = tuple(
                override for override in fault.overrides if not override.startswith("failures.")
            )
            if key not in references:
                unbroken = Fault("none", overrides=key)
                place, verdict = run_round(
                    root / f"unbroken-{len(references)}", environment, unbroken, None, None
                )
                assert verdict.is_sound, verdict
                references[key] = place
            reference = references[key]
            num_evaluations = len(LINE.findall(reference.log()))
            last = STAGES if fault.is_at_note else STEPS
            moment = random.uniform(0, num_evaluations) if fault.inject else random.randint(1, last)
            _, verdict = run_round(root / f"round-{number}", environment, fault, moment, reference)
            yield fault, moment, verdict


def print_table(results: Iterator[tuple[Fault, float, Verdict]]) -> None:
    """Print every round as it ends, and a table of all of them."""
    by_fault: dict[str, list[Verdict]] = {}
    began = time.monotonic()
    for fault, moment, verdict in results:
        by_fault.setdefault(fault.name, []).append(verdict)
        event = "note" if fault.is_at_note else "step"
        where = f"at {moment:.1f}" if fault.inject else f"before {event} {moment:.0f}"
        minutes = (time.monotonic() - began) / 60
        print(f"[{minutes:.1f} min] {fault.name} {where}: {verdict}", flush=True)
    names = [field.name for field in fields(Verdict)]
    print(f"\n| fault | rounds | {' | '.join(names)} |")
    print("|---" * (len(names) + 2) + "|")
    for name, verdicts in by_fault.items():
        sums = (str(sum(getattr(verdict, key) for verdict in verdicts)) for key in names)
        print(f"| {name} | {len(verdicts)} | {' | '.join(sums)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="faults whose names contain this")
    arguments = parser.parse_args()
    faults = [fault for fault in FAULTS if arguments.only in fault.name]
    with tempfile.TemporaryDirectory() as root:
        print_table(rounds(Path(root), faults, arguments.rounds, arguments.seed))


if __name__ == "__main__":
    main()
