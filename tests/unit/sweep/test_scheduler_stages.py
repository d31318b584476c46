"""Whose work a stage is, and how often the store is asked for stages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sweep.test_scheduler import MakeWorld, World
from xlt_ray.ledger import StageUse
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.sweep.tasks import Report, TrialTask


def find(at: World, task: TrialTask, made_by: str) -> Any:
    """An order's first stage is found in the store; how the ledger has it then."""
    stage = task.path[1]
    report = StageUse(stage.kind, stage.key, stage.label, True, 96, 3600.0, made_by)
    at.scheduler.on_report(task.number, Report("stage", stage=stage.kind, finished_stage=report))
    return at.ledger.trial(task.number).stages[0]


def test_a_stage_that_an_earlier_process_of_the_trial_made_is_its_own(world: MakeWorld) -> None:
    at = world("search.trials=1")
    at.begin(at.next())
    # It commits a stage, and dies before anybody hears of that.
    at.sit_down()
    task = at.next()
    at.begin(task)
    use = find(at, task, "t/0")
    assert (use.reused, use.examples, use.seconds) == (False, 96, 3600.0)
    assert find(at, task, "t/0") == use
    assert list(at.scheduler.new_stages) == [use.key]


@pytest.mark.parametrize("maker", ["t/1", "other/0", "t", ""])
def test_a_stage_that_another_trial_made_is_reused(world: MakeWorld, maker: str) -> None:
    at = world("search.trials=1")
    task = at.next()
    at.begin(task)
    at.begin(task)
    use = find(at, task, maker)
    assert (use.reused, use.examples, use.seconds) == (True, 0, 0.0)
    assert not at.scheduler.new_stages


def test_a_trial_at_its_first_attempt_has_made_nothing_before(world: MakeWorld) -> None:
    """An earlier sweep of this name, whose ledger is gone, left its stages."""
    at = world("search.trials=1")
    task = at.next()
    at.begin(task)
    assert find(at, task, "t/0").reused


def test_what_an_earlier_run_trained_is_not_new_in_this_one(world: MakeWorld) -> None:
    at = world("search.trials=1")
    task = at.next()
    at.begin(task)
    at.make(task, "intermediate")
    at.sit_down()
    task = at.next()
    at.begin(task)
    at.make(task, "intermediate")
    assert not at.ledger.trial(0).stages[0].reused
    assert not at.scheduler.new_stages


def test_a_failure_that_no_held_trial_shares_asks_the_store_for_none_of_them(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world("intermediate.size=100", "target.learning_rate={float: [1e-5, 1e-3]}",
               "search={trials: 60, sampler: random}")  # fmt: skip
    first = at.next()
    assert at.scheduler.next_task() is None
    at.begin(first)
    at.make(first, "intermediate")
    looks: list[str] = []
    exists = at.store.storage.exists

    def counted(path: str) -> bool:
        looks.append(path)
        return exists(path)

    monkeypatch.setattr(at.store.storage, "exists", counted)
    # An earlier trial failed at the same stage.
    at.scheduler._repeated_failures.fail(stages_to_run(first.path)[-2].key, -1, Report("failed"))
    at.scheduler.finish(first.number, Report("failed", cause="nan", message="nan"))
    assert at.scheduler.next_task() is not None
    assert len(looks) < 20, "three for each of 59 held trials would be 177"


def test_nothing_is_asked_to_know_that_a_sweep_has_not_finished(world: MakeWorld) -> None:
    at = world()
    task = at.next()
    num_asked = len(at.ledger.trials())
    at.begin(task)
    assert not at.scheduler.is_finished
    assert len(at.ledger.trials()) == num_asked
