"""A finished sweep whose store has lost evaluations makes them again, and its ledger stays."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sweep.test_desk import MakeWorld, World, scores_of
from xlt_ray.stages.path import made
from xlt_ray.sweep import runner
from xlt_ray.sweep.order import Report, StageReport
from xlt_ray.sweep.planning import Planner
from xlt_ray.sweep.remaking import Remaking


@pytest.fixture
def finished(world: MakeWorld) -> World:
    at = world()
    while (order := at.desk.next_order()) is not None:
        at.complete(order)
    assert at.desk.is_finished
    return at


def folder_of(at: World, number: int) -> Path:
    key = at.ledger.trial(number).evaluation_key
    assert key is not None
    return at.store.folder(key)


def cut_short(at: World, number: int) -> None:
    record = folder_of(at, number) / "record.json"
    record.write_bytes(record.read_bytes()[:100])


def lose(at: World, number: int) -> None:
    (folder_of(at, number) / "record.json").unlink()


def remaking_of(at: World) -> Remaking:
    planner = Planner(at.sweep, at.facts, at.home)
    return Remaking(at.sweep, at.facts, planner, at.ledger, at.store, at.diary)


def test_nothing_is_made_again_where_everything_is_there(finished: World) -> None:
    remaking = remaking_of(finished)
    assert remaking.is_done
    assert remaking.next_order() is None
    assert not remaking.complaint
    assert not [one for one in finished.diary.lines if one[0] == "warned"]


def test_evaluations_that_are_gone_or_cut_short_are_handed_out(finished: World) -> None:
    lose(finished, 1)
    cut_short(finished, 2)
    before = finished.ledger.trials()
    remaking = remaking_of(finished)
    assert "trials 1, 2" in finished.diary.lines[-1][2]
    orders = [remaking.next_order(), remaking.next_order()]
    assert remaking.is_done
    assert remaking.num_running == 2
    assert remaking.is_interrupted
    for order in orders:
        assert order is not None
        stage = made(order.path)[-1]
        assert finished.store.find_sound(stage) is None
        finished.commit(stage, scores_of(0.5))
        found = StageReport("evaluate", stage.key, stage.label, False, 0, 2.0)
        assert not remaking.hear(order.number, Report("begun"))
        assert not remaking.hear(order.number, Report("stage", finished_stage=found))
        remaking.finish(order.number, Report("complete", scores=scores_of(0.5)))
    assert not remaking.complaint
    assert not remaking.is_interrupted
    assert len(remaking.new_stages) == 2
    assert finished.ledger.trials() == before
    assert remaking_of(finished).is_done


@pytest.mark.parametrize("report", [None, Report("failed", cause="data", message="no file")])
def test_what_cannot_be_made_again_is_told(finished: World, report: Report | None) -> None:
    lose(finished, 3)
    remaking = remaking_of(finished)
    order = remaking.next_order()
    assert order is not None
    remaking.finish(3, report)
    assert "trial 3 (" in remaking.complaint
    assert not remaking.is_interrupted, "new trials may begin"


def test_a_run_of_a_finished_sweep_makes_what_is_lost(
    finished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = finished

    def tune(desk: Any, _: object) -> None:
        assert isinstance(desk, Remaking), "no trial of the sweep is left"
        order = desk.next_order()
        assert order is not None
        stage = made(order.path)[-1]
        at.commit(stage, scores_of(0.5))
        found = StageReport("evaluate", stage.key, stage.label, False, 0, 2.0)
        desk.hear(order.number, Report("stage", finished_stage=found))
        desk.finish(order.number, Report("complete"))

    @contextmanager
    def courier(*_: object) -> Any:
        yield at.courier

    monkeypatch.setattr(runner, "_tune", tune)
    monkeypatch.setattr(runner, "courier_for", courier)
    monkeypatch.setattr(runner, "checked_facts", lambda _: at.facts)
    monkeypatch.setattr(runner, "used_facts", lambda *_: {})
    assert runner.run(at.sweep, at.home, at.diary).num_new_stages == 0
    lose(at, 0)
    summary = runner.run(at.sweep, at.home, at.diary)
    assert (summary.num_new_stages, summary.is_finished, summary.stopped_by) == (1, True, "")
    assert runner.run(at.sweep, at.home, at.diary).num_new_stages == 0
