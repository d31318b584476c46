"""The budget: what counts as spent, what still begins when it is used up, and what waits."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.sweep.conftest import Driver, Start, scores_of
from xlt_ray.cli.listings import status_row
from xlt_ray.config.retry_policy import RepeatedBug
from xlt_ray.config.sweep import Budget
from xlt_ray.ledger import StageUse
from xlt_ray.report.frames import costs_frame, read_snapshot
from xlt_ray.sweep.budget import HEARTBEAT_S
from xlt_ray.sweep.tasks import Report, TrialTask
from xlt_ray.tracking.mlflow_fields import final_metrics

SAME_BUG = RepeatedBug().times
ONE_GPU = "resources={workers: 1, gpus_per_worker: 1}"
ALONE = ("intermediate=null", ONE_GPU)
"""No trial shares a stage with another."""
FOUR = (*ALONE, "target.learning_rate={choice: [1e-5, 1e-4, 1e-3, 1e-2]}")
"""The same, with four configurations."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of the clock that attempts are measured by; tests set it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def budget(driver: Driver, **limits: Any) -> None:
    """Another driver, with another budget."""
    settings = driver.sweep.settings.model_copy(update={"budget": Budget(**limits)})
    driver.sweep = replace(driver.sweep, settings=settings)
    driver.restart()


def occupied(driver: Driver, number: int) -> float:
    """Seconds that a trial has had its resources, as the ledger has it now."""
    return driver.ledger.trials()[number].occupied.seconds


def spent(driver: Driver) -> float:
    """GPU-seconds of the sweep, as status, report and MLflow add them up."""
    return sum(trial.occupied.gpu_seconds for trial in driver.ledger.trials())


def lose(driver: Driver, task: TrialTask) -> None:
    driver.scheduler.on_report(task.number, Report("lost", cause="lost", message="gone"))


# -- what still starts ------------------------------------------------------------------------


def test_trials_asked_ahead_do_not_start_over_the_budget(start: Start, clock: list[float]) -> None:
    driver = start("intermediate.size=100", "search.trials=2", ONE_GPU,
               f"budget.gpu_hours={1.5 / 3600}")  # fmt: skip
    first = driver.next()
    assert driver.scheduler.next_task() is None, "the second needs the stage that the first makes"
    driver.begin(first)
    clock[0] += 2
    driver.make(first, "intermediate")
    assert driver.scheduler.next_task() is None
    assert not driver.scheduler.is_finished
    assert not driver.scheduler.is_out_of_budget, "the first is still at work"
    # It ends before it has heard that it is to end.
    driver.finish(first)
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_done
    assert driver.scheduler.num_deferred == 1
    assert not driver.scheduler.is_finished
    assert driver.scheduler.is_out_of_budget
    assert [trial.state for trial in driver.ledger.trials()] == ["complete", "running"]


