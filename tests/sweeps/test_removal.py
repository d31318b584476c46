"""A real sweep that made nothing and begins anew, and real sweeps that are removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.sweeps.conftest import SMALL, Place
from tests.sweeps.spoiling import write_spoilt

ALWAYS = """
def meet(engine, micro_batches):
    raise KeyError("labels")
"""


@pytest.mark.slow
def test_a_sweep_that_made_nothing_runs_with_other_keys_under_its_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", write_spoilt(place.root / "spoilt", ALWAYS))
        failed = place.xlt("run", "small.yaml", "search.trials=2")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert {trial["state"] for trial in place.trials()} == {"failed"}
    again = place.xlt("run", "small.yaml", "search.trials=2", "target.epochs=1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "small: its earlier start made nothing (2 trials failed)" in again.stdout + again.stderr
    trials = place.trials()
    assert [trial["state"] for trial in trials] == ["complete", "complete"]
    assert sorted(run.info.run_id for run in place.runs()) == sorted(
        trial["mlflow_run_id"] for trial in trials
    )
    refused = place.xlt("run", "small.yaml", "search.trials=2", "target.epochs=2")
    assert refused.returncode == 2
    assert "xlt rm small" in refused.stderr


@pytest.mark.slow
def test_a_removed_sweep_takes_nothing_from_one_that_shares_stages(
    finished: Place, tmp_path: Path
) -> None:
    shutil.copytree(finished.root, tmp_path, dirs_exist_ok=True)
    place = Place(tmp_path)
    place.sweep.write_text(SMALL)
    other = ("run", "small.yaml", "name=other", "search.trials=6",
             "target.hybrid.ratio={choice: [0.0, 0.5, 1.0]}")  # fmt: skip
    ran = place.xlt(*other)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    before = place.trials("other")
    stages = place.stage_keys()
    assert place.xlt("rm", "small", "--yes").returncode == 0
    assert place.trials("other") == before
    assert place.stage_keys() == stages, "other uses all that small made"
    again = place.xlt(*other)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 new stages" in again.stdout
    assert len(place.runs()) == 6
    assert place.xlt("rm", "other", "--yes").returncode == 0
    assert place.stage_keys() == set()
    assert place.runs() == []
    assert place.xlt("status").stdout.startswith("no sweeps")
