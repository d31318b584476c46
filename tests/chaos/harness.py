"""Real sweeps that are hit at random moments, continued, and compared with an unbroken one.

    python -m tests.chaos.harness 100 --seed 7

Each round runs the same small sweep in a home of its own, tracked by a real MLflow server; a
blow falls at a moment drawn from the seed, and the same command is given again until the sweep
is at its end. Ledger, MLflow (asked over HTTP) and scores must then be those of the unbroken
sweep: same trials, nothing lost or doubled, nothing left RUNNING. A round is right only if its blow
hit something, and if no more was trained again than a trial at work trains between two saves.
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

from tests.chaos.environment import Grounds, grounds, write_files
from tests.chaos.faults import BLOWS, ON_FILES, PATIENCE_S, Blow, Scene, free
from tests.sweeps.conftest import SMALL, Place

MAX_STARTS = 4
LINE = re.compile(r"trial (\d+) (\w+) (\d+)/\d+ .*loss")
"""An evaluation that was reached; one that is only replayed prints no line."""

SWEEP = ("target.epochs=12", "target.evaluations=8", "progress.every=1")
STEPS = 96
"""Of a target stage."""
STAGES = 9
"""That the trials of a sweep make, evaluations among them."""
START_S, EVALUATION_S = 10.0, 1.0
"""About what a trial's process takes to start, and what lies between two evaluations."""
MOST_REPEATED = 2 * (192 + 32)
"""Examples that a blow may cost: of each of the two trials at work those since its last save, which
is at every evaluation (192 examples) at the latest, and 32 of steps that were broken off."""
TOLERANCE = 0.02
"""Of scores where passes were made smaller: a few of 300 examples."""

FAULTS = ("lost", "doubled", "zombies", "wrong", "misnamed", "freed")
"""Counts of a verdict that must be 0."""


@dataclass(frozen=True)
class Verdict:
    """What was wrong after one round; the first and the last are counts of what belongs to it."""

    struck: int = 0
    """Blows that fell while there was something to hit."""
    lost: int = 0
    """Trials or runs that are not there, or not complete."""
    doubled: int = 0
    """Trials, runs, or trained stages that are there twice."""
    zombies: int = 0
    """Runs that are RUNNING though nobody is at work."""
    wrong: int = 0
    """Trials whose parameters or scores are not those of the unbroken sweep."""
    misnamed: int = 0
    """Faults that were not given their cause, and drivers that ended without the right line."""
    freed: int = 0
    """Stages and progress that `xlt gc` freed beside the sweep."""
    repeated: int = 0
    """Examples that were trained again, those of a step that was broken off included."""

    @property
    def is_sound(self) -> bool:
        """Whether everything is there, once, and as in the unbroken sweep."""
        return not any(getattr(self, name) for name in FAULTS)

    @property
    def is_right(self) -> bool:
        """Whether besides there was something to hit, and progress was kept."""
        return self.is_sound and self.struck > 0 and self.repeated <= MOST_REPEATED


