"""The budget: what counts as spent, what still begins when it is used up, and what waits."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.sweep.test_desk import MakeWorld, World, scores_of
from xlt_ray.spec.failures import RepeatedBug
from xlt_ray.spec.sweep import Budget
from xlt_ray.sweep.order import Order, Report

SAME_BUG = RepeatedBug().times
ONE_GPU = "resources={workers: 1, gpus_per_worker: 1}"
ALONE = ("intermediate=null", ONE_GPU)
"""No trial shares a stage with another."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of the clock that attempts are measured by; tests set it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def budget(at: World, **limits: Any) -> None:
    """Another driver, with another budget."""
    settings = at.sweep.settings.model_copy(update={"budget": Budget(**limits)})
    at.sweep = replace(at.sweep, settings=settings)
    at.sit_down()


def unfinished(at: World, number: int) -> float:
    return at.ledger.trial(number).unfinished_s


def lose(at: World, order: Order) -> None:
    at.desk.hear(order.number, Report("lost", cause="lost", message="gone"))


# -- what still begins ------------------------------------------------------------------------


def test_what_was_asked_ahead_does_not_begin_when_the_budget_is_used_up(world: MakeWorld) -> None:
    at = world("intermediate.size=100", "search.trials=2", ONE_GPU,
               f"budget.gpu_hours={1.5 / 3600}")  # fmt: skip
    first = at.next()
    assert at.desk.next_order() is None, "the second needs the stage that the first makes"
    at.begin(first)
    at.make(first, "intermediate")
    assert at.desk.next_order() is None
    assert not at.desk.is_finished
    assert not at.desk.is_out_of_budget, "the first is still at work"
    for kind in ("target", "evaluate"):
        at.make(first, kind)
    at.desk.finish(first.number, Report("complete", scores=scores_of(0.5)))
    assert at.desk.next_order() is None
    assert at.desk.is_done
    assert at.desk.num_put_off == 1
    assert not at.desk.is_finished
    assert at.desk.is_out_of_budget
    assert [one.state for one in at.ledger.trials()] == ["complete", "running"]


def test_what_the_budget_put_off_begins_at_a_start_with_more(world: MakeWorld) -> None:
    at = world("search.trials=2", *ALONE, f"budget.gpu_hours={1 / 3600}")
    first, second = at.next(), at.next()
    at.complete(first)
    at.sit_down()
    assert at.desk.is_done, "no cluster is started for it"
    assert at.desk.next_order() is None
    budget(at, gpu_hours=1.0)
    assert at.complete(at.next()).number == second.number
    assert at.desk.next_order() is None
    assert at.desk.is_finished
    assert not at.desk.is_out_of_budget


def test_what_has_begun_goes_on_behind_what_has_not(world: MakeWorld) -> None:
    at = world("search.trials=2", *ALONE)
    waiting, working = at.next(), at.next()
    at.begin(working)
    budget(at, hours=1e-9)
    assert at.next().number == working.number
    assert at.desk.next_order() is None
    at.complete(working)
    assert at.desk.is_done
    assert not at.desk.is_finished
    budget(at)
    assert at.next().number == waiting.number


def test_a_retry_that_was_not_begun_does_not_begin_beyond_the_budget(world: MakeWorld) -> None:
    at = world("search.trials=1", *ALONE)
    at.fail(at.next(), "no memory", cause="disk")
    at.ledger.enqueue_failed()
    at.sit_down()
    again = at.next()
    assert at.ledger.trial(again.number).attempts == 1, "it counts on from the failed one"
    budget(at, hours=1e-9)
    assert at.desk.next_order() is None
    budget(at)
    at.begin(at.next())
    budget(at, hours=1e-9)
    assert at.next().number == again.number


