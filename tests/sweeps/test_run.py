"""A sweep that runs to its end, and what is left when it does."""

from __future__ import annotations

import filecmp
import re
from pathlib import Path

from tests.sweeps.conftest import SMALL, Place


def test_every_trial_ends_complete_with_scores_in_every_language(finished: Place) -> None:
    trials = finished.trials()
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert {trial["state"] for trial in trials} == {"complete"}
    points = {(trial["params"]["target.fusion.layer"], trial["params"]["target.hybrid.ratio"])
              for trial in trials}  # fmt: skip
    assert points == {(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5)}, "a grid tries every point once"
    for trial in trials:
        assert set(trial["scores"]["toy-paraphrase"]) == {"qaa", "qab"}
        assert trial["objective"] == trial["dev_scores"]["toy-paraphrase"]["qaa"]["accuracy"]
        assert trial["attempts"] == 1


def test_shared_intermediate_stage_is_trained_by_one_trial_alone(finished: Place) -> None:
    uses = [stage for trial in finished.trials() for stage in trial["stages"]]
    intermediate = [use for use in uses if use["kind"] == "intermediate"]
    assert len({stage["key"] for stage in intermediate}) == 1
    assert [stage["reused"] for stage in intermediate].count(False) == 1
    trained = [use["key"] for use in uses if not use["reused"]]
    assert len(trained) == len(set(trained)), "no stage is trained twice"


def test_every_trial_has_one_finished_mlflow_run_below_the_sweep(finished: Place) -> None:
    runs = finished.runs()
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.run_id for run in runs} == {
        trial["mlflow_run_id"] for trial in finished.trials()
    }
    for run in runs:
        assert run.data.params["target.fusion.layer"] in ("0", "1")
        assert any(name.startswith("test/accuracy/") for name in run.data.metrics)


def test_second_run_trains_nothing_and_says_so(finished: Place) -> None:
    before = finished.stage_keys()
    again = finished.xlt("run", "small.yaml")
    assert again.returncode == 0, again.stderr
    assert "0 new stages" in again.stdout
    assert "0 examples" in again.stdout
    assert finished.stage_keys() == before
    assert len(finished.trials()) == 4
    assert len(finished.runs()) == 4


def test_trial_alone_has_the_bits_of_the_trial_in_the_sweep(
    finished: Place, tmp_path: Path
) -> None:
    trial = finished.trials()[-1]
    alone = Place(tmp_path)
    alone.sweep.write_text(SMALL)
    params = [f"{path}={value}" for path, value in trial["params"].items()]
    made = alone.xlt("stage", "small.yaml", *params)
    assert made.returncode == 0, made.stderr
    key = next(stage["key"] for stage in trial["stages"] if stage["kind"] == "target")
    for name in ("model.safetensors", "network.safetensors"):
        assert filecmp.cmp(
            finished.home / "stages" / key / name, alone.home / "stages" / key / name, shallow=False
        )


def test_overlapping_sweep_trains_only_what_is_new(finished: Place) -> None:
    run = finished.xlt(
        "run", "small.yaml", "name=wider", "target.hybrid.ratio={choice: [0.0, 0.5, 1.0]}",
        "search.trials=6",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    trained = [
        stage["kind"]
        for trial in finished.trials("wider")
        for stage in trial["stages"]
        if not stage["reused"]
    ]
    assert sorted(trained) == ["evaluate", "evaluate", "target", "target"]


def test_report_is_written_from_what_the_sweep_left(finished: Place) -> None:
    made = finished.xlt("report", "small")
    assert made.returncode == 0, made.stderr
    page = finished.home / "reports" / "small" / "index.html"
    assert str(page) in made.stdout
    content = page.read_text()
    assert "qab" in content
    assert not re.findall(r"""(?:src|href|url\(|@import)[=\s"']*https?:""", content), "no network"


def test_changed_space_under_the_same_name_is_refused_with_the_way_out(finished: Place) -> None:
    refused = finished.xlt("run", "small.yaml", "target.epochs=5")
    assert refused.returncode == 2
    assert "target.epochs: 2 -> 5" in refused.stderr
    assert "rename this one" in refused.stderr
