"""MLflow where configurations repeat with several seeds: a run each, nested, with means."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.test_tracking import OpenSweep, all_runs, called, path_of, snapshot, sweep_in
from xlt_ray.config.labels import run_name
from xlt_ray.errors import TrackingError
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView
from xlt_ray.store.stage import Stage
from xlt_ray.tracking import LedgerSnapshot, ModelRegistry, Tracker

VALUES = (0.7, 0.5, 0.9, 0.4)
"""Of four trials: both seeds of two configurations."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def opened(tmp_path: Path) -> OpenSweep:
    return sweep_in(tmp_path / "home", "search.trials=2", "search.seeds=2")


def of_kind(opened: OpenSweep, kind: str) -> list[Any]:
    return [run for run in all_runs(opened) if run.data.tags["xlt.kind"] == kind]


def parents(opened: OpenSweep) -> list[tuple[str, str]]:
    """Every run but the sweep's own, with the one that it is nested below."""
    runs = all_runs(opened)
    names = {run.info.run_id: called(run) for run in runs}
    return [
        (called(run), names[run.data.tags["mlflow.parentRunId"]])
        for run in runs
        if "mlflow.parentRunId" in run.data.tags
    ]


def lived(
    opened: OpenSweep, tracker: Tracker, value: float, path: tuple[Stage, ...] = ()
) -> TrialView:
    """A trial that ran to its end, with MLflow listening."""
    view = opened.ask()
    run_id = opened.show(tracker, view, opened.config(view), path or path_of(view.number))
    opened.ledger.set_run_id(view.number, run_id)
    return opened.finish(tracker, view, value, path=path)


NESTED = [
    ("configuration 000", "tracked"),
    ("configuration 001", "tracked"),
    ("trial 000", "configuration 000"),
    ("trial 001", "configuration 000"),
    ("trial 002", "configuration 001"),
    ("trial 003", "configuration 001"),
]


def test_trials_are_nested_below_their_configuration_which_shows_their_means(
    opened: OpenSweep,
) -> None:
    tracker = opened.begun()
    views = [lived(opened, tracker, value) for value in VALUES]
    assert parents(opened) == NESTED
    first, second = of_kind(opened, "configuration")
    name = run_name(views[0].assignment, opened.sweep.resolved()["space"])
    assert first.info.run_name == name == "toy:4x64 ratio=0.6787"
    names = {run.info.run_name for run in of_kind(opened, "trial")}
    assert {f"{name} seed 0", f"{name} seed 1"} < names
    assert [run.info.status for run in (first, second)] == ["FINISHED", "FINISHED"]
    assigned = {name: str(value) for name, value in views[0].assignment.items()}
    fixed = {"target.task": "toy-nli", "target.source_language": "qaa", "data.source": "toy"}
    assert first.data.params == assigned | fixed
    metrics = second.data.metrics
    assert metrics["objective"] == pytest.approx(0.65)
    assert metrics["sd/objective"] == pytest.approx(statistics.stdev([0.9, 0.4]))
    assert metrics["seeds/complete"] == 2
    assert metrics["test/accuracy/qac"] == pytest.approx(0.65 - 0.2)
    assert metrics["test/accuracy/mean"] == pytest.approx(0.65 - 0.1)
    assert metrics["seconds"] == pytest.approx(5.0)
    assert len(metrics) <= 50
    assert second.data.tags["xlt.trials"] == "2 3"
    assert second.data.tags["xlt.selection"] == "source"


def test_runs_say_that_their_trials_are_translate_train(opened: OpenSweep) -> None:
    settings = {"supervision": {"translate-train": ("qab", "qac")}}
    path = (Stage("evaluate", settings, data={}, seed=0, parent=None, label="evaluate t"),)
    tracker = opened.begun()
    for value in VALUES[:2]:
        lived(opened, tracker, value, path)
    for value in VALUES[2:]:
        lived(opened, tracker, value, (replace(path[0], settings={}),))
    opened.end(tracker)
    expected = {"0": "translate-train (qab, qac)", "1": "zero-shot"}
    for kind in ("trial", "configuration"):
        tags = [run.data.tags for run in of_kind(opened, kind)]
        assert {tag["xlt.configuration"]: tag["xlt.supervision"] for tag in tags} == expected
    (whole,) = of_kind(opened, "sweep")
    best = str(whole.data.tags["xlt.best_configuration"])
    is_named = "translate-train (qab, qac)" in whole.data.tags["mlflow.note.content"]
    assert is_named == (best == "0")