def test_the_same_bug_again_and_again_ends_what_was_asked_ahead(world: MakeWorld) -> None:
    rates = [1e-4 * (1 + index) for index in range(20)]
    at = world(f"target.learning_rate={{choice: {rates}}}", "search.trials=20",
               "intermediate.size=100")  # fmt: skip
    first = at.next()
    assert at.desk.next_order() is None
    at.begin(first)
    at.make(first, "intermediate")
    at.desk.finish(first.number, Report("failed", cause="bug", message="KeyError: 'x'"))
    num_failed = 1
    while (order := at.desk.next_order()) is not None:
        at.begin(order)
        at.desk.finish(order.number, Report("failed", cause="bug", message="KeyError: 'x'"))
        num_failed += 1
    assert num_failed == SAME_BUG
    assert at.desk.repeated_bug
    assert not at.desk.is_finished
    assert at.desk.num_put_off == 20 - SAME_BUG


# -- what counts ------------------------------------------------------------------------------


def test_an_attempt_that_ends_without_its_stage_counts(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=3", *ALONE, f"budget.gpu_hours={99 / 3600}")
    failing, lost = at.next(), at.next()
    at.begin(failing)
    clock[0] += 60
    at.desk.finish(failing.number, Report("failed", cause="disk", message="x"))
    assert unfinished(at, failing.number) == 60
    at.begin(lost)
    clock[0] += 40
    lose(at, lost)
    clock[0] += 1000
    assert unfinished(at, lost.number) == 40, "nobody occupies a GPU until the next process"
    assert at.desk.next_order() is None
    at.sit_down()
    assert at.next().number == lost.number, "it has begun"
    assert at.desk.next_order() is None, "a restart knows what was spent"


def test_a_trial_that_was_stopped_early_counts(world: MakeWorld, clock: list[float]) -> None:
    at = world(*ALONE, "early_stop={method: asha, grace_examples: 10, reduction: 2}",
               "search.trials=3", f"budget.gpu_hours={49 / 3600}")  # fmt: skip
    good, bad = at.next(), at.next()
    for order in (good, bad):
        at.begin(order)
    assert not at.evaluated(good.number, 10, 0.9)
    clock[0] += 50
    assert at.evaluated(bad.number, 10, 0.1)
    at.desk.finish(bad.number, Report("evaluated"))
    assert (at.ledger.trial(bad.number).state, unfinished(at, bad.number)) == ("pruned", 50)
    assert at.desk.next_order() is None


def test_what_a_stage_holds_of_earlier_attempts_counts_once(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=2", *ALONE, f"budget.gpu_hours={10 / 3600}")
    order = at.next()
    at.begin(order)
    clock[0] += 1000
    lose(at, order)
    at.begin(order)
    clock[0] += 5
    # Two seconds a stage, those before the loss included.
    for kind in ("target", "evaluate"):
        at.make(order, kind)
    assert unfinished(at, order.number) == 0
    at.desk.finish(order.number, Report("complete", scores=scores_of(0.5)))
    assert at.desk.next_order() is not None


def test_a_stage_that_is_found_again_unsays_nothing(world: MakeWorld, clock: list[float]) -> None:
    at = world("search.trials=1", ONE_GPU)
    order = at.next()
    at.begin(order)
    at.make(order, "intermediate")
    clock[0] += 30
    at.desk.hear(order.number, Report("retrying", stage="target", cause="oom", message="x"))
    at.make(order, "intermediate")
    assert unfinished(at, order.number) == 30


def test_a_sweep_that_is_stopped_notes_what_its_trials_took(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=2", *ALONE)
    at.begin(at.next())
    clock[0] += 20
    at.desk.leave(is_finished=False)
    assert unfinished(at, 0) == 20


def test_hours_are_counted_alike_wherever_a_sweep_goes_on(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world("search.trials=2", *ALONE)
    at.complete(at.next())
    try:
        for zone, hours, is_over in (("UTC+11", 1.0, False), ("UTC-11", 1e-9, True),
                                     ("UTC-11", 1.0, False)):  # fmt: skip
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            budget(at, hours=hours)
            assert (at.desk.next_order() is None) == is_over
    finally:
        monkeypatch.undo()
        time.tzset()