def test_deferred_trials_start_in_a_run_with_a_larger_budget(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=2", *ALONE, f"budget.gpu_hours={1 / 3600}")
    first, second = driver.next(), driver.next()
    driver.begin(first)
    clock[0] += 2
    driver.finish(first)
    driver.restart()
    assert driver.scheduler.is_done, "no cluster is started for it"
    assert driver.scheduler.next_task() is None
    budget(driver, gpu_hours=1.0)
    assert driver.complete(driver.next()).number == second.number
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_finished
    assert not driver.scheduler.is_out_of_budget


def test_running_trials_end_with_their_progress_when_the_budget_is_used_up(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=2", *ALONE, f"budget.gpu_hours={100 / 3600}")
    tasks = [driver.begin_next(), driver.begin_next()]
    clock[0] += 49
    assert not any(tick(driver, task) for task in tasks)
    clock[0] += 2
    for task in tasks:
        assert tick(driver, task)
        assert driver.scheduler.keeps_progress(task.number)
        assert driver.end(task, "ticked").state == "running", "the next run continues it"
        assert driver.sync.status[f"run {task.number}"] == "interrupted"
    assert driver.scheduler.is_done
    assert driver.scheduler.is_out_of_budget
    driver.restart()
    assert driver.scheduler.is_done, "a restart knows what was spent"
    budget(driver, gpu_hours=1.0)
    assert driver.complete(driver.next()).number == tasks[0].number


def test_a_process_that_comes_up_after_the_budget_begins_no_attempt(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=2", *ALONE, f"budget.gpu_hours={100 / 3600}")
    working, late = driver.begin_next(), driver.next()
    clock[0] += 101
    assert driver.scheduler.on_report(late.number, Report("begun"))
    assert driver.end(late, "begun").attempts == 0
    assert tick(driver, working)
    driver.end(working, "ticked")
    assert sum("used up" in line for line in driver.reporter.warnings) == 1
    assert driver.scheduler.is_out_of_budget


def test_a_trial_that_has_begun_waits_for_more_budget(start: Start) -> None:
    driver = start("search.trials=2", *ALONE)
    asked, begun = driver.next(), driver.next()
    driver.begin(begun)
    budget(driver, hours=1e-9)
    assert driver.scheduler.is_done
    assert driver.scheduler.num_deferred == 2
    assert not driver.scheduler.is_finished
    budget(driver)
    assert [driver.next().number, driver.next().number] == [asked.number, begun.number]


# -- what fits into the rest ------------------------------------------------------------------


def take(driver: Driver, task: TrialTask, clock: list[float], seconds: float) -> None:
    """Run a task, whose target stage takes so many seconds."""
    driver.begin(task)
    finish(driver, task, clock, seconds)


def finish(
    driver: Driver, task: TrialTask, clock: list[float], seconds: float, before: float = 0.0
) -> None:
    """Let a task end after so many more seconds of its target stage, which has taken ``before``,
    and one of its evaluation."""
    target, evaluate = (stage for stage in task.path if stage.kind in ("target", "evaluate"))
    for stage, stage_s in ((target, seconds), (evaluate, 1.0)):
        clock[0] += stage_s
        driver.commit(stage, scores_of(0.5) if stage is evaluate else ())
        taken_s = stage_s + before * (stage is target)
        use = StageUse(stage.kind, stage.key, stage.label, False, stage.num_examples, taken_s)
        report = Report("stage", stage=stage.kind, finished_stage=use)
        driver.scheduler.on_report(task.number, report)
    driver.end(task, "complete", scores=scores_of(0.5))


def tick(driver: Driver, task: TrialTask, share: float = 0.0) -> bool:
    """A heartbeat of the target stage; whether the trial is to end."""
    target = next(stage for stage in task.path if stage.kind == "target")
    seen = round(share * target.num_examples)
    report = Report("ticked", stage="target", examples=seen, total_examples=target.num_examples)
    return driver.scheduler.on_report(task.number, report)


def test_a_trial_starts_only_if_it_can_finish_inside_the_budget(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=4", *FOUR, f"budget.gpu_hours={250 / 3600}")
    take(driver, driver.next(), clock, 99)
    running = driver.begin_next()
    assert driver.scheduler.next_task() is None, "150 GPU-seconds are left, and two take 200"
    assert not driver.scheduler.is_done, "the running one may take less than it seems"
    clock[0] += 40
    assert not tick(driver, running, 0.9)
    # The rest of the running one is 10 + 1 seconds, and 250 - 140 - 11 is less than 100.
    assert driver.scheduler.next_task() is None
    finish(driver, running, clock, 2, before=40)
    driver.next()


def test_a_sweep_ends_if_nothing_more_fits(start: Start, clock: list[float]) -> None:
    driver = start("search.trials=4", *FOUR, f"budget.gpu_hours={150 / 3600}")
    take(driver, driver.next(), clock, 99)
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_done
    assert driver.scheduler.is_out_of_budget
    assert "no room for another trial (0.0278 of 0.0417 GPU-hours used)" in (
        driver.scheduler.reason_to_end
    )
    driver.restart()
    assert driver.scheduler.is_done, "the ledger knows what trials take"


def test_a_share_is_kept_for_the_confirmation(start: Start, clock: list[float]) -> None:
    driver = start("search.trials=4", *FOUR,
                   f"budget={{gpu_hours: {300 / 3600}, confirm_share: 0.4}}")  # fmt: skip
    take(driver, driver.next(), clock, 99)
    assert driver.scheduler.next_task() is None, "100 of 180 are spent, and a trial takes 100"
    budget(driver, gpu_hours=300 / 3600)
    driver.next()


def test_unknown_trials_count_as_a_tenth_of_the_budget(start: Start, clock: list[float]) -> None:
    driver = start("search.trials=4", *FOUR, f"budget.gpu_hours={100 / 3600}")
    driver.begin_next()
    clock[0] += 44
    driver.begin_next()
    clock[0] += 1
    assert driver.scheduler.next_task() is None, "46 are spent, and the first may take as long"


def test_the_time_left_is_shown_every_minute(start: Start, clock: list[float]) -> None:
    driver = start("search.trials=3", *FOUR, f"budget.gpu_hours={1000 / 3600}")
    take(driver, driver.next(), clock, 99)
    running = driver.begin_next()
    clock[0] += HEARTBEAT_S
    tick(driver, running, 0.4)
    # 60 % of the running one, one more, and one that was not asked for.
    assert driver.sync.time_left[-1] == "about 3 min left"
    kind, _, line = driver.reporter.lines[-2]
    assert (kind, line) == ("timed", "about 3 min left, 0.0444 of 0.278 GPU-hours")
    heartbeat = driver.ledger.heartbeat
    assert heartbeat is not None
    assert heartbeat.left_s == pytest.approx(0.6 * 99 + 1 + 100, abs=0.1)


def test_a_retry_does_not_start_over_the_budget(start: Start) -> None:
    driver = start("search.trials=1", *ALONE)
    driver.fail(driver.next(), "no memory", cause="disk")
    driver.ledger.enqueue_failed()
    driver.restart()
    again = driver.next()
    assert driver.ledger.trial(again.number).attempts == 1, "it counts on from the failed one"
    budget(driver, hours=1e-9)
    assert driver.scheduler.next_task() is None
    budget(driver)
    assert driver.next().number == again.number


def test_trials_asked_ahead_do_not_start_after_a_repeated_bug(start: Start) -> None:
    rates = [1e-4 * (1 + index) for index in range(20)]
    driver = start(f"target.learning_rate={{choice: {rates}}}", "search.trials=20",
               "intermediate.size=100")  # fmt: skip
    first = driver.next()
    assert driver.scheduler.next_task() is None
    driver.begin(first)
    driver.make(first, "intermediate")
    driver.scheduler.finish(first.number, Report("failed", cause="bug", message="KeyError: 'x'"))
    num_failed = 1
    while (task := driver.scheduler.next_task()) is not None:
        driver.begin(task)
        driver.scheduler.finish(task.number, Report("failed", cause="bug", message="KeyError: 'x'"))
        num_failed += 1
    assert num_failed == SAME_BUG
    assert driver.scheduler.repeated_bug
    assert not driver.scheduler.is_finished
    assert driver.scheduler.num_deferred == 20 - SAME_BUG


# -- what counts ------------------------------------------------------------------------------


def test_a_trial_counts_from_the_start_of_its_process_to_its_end(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=3", "resources={workers: 2, gpus_per_worker: 1}",
               "intermediate=null", f"budget.gpu_hours={180 / 3600}")  # fmt: skip
    task = driver.next()
    driver.scheduler.on_report(task.number, Report("begun", occupied_s=20.0))
    clock[0] += 5
    driver.scheduler.on_report(task.number, Report("waiting", stage="target", holder="another"))
    clock[0] += 15
    # The record of a stage says two seconds.
    driver.make(task, "target")
    assert driver.scheduler.next_task() is not None
    clock[0] += 30
    driver.finish(task)
    assert occupied(driver, task.number) == pytest.approx(70)
    assert spent(driver) == pytest.approx(140)


def test_a_running_trial_counts_before_its_end(start: Start, clock: list[float]) -> None:
    driver = start("search.trials=3", *ALONE, f"budget.gpu_hours={50 / 3600}")
    driver.begin_next()
    clock[0] += 22
    driver.begin_next()
    clock[0] += 2
    assert driver.scheduler.next_task() is None


@pytest.mark.parametrize(("gpu_seconds", "is_over"), [(2.4, True), (2.6, False)])
def test_gpu_hours_depend_on_the_resources_of_the_model(
    start: Start, clock: list[float], gpu_seconds: float, is_over: bool
) -> None:
    # Six seconds on a quarter of a GPU, and four more without the shared stage.
    driver = start(
        "resources={workers: 2, gpus_per_worker: 1,"
        " by_model: {'toy:2x64': {workers: 1, gpus_per_worker: 0.25}}}",
        f"budget.gpu_hours={gpu_seconds / 3600}",
    )
    task = driver.begin_next()
    clock[0] += 6
    driver.finish(task)
    assert (driver.scheduler.next_task() is None) == is_over


def test_an_attempt_that_ends_without_its_stage_counts(start: Start, clock: list[float]) -> None:
    driver = start("search.trials=3", *ALONE, f"budget.gpu_hours={99 / 3600}")
    failing, lost = driver.next(), driver.next()
    driver.begin(failing)
    clock[0] += 60
    driver.scheduler.finish(failing.number, Report("failed", cause="nan", message="x"))
    assert occupied(driver, failing.number) == pytest.approx(60)
    driver.begin(lost)
    clock[0] += 40
    lose(driver, lost)
    clock[0] += 1000
    assert occupied(driver, lost.number) == pytest.approx(40), "no process has its GPU meanwhile"
    assert driver.scheduler.next_task() is None
    driver.restart()
    assert driver.scheduler.next_task() is None, "a restart knows what was spent"
    budget(driver, gpu_hours=1.0)
    assert driver.next().number == lost.number


def test_a_trial_that_was_stopped_early_counts(start: Start, clock: list[float]) -> None:
    driver = start(*ALONE, "early_stop={method: asha, grace_examples: 10, reduction: 2}",
               "search.trials=3", f"budget.gpu_hours={99 / 3600}")  # fmt: skip
    good, bad = driver.next(), driver.next()
    for task in (good, bad):
        driver.begin(task)
    assert not driver.evaluated(good.number, 10, 0.9)
    clock[0] += 50
    assert driver.evaluated(bad.number, 10, 0.1)
    driver.scheduler.finish(bad.number, Report("evaluated"))
    assert driver.ledger.trial(bad.number).state == "pruned"
    assert occupied(driver, bad.number) == pytest.approx(50)
    assert driver.scheduler.next_task() is None


def test_an_attempt_in_the_same_process_counts_on(start: Start, clock: list[float]) -> None:
    driver = start("search.trials=1", *ALONE)
    task = driver.begin_next()
    clock[0] += 30
    driver.scheduler.on_report(
        task.number, Report("retrying", stage="target", cause="oom", message="x")
    )
    clock[0] += 600
    driver.finish(task)
    assert occupied(driver, task.number) == pytest.approx(630), "a pause has the GPU, too"


def test_a_sweep_that_is_stopped_notes_what_its_trials_took(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=2", *ALONE)
    driver.begin_next()
    clock[0] += 20
    driver.scheduler.close(is_finished=False)
    assert occupied(driver, 0) == pytest.approx(20)
    assert driver.ledger.trial(0).occupied.since is None


def test_a_killed_driver_leaves_at_most_a_heartbeat_uncounted_and_nothing_twice(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=2", *ALONE)
    task = driver.begin_next()
    for _ in range(100):
        clock[0] += 5
        driver.scheduler.on_report(task.number, Report("ticked", stage="target"))
    # Killed.
    seconds = occupied(driver, task.number)
    assert 500 - HEARTBEAT_S <= seconds <= 500
    for _ in range(3):
        clock[0] += 1000
        driver.restart()
        assert occupied(driver, task.number) == seconds
    assert driver.next().number == task.number
    driver.begin(task)
    clock[0] += 100
    driver.finish(task)
    assert occupied(driver, task.number) == pytest.approx(seconds + 100)


def test_a_heartbeat_is_written_once_a_minute_for_all_trials(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=2", *ALONE)
    for task in (first := driver.next(), second := driver.next()):
        driver.begin(task)
    driver.scheduler.on_report(first.number, Report("ticked", stage="target"))
    before = driver.home.ledger_journal("t").read_bytes().count(b"\n")
    for _ in range(120):
        clock[0] += 1
        for task in (first, second):
            driver.scheduler.on_report(task.number, Report("ticked", stage="target"))
    assert driver.home.ledger_journal("t").read_bytes().count(b"\n") == before + 2


def test_spent_hours_do_not_change_with_the_resources(start: Start, clock: list[float]) -> None:
    driver = start("search.trials=3", *ALONE)
    task = driver.begin_next()
    clock[0] += 10
    driver.finish(task)
    resources = driver.sweep.settings.resources.model_copy(update={"workers": 4})
    settings = driver.sweep.settings.model_copy(update={"resources": resources})
    driver.sweep = replace(driver.sweep, settings=settings)
    budget(driver, gpu_hours=51 / 3600)
    assert driver.scheduler.next_task() is not None, "ten seconds of four GPUs"
    assert spent(driver) == pytest.approx(10)


def test_an_old_ledger_counts_the_seconds_of_its_stages(start: Start) -> None:
    driver = start("search.trials=2", *ALONE)
    number = driver.next().number
    uses = [
        StageUse(kind, key * 64, kind, False, 1, 30.0) for kind, key in (("a", "a"), ("b", "b"))
    ]
    driver.ledger.set_stages(number, uses)
    driver.ledger.tell_complete(number, 0.5)
    budget(driver, gpu_hours=59 / 3600)
    assert driver.scheduler.next_task() is None
    budget(driver, gpu_hours=80 / 3600)
    assert driver.scheduler.next_task() is not None


def test_report_mlflow_and_status_show_the_hours_of_the_budget(
    start: Start, clock: list[float]
) -> None:
    driver = start("search.trials=2", *ALONE)
    task = driver.begin_next()
    clock[0] += 3600
    driver.finish(task)
    number = task.number
    view = driver.ledger.trial(number)
    costs = costs_frame(read_snapshot(driver.ledger, driver.store))
    assert costs["gpu_hours"][number] == pytest.approx(1)
    assert costs["occupied_s"][number] == pytest.approx(3600)
    assert final_metrics(view, (), "accuracy", "qaa")["gpu_hours"] == pytest.approx(1)
    assert status_row(driver.ledger)["gpu_hours"] == pytest.approx(1)


def test_hours_do_not_depend_on_the_time_zone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = start("search.trials=2", *ALONE)
    driver.complete(driver.next())
    try:
        for zone, hours, is_over in (("UTC+11", 1.0, False), ("UTC-11", 1e-9, True),
                                     ("UTC-11", 1.0, False)):  # fmt: skip
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            budget(driver, hours=hours)
            assert (driver.scheduler.next_task() is None) == is_over
    finally:
        monkeypatch.undo()
        time.tzset()
