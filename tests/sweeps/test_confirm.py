"""A winner that is confirmed: trained anew, on seeds that took no part in choosing it."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import pytest

from tests.sweeps.conftest import Place


@pytest.mark.long
def test_a_winner_is_trained_anew_on_fresh_seeds_and_reported_beside_them(
    finished: Place, tmp_path: Path
) -> None:
    # Others count what is in the home.
    place = Place(shutil.copytree(finished.root, tmp_path / "own"))
    before = place.trials()
    winner = max(before, key=lambda trial: trial["objective"])
    run = place.xlt("confirm", "small", "--seeds", "2")
    assert run.returncode == 0, run.stdout + run.stderr
    fresh = place.trials("small-confirm")
    assert [trial["state"] for trial in fresh] == ["complete", "complete"]
    assert [trial["params"] for trial in fresh] == [winner["params"]] * 2
    seeds = {trial["seed"] for trial in fresh}
    assert len(seeds) == 2
    assert seeds.isdisjoint(trial["seed"] for trial in before)
    # Every fresh seed has a path of its own, its intermediate training included.
    stages = [stage for trial in fresh for stage in trial["stages"]]
    assert not any(stage["reused"] for stage in stages)
    assert len({stage["key"] for stage in stages}) == len(stages) == 6
    mean = statistics.fmean(trial["objective"] for trial in fresh)
    for number in (winner["objective"], mean):
        assert f" {100 * number:.1f} " in run.stdout
    assert "chosen among 4 configurations" in run.stdout

    again = place.xlt("confirm", "small", "--seeds", "2")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 new stages" in again.stdout
    assert len(place.trials("small-confirm")) == 2
