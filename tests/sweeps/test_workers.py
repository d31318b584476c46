"""Several workers a trial: the same code in lockstep, under ZeRO 2 and 3, and any number of them
goes on from the progress of any other."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.sweeps.conftest import Place
from tests.sweeps.test_faults import logged, wait_for

TWO = ("resources.workers=2", "resources.zero_stage=3")
ONE = ("resources.workers=1", "resources.zero_stage=2")


def weights_of(place: Place, name: str = "small") -> dict[str, torch.Tensor]:
    """Of the only trial's target stage."""
    (trial,) = place.trials(name)
    assert trial["state"] == "complete"
    key = next(stage["key"] for stage in trial["stages"] if stage["kind"] == "target")
    return load_file(place.home / "stages" / key / "model.safetensors")


def losses_of(store: Path, key: str) -> list[float]:
    """Training loss before each evaluation of a stage."""
    record = json.loads((store / "stages" / key / "record.json").read_text())
    return [entry["metrics"]["loss"] for entry in record["history"]]


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [pytest.param(2, marks=pytest.mark.long), 3])
def test_two_workers_train_what_one_worker_trains(
    place: Place, finished: Place, zero_stage: int
) -> None:
    run = place.xlt(
        "run", "small.yaml", "resources.workers=2", f"resources.zero_stage={zero_stage}",
        "target.hybrid.ratio=0.5", "search.trials=1",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    two = weights_of(place)
    (key,) = {trial["key"] for trial in place.trials()[0]["stages"] if trial["kind"] == "target"}
    assert_trained_alike(
        two, load_file(finished.home / "stages" / key / "model.safetensors"), atol=5e-4
    )


@pytest.mark.long
@pytest.mark.parametrize(("before", "after"), [(TWO, ONE), (ONE, TWO)], ids=["2-1", "1-2"])
def test_a_trial_goes_on_with_another_number_of_workers(
    place: Place, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    sweep = ("search.trials=1", "target.epochs=60", "target.evaluations=30")
    driver = place.start("run", "small.yaml", *sweep, *before)
    wait_for(logged(place, r"trial 0 target \d+/7680"), driver, place)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(200) == 1, place.log()
    again = place.xlt("run", "small.yaml", *sweep, *after)
    assert again.returncode == 0, again.stdout + again.stderr
    unbroken = place.xlt(
        "run", "small.yaml", *sweep, *ONE, "name=unbroken", f"places.store={place.root / 'other'}"
    )
    assert unbroken.returncode == 0, unbroken.stdout + unbroken.stderr
    (broken,), (whole,) = place.trials(), place.trials("unbroken")
    examples = [
        {stage["key"]: stage["examples"] for stage in trial["stages"]} for trial in (broken, whole)
    ]
    assert examples[0] == examples[1]
    key = next(stage["key"] for stage in whole["stages"] if stage["kind"] == "target")
    other = place.root / "other"
    losses = losses_of(other, key)
    assert len(losses) == 30
    assert losses_of(place.home, key) == pytest.approx(losses, abs=1e-4)
    assert_trained_alike(
        weights_of(place), load_file(other / "stages" / key / "model.safetensors"), atol=5e-4
    )
