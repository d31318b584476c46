"""Whose work a stage is, and how often the store is asked for stages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sweep.test_scheduler import MakeWorld, World
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.sweep.tasks import Report, StageReport, TrialTask


def find(at: World, order: TrialTask, made_by: str) -> Any:
    """An order's first stage is found in the store; how the ledger has it then."""
    stage = order.path[1]
    report = StageReport(stage.kind, stage.key, stage.label, True, 96, 3600.0, made_by)
    at.desk.on_report(order.number, Report("stage", stage=stage.kind, finished_stage=report))
    return at.ledger.trial(order.number).stages[0]


def test_a_stage_that_an_earlier_process_of_the_trial_made_is_its_own(world: MakeWorld) -> None:
    at = world("search.trials=1")
    at.begin(at.next())
    # It commits a stage, and dies before anybody hears of that.
    at.sit_down()
    order = at.next()
    at.begin(order)
    use = find(at, order, "t/0")
    assert (use.reused, use.examples, use.seconds) == (False, 96, 3600.0)
    assert find(at, order, "t/0") == use
    assert list(at.desk.new_stages) == [use.key]


@pytest.mark.parametrize("maker", ["t/1", "other/0", "t", ""])
def test_a_stage_that_another_trial_made_is_reused(world: MakeWorld, maker: str) -> None:
    at = world("search.trials=1")
    order = at.next()
    at.begin(order)
    at.begin(order)
    use = find(at, order, maker)
    assert (use.reused, use.examples, use.seconds) == (True, 0, 0.0)
    assert not at.desk.new_stages


def test_a_trial_at_its_first_attempt_has_made_nothing_before(world: MakeWorld) -> None:
    """An earlier sweep of this name, whose ledger is gone, left its stages."""
    at = world("search.trials=1")
    order = at.next()
    at.begin(order)
    assert find(at, order, "t/0").reused


def test_what_an_earlier_run_trained_is_not_new_in_this_one(world: MakeWorld) -> None:
    at = world("search.trials=1")
    order = at.next()
    at.begin(order)
    at.make(order, "intermediate")
    at.sit_down()
    order = at.next()
    at.begin(order)
    at.make(order, "intermediate")
    assert not at.ledger.trial(0).stages[0].reused
    assert not at.desk.new_stages


def test_a_failure_that_no_held_trial_shares_asks_the_store_for_none_of_them(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world("intermediate.size=100", "target.learning_rate={float: [1e-5, 1e-3]}",
               "search={trials: 60, sampler: random}")  # fmt: skip
    first = at.next()
    assert at.desk.next_task() is None
    at.begin(first)
    at.make(first, "intermediate")
    looks: list[str] = []
    exists = at.store.storage.exists

    def counted(path: str) -> bool:
        looks.append(path)
        return exists(path)

    monkeypatch.setattr(at.store.storage, "exists", counted)
    # An earlier trial failed at the same stage.
    at.desk._repeated.fail(stages_to_run(first.path)[-2].key, -1, Report("failed"))
    at.desk.finish(first.number, Report("failed", cause="nan", message="nan"))
    assert at.desk.next_task() is not None
    assert len(looks) < 20, "three for each of 59 held trials would be 177"


def test_nothing_is_asked_to_know_that_a_sweep_has_not_finished(world: MakeWorld) -> None:
    at = world()
    order = at.next()
    num_asked = len(at.ledger.trials())
    at.begin(order)
    assert not at.desk.is_finished
    assert len(at.ledger.trials()) == num_asked
