"""The budget: what counts as spent, what still begins when it is used up, and what waits."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.sweep.test_scheduler import MakeWorld, World, scores_of
from xlt_ray.cli.listings import status_row
from xlt_ray.config.retry_policy import RepeatedBug
from xlt_ray.config.sweep import Budget
from xlt_ray.ledger import StageUse
from xlt_ray.report.frames import costs_frame, read_snapshot
from xlt_ray.sweep.budget import HEARTBEAT_S
from xlt_ray.sweep.tasks import Report, TrialTask
from xlt_ray.tracking.content import final_metrics

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


def occupied(at: World, number: int) -> float:
    """Seconds that a trial has had its resources, as the ledger has it now."""
    return at.ledger.trials()[number].occupied.seconds


def spent(at: World) -> float:
    """GPU-seconds of the sweep, as status, report and MLflow add them up."""
    return sum(trial.occupied.gpu_seconds for trial in at.ledger.trials())


def lose(at: World, task: TrialTask) -> None:
    at.scheduler.on_report(task.number, Report("lost", cause="lost", message="gone"))


# -- what still begins ------------------------------------------------------------------------


def test_what_was_asked_ahead_does_not_begin_when_the_budget_is_used_up(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("intermediate.size=100", "search.trials=2", ONE_GPU,
               f"budget.gpu_hours={1.5 / 3600}")  # fmt: skip
    first = at.next()
    assert at.scheduler.next_task() is None, "the second needs the stage that the first makes"
    at.begin(first)
    clock[0] += 2
    at.make(first, "intermediate")
    assert at.scheduler.next_task() is None
    assert not at.scheduler.is_finished
    assert not at.scheduler.is_out_of_budget, "the first is still at work"
    for kind in ("target", "evaluate"):
        at.make(first, kind)
    at.scheduler.finish(first.number, Report("complete", scores=scores_of(0.5)))
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_done
    assert at.scheduler.num_deferred == 1
    assert not at.scheduler.is_finished
    assert at.scheduler.is_out_of_budget
    assert [trial.state for trial in at.ledger.trials()] == ["complete", "running"]


def test_what_the_budget_put_off_begins_at_a_start_with_more(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=2", *ALONE, f"budget.gpu_hours={1 / 3600}")
    first, second = at.next(), at.next()
    at.begin(first)
    clock[0] += 2
    at.finish(first)
    at.sit_down()
    assert at.scheduler.is_done, "no cluster is started for it"
    assert at.scheduler.next_task() is None
    budget(at, gpu_hours=1.0)
    assert at.complete(at.next()).number == second.number
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_finished
    assert not at.scheduler.is_out_of_budget


def test_what_has_begun_goes_on_behind_what_has_not(world: MakeWorld) -> None:
    at = world("search.trials=2", *ALONE)
    waiting, working = at.next(), at.next()
    at.begin(working)
    budget(at, hours=1e-9)
    assert at.next().number == working.number
    assert at.scheduler.next_task() is None
    at.complete(working)
    assert at.scheduler.is_done
    assert not at.scheduler.is_finished
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
    assert at.scheduler.next_task() is None
    budget(at)
    at.begin(at.next())
    budget(at, hours=1e-9)
    assert at.next().number == again.number


def test_the_same_bug_again_and_again_ends_what_was_asked_ahead(world: MakeWorld) -> None:
    rates = [1e-4 * (1 + index) for index in range(20)]
    at = world(f"target.learning_rate={{choice: {rates}}}", "search.trials=20",
               "intermediate.size=100")  # fmt: skip
    first = at.next()
    assert at.scheduler.next_task() is None
    at.begin(first)
    at.make(first, "intermediate")
    at.scheduler.finish(first.number, Report("failed", cause="bug", message="KeyError: 'x'"))
    num_failed = 1
    while (task := at.scheduler.next_task()) is not None:
        at.begin(task)
        at.scheduler.finish(task.number, Report("failed", cause="bug", message="KeyError: 'x'"))
        num_failed += 1
    assert num_failed == SAME_BUG
    assert at.scheduler.repeated_bug
    assert not at.scheduler.is_finished
    assert at.scheduler.num_deferred == 20 - SAME_BUG


# -- what counts ------------------------------------------------------------------------------


def test_a_trial_counts_from_the_start_of_its_process_to_its_end(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=3", "resources={workers: 2, gpus_per_worker: 1}",
               "intermediate=null", f"budget.gpu_hours={139 / 3600}")  # fmt: skip
    task = at.next()
    at.scheduler.on_report(task.number, Report("begun", occupied_s=20.0))
    clock[0] += 5
    at.scheduler.on_report(task.number, Report("waiting", stage="target", holder="another"))
    clock[0] += 15
    # The record of a stage says two seconds.
    at.make(task, "target")
    assert at.scheduler.next_task() is not None
    clock[0] += 30
    at.finish(task)
    assert occupied(at, task.number) == pytest.approx(70)
    assert spent(at) == pytest.approx(140)
    assert at.scheduler.is_done, "the two that were asked ahead do not begin"


def test_what_is_at_work_counts_before_it_ends(world: MakeWorld, clock: list[float]) -> None:
    at = world("search.trials=3", *ALONE, f"budget.gpu_hours={50 / 3600}")
    at.begin(at.next())
    clock[0] += 49
    at.begin(at.next())
    clock[0] += 1
    assert at.scheduler.next_task() is None


@pytest.mark.parametrize(("gpu_seconds", "is_over"), [(1.4, True), (1.6, False)])
def test_gpu_hours_are_counted_by_what_each_model_occupies(
    world: MakeWorld, clock: list[float], gpu_seconds: float, is_over: bool
) -> None:
    # Six seconds on a quarter of a GPU.
    at = world(
        "resources={workers: 2, gpus_per_worker: 1,"
        " by_model: {'toy:2x64': {workers: 1, gpus_per_worker: 0.25}}}",
        f"budget.gpu_hours={gpu_seconds / 3600}",
    )
    task = at.next()
    at.begin(task)
    clock[0] += 6
    at.finish(task)
    assert (at.scheduler.next_task() is None) == is_over


def test_an_attempt_that_ends_without_its_stage_counts(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=3", *ALONE, f"budget.gpu_hours={99 / 3600}")
    failing, lost = at.next(), at.next()
    at.begin(failing)
    clock[0] += 60
    at.scheduler.finish(failing.number, Report("failed", cause="nan", message="x"))
    assert occupied(at, failing.number) == pytest.approx(60)
    at.begin(lost)
    clock[0] += 40
    lose(at, lost)
    clock[0] += 1000
    assert occupied(at, lost.number) == pytest.approx(40), "no process has its GPU meanwhile"
    assert at.scheduler.next_task() is None
    at.sit_down()
    assert at.next().number == lost.number, "it has begun"
    assert at.scheduler.next_task() is None, "a restart knows what was spent"


def test_a_trial_that_was_stopped_early_counts(world: MakeWorld, clock: list[float]) -> None:
    at = world(*ALONE, "early_stop={method: asha, grace_examples: 10, reduction: 2}",
               "search.trials=3", f"budget.gpu_hours={99 / 3600}")  # fmt: skip
    good, bad = at.next(), at.next()
    for task in (good, bad):
        at.begin(task)
    assert not at.evaluated(good.number, 10, 0.9)
    clock[0] += 50
    assert at.evaluated(bad.number, 10, 0.1)
    at.scheduler.finish(bad.number, Report("evaluated"))
    assert at.ledger.trial(bad.number).state == "pruned"
    assert occupied(at, bad.number) == pytest.approx(50)
    assert at.scheduler.next_task() is None


def test_an_attempt_in_the_same_process_counts_on(world: MakeWorld, clock: list[float]) -> None:
    at = world("search.trials=1", *ALONE)
    task = at.next()
    at.begin(task)
    clock[0] += 30
    at.scheduler.on_report(
        task.number, Report("retrying", stage="target", cause="oom", message="x")
    )
    clock[0] += 600
    at.finish(task)
    assert occupied(at, task.number) == pytest.approx(630), "a pause has the GPU, too"


def test_a_sweep_that_is_stopped_notes_what_its_trials_took(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=2", *ALONE)
    at.begin(at.next())
    clock[0] += 20
    at.scheduler.close(is_finished=False)
    assert occupied(at, 0) == pytest.approx(20)
    assert at.ledger.trial(0).occupied.since is None


def test_a_driver_that_is_killed_leaves_less_than_a_sign_of_life_uncounted_and_nothing_twice(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=2", *ALONE)
    task = at.next()
    at.begin(task)
    for _ in range(100):
        clock[0] += 5
        at.scheduler.on_report(task.number, Report("ticked", stage="target"))
    # Killed.
    seconds = occupied(at, task.number)
    assert 500 - HEARTBEAT_S <= seconds <= 500
    for _ in range(3):
        clock[0] += 1000
        at.sit_down()
        assert occupied(at, task.number) == seconds
    assert at.next().number == task.number
    at.begin(task)
    clock[0] += 100
    at.finish(task)
    assert occupied(at, task.number) == pytest.approx(seconds + 100)


def test_signs_of_life_are_one_line_a_minute_however_many_trials_say_something(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=2", *ALONE)
    for task in (first := at.next(), second := at.next()):
        at.begin(task)
    at.scheduler.on_report(first.number, Report("ticked", stage="target"))
    before = at.home.ledger_journal("t").read_bytes().count(b"\n")
    for _ in range(120):
        clock[0] += 1
        for task in (first, second):
            at.scheduler.on_report(task.number, Report("ticked", stage="target"))
    assert at.home.ledger_journal("t").read_bytes().count(b"\n") == before + 2


def test_hours_that_were_spent_stay_what_they_were_when_resources_change(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=3", *ALONE)
    task = at.next()
    at.begin(task)
    clock[0] += 10
    at.finish(task)
    resources = at.sweep.settings.resources.model_copy(update={"workers": 4})
    settings = at.sweep.settings.model_copy(update={"resources": resources})
    at.sweep = replace(at.sweep, settings=settings)
    budget(at, gpu_hours=39 / 3600)
    assert at.scheduler.next_task() is not None
    assert spent(at) == pytest.approx(10)


def test_what_stages_took_counts_in_a_ledger_that_kept_no_more(world: MakeWorld) -> None:
    at = world("search.trials=2", *ALONE)
    number = at.next().number
    uses = [
        StageUse(kind, key * 64, kind, False, 1, 30.0) for kind, key in (("a", "a"), ("b", "b"))
    ]
    at.ledger.set_stages(number, uses)
    at.ledger.tell_complete(number, 0.5)
    budget(at, gpu_hours=59 / 3600)
    assert at.scheduler.next_task() is None
    budget(at, gpu_hours=61 / 3600)
    assert at.scheduler.next_task() is not None


def test_everything_shows_the_hours_that_the_budget_counts(
    world: MakeWorld, clock: list[float]
) -> None:
    at = world("search.trials=2", *ALONE)
    task = at.next()
    at.begin(task)
    clock[0] += 3600
    at.finish(task)
    number = task.number
    view = at.ledger.trial(number)
    costs = costs_frame(read_snapshot(at.ledger, at.store))
    assert costs["gpu_hours"][number] == pytest.approx(1)
    assert costs["occupied_s"][number] == pytest.approx(3600)
    assert final_metrics(view, (), "accuracy", "qaa")["gpu_hours"] == pytest.approx(1)
    assert status_row(at.ledger)["gpu_hours"] == pytest.approx(1)


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
            assert (at.scheduler.next_task() is None) == is_over
    finally:
        monkeypatch.undo()
        time.tzset()