def test_a_configuration_runs_until_its_last_seed_has_ended(opened: OpenSweep) -> None:
    tracker = opened.begun()
    lived(opened, tracker, 0.7)
    (run,) = of_kind(opened, "configuration")
    assert run.info.status == "RUNNING"
    assert run.data.metrics["seeds/complete"] == 1
    assert "sd/objective" not in run.data.metrics
    opened.end(tracker, "KILLED")
    assert of_kind(opened, "configuration")[0].info.status == "KILLED"

    tracker = opened.begun()
    opened.project(tracker)
    assert of_kind(opened, "configuration")[0].info.status == "RUNNING"
    view = opened.ask()
    opened.show(tracker, view)
    opened.ledger.tell_failed(view.number, "nan", "the loss is not a number")
    opened.show(tracker, opened.ledger.trial(view.number))
    (run,) = of_kind(opened, "configuration")
    assert run.info.status == "FAILED"
    assert run.data.tags["xlt.cause"] == "nan"

    opened.ledger.enqueue_failed()
    lived(opened, opened.begun(), 0.5)
    (run,) = of_kind(opened, "configuration")
    assert run.info.status == "FINISHED"
    assert "xlt.cause" not in run.data.tags
    assert run.data.metrics["objective"] == pytest.approx(0.6)
    assert len(of_kind(opened, "trial")) == 2


def test_nothing_is_running_after_the_end_of_a_budget(opened: OpenSweep) -> None:
    tracker = opened.begun()
    lived(opened, tracker, 0.7)
    opened.end(tracker)
    assert {run.info.status for run in all_runs(opened)} == {"FINISHED"}


def test_a_deleted_database_is_rebuilt_with_the_same_configurations(opened: OpenSweep) -> None:
    tracker = opened.begun()
    for value in VALUES:
        lived(opened, tracker, value)
    opened.end(tracker)
    opened.project(is_alive=False)
    moved = replace(opened, home=Home(opened.home.root / "elsewhere"))
    moved.project(is_alive=False)
    assert parents(moved) == NESTED
    times = [[(run.info.start_time, run.info.end_time) for run in of_kind(place, "configuration")]
             for place in (opened, moved)]  # fmt: skip
    assert times[0] == times[1]
    before, after = (
        [(name, status, params, metrics, tags) for name, status, params, metrics, tags, _ in shown
         if name.startswith("configuration")]
        for shown in (snapshot(opened), snapshot(moved))
    )  # fmt: skip
    assert after == before
    moved.project(is_alive=False)
    assert len(all_runs(moved)) == 7, "nothing is doubled"


def test_a_configuration_that_was_made_twice_is_one_after_the_next_start(opened: OpenSweep) -> None:
    # The answer to the first try was lost, and the server took both.
    tracker = opened.begun()
    lived(opened, tracker, 0.7)
    again = {
        "xlt.configuration": "0",
        "mlflow.parentRunId": of_kind(opened, "sweep")[0].info.run_id,
    }
    tracker.experiment.create("configuration", "configuration 000", again, 2_000_000_000_000)
    lived(opened, tracker, 0.5)
    assert len(of_kind(opened, "configuration")) == 2
    opened.project()
    (run,) = of_kind(opened, "configuration")
    assert {trial.data.tags["mlflow.parentRunId"] for trial in of_kind(opened, "trial")} == {
        run.info.run_id
    }
    assert run.data.metrics["seeds/complete"] == 2


def test_a_configuration_deleted_in_the_ui_is_made_again(opened: OpenSweep) -> None:
    tracker = opened.begun()
    lived(opened, tracker, 0.7)
    tracker.experiment.client.delete_run(of_kind(opened, "configuration")[0].info.run_id)
    lived(opened, tracker, 0.5)
    opened.project()
    assert parents(opened) == NESTED[:1] + NESTED[2:4]


def test_one_seed_needs_no_configuration_runs(tmp_path: Path) -> None:
    opened = sweep_in(tmp_path / "home")
    tracker = opened.begun()
    lived(opened, tracker, 0.7)
    opened.end(tracker)
    assert parents(opened) == [("trial 000", "tracked")]