def run_round(
    root: Path, ground: Grounds, blow: Blow, moment: float | None, reference: Place | None
) -> tuple[Place, Verdict]:
    """One sweep; the blow falls when ``moment`` evaluations were reached, or before the step of
    that number, or before the driver's note of that number (None: not at all)."""
    root.mkdir(parents=True)
    variables = {} if blow.own_ray else {"RAY_ADDRESS": ground.address}
    before = ground.num_examples()
    if blow.fault and moment is not None:
        ground.arm(round(moment), blow.fault)
    if blow.is_at_note and moment is not None:
        ground.arm_note(round(moment))
    place = Place(root, variables)
    name = root.name
    if set(ON_FILES) <= set(blow.overrides):
        write_files(root)
    place.sweep.write_text(SMALL.replace("name: small", f"name: {name}"))
    tracking = () if blow.own_mlflow else (f"places.tracking={ground.server.uri}",)
    command = ("run", "small.yaml", *tracking, *SWEEP, *blow.overrides)
    driver = place.start(*command)
    scene = Scene(driver, ground, place, command)
    is_struck = False
    if blow.strike is not None and moment is not None:
        _wait_for(moment, driver, place)
        is_struck = driver.poll() is None and blow.strike(scene)
    starts, told = 1, 0
    # A sweep may end while its MLflow server is away; it says so, and asks for another run.
    while _end(driver, place) != 0 or "were not sent" in place.log()[told:]:
        assert starts < MAX_STARTS, place.log()
        starts, told = starts + 1, len(place.log())
        if blow.is_freed_after:
            free(scene)
        driver = place.start(*(("resume", name, "--failed") if blow.is_final else command))
    for other, its_driver in scene.beside:
        assert _end(its_driver, other) == 0, other.log()
        # It trains what the unbroken sweep does, in a store of its own.
        (other.root / "examples").write_text(str(_examples(reference or place)))
    ground.mend()
    is_struck |= ground.disarm()
    others = sum(_examples(other) for other, _ in scene.beside)
    (root / "examples").write_text(str(ground.num_examples() - before - others))
    verdict = verdict_on(place, name, ground, blow, reference, is_struck)
    for other, _ in scene.beside:
        beside = verdict_on(other, name, ground, blow, reference, is_struck=False)
        verdict = Verdict(
            **{field.name: getattr(verdict, field.name) + getattr(beside, field.name)
               for field in fields(Verdict)}
        )  # fmt: skip
    return place, replace(verdict, freed=len(scene.freed))


def _examples(place: Place) -> int:
    return int((place.root / "examples").read_text())


def _end(driver: subprocess.Popen[str], place: Place) -> int:
    try:
        return driver.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        driver.kill()
        raise AssertionError(f"no end after {PATIENCE_S} s:\n{place.log()}") from None


def _wait_for(moment: float, driver: subprocess.Popen[str], place: Place) -> None:
    """Until so many evaluations were reached and a part of the way to the next one is gone; the
    way to the first one begins with the first trial and takes a process's start."""
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
    ground: Grounds,
    blow: Blow,
    reference: Place | None,
    is_struck: bool,
) -> Verdict:
    everything = place.trials(name)
    retried = {one["retry_of"] for one in everything}
    trials = [one for one in everything if one["number"] not in retried]
    expected = trials if reference is None else reference.trials(reference.root.name)
    uri = (
        f"sqlite:///{place.home / 'mlflow' / 'mlflow.db'}" if blow.own_mlflow else ground.server.uri
    )
    runs = runs_of(place, uri)
    by_id = {run.info.run_id: run for run in runs}
    own = Counter(trial["mlflow_run_id"] for trial in trials)
    trained = Counter(
        stage["key"] for trial in trials for stage in trial["stages"] if not stage["reused"]
    )
    by_params = {_params(trial): trial for trial in trials}
    pairs = [(by_params.get(_params(one)), one) for one in expected]
    return Verdict(
        struck=int(is_struck),
        lost=sum(trial["state"] != "complete" for trial in trials)
        + sum(found is None for found, _ in pairs)
        + sum(trial["mlflow_run_id"] not in by_id for trial in trials),
        doubled=max(len(trials) - len(expected), 0)
        + _num_doubled(runs, len(expected))
        + sum(count - 1 for count in (*own.values(), *trained.values())),
        zombies=sum(run.info.status != "FINISHED" for run in runs),
        wrong=sum(
            found is not None and not _is_equal(found, one, 0.0 if blow.is_exact else TOLERANCE)
            for found, one in pairs
        )
        + sum(
            trial["mlflow_run_id"] in by_id
            and by_id[trial["mlflow_run_id"]].data.metrics.get("objective") != trial["objective"]
            for trial in trials
        ),
        misnamed=int(is_struck and not _is_named(blow, place.log())),
        repeated=_examples(place) - _examples(reference or place),
    )


