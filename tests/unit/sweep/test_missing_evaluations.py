"""A finished sweep whose store has lost evaluations makes them again, and its ledger stays."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sweep.conftest import Driver, Start, scores_of
from xlt_ray.ledger import StageUse
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.sweep import runner
from xlt_ray.sweep.missing_evaluations import MissingEvaluations
from xlt_ray.sweep.tasks import Planner, Report


@pytest.fixture
def finished(start: Start) -> Driver:
    driver = start()
    while (task := driver.scheduler.next_task()) is not None:
        driver.complete(task)
    assert driver.scheduler.is_finished
    return driver


def folder_of(driver: Driver, number: int) -> Path:
    key = driver.ledger.trial(number).evaluation_key
    assert key is not None
    return driver.store.folder(key)


def cut_short(driver: Driver, number: int) -> None:
    record = folder_of(driver, number) / "record.json"
    record.write_bytes(record.read_bytes()[:100])


def lose(driver: Driver, number: int) -> None:
    (folder_of(driver, number) / "record.json").unlink()


HEADER = json.dumps({"w": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(8))


def remaking_of(driver: Driver, *, is_verified: bool = False) -> MissingEvaluations:
    planner = Planner(driver.sweep, driver.facts)
    return MissingEvaluations(
        planner, driver.home, driver.ledger, driver.store, driver.reporter, is_verified=is_verified
    )


def weights_of(driver: Driver) -> Path:
    """Of the best trial, with a record that fits them."""
    best = driver.ledger.best()
    assert best is not None
    stage = target_of(driver, best.trial.number)
    shutil.rmtree(driver.store.folder(stage.key))
    shutil.rmtree(driver.scratch / stage.key, ignore_errors=True)
    driver.commit(stage, content=WEIGHTS)
    return driver.store.folder(stage.key) / "model.safetensors"


def target_of(driver: Driver, number: int) -> Stage:
    view = driver.ledger.trial(number)
    return Planner(driver.sweep, driver.facts).config_and_path(view)[1][-2]


def test_nothing_is_made_again_where_everything_is_there(finished: Driver) -> None:
    missing_evaluations = remaking_of(finished)
    assert missing_evaluations.is_done
    assert missing_evaluations.next_task() is None
    assert not missing_evaluations.complaint
    assert not [line for line in finished.reporter.lines if line[0] == "warned"]


def test_evaluations_that_are_gone_or_cut_short_are_handed_out(finished: Driver) -> None:
    lose(finished, 1)
    cut_short(finished, 2)
    before = finished.ledger.trials()
    missing_evaluations = remaking_of(finished)
    assert "evaluate of trial 1, evaluate of trial 2" in finished.reporter.lines[-1][2]
    tasks = [missing_evaluations.next_task(), missing_evaluations.next_task()]
    assert missing_evaluations.is_done
    assert missing_evaluations.num_running == 2
    assert missing_evaluations.is_interrupted
    for task in tasks:
        assert task is not None
        stage = stages_to_run(task.path)[-1]
        assert finished.store.find_undamaged(stage) is None
        finished.commit(stage, scores_of(0.5))
        use = StageUse("evaluate", stage.key, stage.label, False, 0, 2.0)
        assert not missing_evaluations.on_report(task.number, Report("begun"))
        assert not missing_evaluations.on_report(task.number, Report("stage", finished_stage=use))
        missing_evaluations.finish(task.number, Report("complete", scores=scores_of(0.5)))
    assert not missing_evaluations.complaint
    assert not missing_evaluations.is_interrupted
    assert len(missing_evaluations.new_stages) == 2
    assert finished.ledger.trials() == before
    assert remaking_of(finished).is_done


def test_whole_weights_are_let_be(finished: Driver) -> None:
    weights_of(finished)
    for is_verified in (False, True):
        assert remaking_of(finished, is_verified=is_verified).is_done


@pytest.mark.parametrize("damage", ["gone", "cut short", "a file gone", "zeros", "record cut"])
def test_damaged_weights_of_the_best_trial_are_made_again_and_no_evaluation(
    finished: Driver, damage: str
) -> None:
    file = weights_of(finished)
    content = file.read_bytes()
    if damage == "gone":
        shutil.rmtree(file.parent)
    elif damage == "cut short":
        file.write_bytes(content[:-1])
    elif damage == "a file gone":
        file.unlink()
    elif damage == "zeros":
        # As some file systems leave it after a loss of power.
        file.write_bytes(bytes(len(content)))
    else:
        (file.parent / "record.json").write_text("{")
    missing_evaluations = remaking_of(finished)
    task = missing_evaluations.next_task()
    assert missing_evaluations.is_done
    assert task is not None
    assert task.until == "target"
    assert task.path[-1] in finished.store
    assert f"target of trial {task.number}" in finished.reporter.lines[-1][2]
    assert task.path[-2] not in finished.store, "what is damaged is set aside"
    missing_evaluations.finish(task.number, Report("complete"))
    assert not missing_evaluations.complaint


def test_a_flipped_bit_in_the_best_weights_is_found_where_digests_are_asked_for(
    finished: Driver,
) -> None:
    file = weights_of(finished)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert remaking_of(finished).is_done
    task = remaking_of(finished, is_verified=True).next_task()
    assert task is not None
    assert task.until == "target"


def test_weights_of_other_trials_may_be_gone(finished: Driver) -> None:
    best = finished.ledger.best()
    assert best is not None
    for number in {0, 1, 2, 3} - {best.trial.number}:
        shutil.rmtree(finished.store.folder(target_of(finished, number).key))
    assert remaking_of(finished, is_verified=True).is_done


def test_a_file_of_an_evaluation_that_is_cut_short_is_found(finished: Driver) -> None:
    planner = Planner(finished.sweep, finished.facts)
    stage = planner.config_and_path(finished.ledger.trial(2))[1][-1]
    shutil.rmtree(finished.store.folder(stage.key))
    shutil.rmtree(finished.scratch / stage.key, ignore_errors=True)
    finished.commit(stage, scores_of(0.5), content=WEIGHTS)
    assert remaking_of(finished).is_done
    (finished.store.folder(stage.key) / "model.safetensors").write_bytes(WEIGHTS[:-1])
    task = remaking_of(finished).next_task()
    assert task is not None
    assert (task.number, task.until) == (2, "evaluate")


@pytest.mark.parametrize("report", [None, Report("failed", cause="data", message="no file")])
def test_what_cannot_be_made_again_is_reported(finished: Driver, report: Report | None) -> None:
    lose(finished, 3)
    missing_evaluations = remaking_of(finished)
    task = missing_evaluations.next_task()
    assert task is not None
    missing_evaluations.finish(3, report)
    assert "trial 3 (" in missing_evaluations.complaint
    assert not missing_evaluations.is_interrupted, "new trials may begin"


def test_a_run_of_a_finished_sweep_makes_what_is_lost(
    finished: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = finished

    def tune(scheduler: Any, *_: object) -> None:
        assert isinstance(scheduler, MissingEvaluations), "no trial of the sweep is left"
        task = scheduler.next_task()
        assert task is not None
        stage = stages_to_run(task.path)[-1]
        driver.commit(stage, scores_of(0.5))
        use = StageUse("evaluate", stage.key, stage.label, False, 0, 2.0)
        scheduler.on_report(task.number, Report("stage", finished_stage=use))
        scheduler.finish(task.number, Report("complete"))

    @contextmanager
    def sync(*_: object) -> Any:
        yield driver.sync

    # Tune is replaced, so Ray has nothing to run; its threads would outlive this test.
    monkeypatch.setattr(runner, "connect", lambda _: None)
    monkeypatch.setattr(runner, "_tune", tune)
    monkeypatch.setattr(runner, "MlflowSync", sync)
    monkeypatch.setattr(runner, "checked_facts", lambda _: driver.facts)
    monkeypatch.setattr(runner, "used_facts", lambda *_: {})
    assert runner.run(driver.sweep, driver.home, driver.reporter).num_new_stages == 0
    lose(driver, 0)
    summary = runner.run(driver.sweep, driver.home, driver.reporter)
    assert (summary.num_new_stages, summary.is_finished, summary.stopped_by) == (1, True, "")
    assert runner.run(driver.sweep, driver.home, driver.reporter).num_new_stages == 0
