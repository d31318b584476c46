"""What people ask of a sweep: what is refused, what the driver does, and what a kill changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.sweep.conftest import Driver, Start
from xlt_ray.config.facts import Facts
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.ledger import Request
from xlt_ray.ledger.requests import leave_request, requests_of, set_by_hand, with_replaced
from xlt_ray.sweep import make_requests, scheduler
from xlt_ray.sweep.make_requests import clone_request, pause_request, set_request, stop_request
from xlt_ray.sweep.tasks import Report, TrialTask
from xlt_ray.tracking.mlflow_fields import trial_tags

RANDOM = ("intermediate=null", "target.learning_rate={float: [1e-5, 1e-3]}",
          "search={trials: 3, sampler: random}")  # fmt: skip


@pytest.fixture(autouse=True)
def _looks_always(monkeypatch: pytest.MonkeyPatch, facts: Facts) -> None:
    monkeypatch.setattr(scheduler, "REQUESTS_S", 0.0)
    monkeypatch.setattr(make_requests, "checked_facts", lambda _: facts)


def ask(driver: Driver, request: Request) -> None:
    leave_request(driver.home, "t", request)


def tick(driver: Driver, task: TrialTask) -> bool:
    return driver.scheduler.on_report(task.number, Report("ticked", stage="target"))


def left(driver: Driver) -> list[str]:
    return [file.name for file in driver.home.requests("t").glob("*")]


# -- stop -------------------------------------------------------------------------------------


def test_a_running_trial_is_stopped_at_its_next_report_and_keeps_its_progress(
    start: Start,
) -> None:
    driver = start(*RANDOM)
    task, other = driver.begin_next(), driver.begin_next()
    driver.evaluated(task.number, 10, 0.4)
    ask(driver, stop_request(driver.ledger, task.number))
    assert not tick(driver, other)
    assert left(driver) == []
    assert tick(driver, task)
    assert driver.scheduler.keeps_progress(task.number)
    view = driver.end(task, "ticked")
    assert (view.state, view.by_hand) == ("pruned", "stopped by hand")
    assert trial_tags(view, "pruned")["xlt.by_hand"] == "stopped by hand"
    assert driver.scheduler.stopped_early == set(), "early stopping did not do it"


@pytest.mark.parametrize("is_read", [True, False])
def test_a_stop_outlasts_the_death_of_its_driver(start: Start, is_read: bool) -> None:
    driver = start(*RANDOM)
    task, other = driver.begin_next(), driver.begin_next()
    ask(driver, stop_request(driver.ledger, task.number))
    if is_read:
        tick(driver, other)
    driver.restart()
    assert driver.ledger.trial(task.number).state == "pruned"
    assert driver.next().number == other.number


def test_a_trial_that_was_not_asked_ends_when_it_is(start: Start) -> None:
    driver = start("intermediate=null", "search={trials: 2, sampler: grid, seeds: 3}")
    assert [driver.next().number, driver.next().number] == [0, 1]
    assert driver.ledger.trial(2).state == "waiting"
    ask(driver, stop_request(driver.ledger, 2))
    assert driver.next().number == 3
    assert driver.ledger.trial(2).state == "pruned"


def test_a_trial_that_has_ended_cannot_be_stopped(start: Start) -> None:
    driver = start(*RANDOM)
    task = driver.begin_next()
    request = stop_request(driver.ledger, task.number)
    driver.finish(task)
    with pytest.raises(LedgerError, match="trial 0 has ended: it is complete"):
        stop_request(driver.ledger, task.number)
    with pytest.raises(LedgerError, match="there is no trial 7"):
        stop_request(driver.ledger, 7)
    ask(driver, request)
    driver.next()
    assert driver.reporter.warnings[-1] == "by hand: trial 0 stopped: not done, it has ended"
    assert driver.ledger.by_hand == []


# -- clone ------------------------------------------------------------------------------------


def rates(driver: Driver) -> list[Any]:
    return [view.assignment["target.learning_rate"] for view in driver.ledger.trials()]


def run_all(driver: Driver) -> None:
    while (task := driver.scheduler.next_task()) is not None:
        driver.complete(task)


def test_a_clone_is_tried_next_and_moves_no_other_configuration(start: Start) -> None:
    alone = start(*RANDOM, "name=alone", "search.seeds=2")
    run_all(alone)
    driver = start(*RANDOM, "search.seeds=2")
    driver.complete(driver.next())
    request = clone_request(driver.ledger, 0, ["target.learning_rate=2e-4"])
    assert str(request) == "trial 0 cloned with target.learning_rate=0.0002"
    ask(driver, request)
    run_all(driver)
    assert driver.scheduler.is_finished
    clones = [view for view in driver.ledger.trials() if view.by_hand]
    assert [(view.by_hand, view.number, view.repeat) for view in clones] == [
        ("clone of trial 0", 2, 0), ("clone of trial 0", 3, 1)
    ]  # fmt: skip
    assert {view.assignment["target.learning_rate"] for view in clones} == {2e-4}
    assert [rate for rate in rates(driver) if rate != 2e-4] == rates(alone)


def test_a_clone_after_the_last_trial_continues_the_sweep(start: Start) -> None:
    driver = start(*RANDOM)
    run_all(driver)
    assert driver.scheduler.is_done
    ask(driver, clone_request(driver.ledger, 1, ["target.learning_rate=2e-4"]))
    for _ in range(3):
        # Killed before it has begun.
        driver.restart()
        task = driver.next()
    assert task.number == 3
    driver.complete(task)
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_finished
    assert len(driver.ledger.trials()) == 4


def test_another_block_drops_the_parameters_of_the_old_one(start: Start) -> None:
    driver = start("intermediate={choice: [null, {task: pairs, size: {choice: [100, 200]}}]}",
                   "target.learning_rate={choice: [1e-4, 1e-3]}",
                   "search={trials: 1, sampler: random, first: "
                   "[{intermediate: {size: 100}, target.learning_rate: 1e-4}]}")  # fmt: skip
    driver.complete(driver.next())
    request = clone_request(driver.ledger, 0, ["intermediate=null"])
    assert set(request.values) == {"intermediate", "target.learning_rate"}
    assert request.values["target.learning_rate"] == 1e-4
    same = clone_request(driver.ledger, 0, ["intermediate.size=200"])
    assert same.values["intermediate.size"] == 200


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["target.learning_rte=1e-4"], "is not searched over in this sweep; did you mean"),
        (["target.learning_rate=5"], "5.0 is not in the space of target.learning_rate"),
        (["model=toy:3x64"], "is fixed at toy:2x64 in this sweep"),
        (["target.learning_rate"], "is not an override"),
        ([], "has the parameters of a trial that exists"),
    ],
)
def test_a_bad_point_is_refused(start: Start, changes: list[str], problem: str) -> None:
    driver = start(*RANDOM)
    driver.next()
    with pytest.raises(SpecError) as caught:
        clone_request(driver.ledger, 0, changes)
    assert problem in str(caught.value)
    assert str(caught.value).startswith("command line")
    assert caught.value.exit_code == 2


def test_a_point_that_was_tried_is_refused(start: Start) -> None:
    driver = start("intermediate=null")
    first, second = driver.next(), driver.next()
    rate = driver.ledger.trial(second.number).assignment["target.learning_rate"]
    with pytest.raises(SpecError, match=f"trial {second.number} has these parameters"):
        clone_request(driver.ledger, first.number, [f"target.learning_rate={rate}"])


# -- set --------------------------------------------------------------------------------------


def test_a_larger_budget_lets_a_running_sweep_continue(start: Start) -> None:
    driver = start(*RANDOM, "budget.hours=1e-9")
    driver.scheduler.next_task()
    driver.restart()
    assert driver.scheduler.is_done
    ask(driver, set_request(driver.ledger, ["budget.hours=3", "search.trials=2"]))
    driver.restart()
    run_all(driver)
    assert driver.scheduler.is_finished
    assert len(driver.ledger.trials()) == 2
    assert str(driver.ledger.by_hand[0]) == (
        "budget.hours set to 3.0 instead of 1e-09, search.trials set to 2 instead of 3"
    )
    assert driver.ledger.sweep["budget"]["hours"] == 3.0


def test_a_running_sweep_takes_a_new_setting_at_once(start: Start) -> None:
    driver = start(*RANDOM, "search.trials=1")
    task = driver.begin_next()
    assert driver.scheduler.next_task() is None
    ask(driver, set_request(driver.ledger, ["search.trials=2"]))
    tick(driver, task)
    assert driver.next().number == 1
    driver.restart()
    assert {driver.next().number, driver.next().number} == {0, 1}
    assert driver.scheduler.next_task() is None


def test_a_value_set_by_hand_stands_for_that_of_the_file_until_the_file_changes(
    start: Start,
) -> None:
    file = start("search.trials=3").sweep
    first = with_replaced(Request("set", values={"search.trials": 5}), file, [])
    assert set_by_hand(file, [first]).setting("search.trials") == 5
    resumed = set_by_hand(file, [first])
    second = with_replaced(Request("set", values={"search.trials": 7}), resumed, [first])
    for given in (3, 7):
        sweep = set_by_hand(file.with_setting("search.trials", given), [first, second])
        assert sweep.setting("search.trials") == 7
    changed = set_by_hand(file.with_setting("search.trials", 4), [first, second])
    assert changed.setting("search.trials") == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("budget.gpu_hours=-1", "must be greater than 0"),
        ("early_stop={method: asha, grace: 0.5}", "can only change when the sweep starts"),
        ("target.learning_rate=1e-4", "cannot change in a sweep that exists"),
        ("budget.hour=3", "did you mean hours?"),
    ],
)
def test_a_bad_setting_is_refused(start: Start, change: str, problem: str) -> None:
    driver = start(*RANDOM)
    with pytest.raises(SpecError) as caught:
        set_request(driver.ledger, [change])
    assert problem in str(caught.value)
    assert caught.value.exit_code == 2


# -- pause ------------------------------------------------------------------------------------


def test_a_pause_ends_the_run_of_its_driver_alone(start: Start) -> None:
    driver = start(*RANDOM)
    with pytest.raises(LedgerError, match="does not run"):
        pause_request(driver.ledger)
    task = driver.begin_next()
    ask(driver, Request("pause", driver="another"))
    assert not tick(driver, task)
    ask(driver, Request("pause", driver=driver.ledger.driver))
    assert tick(driver, task)
    assert driver.scheduler.next_task() is None
    assert driver.end(task, "ticked").state == "running"
    assert driver.scheduler.is_done
    assert not driver.scheduler.is_finished
    assert not driver.scheduler.is_out_of_budget
    driver.restart()
    assert driver.next().number == task.number


def test_what_is_no_request_is_deleted_with_a_warning(start: Start) -> None:
    driver = start(*RANDOM)
    folder = driver.home.requests("t")
    folder.mkdir(parents=True)
    for name, text in (("1.json", "{"), ("2.json", "[]"), ("3.json", json.dumps({"kind": "x"}))):
        (folder / name).write_text(text)
    driver.next()
    assert left(driver) == []
    assert len(driver.reporter.warnings) == 3
    assert requests_of(driver.ledger.study.user_attrs) == []
