"""Stages shared by whole sweeps: at the same time, and from one size of data to the next."""

from __future__ import annotations

import json

import pytest

from tests.sweeps.conftest import Place


@pytest.mark.slow
def test_two_drivers_on_one_store_train_every_stage_once(place: Place) -> None:
    drivers = [place.start("run", "small.yaml", f"name={name}") for name in ("one", "two")]
    assert [driver.wait(500) for driver in drivers] == [0, 0], place.log()
    trials = [trial for name in ("one", "two") for trial in place.trials(name)]
    assert {trial["state"] for trial in trials} == {"complete"}
    uses = [stage for trial in trials for stage in trial["stages"]]
    trained = [use["key"] for use in uses if not use["reused"]]
    assert len(trained) == len(set(trained)) == len({use["key"] for use in uses})
    for use in uses:
        assert use["made_by"]["sweep"] in ("one", "two")
    assert len(place.runs()) == 8
    assert {run.info.status for run in place.runs()} == {"FINISHED"}


@pytest.mark.long
def test_sizes_of_a_ladder_train_what_the_plan_said(place: Place) -> None:
    ladder = [
        "name=ladder", "target.hybrid.ratio=0", "target.fusion={method: none}",
        "intermediate.size={choice: [64, 256, 128]}", "intermediate.batch_size=8",
        "intermediate.schedule={method: wsd, warmup_examples: 16}",
    ]  # fmt: skip
    planned = json.loads(place.xlt("plan", "small.yaml", *ladder, "--json").stdout)
    assert not place.home.exists(), "planning leaves nothing behind"
    run = place.xlt("run", "small.yaml", *ladder)
    assert run.returncode == 0, run.stdout + run.stderr
    uses = [stage for trial in place.trials("ladder") for stage in trial["stages"]]
    assert sum(use["examples"] for use in uses) == planned["examples_shared"]
    trunks = {use["key"] for use in uses if use["kind"] == "trunk"}
    assert len(trunks) == 3
    left = json.loads(place.xlt("plan", "small.yaml", *ladder, "--json").stdout)
    assert left["examples_left"] == 0


@pytest.mark.long
def test_store_below_its_quota_keeps_scores_and_the_best_weights(place: Place) -> None:
    run = place.xlt("run", "small.yaml", "store.quota=2200kB")
    assert run.returncode == 0, run.stdout + run.stderr
    trials = place.trials()
    assert [trial["state"] for trial in trials] == ["complete"] * 4
    assert all(set(trial["scores"]["toy-paraphrase"]) == {"qaa", "qab"} for trial in trials)
    kept = place.stage_keys()
    targets = {stage["key"] for trial in trials for stage in trial["stages"]
               if stage["kind"] == "target"}  # fmt: skip
    best = max(trials, key=lambda trial: trial["objective"])
    assert next(stage["key"] for stage in best["stages"] if stage["kind"] == "target") in kept
    assert targets - kept, "weights of others were freed"
    stored = sum(file.stat().st_size for top in ("stages", "progress")
                 for file in (place.home / top).rglob("*") if file.is_file())  # fmt: skip
    assert stored <= 2_200_000
    listed = json.loads(place.xlt("gc", "--json").stdout)
    assert listed[0]["used_bytes"] == pytest.approx(stored, rel=0.1)
