"""The scheduler: which trial starts next, what is recorded of it, and when a sweep ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.unit.sweep.conftest import TEXT, Driver, ReadSweep, Start, scores_of
from xlt_ray.config.retry_policy import RepeatedBug
from xlt_ray.config.sweep import Store, SweepSpec
from xlt_ray.errors import CHANGED, LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import Retry, StageUse
from xlt_ray.ledger.access import sole_driver
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.sweep.failures import PERMANENT, find_ledger_error
from xlt_ray.sweep.scheduler import LEARNING_LOOK_AHEAD
from xlt_ray.sweep.tasks import Report, TrialTask
from xlt_ray.tracking import FLUSH_TIMEOUT_S, NO_REPLY_TIMEOUT_S

SAME_BUG = RepeatedBug().times
ALONE = "intermediate=null"
"""No trial shares a stage with another."""
RATES = "target.learning_rate={float: [1e-5, 1e-3]}"
RANDOM = (ALONE, RATES, "search={trials: 50, sampler: random}")
SHARED = ("intermediate.size=100", RATES)
"""All trials share one intermediate stage."""
ASHA = (
    ALONE, "early_stop={method: asha, grace_examples: 10, reduction: 2}",
    "target.learning_rate={choice: [1e-5, 1e-4, 1e-3, 1e-2]}",
)  # fmt: skip


def size_of(task: TrialTask) -> object:
    assert task.trial.intermediate is not None
    return task.trial.intermediate.size


# -- which trial starts -----------------------------------------------------------------------


def test_a_trial_waits_for_the_stage_that_another_one_makes(start: Start) -> None:
    driver = start()
    first, second = driver.next(), driver.next()
    # The grid's second point shares the intermediate stage of its first; the third does not.
    assert (first.number, size_of(first)) == (0, 100)
    assert (second.number, size_of(second)) == (2, 200)
    assert driver.scheduler.next_task() is None
    assert not driver.scheduler.is_done
    assert driver.scheduler.num_running == 2
    driver.begin(first)
    driver.make(first, "intermediate")
    unblocked = driver.next()
    assert (unblocked.number, size_of(unblocked)) == (1, 100)
    assert driver.scheduler.next_task() is None


def test_a_trial_that_can_run_is_found_behind_those_that_wait(start: Start) -> None:
    rates = [1e-4 * (1 + index) for index in range(LEARNING_LOOK_AHEAD)]
    driver = start(
        f"target.learning_rate={{choice: {rates}}}", "search={trials: 99, sampler: grid}"
    )
    assert size_of(driver.next()) == 100
    # Seven more points of the grid share that intermediate stage and are passed over.
    task = driver.next()
    assert (task.number, size_of(task)) == (LEARNING_LOOK_AHEAD, 200)


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_every_stage_is_made_once_with_any_number_of_workers(
    start: Start, workers: int, sampler: str
) -> None:
    driver = start(
        "align={choice: [null, {objective: tlm}]}", f"search={{trials: 8, seeds: 2, "
        f"sampler: {sampler}}}", "intermediate.seed={choice: [shared, per_trial]}",
    )  # fmt: skip
    random = Random(workers)
    running: list[TrialTask] = []
    trained: list[str] = []

    def next_stage(task: TrialTask) -> Stage | None:
        stages = stages_to_run(task.path)
        return next((stage for stage in stages if stage not in driver.store), None)

    while not driver.scheduler.is_done or running:
        while len(running) < workers and (task := driver.scheduler.next_task()) is not None:
            driver.begin(task)
            running.append(task)
        assert running, "a trial can always run"
        keys = [stage.key for stage in map(next_stage, running) if stage is not None]
        assert len(keys) == len(set(keys)), "two workers would make the same stage"
        task = random.choice(running)
        stage = next_stage(task)
        if stage is not None:
            driver.make(task, stage.kind)
            trained.append(stage.key)
        else:
            driver.end(task, "complete", scores=scores_of(0.5))
            running.remove(task)
    assert len(trained) == len(set(trained)) == len(driver.store)
    assert driver.scheduler.new_stages.keys() == set(trained)
    assert {trial.state for trial in driver.ledger.trials()} == {"complete"}
    assert driver.scheduler.num_running == 0


@pytest.mark.parametrize("cause", PERMANENT)
def test_trials_that_need_a_stage_which_failed_twice_fail_without_an_attempt(
    start: Start, cause: str
) -> None:
    driver = start("target.learning_rate={choice: [1e-4, 1e-3, 1e-2]}", "search.trials=6")
    first, unrelated = driver.next(), driver.next()
    assert (size_of(first), size_of(unrelated)) == (100, 200)
    driver.fail(first, "TrialFailure: the loss is nan", cause=cause)
    second = driver.next()
    assert (second.number, size_of(second)) == (1, 100), "its node may have been at fault"
    driver.fail(second, "TrialFailure: the loss is nan", cause=cause)
    assert driver.scheduler.next_task() is None
    dependant = driver.ledger.trial(2)
    assert (dependant.state, dependant.cause) == ("failed", cause)
    assert "intermediate pairs 100 failed in trials 0 and 1" in dependant.message
    assert driver.sync.status["run 2"] == "failed"
    assert driver.complete(unrelated).state == "complete"
    assert size_of(driver.next()) == 200, "another intermediate stage is tried"


@pytest.mark.parametrize("cause", ["device", "storage", "lost", "timeout", "preempted"])
def test_a_temporary_cause_fails_no_other_trial(start: Start, cause: str) -> None:
    driver = start(*SHARED, "search={trials: 6, sampler: random}")
    for number in range(6):
        task = driver.next()
        assert task.number == number
        driver.fail(task, "AcceleratorError: unspecified launch failure", cause=cause)
    assert not driver.scheduler.repeated_bug


def test_a_trial_tries_a_stage_again_whose_process_was_lost(start: Start) -> None:
    driver = start()
    driver.scheduler.finish(driver.begin_next().number, None)
    assert driver.ledger.trial(0).cause == "lost"
    again = driver.next()
    assert (again.number, size_of(again)) == (1, 100)


def test_a_failure_after_a_shared_stage_affects_no_other_trial(start: Start) -> None:
    driver = start()
    first = driver.begin_next()
    driver.make(first, "intermediate")
    driver.end(first, "failed", cause="nan", message="nan")
    assert driver.complete(driver.next()).state == "complete"


def test_a_failure_looks_up_no_stage_of_trials_that_do_not_need_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = start(*SHARED, "search={trials: 60, sampler: random}")
    first = driver.next()
    assert driver.scheduler.next_task() is None
    driver.begin(first)
    driver.make(first, "intermediate")
    looks: list[str] = []
    exists = driver.store.storage.exists

    def counted(path: str) -> bool:
        looks.append(path)
        return exists(path)

    monkeypatch.setattr(driver.store.storage, "exists", counted)
    # An earlier trial failed at the same stage.
    key = stages_to_run(first.path)[-2].key
    driver.scheduler._repeated_failures.fail(key, -1, Report("failed"))
    driver.end(first, "failed", cause="nan", message="nan")
    assert driver.scheduler.next_task() is not None
    assert len(looks) < 20, "three for each of 59 waiting trials would be 177"


def test_a_limited_number_of_trials_is_asked_ahead(start: Start) -> None:
    driver = start(*SHARED, "search={trials: 50, sampler: tpe}")
    driver.next()
    for _ in range(5):
        assert driver.scheduler.next_task() is None
    assert len(driver.ledger.trials()) == 1 + LEARNING_LOOK_AHEAD


def test_nothing_is_asked_to_know_that_a_sweep_is_not_finished(start: Start) -> None:
    driver = start()
    task = driver.next()
    num_asked = len(driver.ledger.trials())
    driver.begin(task)
    assert not driver.scheduler.is_finished
    assert len(driver.ledger.trials()) == num_asked


def test_a_trial_like_a_running_one_waits_and_then_needs_nothing(start: Start) -> None:
    # All training examples are a thousand.
    size = "target={task: nli, source_language: qaa, size: {choice: [1000, all]}}"
    driver = start(ALONE, size, "search={trials: 2, sampler: random}")
    first = driver.next()
    assert driver.scheduler.next_task() is None
    driver.complete(first)
    view = driver.complete(driver.next())
    assert all(use.reused for use in view.stages)
    assert all(not use.reused for use in driver.ledger.trial(0).stages)


def test_trials_of_a_dead_driver_start_first(start: Start) -> None:
    driver = start()
    first, second = driver.begin_next(), driver.next()
    driver.make(first, "intermediate")
    driver.restart()
    again = [driver.next(), driver.next()]
    assert [task.number for task in again] == [first.number, 1]
    assert again[0].path == first.path
    assert driver.next().path == second.path
    view = driver.complete(again[0])
    assert view.attempts == 2
    assert driver.sync.status["run 0"] == "complete"


def test_a_sweep_without_disk_space_ends_with_the_reason(start: Start) -> None:
    driver = start("store.quota=1kB")
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_done
    assert "store.quota: 1 kB is too little" in driver.scheduler.stopped_by
    assert [trial.state for trial in driver.ledger.trials()] == ["running"], "a later run goes on"
    settings = driver.sweep.settings.model_copy(update={"store": Store(quota="1GB")})
    driver.sweep = replace(driver.sweep, settings=settings)
    driver.restart()
    assert driver.next().number == 0
    assert not driver.scheduler.stopped_by


def test_a_trial_waits_while_a_running_one_fills_the_disk(start: Start) -> None:
    # One trial at a time fits: two layers of 64 take 400 kB, its progress three times that, with
    # the weights of its best evaluation once more.
    driver = start("store.quota=4MB")
    first = driver.next()
    assert driver.scheduler.next_task() is None
    assert not driver.scheduler.stopped_by
    assert not driver.scheduler.is_done
    assert driver.complete(first).state == "complete"
    assert driver.next().number == 1


# -- what is recorded -------------------------------------------------------------------------


def test_a_complete_trial_is_recorded_everywhere(start: Start) -> None:
    driver = start()
    task = driver.next()
    view = driver.complete(task, 0.75)
    assert (view.state, view.objective) == ("complete", 0.75)
    assert [use.kind for use in view.stages] == ["intermediate", "target", "evaluate"]
    assert view.mlflow_run_id == "run 0"
    assert driver.sync.status == {"run 0": "complete"}
    assert driver.sync.trials["run 0"].view.evaluation_key == task.path[-1].key
    assert driver.sync.trials["run 0"].view.assignment == view.assignment
    assert driver.reporter.lines[0] == ("begun", 0, "running")
    assert driver.reporter.lines[-1] == ("finished", 0, "complete")


def find_first_stage(driver: Driver, task: TrialTask, made_by: str) -> StageUse:
    """The first stage of a task is found in the store; how the ledger has it then."""
    stage = task.path[1]
    use = StageUse(stage.kind, stage.key, stage.label, True, 96, 3600.0, made_by)
    driver.scheduler.on_report(task.number, Report("stage", stage=stage.kind, finished_stage=use))
    return driver.ledger.trial(task.number).stages[0]


def test_a_stage_that_an_earlier_process_of_the_trial_made_is_its_own(start: Start) -> None:
    driver = start("search.trials=1")
    driver.begin_next()
    # It commits a stage, and dies before it can report that.
    driver.restart()
    task = driver.begin_next()
    use = find_first_stage(driver, task, "t/0")
    assert (use.reused, use.examples, use.seconds) == (False, 96, 3600.0)
    assert find_first_stage(driver, task, "t/0") == use
    assert list(driver.scheduler.new_stages) == [use.key]


@pytest.mark.parametrize(
    ("attempts", "maker"),
    # An earlier sweep of this name, whose ledger is gone, may have left the last one.
    [(2, "t/1"), (2, "other/0"), (2, "t"), (2, ""), (1, "t/0")],
)
def test_a_stage_that_another_trial_made_is_reused(start: Start, attempts: int, maker: str) -> None:
    driver = start("search.trials=1")
    task = driver.next()
    for _ in range(attempts):
        driver.begin(task)
    use = find_first_stage(driver, task, maker)
    assert (use.reused, use.examples, use.seconds) == (True, 0, 0.0)
    assert use.made_by == maker
    assert not driver.scheduler.new_stages


def test_a_stage_trained_by_an_earlier_run_stays_trained_and_is_not_new(start: Start) -> None:
    driver = start("search.trials=1")
    driver.make(driver.begin_next(), "intermediate")
    driver.restart()
    task = driver.begin_next()
    driver.make(task, "intermediate")
    assert not driver.scheduler.new_stages
    uses = {use.kind: use for use in driver.finish(task).stages}
    assert not uses["intermediate"].reused
    assert uses["intermediate"].examples == task.path[1].num_examples
    assert set(driver.scheduler.new_stages) == {uses["target"].key, uses["evaluate"].key}


def test_a_second_attempt_in_the_same_run_is_counted(start: Start) -> None:
    driver = start("search.trials=1")
    assert driver.complete(driver.begin_next()).attempts == 2
    assert list(driver.sync.status) == ["run 0"]


@pytest.mark.parametrize(
    ("languages", "objective"),
    [("source", 0.5), ("target", 0.25), ("all", 0.375), ("[qab]", 0.25), ("[qaa, qab]", 0.375)],
)
def test_the_objective_is_the_mean_over_its_languages(
    start: Start, languages: str, objective: float
) -> None:
    driver = start(f"objective.languages={languages}")
    assert driver.complete(driver.next(), 0.5).objective == objective
    # Scores of other tasks and of pairs of languages change nothing.
    additional = (
        Score("nli-pairs", "qaa:qab", "dev", "accuracy", 0.01, 50, "pairs"),
        Score("other", "qaa", "dev", "accuracy", 0.02, 50, "further"),
        Score("other", "qad", "dev", "accuracy", 0.03, 50, "further"),
    )
    for scores in ((*additional, *scores_of(0.5)), (*scores_of(0.5), *additional)):
        task = driver.begin_next()
        driver.make(task)
        assert driver.end(task, "complete", scores=scores).objective == objective


@pytest.mark.parametrize(
    "change",
    ["target={task: nli, source_language: {choice: [qaa, qab]}}",
     "target={choice: [{task: nli, source_language: qaa}]}"],
)  # fmt: skip
def test_the_source_language_may_be_searched(start: Start, change: str) -> None:
    driver = start(change, ALONE)
    assert driver.complete(driver.next(), 0.5).objective == 0.5


def test_after_few_shots_the_objective_is_the_source_dev_set(start: Start) -> None:
    driver = start("few_shot={language: qab, shots: 5}")
    task = driver.begin_next()
    driver.make(task)
    scores = tuple(
        Score("nli-few-shot", language, split, "accuracy", value, 50, "few_shot")
        for language, split, value in (
            ("qaa", "dev", 0.6), ("qaa", "test", 0.1), ("qab", "test", 0.2),
        )
    )  # fmt: skip
    assert driver.end(task, "complete", scores=scores).objective == 0.6


def test_an_objective_that_was_not_measured_fails_only_its_trial(start: Start) -> None:
    driver = start("objective.languages=[qzz]")
    view = driver.complete(driver.next())
    assert (view.state, view.cause) == ("failed", "data")
    assert "qzz" in view.message
    assert driver.scheduler.next_task() is not None


def test_an_evaluation_without_the_metric_fails_with_how_to_make_it_again(start: Start) -> None:
    driver = start("objective.metric=macro_f1")
    scores = tuple(score for score in scores_of(0.5) if score.metric == "accuracy")
    view = driver.end(driver.begin_next(), "complete", scores=scores)
    assert (view.state, view.cause) == ("failed", "data")
    assert "its evaluation has no score of macro_f1, only of accuracy" in view.message
    assert "resume NAME --failed" in view.message


def test_the_curve_of_the_target_stage_is_kept_once(start: Start) -> None:
    driver = start("search.trials=1")
    driver.begin_next()
    assert not driver.evaluated(0, 50, 0.3)
    assert not driver.evaluated(0, 50, 0.3, is_replay=True)
    assert not driver.evaluated(0, 100, 0.4)
    assert driver.ledger.trial(0).curve == ((50, 0.3), (100, 0.4))
    assert driver.sync.points == [
        ("run 0", 50, {"dev/accuracy": 0.3, "train/loss": 1.0}),
        ("run 0", 100, {"dev/accuracy": 0.4, "train/loss": 1.0}),
    ]


def test_earlier_stages_are_logged_by_their_name_and_not_twice(start: Start) -> None:
    driver = start("search.trials=1")
    driver.begin_next()
    report = Report("evaluated", stage="intermediate", examples=8, metrics={"accuracy": 0.1})
    driver.scheduler.on_report(0, report)
    driver.scheduler.on_report(0, replace(report, is_replay=True))
    assert driver.sync.points == [("run 0", 8, {"intermediate/dev/accuracy": 0.1})]
    assert driver.ledger.trial(0).curve == ()


def test_a_waiting_trial_is_shown_and_nothing_is_recorded(start: Start) -> None:
    driver = start("search.trials=1")
    driver.begin_next()
    assert driver.scheduler.next_task() is None
    before = driver.ledger.trial(0)
    assert not driver.scheduler.on_report(0, Report("waiting", stage="target", holder="process 3"))
    assert driver.ledger.trial(0) == before
    assert driver.reporter.lines[-1] == ("heard", 0, "waiting")


def test_the_versions_that_made_reused_stages_are_kept(start: Start) -> None:
    driver = start(ALONE)
    task = driver.begin_next()
    for stage, versions in zip(task.path[-2:], ({"torch": "0.4"}, {}), strict=True):
        use = StageUse(stage.kind, stage.key, stage.label, bool(versions), 0, 2.0)
        report = Report("stage", stage=stage.kind, finished_stage=use, versions=versions)
        driver.scheduler.on_report(task.number, report)
    assert [*driver.scheduler.reused_from.values()] == [{"torch": "0.4"}]


# -- early stopping ---------------------------------------------------------------------------


def test_a_trial_that_falls_behind_is_stopped_early_but_not_at_its_end(start: Start) -> None:
    driver = start(*ASHA, "search.trials=3")
    good, bad, late = (driver.begin_next() for _ in range(3))
    assert not driver.evaluated(good.number, 10, 0.9)
    assert driver.evaluated(bad.number, 10, 0.1)
    driver.scheduler.finish(bad.number, None)
    assert driver.ledger.trial(bad.number).state == "pruned"
    assert driver.sync.status[f"run {bad.number}"] == "pruned"
    assert not driver.evaluated(good.number, 100, 0.9)
    assert not driver.evaluated(late.number, 100, 0.1)


def test_other_repeats_wait_for_the_first_one_and_are_never_stopped(start: Start) -> None:
    driver = start(*ASHA, "search.seeds=2", "target.learning_rate={choice: [1e-4, 1e-3]}")
    good, bad = driver.begin_next(), driver.begin_next()
    assert [driver.ledger.trial(task.number).configuration for task in (good, bad)] == [0, 1]
    assert not driver.evaluated(good.number, 20, 0.9)
    assert driver.evaluated(bad.number, 20, 0.1)
    driver.scheduler.finish(bad.number, None)
    assert driver.scheduler.next_task() is None
    assert not driver.scheduler.is_done, "the first repeat may be followed by another"
    driver.restart()
    assert not driver.scheduler.is_done, "a later driver knows it, too"
    driver.complete(driver.next(), 0.9)
    again = driver.begin_next()
    view = driver.ledger.trial(again.number)
    assert (view.configuration, view.repeat) == (0, 1)
    assert not driver.evaluated(again.number, 20, 0.0)
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_done
    driver.complete(again, 0.1)
    assert driver.scheduler.is_finished


@pytest.mark.parametrize("dies", [False, True])
def test_a_race_of_seeds_waits_for_results_and_ends(start: Start, dies: bool) -> None:
    driver = start(ALONE, "target.learning_rate={choice: [1e-5, 1e-4, 1e-3, 1e-2]}",
                   "search.seeds={race: {most: 3, keep: 2}}")  # fmt: skip
    values = [0.5, 0.9, 0.6, 0.7]
    asked = []
    for _ in range(2):
        tasks = [driver.next(), driver.next()]
        if dies:
            # A dead driver's trials start again.
            driver.restart()
            tasks = [driver.next(), driver.next()]
        for task in tasks:
            view = driver.complete(task, values[driver.ledger.trial(task.number).configuration])
            asked.append((view.configuration, view.repeat))
    assert asked == [(0, 0), (1, 0), (2, 0), (3, 0)]
    first = driver.next()
    second, third = driver.next(), driver.scheduler.next_task()
    assert third is not None
    assert driver.scheduler.next_task() is None
    assert not driver.scheduler.is_done, "of 1, 2 and 3 the best two get a third seed"
    assert not driver.scheduler.is_finished
    for task in (first, second):
        driver.complete(task, 0.7)
    if dies:
        driver.restart()
        third = driver.next()
    driver.complete(third, 0.7)
    rest = [driver.complete(driver.next(), 0.7) for _ in range(2)]
    assert {(view.configuration, view.repeat) for view in rest} == {(1, 2), (3, 2)}
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_finished
    best = driver.ledger.best()
    assert best is not None
    assert (best.configuration, best.num_seeds, best.runner_up) == (1, 3, 3)


def test_early_stopping_by_an_oracle_objective_uses_its_languages(start: Start) -> None:
    driver = start(*ASHA, "objective.languages=[qab, qac]")
    first, second = driver.begin_next(), driver.begin_next()

    def evaluated(number: int, source: float, **values: float) -> bool:
        by_language = {language: {"accuracy": value} for language, value in values.items()}
        return driver.evaluated(number, 20, source, by_language=by_language)

    assert not evaluated(first.number, 0.1, qab=0.5, qac=0.75)
    # Better in the source language, which the objective does not read.
    assert evaluated(second.number, 0.9, qab=0.5, qac=0.5)
    assert driver.ledger.trial(first.number).curve == ((20, 0.625),)
    assert driver.ledger.trial(second.number).curve == ((20, 0.5),)
    assert driver.sync.points[0][2] == {
        "dev/accuracy": 0.1, "dev/objective": 0.625, "train/loss": 1.0,
    }  # fmt: skip
    # A training that was made without these languages is not judged.
    third = driver.begin_next()
    assert not driver.evaluated(third.number, 20, 0.0, is_replay=True)
    assert driver.ledger.trial(third.number).curve == ()


def test_the_next_driver_judges_an_evaluation_during_which_the_last_one_died(start: Start) -> None:
    driver = start(*ASHA)
    good, bad = driver.begin_next(), driver.begin_next()
    assert not driver.evaluated(good.number, 20, 0.5)
    driver.ledger.report(bad.number, 20, 0.1)
    driver.restart()
    for _ in range(2):
        driver.begin_next()
    assert driver.evaluated(bad.number, 20, 0.1, is_replay=True)
    assert not driver.evaluated(good.number, 20, 0.5, is_replay=True)


# -- failures ---------------------------------------------------------------------------------


def test_a_failed_trial_keeps_its_cause_and_log(start: Start) -> None:
    driver = start()
    driver.fail(driver.next(), "MemoryError: no room", cause="oom")
    view = driver.ledger.trial(0)
    assert (view.state, view.cause, view.log) == ("failed", "oom", "traceback")
    assert view.message == "MemoryError: no room"
    assert driver.sync.status == {"run 0": "failed"}


def test_a_trial_whose_process_was_lost_for_good_has_failed(start: Start) -> None:
    driver = start()
    task = driver.begin_next()
    driver.begin(task)
    driver.scheduler.finish(task.number, None)
    view = driver.ledger.trial(0)
    assert (view.state, view.cause) == ("failed", "lost")
    assert "2 attempts" in view.message


def test_a_trial_that_never_began_has_no_run_to_finish(start: Start) -> None:
    driver = start()
    driver.scheduler.finish(driver.next().number, None)
    assert driver.ledger.trial(0).state == "failed"
    assert driver.sync.status == {}


def test_an_attempt_in_the_same_process_is_counted_and_shown(start: Start) -> None:
    driver = start("search.trials=1")
    task = driver.begin_next()
    for cause in ("oom", "storage"):
        retrying = Report("retrying", stage="target", cause=cause, message="x", remedy="at once")
        assert not driver.scheduler.on_report(task.number, retrying)
    assert not driver.scheduler.on_report(task.number, Report("pausing"))
    assert driver.ledger.trial(0).attempts == 3
    assert driver.reporter.lines.count(("heard", 0, "retrying")) == 2


def test_the_process_that_replaces_a_lost_one_counts_the_attempt(start: Start) -> None:
    driver = start("search.trials=1")
    task = driver.begin_next()
    assert not driver.scheduler.on_report(task.number, Report("lost", cause="timeout", message="x"))
    assert driver.ledger.trial(0).attempts == 1
    driver.begin(task)
    assert driver.ledger.trial(0).attempts == 2
    assert ("heard", 0, "lost") in driver.reporter.lines


def test_a_repeated_bug_lets_no_further_trial_start(start: Start) -> None:
    driver = start(*RANDOM)
    for _ in range(SAME_BUG):
        assert not driver.scheduler.repeated_bug
        driver.fail(driver.next(), "KeyError: 'x'")
    assert driver.scheduler.repeated_bug == "KeyError: 'x'"
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_done
    assert len(driver.ledger.trials()) == SAME_BUG


def test_different_failures_and_the_same_message_in_other_places_are_not_one_bug(
    start: Start,
) -> None:
    driver = start(*RANDOM)
    for index in range(SAME_BUG):
        driver.fail(driver.next(), f"KeyError: {index}")
        driver.fail(driver.next(), "out of memory", cause="oom")
    places = [f'  File "loop.py", line {line}, in train' for line in range(SAME_BUG)]
    for log in (*places, *[places[0]] * (SAME_BUG - 1)):
        assert not driver.scheduler.repeated_bug
        driver.end(driver.begin_next(), "failed", cause="bug", message="KeyError: 'x'", log=log)
    assert driver.scheduler.repeated_bug == "loop.py:0 in train: KeyError: 'x'"


def test_a_bug_counts_as_repeated_only_in_a_share_of_the_trials(start: Start) -> None:
    driver = start(*RANDOM, "failures.repeated_bug={times: 2, share: 0.5}")
    for _ in range(3):
        driver.complete(driver.next())
    for _ in range(2):
        driver.fail(driver.next(), "KeyError: 'x'")
        assert not driver.scheduler.repeated_bug, "1 of 4, 2 of 5"
    running = driver.next()
    driver.fail(driver.next(), "KeyError: 'x'")
    assert driver.scheduler.repeated_bug == "KeyError: 'x'"
    driver.complete(running)
    assert driver.scheduler.repeated_bug, "3 of 7, but it was enough before"
    assert driver.scheduler.next_task() is None


def test_data_that_cannot_be_scored_stop_the_sweep_and_cost_no_training(start: Start) -> None:
    driver = start()
    first, running = driver.begin_next(), driver.begin_next()
    driver.make(first, "intermediate")
    driver.evaluated(first.number, 50, 0.4)
    driver.make(first, "target")
    message = "DataError: xnli/de.test.tsv:7: unknown label 'maybe'"
    view = driver.end(first, "failed", stage="evaluate", cause="data", message=message)
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_done
    assert message in driver.scheduler.stopped_by
    assert "`xlt resume t --failed`" in driver.scheduler.stopped_by
    assert (view.state, view.curve) == ("failed", ((50, 0.4),))
    assert driver.sync.points[0][2]["dev/accuracy"] == 0.4
    assert driver.finish(running).state == "complete", "running trials go on"
    driver.scheduler.close(is_finished=False)
    driver.restart()
    driver.ledger.enqueue_failed(Retry())
    driver.restart()
    again = next(
        task
        for task in iter(driver.scheduler.next_task, None)
        if driver.ledger.trial(task.number).retry_of == first.number
    )
    missing = [stage.kind for stage in stages_to_run(again.path) if stage not in driver.store]
    assert missing == ["evaluate"]


@pytest.mark.parametrize(
    ("message", "stops"), [(f"DataError: nli/qab/test: {CHANGED}: it is gone", True), ("no", False)]
)
def test_only_data_that_changed_since_the_start_stop_a_sweep_at_a_training(
    start: Start, message: str, stops: bool
) -> None:
    driver = start()
    driver.end(driver.begin_next(), "failed", stage="target", cause="data", message=message)
    assert (message in driver.scheduler.stopped_by) == stops
    assert (driver.scheduler.next_task() is None) == stops


def test_a_full_disk_lets_no_further_trial_start_until_the_next_run(start: Start) -> None:
    driver = start()
    first, running = driver.next(), driver.begin_next()
    driver.fail(first, "OSError: [Errno 28] No space left on device", cause="disk")
    assert driver.scheduler.next_task() is None
    assert driver.scheduler.is_done
    assert "a disk is full (trial 0: OSError: [Errno 28]" in driver.scheduler.stopped_by
    assert "\n" not in driver.scheduler.stopped_by
    assert driver.finish(running).state == "complete"
    assert not driver.scheduler.is_finished
    assert not driver.scheduler.is_out_of_budget
    driver.scheduler.close(is_finished=False)
    driver.restart()
    assert driver.next().number == 1, "there is space again"


# -- the end of a run -------------------------------------------------------------------------


def test_a_stopped_run_marks_its_running_trials_and_the_next_one_continues_them(
    start: Start,
) -> None:
    driver = start()
    first, second = driver.begin_next(), driver.next()
    driver.scheduler.close(is_finished=False)
    assert driver.sync.status == {"run 0": "interrupted"}
    assert driver.sync.ends == [("KILLED", 0.0), ("flushed", NO_REPLY_TIMEOUT_S)]
    assert [trial.state for trial in driver.ledger.trials()].count("running") == 3
    driver.restart()
    assert {driver.next().number, driver.next().number} == {first.number, second.number}


def test_late_answers_of_mlflow_reach_the_ledger_and_the_user(start: Start) -> None:
    driver = start("search.trials=1")
    driver.sync.is_slow = True
    task = driver.next()
    assert driver.complete(task).mlflow_run_id is None
    driver.sync.answers.warnings.append("the server answers again")
    driver.scheduler.close(is_finished=True)
    assert driver.sync.ends == [("FINISHED", 0.0), ("flushed", FLUSH_TIMEOUT_S)]
    assert driver.ledger.trial(task.number).mlflow_run_id == "run 0"
    assert driver.reporter.lines[-1] == ("warned", -1, "the server answers again")
    driver.restart()
    assert driver.ledger.trial(task.number).mlflow_run_id == "run 0", "the next driver knows it"


# -- one driver for each sweep ----------------------------------------------------------------


@pytest.fixture
def sweep(sweep_from: ReadSweep) -> SweepSpec:
    return sweep_from(TEXT)


def take_over(home: Home, name: str) -> None:
    """Another driver takes the sweep, a minute after the last sign of this one."""
    file = home.root / home.driver_lease(name)
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({**tree, "token": "another", "pid": 1}))


def test_a_driver_that_stalled_and_was_replaced_detects_it(
    home: Home, sweep: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sole_driver(home, sweep.name, sweep.settings.places.ledger) as confirm:
        confirm()
        later = time.time() + 7200
        monkeypatch.setattr(time, "time", lambda: later)
        confirm()
        take_over(home, "t")
        with pytest.raises(LedgerError, match=r"t: this driver stalled.*taken over the sweep"):
            confirm()


def test_a_driver_with_a_fresh_lease_does_not_read_it(home: Home, sweep: SweepSpec) -> None:
    with sole_driver(home, sweep.name, sweep.settings.places.ledger) as confirm:
        take_over(home, "t")
        confirm()


@pytest.mark.parametrize("event", ["next", "report", "finish", "close"])
def test_a_scheduler_that_has_lost_its_sweep_writes_nothing(
    start: Start, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = start()
    task = driver.begin_next()
    journal = Path(driver.home.ledger_journal("t"))
    before = journal.read_bytes()

    def lost() -> None:
        raise LedgerError("another driver has it")

    monkeypatch.setattr(driver.scheduler, "_confirm_ownership", lost)
    events: dict[str, Callable[[], Any]] = {
        "next": driver.scheduler.next_task,
        "report": lambda: driver.evaluated(task.number, 10, 0.5),
        "finish": lambda: driver.end(task, "failed", cause="nan"),
        "close": lambda: driver.scheduler.close(is_finished=False),
    }
    with pytest.raises(LedgerError):
        events[event]()
    assert journal.read_bytes() == before


def test_a_ledger_error_is_found_in_what_tune_wraps_around_it() -> None:
    refusal = LedgerError("another driver has it")
    wrapped = RuntimeError("Trial runner failed")
    wrapped.__context__ = refusal
    assert find_ledger_error(wrapped) is refusal
    assert find_ledger_error(OSError(28, "No space left on device")) is None
