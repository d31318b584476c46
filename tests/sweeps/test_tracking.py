"""MLflow as a projection: a real MLflow on SQLite, a real Optuna ledger, a real store."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.sample_results import commit
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, Standing, TrialView, open_ledger
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.tracking import (
    LedgerSnapshot,
    Point,
    Tracker,
    TrialSnapshot,
    point_names,
    ui_page,
)
from xlt_ray.tracking.client import TrackedRun
from xlt_ray.tracking.mlflow_fields import Going
from xlt_ray.tracking.runs import Plan

if TYPE_CHECKING:
    from mlflow import MlflowClient

SWEEP = """
name: tracked
data: {source: toy}
model: {choice: ["toy:2x64", "toy:4x64"]}
target:
  task: toy-nli
  source_language: qaa
  hybrid: {ratio: {float: [0.0, 1.0]}}
objective: {metric: accuracy}
search: {sampler: random, trials: 6, seed: 3}
places: {ledger: null}
"""
LANGUAGES = ("qaa", "qab", "qac")


@dataclass(frozen=True)
class OpenSweep:
    """A sweep in a home of its own, with everything that a driver would have at hand."""

    home: Home
    sweep: SweepSpec
    ledger: Ledger
    store: StageStore

    uri: str | None = None
    """Where its runs are, if not in the home."""

    @property
    def client(self) -> MlflowClient:
        return client_of(self.uri or self.home.tracking_uri)

    def tracker(self) -> Tracker:
        return Tracker(self.home, self.sweep.name, self.uri, self.ledger.identity)

    def begun(self) -> Tracker:
        tracker = self.tracker()
        tracker.begin(LedgerSnapshot.of(self.ledger), self.sweep.resolved())
        return tracker

    def project(
        self, tracker: Tracker | None = None, plan: Plan | None = None, *, is_alive: bool = True
    ) -> dict[int, str]:
        """Bring MLflow to ledger and store, as the next driver does."""
        tracker, ledger = tracker or self.tracker(), LedgerSnapshot.of(self.ledger)
        run_ids = tracker.project(ledger, self.store, plan or self.plan())
        if not is_alive:
            tracker.end(ledger, "FINISHED" if ledger.is_finished else "KILLED")
        return run_ids

    def end(self, tracker: Tracker, going: Going = "FINISHED") -> None:
        tracker.end(LedgerSnapshot.of(self.ledger), going)

    def show(
        self,
        tracker: Tracker,
        view: TrialView,
        config: Mapping[str, Any] | None = None,
        path: tuple[Stage, ...] = (),
        standing: Standing | None = None,
    ) -> str:
        """Show a trial as its driver does; the id of its run."""
        how = standing or cast(Standing, view.state)
        run = tracker.find_or_make(view)
        trial = TrialSnapshot(view, how, config or {}, path, is_begun_here=True)
        tracker.show(run, trial, self.store)
        return run.id

    def start(self, tracker: Tracker) -> tuple[TrialView, str]:
        """A trial that has begun, and the id of its run."""
        view = self.ask()
        return view, self.show(tracker, view, self.config(view))

    def finish(
        self,
        tracker: Tracker,
        view: TrialView,
        value: float,
        languages: tuple[str, ...] = LANGUAGES,
        path: tuple[Stage, ...] = (),
    ) -> TrialView:
        """Complete a trial that has begun."""
        self.walk(view.number, scores_of(value, languages))
        self.ledger.tell_complete(view.number, value)
        view = self.ledger.trial(view.number)
        self.show(tracker, view, self.config(view), path)
        return view

    def ask(self) -> TrialView:
        asked_trial = self.ledger.ask(self.sweep, lambda _: {"num_layers": 2, "hidden_size": 64})
        assert asked_trial is not None
        self.ledger.begin_attempt(asked_trial.number)
        return self.ledger.trial(asked_trial.number)

    def config(self, view: TrialView) -> dict[str, Any]:
        return self.sweep.trial_of(dict(view.assignment)).model_dump(mode="json")

    def plan(self, paths: Mapping[int, tuple[Stage, ...]] | None = None) -> Plan:
        return lambda view: (self.config(view), (paths or {}).get(view.number, ()))

    def walk(self, number: int, scores: tuple[Score, ...]) -> None:
        """Commit the stages of a trial, with its scores, and note them in the ledger."""
        target, evaluate = path_of(number)
        commit(self.store, target, (), HISTORY)
        commit(self.store, evaluate, scores)
        self.ledger.set_stages(
            number,
            [
                StageUse("target", target.key, target.label, reused=False, examples=100, seconds=2),
                StageUse("evaluate", evaluate.key, evaluate.label, reused=False, seconds=0.5),
            ],
        )

    def complete(self, value: float = 0.7) -> TrialView:
        """A trial that ran to its end without MLflow knowing of it."""
        view = self.ask()
        self.ledger.report(view.number, 50, value - 0.1)
        self.ledger.report(view.number, 100, value)
        self.walk(view.number, scores_of(value))
        self.ledger.tell_complete(view.number, value)
        return self.ledger.trial(view.number)


def sweep_in(root: Path, *overrides: str, uri: str | None = None) -> OpenSweep:
    """A sweep that has not begun."""
    home = Home(root)
    sweep = sweep_of(parse_document(SWEEP, "tracked.yaml", overrides))
    return OpenSweep(home, sweep, open_ledger(home, sweep), StageStore(home.stages), uri)


def client_of(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs_of(uri: str) -> list[Any]:
    """All runs of an MLflow, by kind and number."""
    client = client_of(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    return sorted(runs, key=called)


def called(run: Any) -> str:
    """A run by its kind and number, that of a sweep by its name."""
    kind = run.data.tags["xlt.kind"]
    if kind == "sweep":
        return str(run.info.run_name)
    return f"{kind} {int(run.data.tags[f'xlt.{kind}']):03d}"


def log(tracker: Tracker, run_id: str, examples: int, metrics: Mapping[str, float]) -> None:
    run = tracker.experiment.find(run_id)
    assert run is not None
    run.log([Point(name, examples, value) for name, value in metrics.items()])


HISTORY: tuple[dict[str, Any], ...] = tuple(
    {"step": step, "examples": examples, "metrics": {"loss": 2 - value, "accuracy": value, "f1": 0}}
    for step, examples, value in ((5, 50, 0.6), (10, 100, 0.7))
)
"""Of the target stage of a trial that ends with 0.7."""


def target_of(number: int) -> Stage:
    return Stage("target", {"of": number}, {}, 0, None, "target toy-nli 100", 100)


def path_of(number: int) -> tuple[Stage, Stage]:
    target = target_of(number)
    return target, Stage("evaluate", {"languages": LANGUAGES}, {}, 0, target, "evaluate toy-nli")


def scores_of(value: float, languages: tuple[str, ...] = LANGUAGES) -> tuple[Score, ...]:
    test = tuple(
        Score("toy-nli", language, "test", "accuracy", value - 0.1 * place, 400)
        for place, language in enumerate(languages)
    )
    return (Score("toy-nli", "qaa", "dev", "accuracy", value, 300), *test)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def opened(tmp_path: Path) -> OpenSweep:
    # A home with a space and a letter outside ASCII, as people have them.
    return sweep_in(tmp_path / "my höme")


def runs(opened: OpenSweep) -> list[Any]:
    """The runs of all trials, as MLflow has them."""
    return [run for run in all_runs(opened) if run.data.tags["xlt.kind"] == "trial"]


def all_runs(opened: OpenSweep) -> list[Any]:
    return runs_of(opened.home.tracking_uri)


def points(opened: OpenSweep, run_id: str, name: str) -> list[tuple[int, float]]:
    curve = opened.client.get_metric_history(run_id, name)
    return sorted((point.step, point.value) for point in curve)


def artifact(opened: OpenSweep, run_id: str, name: str) -> Any:
    text = Path(opened.client.download_artifacts(run_id, name)).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


def snapshot(opened: OpenSweep) -> list[Any]:
    """Everything that MLflow shows of the sweep, but for ids and times of logging."""
    return [
        (
            run.info.run_name,
            run.info.status,
            run.data.params,
            run.data.metrics,
            {
                name: value
                for name, value in run.data.tags.items()
                if name not in ("mlflow.parentRunId", "mlflow.artifactLocation")
            },
            {name: points(opened, run.info.run_id, name) for name in run.data.metrics},
        )
        for run in all_runs(opened)
    ]


def test_trial_is_a_nested_run_with_its_parameters_and_scores(opened: OpenSweep) -> None:
    tracker = opened.begun()
    view, run_id = opened.start(tracker)
    opened.ledger.set_run_id(view.number, run_id)
    log(tracker, run_id, 50, {"dev/accuracy": 0.6, "train/loss": 1.5})
    assert runs(opened)[0].info.status == "RUNNING"
    opened.ledger.report(view.number, 50, 0.6)
    opened.finish(tracker, view, 0.8)
    opened.end(tracker)

    parent, run = all_runs(opened)
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (parent.info.status, run.info.status) == ("FINISHED", "FINISHED")
    assert run.info.run_id == run_id
    assert {"model", "target.hybrid.ratio", "target.task"} <= set(run.data.params)
    assert run.data.params["model"] == view.assignment["model"]
    assert run.data.tags["xlt.stage.target"] == opened.ledger.trial(view.number).stages[0].key
    assert run.data.tags["xlt.attempt"] == "1"
    assert run.data.metrics["objective"] == 0.8
    assert run.data.metrics["seconds"] == 2.5
    assert run.data.metrics["test/accuracy/qac"] == pytest.approx(0.6)
    assert run.data.metrics["test/accuracy/mean"] == pytest.approx(0.7)
    assert run.data.metrics["test/accuracy/mean_without_source"] == pytest.approx(0.65)
    assert points(opened, run_id, "dev/accuracy") == [(50, 0.6), (100, 0.7)]
    assert artifact(opened, run_id, "config.json")["target"]["source_language"] == "qaa"
    table = artifact(opened, run_id, "scores.json")
    assert len(table["data"]) == 4
    assert ["toy-nli", "qaa", "dev", "accuracy", 0.8, 300] in [row[:6] for row in table["data"]]
    assert "trial 0" in parent.data.tags["mlflow.note.content"]
    assert artifact(opened, parent.info.run_id, "sweep.json")["name"] == "tracked"


def test_a_run_is_complete_whatever_signs_its_languages_have(opened: OpenSweep) -> None:
    """MLflow refuses + and @ in names, and with one of them the whole batch."""
    languages = ("qaa", "sr@latin", "sr+Latn", "zh-Hans", "pt_BR")
    tracker = opened.begun()
    view, run_id = opened.start(tracker)
    log(tracker, run_id, 50, {"dev/masked_accuracy/sr@latin": 0.5})
    opened.finish(tracker, view, 0.9, languages)
    (run,) = runs(opened)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["objective"] == 0.9
    assert run.data.metrics["test/accuracy/sr_latin"] == pytest.approx(0.8)
    assert run.data.metrics["test/accuracy/zh-Hans"] == pytest.approx(0.6)
    assert points(opened, run_id, "dev/masked_accuracy/sr_latin") == [(50, 0.5)]
    table = artifact(opened, run_id, "scores.json")
    assert {row[1] for row in table["data"]} >= {"sr@latin", "sr+Latn"}


def test_a_run_is_closed_even_where_mlflow_refuses_a_metric_of_it(
    opened: OpenSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = opened.begun()
    view, _ = opened.start(tracker)
    monkeypatch.setattr("xlt_ray.tracking.client.legal_name", lambda name: f"{name}+")
    with pytest.raises(TrackingError):
        opened.finish(tracker, view, 0.8)
    (run,) = runs(opened)
    assert run.info.status == "FINISHED"


def test_score_table_opens_as_an_mlflow_table(
    opened: OpenSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = opened.complete(0.7)
    tracker = opened.tracker()
    run_ids = opened.project(tracker)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", opened.home.tracking_uri)
    table = opened.client.load_table(
        tracker.experiment.id, "scores.json", run_ids=[run_ids[view.number]]
    )
    assert list(table["language"]) == ["qaa", "qaa", "qab", "qac"]


def test_run_made_before_a_crash_is_found_by_its_tags(opened: OpenSweep) -> None:
    view = opened.ask()
    first = opened.show(opened.begun(), view)
    # The driver dies here: the ledger does not know the run.
    again = opened.show(opened.begun(), opened.ledger.trial(view.number))
    assert again == first
    assert len(all_runs(opened)) == 2


def test_resumed_trial_does_not_log_a_point_twice(opened: OpenSweep) -> None:
    view = opened.ask()
    tracker = opened.begun()
    run_id = opened.show(tracker, view)
    log(tracker, run_id, 50, {"dev/accuracy": 0.6})
    opened.show(tracker, view, standing="interrupted")
    assert runs(opened)[0].info.status == "KILLED"

    tracker = opened.begun()
    assert opened.show(tracker, view) == run_id
    assert runs(opened)[0].info.status == "RUNNING"
    for step in (50, 100):
        log(tracker, run_id, step, {"dev/accuracy": 0.6 + step / 1000})
    assert points(opened, run_id, "dev/accuracy") == [(50, 0.6), (100, 0.7)]


def test_failed_trial_resumes_into_the_same_run(opened: OpenSweep) -> None:
    tracker = opened.begun()
    view, run_id = opened.start(tracker)
    opened.ledger.set_run_id(view.number, run_id)
    opened.ledger.tell_failed(view.number, "memory", "the device is full", "line 1\nline 2")
    opened.show(tracker, opened.ledger.trial(view.number))
    failed = runs(opened)[0]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["xlt.cause"] == "memory"
    assert artifact(opened, run_id, "log.txt") == "line 1\nline 2"

    assert opened.ledger.enqueue_failed() == [view.number]
    retry = opened.ask()
    assert retry.retry_of == view.number
    assert opened.show(opened.begun(), retry, opened.config(retry)) == run_id
    again = runs(opened)
    assert [run.info.status for run in again] == ["RUNNING"]
    assert "xlt.cause" not in again[0].data.tags
    opened.walk(retry.number, scores_of(0.5))
    opened.ledger.tell_complete(retry.number, 0.5)
    run_ids = opened.project()
    assert run_ids[view.number] == run_ids[retry.number] == run_id
    assert [run.info.status for run in runs(opened)] == ["FINISHED"]


def test_deleted_database_is_rebuilt_as_it_was(opened: OpenSweep) -> None:
    tracker = opened.begun()
    opened.complete(0.7)
    lost = opened.ask()
    opened.show(tracker, lost, opened.config(lost))
    opened.ledger.tell_failed(lost.number, "nan", "the loss is not a number")
    pruned = opened.ask()
    opened.ledger.report(pruned.number, 50, 0.2)
    opened.ledger.tell_pruned(pruned.number)
    run_ids = opened.project(tracker)
    opened.project(is_alive=False)
    before = snapshot(opened)
    assert opened.project(is_alive=False) == run_ids
    assert snapshot(opened) == before, "nothing is doubled"
    assert [row[1] for row in before] == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    assert [row[4].get("xlt.state") for row in before[1:]] == ["complete", "failed", "pruned"]

    moved = replace(opened, home=Home(opened.home.root / "elsewhere"))
    moved.project(is_alive=False)
    sweep, *trials = snapshot(moved)
    assert trials == before[1:]
    assert sweep[3] == before[0][3]


def test_sweep_lasts_from_its_first_trial_to_its_last(opened: OpenSweep) -> None:
    tracker = opened.begun()
    opened.complete(0.7)
    opened.project()
    assert all_runs(opened)[0].info.status == "RUNNING", "its driver is at work"
    opened.end(tracker)
    run = all_runs(opened)[0]
    assert run.info.status == "FINISHED"
    ended = opened.ledger.trial(0).ended
    assert ended is not None
    assert run.info.end_time == int(ended.timestamp() * 1000)


def test_projection_shows_what_an_unbroken_run_shows(opened: OpenSweep) -> None:
    view = opened.ask()
    before = replace(opened, home=Home(opened.home.root / "unbroken"))
    tracker = before.begun()
    run_id = opened.show(tracker, view, opened.config(view), path_of(0))
    for entry in HISTORY:
        log(tracker, run_id, entry["examples"], point_names("target", entry["metrics"]))
        opened.ledger.report(view.number, entry["examples"], entry["metrics"]["accuracy"])
    opened.finish(tracker, view, 0.7)
    opened.end(tracker)

    opened.project(is_alive=False)
    (sweep, trial), (_, expected) = snapshot(opened), snapshot(before)
    assert trial == expected
    assert set(trial[5]) >= {"train/loss", "dev/accuracy", "dev/f1"}
    assert trial[5]["train/loss"] == [(50, 1.4), (100, 1.3)]
    assert sweep[1] == "FINISHED"


def test_projection_shows_curves_of_stages_that_were_not_finished(opened: OpenSweep) -> None:
    view = opened.ask()
    stage = target_of(view.number)
    lease = opened.store.lease(stage.key)
    assert isinstance(lease, Lease)
    with lease:
        state = {"history": list(HISTORY[:1])}
        opened.store.publish_progress(stage.key, 5, {}, state, lease)
    opened.ledger.report(view.number, 50, 0.6)
    paths = {view.number: (stage,)}
    run_ids = opened.project(plan=opened.plan(paths))
    assert points(opened, run_ids[view.number], "train/loss") == [(50, 1.4)]
    opened.ledger.tell_pruned(view.number)
    opened.project(plan=opened.plan(paths))
    assert points(opened, run_ids[view.number], "train/loss") == [(50, 1.4)]
    assert points(opened, run_ids[view.number], "dev/accuracy") == [(50, 0.6)]
    assert runs(opened)[0].data.tags["xlt.stage.target"] == stage.key


def test_the_curve_of_a_stage_is_shown_by_the_trial_that_made_it_alone(opened: OpenSweep) -> None:
    views = [opened.ask(), opened.ask()]
    shared = Stage("intermediate", {"size": 100}, {}, 0, None, "intermediate toy-nli 100", 100)
    # The driver died as trial 1 had made it, and had noted nothing.
    commit(opened.store, shared, (), HISTORY, {"sweep": "tracked", "trial": 1})
    paths = {view.number: (shared,) for view in views}
    run_ids = opened.project(plan=opened.plan(paths))
    curves = [points(opened, run_ids[view.number], "intermediate/train/loss") for view in views]
    assert curves == [[], [(50, 1.4), (100, 1.3)]]


def test_what_is_damaged_in_the_store_keeps_nothing_else_from_mlflow(opened: OpenSweep) -> None:
    view = opened.complete()
    for record in Path(opened.home.stages).glob("stages/*/record.json"):
        record.write_text("{")
    progress = Path(opened.home.stages) / "progress" / target_of(view.number).key / "5"
    progress.mkdir(parents=True)
    (progress / "progress.json").write_text("[]")
    run_ids = opened.project()
    assert points(opened, run_ids[view.number], "train/loss") == []
    assert points(opened, run_ids[view.number], "dev/accuracy") == [(50, 0.6), (100, 0.7)]
    assert runs(opened)[0].info.status == "FINISHED"


def test_only_trials_that_are_not_all_there_are_gone_through_again(
    opened: OpenSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [opened.complete(0.7) for _ in range(3)]
    tracker = opened.begun()
    put = TrackedRun.put

    def put_or_refuse(run: TrackedRun, name: str, text: str) -> None:
        if run.id == tracker.run_ids.get(1):
            raise TrackingError("/srv/artifacts", uri="")
        put(run, name, text)

    monkeypatch.setattr(TrackedRun, "put", put_or_refuse)
    for view in views:
        with contextlib.suppress(TrackingError):
            opened.show(tracker, view)
    synced = [run.data.tags.get("xlt.told") for run in runs(opened)]
    assert synced == ["trial 0 complete", None, "trial 2 complete"]
    assert runs(opened)[1].data.metrics["objective"] == 0.7, "all that was not refused is there"
    monkeypatch.setattr(TrackedRun, "put", put)
    planned: list[int] = []

    def plan(view: TrialView) -> tuple[dict[str, Any], tuple[Stage, ...]]:
        planned.append(view.number)
        return {}, ()

    opened.project(plan=plan)
    assert planned == [1]
    assert runs(opened)[1].data.tags["xlt.told"] == "trial 1 complete"


def test_memory_speed_and_moments_of_a_training_come_from_the_store(opened: OpenSweep) -> None:
    view = opened.ask()
    system = {"memory_gib": 0.5, "examples_per_s": 9.0}
    history = tuple(
        {**entry, "system": system, "time_ms": 1_700_000_000_000 + entry["step"]}
        for entry in HISTORY
    )
    target = target_of(view.number)
    commit(opened.store, target, (), history)
    uses = {0: StageUse("target", target.key, target.label, reused=False)}
    opened.ledger.set_stages(0, [uses[0]])
    opened.ledger.tell_pruned(0)
    other = opened.ask()
    opened.ledger.set_stages(other.number, [replace(uses[0], reused=True)])
    opened.ledger.tell_pruned(other.number)
    run_ids = opened.project()
    for name, value in (("memory_gib", 0.5), ("examples_per_s", 9.0)):
        curve = opened.client.get_metric_history(run_ids[0], f"system/{name}")
        assert [(point.step, point.value, point.timestamp) for point in curve] == [
            (50, value, 1_700_000_000_005), (100, value, 1_700_000_000_010),
        ]  # fmt: skip
        assert points(opened, run_ids[other.number], f"system/{name}") == [], "it trained nothing"
    assert points(opened, run_ids[other.number], "train/loss") == [(50, 1.4), (100, 1.3)]


def test_a_run_that_was_made_twice_is_one_after_the_next_start(opened: OpenSweep) -> None:
    # The answer to the first try was lost, and the server took both.
    view = opened.ask()
    tracker = opened.begun()
    made = [tracker._make(view).id for _ in range(2)]
    run_ids = opened.project()
    assert [run.info.run_id for run in runs(opened)] == [run_ids[view.number]]
    assert run_ids[view.number] in made


def test_what_no_driver_has_at_work_is_not_shown_as_running(opened: OpenSweep) -> None:
    tracker = opened.begun()
    for _ in range(2):
        view = opened.ask()
        opened.ledger.set_run_id(view.number, opened.show(tracker, view))
    opened.ledger.tell_failed(0, "lost", "the node is gone")
    # A driver that has begun nothing yet.
    opened.project()
    assert [run.info.status for run in all_runs(opened)] == ["RUNNING", "FAILED", "KILLED"]
    assert [run.data.tags["xlt.state"] for run in all_runs(opened)[1:]] == ["failed", "interrupted"]
    opened.project(is_alive=False)
    assert [run.info.status for run in all_runs(opened)] == ["KILLED", "FAILED", "KILLED"]
    opened.show(opened.begun(), opened.ledger.trial(1))
    last = all_runs(opened)[2]
    assert (last.info.status, last.data.tags["xlt.state"]) == ("RUNNING", "running")
    opened.show(opened.begun(), opened.ledger.trial(1), standing="interrupted")
    assert all_runs(opened)[2].data.tags["xlt.state"] == "interrupted"


def test_trial_that_was_never_begun_has_no_run(opened: OpenSweep) -> None:
    asked_trial = opened.ledger.ask(opened.sweep, lambda _: {"num_layers": 2, "hidden_size": 64})
    assert asked_trial is not None
    assert opened.project() == {}
    assert runs(opened) == []


def test_run_deleted_in_the_ui_is_made_again(opened: OpenSweep) -> None:
    view = opened.ask()
    tracker = opened.begun()
    first = opened.show(tracker, view)
    opened.ledger.set_run_id(view.number, first)
    opened.client.delete_run(first)
    second = opened.show(tracker, opened.ledger.trial(view.number))
    assert second != first
    assert [run.info.run_id for run in runs(opened)] == [second]


def test_at_most_fifty_metrics_whatever_the_number_of_languages(opened: OpenSweep) -> None:
    languages = ("qaa", *(f"q{number:02d}" for number in range(70)))
    tracker = opened.begun()
    view, run_id = opened.start(tracker)
    for step in (50, 100):
        log(tracker, run_id, step, {"dev/accuracy": 0.5, "train/loss": 1.0, "system/memory": 1.0})
    opened.finish(tracker, view, 0.9, languages)
    metrics = runs(opened)[0].data.metrics
    assert len(metrics) <= 50
    assert "test/accuracy/qaa" in metrics
    assert len(artifact(opened, run_id, "scores.json")["data"]) == 72


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://ada:s3cret@db:5432/xlt",
        "postgresql://ada:s3cr@et@db/xlt",
        "failed at https://ada:s3cret@host/x?part=1",
        "s3://bucket/key?endpoint=x&secret=s3cret",
    ],
)
def test_passwords_and_the_environment_do_not_reach_mlflow(
    given: str, opened: OpenSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    tracker = opened.begun()
    view = opened.ask()
    config = {"target": {"source_language": "qaa"}, "places": {"ledger": given}, "list": [given]}
    run_id = opened.show(tracker, replace(view, assignment={"place": given}), config)
    opened.ledger.tell_failed(view.number, "lost", given, given)
    opened.show(tracker, opened.ledger.trial(view.number))
    (run,) = runs(opened)
    shown = [*run.data.params.values(), *run.data.tags.values()]
    shown += [json.dumps(artifact(opened, run_id, name)) for name in ("config.json", "log.txt")]
    assert any("***" in text for text in shown)
    assert not [text for text in shown if "s3cr" in text]
    files = [path for path in opened.home.root.joinpath("mlflow").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hf_abcdef" in path.read_bytes()]


@pytest.mark.slow
def test_two_processes_may_make_the_database_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from xlt_ray.home import Home; from xlt_ray.tracking import Tracker;"
        "print(Tracker(Home(pathlib.Path(sys.argv[1])), 'one').experiment.id)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(set(outputs)) == 1
    assert [path.name for path in (tmp_path / "mlflow").iterdir()] == ["mlflow.db"]


def test_several_threads_may_make_the_database_at_once(opened: OpenSweep) -> None:
    barrier = threading.Barrier(3)

    def connect(_: int) -> str:
        barrier.wait()
        return opened.tracker().experiment.id

    with ThreadPoolExecutor(3) as threads:
        assert len({*threads.map(connect, range(3))}) == 1
    assert [path.name for path in Path(opened.home.root / "mlflow").iterdir()] == ["mlflow.db"]


def test_sweep_deleted_in_the_ui_is_taken_back(opened: OpenSweep) -> None:
    opened.complete()
    first = opened.project()
    opened.client.delete_experiment(opened.tracker().experiment.id)
    assert opened.project() == first


@pytest.mark.parametrize(
    "uri", ["nonsense://x", "http://", "https://:5000", "http://host:many", "http:host"]
)
def test_what_is_no_place_of_mlflows_is_refused_at_once(uri: str, opened: OpenSweep) -> None:
    with pytest.raises(TrackingError, match=uri) as refused:
        Tracker(opened.home, "tracked", uri).experiment  # noqa: B018
    assert refused.value.exit_code == 2


def test_a_server_that_is_away_is_an_outage_and_found_later(opened: OpenSweep) -> None:
    tracker = Tracker(opened.home, "tracked", "http://ada:s3cret@127.0.0.1:9")
    with pytest.raises(TrackingOutage, match=r"ada:\*\*\*@127.0.0.1:9: does not answer"):
        tracker.begin(LedgerSnapshot.of(opened.ledger), {})


def test_database_of_another_mlflow_is_refused(opened: OpenSweep) -> None:
    opened.tracker().experiment  # noqa: B018
    # MLflow keeps a database that it has opened, so another file.
    home = Home(opened.home.root / "older")
    path = Path(home.tracking_uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True)
    shutil.copy(opened.home.tracking_uri.removeprefix("sqlite:///"), path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(TrackingError, match="schema"):
        Tracker(home, "tracked").experiment  # noqa: B018


def test_ui_opens_on_the_runs_of_the_sweep(opened: OpenSweep) -> None:
    tracker = opened.begun()
    page = ui_page(opened.home, name=opened.ledger.name)
    runs_page = f"/#/experiments/{tracker.experiment.id}/runs?workflowType=machine_learning"
    assert page == runs_page
    view = opened.ask()
    opened.show(tracker, view)
    page = ui_page(opened.home, name=opened.ledger.name)
    assert page == f"{runs_page}&viewStateShareKey=xlt", "laid out, as the parameters are known"
    assert ui_page(opened.home) == "/#/experiments?workflowType=machine_learning"


# -- a place that several homes use ----------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> str:
    """A database that several homes project into, as they do into one server."""
    return f"sqlite:///{tmp_path / 'shared.db'}"


def shown(uri: str) -> dict[str, list[tuple[str, str, float]]]:
    """Experiment -> name, status and objective of the runs of its trials."""
    trials: dict[str, list[tuple[str, str, float]]] = {}
    for run in runs_of(uri):
        if run.data.tags["xlt.kind"] == "trial":
            name = client_of(uri).get_experiment(run.info.experiment_id).name
            trial = (called(run), run.info.status, run.data.metrics["objective"])
            trials[name] = sorted([*trials.get(name, []), trial])
    return trials


def test_sweeps_of_one_name_from_two_homes_stay_apart_in_one_place(
    tmp_path: Path, shared: str
) -> None:
    first, second = (sweep_in(tmp_path / name, uri=shared) for name in ("ada", "bob"))
    assert first.ledger.identity != second.ledger.identity
    first.complete(0.4)
    second.complete(0.9)
    second.complete(0.8)
    for _ in range(2):
        for opened in (first, second):
            opened.project(opened.begun(), is_alive=False)
    own = f"tracked-{second.ledger.identity[:8]}"
    assert shown(shared) == {
        "tracked": [("trial 000", "FINISHED", 0.4)],
        own: [("trial 000", "FINISHED", 0.9), ("trial 001", "FINISHED", 0.8)],
    }


def test_a_ledger_that_was_lost_finds_its_runs_again(tmp_path: Path, shared: str) -> None:
    opened = sweep_in(tmp_path / "ada", uri=shared)
    opened.complete(0.4)
    opened.project(opened.begun(), is_alive=False)
    opened.home.ledger_journal("tracked").unlink()
    again = sweep_in(tmp_path / "ada", uri=shared)
    assert again.ledger.identity == opened.ledger.identity
    assert again.ask().number == 0
    again.ledger.tell_complete(0, 0.4)
    again.project(again.begun(), is_alive=False)
    assert shown(shared) == {"tracked": [("trial 000", "FINISHED", 0.4)]}


def test_one_experiment_that_the_environment_names_holds_the_runs_of_all_apart(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "group")
    first, second = sweep_in(tmp_path / "ada"), sweep_in(tmp_path / "bob")
    first.complete(0.4)
    second.complete(0.9)
    for opened in (first, second, first):
        tracker = opened.begun()
        assert tracker.uri == shared
        opened.project(tracker)
    assert shown(shared) == {
        "group": [("trial 000", "FINISHED", 0.4), ("trial 000", "FINISHED", 0.9)]
    }


def test_runs_from_before_there_were_identities_go_on(tmp_path: Path, shared: str) -> None:
    opened = sweep_in(tmp_path / "ada", uri=shared)
    opened.complete(0.4)
    tracker = Tracker(opened.home, "tracked", shared)
    tracker.begin(LedgerSnapshot.of(opened.ledger), opened.sweep.resolved())
    opened.project(tracker)
    opened.project(opened.begun(), is_alive=False)
    assert shown(shared) == {"tracked": [("trial 000", "FINISHED", 0.4)]}