def test_runs_name_their_data(opened: OpenSweep) -> None:
    task = {"task": {"name": "toy-nli", "version": 1}}
    target = Stage("target", task, {"train": "a" * 64}, 0, None, "target")
    path = (target, Stage("evaluate", task, {"test": {"qab": "b" * 64}}, 0, target, "evaluate"))
    tracker = opened.begun()
    for _ in range(2):
        lived(opened, tracker, 0.7, path)
    paths = dict.fromkeys(range(2), path)
    opened.project(plan=opened.plan(paths))
    moved = replace(opened, home=Home(opened.home.root / "elsewhere"))
    moved.project(plan=opened.plan(paths))
    for run in [*all_runs(opened), *all_runs(moved)]:
        if run.data.tags["xlt.kind"] == "sweep":
            continue
        data = {
            (
                input_.dataset.name,
                input_.dataset.digest,
                input_.dataset.source_type,
                input_.tags[0].value,
            )
            for input_ in run.inputs.dataset_inputs
        }
        assert data == {
            ("toy-nli train", "a" * 10, "toy", "training"),
            ("toy-nli test", "b" * 10, "toy", "evaluation"),
        }
        assert len(run.inputs.dataset_inputs) == 2


def test_the_sweeps_note_names_the_best_configuration_and_what_to_do_with_it(
    opened: OpenSweep,
) -> None:
    tracker = opened.begun()
    views = [lived(opened, tracker, value) for value in VALUES]
    opened.end(tracker)
    (run,) = of_kind(opened, "sweep")
    note = run.data.tags["mlflow.note.content"]
    assert run.data.tags["xlt.best_configuration"] == "1"
    assert "Best: **configuration 1**, mean over 2 seeds." in note
    assert "| objective | 0.6500 | 0.3536 |" in note
    assert "| test accuracy, without the source | 0.5000 | 0.3536 |" in note
    assert f"| model | {views[2].assignment['model']} |" in note
    assert "xlt compare tracked/0 tracked/1\nxlt confirm tracked --seeds 6\n" in note
    # Its best seed: the best trial of the sweep is another one's luck where means differ.
    assert "xlt export tracked DIR --trial 2 --register MODEL\n" in note


def test_runs_say_which_commit_they_are_of(
    opened: OpenSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt_ray.tracking.mlflow_fields.commit_of", lambda: "c" * 40 + "+")
    commit = {"mlflow.source.git.commit": "c" * 40, "mlflow.source.git.dirty": "true"}
    lived(opened, opened.begun(), 0.7)
    assert all(commit.items() <= run.data.tags.items() for run in all_runs(opened))
    tracker, view = opened.begun(), opened.ask()
    opened.ledger.set_run_id(view.number, opened.show(tracker, view))
    monkeypatch.setattr("xlt_ray.tracking.mlflow_fields.commit_of", lambda: "d" * 40)
    opened.show(tracker, opened.ledger.trial(view.number))
    run = next(trial for trial in of_kind(opened, "trial") if trial.data.tags["xlt.trial"] == "1")
    assert run.data.tags["mlflow.source.git.commit"] == "d" * 40
    assert run.data.tags["mlflow.source.git.dirty"] == "false"


def test_the_view_is_a_tag_of_the_experiment(opened: OpenSweep) -> None:
    tracker = opened.begun()
    lived(opened, tracker, 0.7)
    tags = tracker.experiment.client.get_experiment(tracker.experiment.id).tags
    view = json.loads(tags["mlflow.sharedViewState.xlt"])
    assert view["searchFilter"] == "tags.`xlt.kind` = 'configuration'"
    assert view["compareRunCharts"][0]["selectedParams"] == ["model", "target.hybrid.ratio"]


def test_a_folder_is_kept_beside_the_runs_and_registered_once(
    opened: OpenSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    with pytest.raises(TrackingError, match="no run of the sweep tracked") as refused:
        ModelRegistry(opened.home, "tracked", None)
    assert refused.value.exit_code == 2
    tracker = opened.begun()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "xlt.json").write_text("{}")
    registry = ModelRegistry(opened.home, "tracked", None)
    upload = registry.keep(tmp_path / "model", "model/trial-000")
    assert (
        upload.place == f"runs:/{tracker.open(LedgerSnapshot.of(opened.ledger)).id}/model/trial-000"
    )
    versions = [
        registry.register("nli", upload, {"xlt.stage.target": key}, "with password=s3cret")
        for key in ("a", "a", "b")
    ]
    assert versions == [1, 1, 2]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", opened.home.tracking_uri)
    got = mlflow.artifacts.download_artifacts("models:/nli/1", dst_path=str(tmp_path / "got"))
    assert (Path(got) / "xlt.json").read_text() == "{}"
    (latest,) = tracker.experiment.client.search_model_versions(
        "name = 'nli' and version_number = 2"
    )
    assert latest.run_id == upload.run_id
    assert "s3cret" not in latest.description
    with pytest.raises(TrackingError, match="name"):
        registry.register("a/b:c", upload, {}, "")