def _num_doubled(runs: Sequence[Any], num_trials: int) -> int:
    """Runs beyond one a trial, one a configuration that has one, and the sweep's own."""
    tags = [run.data.tags for run in runs]
    num_runs = Counter(tag["xlt.kind"] for tag in tags)
    configurations = [
        tag["xlt.configuration"] for tag in tags if tag["xlt.kind"] == "configuration"
    ]
    return (
        max(num_runs["trial"] - num_trials, 0)
        + max(num_runs["sweep"] - 1, 0)
        + len(configurations)
        - len(set(configurations))
    )


def _is_named(blow: Blow, log: str) -> bool:
    if blow.last_words:
        return re.search(rf"{blow.last_words}$", log, re.MULTILINE) is not None
    return not blow.cause or re.search(rf"\b{blow.cause}: ", log) is not None


def _params(trial: Mapping[str, Any]) -> tuple[Any, ...]:
    return trial["seed"], *sorted(trial["params"].items())


def _is_equal(one: Mapping[str, Any], two: Mapping[str, Any], tolerance: float) -> bool:
    values = [dict(_leaves({key: trial[key] for key in ("objective", "scores")}))
              for trial in (one, two)]  # fmt: skip
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
    """All runs in the experiment of the one sweep of a home, over the server's HTTP API."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    identity = (place.home / "identity").read_text().strip()
    own = client.search_experiments(filter_string=f"tags.`xlt.ledger` = '{identity}'")
    return list(client.search_runs([one.experiment_id for one in own])) if own else []


def rounds(
    root: Path, blows: Sequence[Blow], num_rounds: int, seed: int
) -> Iterator[tuple[Blow, float, Verdict]]:
    """Blow, its moment (evaluations that were reached, or a step), and the verdict."""
    random = Random(seed)
    references: dict[tuple[str, ...], Place] = {}
    with grounds(root) as ground:
        for number in range(num_rounds):
            blow = blows[number % len(blows)]
            key = tuple(
                override for override in blow.overrides if not override.startswith("failures.")
            )
            if key not in references:
                unbroken = Blow("none", overrides=key)
                made, verdict = run_round(
                    root / f"unbroken-{len(references)}", ground, unbroken, None, None
                )
                assert verdict.is_sound, verdict
                references[key] = made
            reference = references[key]
            whole = len(LINE.findall(reference.log()))
            last = STAGES if blow.is_at_note else STEPS
            moment = random.uniform(0, whole) if blow.strike else random.randint(1, last)
            _, verdict = run_round(root / f"round-{number}", ground, blow, moment, reference)
            yield blow, moment, verdict


def table(played: Iterator[tuple[Blow, float, Verdict]]) -> None:
    """Print every round as it ends, and a table of all of them."""
    found: dict[str, list[Verdict]] = {}
    began = time.monotonic()
    for blow, moment, verdict in played:
        found.setdefault(blow.name, []).append(verdict)
        which = "note" if blow.is_at_note else "step"
        where = f"at {moment:.1f}" if blow.strike else f"before {which} {moment:.0f}"
        minutes = (time.monotonic() - began) / 60
        print(f"[{minutes:.1f} min] {blow.name} {where}: {verdict}", flush=True)
    names = [field.name for field in fields(Verdict)]
    print(f"\n| blow | rounds | {' | '.join(names)} |")
    print("|---" * (len(names) + 2) + "|")
    for name, verdicts in found.items():
        sums = (str(sum(getattr(verdict, key) for verdict in verdicts)) for key in names)
        print(f"| {name} | {len(verdicts)} | {' | '.join(sums)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="blows whose names hold this")
    asked = parser.parse_args()
    blows = [blow for blow in BLOWS if asked.only in blow.name]
    with tempfile.TemporaryDirectory() as root:
        table(rounds(Path(root), blows, asked.rounds, asked.seed))


if __name__ == "__main__":
    main()
