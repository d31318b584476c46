"""The driver's desk: who works on what, what is written down, when it ends. No Ray here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from xlt_ray.config.facts import Facts
from xlt_ray.config.retry_policy import RepeatedBug
from xlt_ray.config.sweep import Store, SweepSpec
from xlt_ray.errors import CHANGED
from xlt_ray.home import Home
from xlt_ray.ledger import Retry, StageUse, TrialView, open_ledger
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.failures import PERMANENT
from xlt_ray.sweep.scheduler import LEARNING_LOOK_AHEAD, TrialScheduler
from xlt_ray.sweep.tasks import Report, TrialTask
from xlt_ray.tracking import FLUSH_TIMEOUT_S, NO_REPLY_TIMEOUT_S, LedgerSnapshot, TrialSnapshot
from xlt_ray.tracking.sync import Replies

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
intermediate: {task: pairs, size: {choice: [100, 200]}}
target: {task: nli, source_language: qaa, learning_rate: {choice: [1e-4, 1e-3]}}
search: {trials: 4, sampler: grid}
"""
SAME_BUG = RepeatedBug().times
ReadSweep = Callable[..., SweepSpec]


@dataclass
class RecordingSync:
    """Keeps what the scheduler says of trials; answers at once, or (``is_slow``) when it waits."""

    trials: dict[str, TrialSnapshot] = field(default_factory=dict)
    points: list[tuple[str, int, Mapping[str, float]]] = field(default_factory=list)
    ends: list[tuple[str, float]] = field(default_factory=list)
    answers: Replies = field(default_factory=Replies)
    is_slow: bool = False

    @property
    def status(self) -> dict[str, str]:
        return {run_id: trial.standing for run_id, trial in self.trials.items()}

    def mark(self, trial: TrialSnapshot) -> None:
        run_id = f"run {trial.view.number}"
        assert trial.config["target"]["task"] == "nli"
        assert trial.path, "a run shows the stages that are planned"
        self.trials[run_id] = trial
        self.answers.runs[trial.view.number] = run_id

    def log(
        self, number: int, examples: int, metrics: Mapping[str, float], time_ms: int | None
    ) -> None:
        self.points.append((f"run {number}", examples, metrics))

    def end(self, ledger: LedgerSnapshot, status: str) -> None:
        self.ends.append((status, 0.0))

    def flush(self, say: Callable[[str], None], timeout_s: float) -> None:
        self.ends.append(("flushed", timeout_s))
        self.is_slow = False

    def replies(self) -> Replies:
        if self.is_slow:
            return Replies()
        replies, self.answers = self.answers, Replies()
        return replies


@dataclass
class Diary:
    """A watcher that writes down what it sees."""

    lines: list[tuple[str, int, str]] = field(default_factory=list)

    def begun(self, view: TrialView) -> None:
        self.lines.append(("begun", view.number, view.state))

    def heard(self, view: TrialView, report: Report) -> None:
        self.lines.append(("heard", view.number, report.kind))

    def finished(self, view: TrialView) -> None:
        self.lines.append(("finished", view.number, view.state))

    def warned(self, message: str) -> None:
        self.lines.append(("warned", -1, message))


@dataclass
class World:
    """A desk with everything around it, and hands that do the work."""

    sweep: SweepSpec
    facts: Facts
    home: Home
    scratch: Path
    sync: RecordingSync = field(default_factory=RecordingSync)
    diary: Diary = field(default_factory=Diary)

    def __post_init__(self) -> None:
        self.store = StageStore(self.home.stages)
        self.sit_down()

    def sit_down(self) -> None:
        """A new driver, at first or after the last one died."""
        self.ledger = open_ledger(self.home, self.sweep)
        self.scheduler = TrialScheduler(
            self.sweep, self.facts, self.home, self.ledger, self.store,
            self.sync, self.diary,  # type: ignore[arg-type]
        )  # fmt: skip

    def next(self) -> TrialTask:
        task = self.scheduler.next_task()
        assert task is not None
        return task

    def commit(
        self, stage: Stage, scores: tuple[Score, ...] = (), content: bytes | None = None
    ) -> None:
        lease = self.store.lease(stage.key)
        assert isinstance(lease, Lease)
        folder = self.scratch / stage.key
        folder.mkdir(parents=True)
        if content is not None:
            (folder / "model.safetensors").write_bytes(content)
        record = StageRecord(stage.key, stage.payload, stage.label, {}, scores=scores)
        with lease:
            self.store.commit(stage, folder, record, lease)

    def begin(self, task: TrialTask) -> None:
        assert not self.scheduler.on_report(task.number, Report("begun"))

    def make(self, task: TrialTask, kind: str, value: float = 0.5) -> None:
        """Make one stage of an order, or find it."""
        stage = next(stage for stage in task.path if stage.kind == kind)
        reused = stage in self.store
        if not reused:
            self.commit(stage, scores_of(value) if kind == "evaluate" else ())
        examples = 0 if reused else stage.num_examples
        report = StageUse(kind, stage.key, stage.label, reused, examples, 2.0)
        self.scheduler.on_report(task.number, Report("stage", stage=kind, finished_stage=report))

    def complete(self, task: TrialTask, value: float = 0.5) -> TrialView:
        """Do all of an order."""
        self.begin(task)
        return self.finish(task, value)

    def finish(self, task: TrialTask, value: float = 0.5) -> TrialView:
        """Do all that is left of an order that has begun."""
        for stage in stages_to_run(task.path):
            self.make(task, stage.kind, value)
        self.scheduler.finish(task.number, Report("complete", scores=scores_of(value)))
        return self.ledger.trial(task.number)

    def fail(self, task: TrialTask, message: str, cause: str = "bug") -> None:
        self.begin(task)
        self.scheduler.finish(
            task.number, Report("failed", cause=cause, message=message, log="traceback")
        )

    def evaluated(self, number: int, examples: int, value: float, **more: Any) -> bool:
        report = Report(
            "evaluated", stage="target", examples=examples, total_examples=100,
            metrics={"accuracy": value, "loss": 1.0}, **more,
        )  # fmt: skip
        return self.scheduler.on_report(number, report)


def scores_of(value: float) -> tuple[Score, ...]:
    return (
        Score("nli", "qaa", "dev", "accuracy", value, 50),
        Score("nli", "qab", "dev", "accuracy", value / 2, 50),
        Score("nli", "qaa", "dev", "macro_f1", 0.0, 50),
        Score("nli", "qaa", "test", "accuracy", 0.99, 50),
    )


@pytest.fixture
def world(sweep_from: ReadSweep, facts: Facts, home: Home, tmp_path: Path) -> Callable[..., World]:
    def build(*overrides: str) -> World:
        return World(sweep_from(TEXT, *overrides), facts, home, tmp_path / "scratch")

    return build


MakeWorld = Callable[..., World]


def size_of(task: TrialTask) -> object:
    assert task.trial.intermediate is not None
    return task.trial.intermediate.size


# -- handing out ----------------------------------------------------------------------------


def test_a_trial_whose_next_stage_is_being_made_is_held_back(world: MakeWorld) -> None:
    at = world()
    first, second = at.next(), at.next()
    # The grid's second point shares the intermediate stage of its first; the third does not.
    assert (first.number, size_of(first)) == (0, 100)
    assert (second.number, size_of(second)) == (2, 200)
    assert at.scheduler.next_task() is None
    assert not at.scheduler.is_done
    assert at.scheduler.num_running == 2
    at.begin(first)
    at.make(first, "intermediate")
    held = at.next()
    assert (held.number, size_of(held)) == (1, 100)
    assert at.scheduler.next_task() is None


def test_all_trials_are_handed_out_in_the_end(world: MakeWorld) -> None:
    at = world()
    running = [at.next(), at.next()]
    numbers = []
    while running:
        task = running.pop(0)
        numbers.append(task.number)
        assert at.complete(task).state == "complete"
        while (further := at.scheduler.next_task()) is not None:
            running.append(further)
    assert sorted(numbers) == [0, 1, 2, 3]
    assert at.scheduler.is_done
    assert at.scheduler.num_running == 0
    assert len(at.scheduler.new_stages) == 2 + 4 + 4


def test_a_trial_that_could_run_is_found_behind_those_that_wait(world: MakeWorld) -> None:
    rates = [1e-4 * (1 + index) for index in range(LEARNING_LOOK_AHEAD)]
    at = world(f"target.learning_rate={{choice: {rates}}}", "search={trials: 99, sampler: grid}")
    assert size_of(at.next()) == 100
    # Seven more points of the grid share that intermediate stage and are passed over.
    other = at.next()
    assert (other.number, size_of(other)) == (LEARNING_LOOK_AHEAD, 200)


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_every_stage_is_made_once_with_any_number_of_workers(
    world: MakeWorld, workers: int, sampler: str
) -> None:
    at = world(
        "align={choice: [null, {objective: tlm}]}", f"search={{trials: 8, seeds: 2, "
        f"sampler: {sampler}}}", "intermediate.seed={choice: [shared, per_trial]}",
    )  # fmt: skip
    random = Random(workers)
    running: list[TrialTask] = []
    trained: list[str] = []

    def following(task: TrialTask) -> Stage | None:
        return next((stage for stage in stages_to_run(task.path) if stage not in at.store), None)

    while not at.scheduler.is_done or running:
        while len(running) < workers and (task := at.scheduler.next_task()) is not None:
            at.begin(task)
            running.append(task)
        assert running, "somebody can always work"
        keys = [stage.key for stage in map(following, running) if stage is not None]
        assert len(keys) == len(set(keys)), "two workers would make the same stage"
        task = random.choice(running)
        stage = following(task)
        if stage is not None:
            at.make(task, stage.kind)
            trained.append(stage.key)
        else:
            at.scheduler.finish(task.number, Report("complete", scores=scores_of(0.5)))
            running.remove(task)
    assert len(trained) == len(set(trained)) == len(at.store)
    assert {trial.state for trial in at.ledger.trials()} == {"complete"}


RATES = "target.learning_rate={choice: [1e-4, 1e-3, 1e-2]}"


@pytest.mark.parametrize("cause", PERMANENT)
def test_what_needs_a_stage_that_failed_in_two_trials_fails_with_it_untried(
    world: MakeWorld, cause: str
) -> None:
    at = world(RATES, "search.trials=6")
    first, other = at.next(), at.next()
    assert (size_of(first), size_of(other)) == (100, 200)
    at.fail(first, "TrialFailure: the loss is nan", cause=cause)
    second = at.next()
    assert (second.number, size_of(second)) == (1, 100), "its node may have been at fault"
    at.fail(second, "TrialFailure: the loss is nan", cause=cause)
    assert at.scheduler.next_task() is None
    dependant = at.ledger.trial(2)
    assert (dependant.state, dependant.cause) == ("failed", cause)
    assert "intermediate pairs 100 failed in trials 0 and 1" in dependant.message
    assert at.sync.status["run 2"] == "failed"
    assert at.complete(other).state == "complete"
    assert size_of(at.next()) == 200, "another intermediate stage is tried"


@pytest.mark.parametrize("cause", ["device", "storage", "lost", "timeout", "preempted"])
def test_a_cause_that_lies_elsewhere_fails_no_other_trial_untried(
    world: MakeWorld, cause: str
) -> None:
    at = world("intermediate.size=100", "target.learning_rate={float: [1e-5, 1e-3]}",
               "search={trials: 6, sampler: random}")  # fmt: skip
    for number in range(6):
        task = at.next()
        assert task.number == number
        at.fail(task, "AcceleratorError: unspecified launch failure", cause=cause)
    assert not at.scheduler.repeated_bug


def test_what_needs_a_stage_that_was_lost_tries_it_again(world: MakeWorld) -> None:
    at = world()
    first = at.next()
    at.begin(first)
    at.scheduler.finish(first.number, None)
    assert at.ledger.trial(0).cause == "lost"
    again = at.next()
    assert (again.number, size_of(again)) == (1, 100)


def test_a_failure_below_a_shared_stage_leaves_the_others_alone(world: MakeWorld) -> None:
    at = world()
    first = at.next()
    at.begin(first)
    at.make(first, "intermediate")
    at.scheduler.finish(first.number, Report("failed", cause="nan", message="nan"))
    assert at.complete(at.next()).state == "complete"


def test_looking_ahead_has_an_end(world: MakeWorld) -> None:
    at = world("intermediate.size=100", "target.learning_rate={float: [1e-5, 1e-3]}",
               "search={trials: 50, sampler: tpe}")  # fmt: skip
    at.next()
    for _ in range(5):
        assert at.scheduler.next_task() is None
    assert len(at.ledger.trials()) == 1 + LEARNING_LOOK_AHEAD


def test_trials_without_common_stages_all_run_at_once(world: MakeWorld) -> None:
    at = world("intermediate=null", "search.trials=2")
    assert [at.next().number, at.next().number] == [0, 1]
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_done


def test_a_trial_like_a_running_one_waits_and_then_needs_nothing(world: MakeWorld) -> None:
    # All training examples are a thousand.
    at = world("intermediate=null", "search={trials: 2, sampler: random}",
               "target={task: nli, source_language: qaa, size: {choice: [1000, all]}}")  # fmt: skip
    first = at.next()
    assert at.scheduler.next_task() is None
    at.complete(first)
    view = at.complete(at.next())
    assert all(use.reused for use in view.stages)
    assert all(not use.reused for use in at.ledger.trial(0).stages)


def test_what_a_dead_driver_left_running_goes_first(world: MakeWorld) -> None:
    at = world()
    first, second = at.next(), at.next()
    at.begin(first)
    at.make(first, "intermediate")
    at.sit_down()
    again = [at.next(), at.next()]
    assert [one.number for one in again] == [first.number, 1]
    assert again[0].path == first.path
    assert at.next().path == second.path
    view = at.complete(again[0])
    assert view.attempts == 2
    assert at.sync.status["run 0"] == "complete"


def test_the_ledger_keeps_who_made_a_reused_stage(world: MakeWorld) -> None:
    at = world()
    task = at.next()
    at.begin(task)
    report = StageUse("intermediate", "k" * 64, "label", True, 0, 0.0, made_by="other/3")
    at.scheduler.on_report(
        task.number, Report("stage", stage="intermediate", finished_stage=report)
    )
    assert [stage.made_by for stage in at.ledger.trial(task.number).stages] == ["other/3"]


def test_a_stage_trained_by_an_earlier_attempt_stays_trained(world: MakeWorld) -> None:
    at = world("search.trials=1")
    task = at.next()
    at.begin(task)
    at.make(task, "intermediate")
    at.sit_down()
    view = at.complete(at.next())
    uses = {use.kind: use for use in view.stages}
    assert not uses["intermediate"].reused
    assert uses["intermediate"].examples == next(
        stage.num_examples for stage in task.path if stage.kind == "intermediate"
    )
    assert set(at.scheduler.new_stages) == {uses["target"].key, uses["evaluate"].key}


def test_a_second_attempt_in_the_same_run_is_counted(world: MakeWorld) -> None:
    at = world("search.trials=1")
    task = at.next()
    at.begin(task)
    assert at.complete(task).attempts == 2
    assert list(at.sync.status) == ["run 0"]


def test_a_sweep_without_room_on_the_disk_ends_with_the_reason(world: MakeWorld) -> None:
    at = world("store.quota=1kB")
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_done
    assert "store.quota: 1 kB is too little" in at.scheduler.stopped_by
    assert [trial.state for trial in at.ledger.trials()] == ["running"], "it goes on with more room"
    at.sweep = replace(at.sweep, settings=at.sweep.settings.model_copy(
        update={"store": Store(quota="1GB")}))  # fmt: skip
    at.sit_down()
    assert at.next().number == 0
    assert not at.scheduler.stopped_by


def test_a_trial_waits_while_a_running_one_fills_the_disk(world: MakeWorld) -> None:
    # One trial at a time fits: two layers of 64 take 400 kB, its progress three times that, with
    # the weights of its best evaluation once more.
    at = world("store.quota=4MB")
    first = at.next()
    assert at.scheduler.next_task() is None
    assert not at.scheduler.stopped_by
    assert not at.scheduler.is_done
    assert at.complete(first).state == "complete"
    assert at.next().number == 1


# -- hearing ---------------------------------------------------------------------------------


def test_a_complete_trial_is_written_down_everywhere(world: MakeWorld) -> None:
    at = world()
    task = at.next()
    view = at.complete(task, 0.75)
    assert (view.state, view.objective) == ("complete", 0.75)
    assert [use.kind for use in view.stages] == ["intermediate", "target", "evaluate"]
    assert view.mlflow_run_id == "run 0"
    assert at.sync.status == {"run 0": "complete"}
    assert at.sync.trials["run 0"].view.evaluation_key == task.path[-1].key
    assert at.sync.trials["run 0"].view.assignment == view.assignment
    assert at.diary.lines[0] == ("begun", 0, "running")
    assert at.diary.lines[-1] == ("finished", 0, "complete")


@pytest.mark.parametrize(
    ("languages", "objective"),
    [("source", 0.5), ("target", 0.25), ("all", 0.375), ("[qab]", 0.25), ("[qaa, qab]", 0.375)],
)
def test_the_objective_is_the_mean_over_its_languages(
    world: MakeWorld, languages: str, objective: float
) -> None:
    at = world(f"objective.languages={languages}")
    assert at.complete(at.next(), 0.5).objective == objective


@pytest.mark.parametrize(
    "change",
    ["target={task: nli, source_language: {choice: [qaa, qab]}}",
     "target={choice: [{task: nli, source_language: qaa}]}"],
)  # fmt: skip
def test_the_source_language_may_be_searched(world: MakeWorld, change: str) -> None:
    at = world(change, "intermediate=null")
    assert at.complete(at.next(), 0.5).objective == 0.5


def test_an_objective_that_was_not_measured_fails_the_trial_alone(world: MakeWorld) -> None:
    at = world("objective.languages=[qzz]")
    view = at.complete(at.next())
    assert (view.state, view.cause) == ("failed", "data")
    assert "qzz" in view.message
    assert at.scheduler.next_task() is not None


def test_the_curve_of_the_target_stage_is_kept_once(world: MakeWorld) -> None:
    at = world("search.trials=1")
    task = at.next()
    at.begin(task)
    assert not at.evaluated(0, 50, 0.3)
    assert not at.evaluated(0, 50, 0.3, is_replay=True)
    assert not at.evaluated(0, 100, 0.4)
    assert at.ledger.trial(0).curve == ((50, 0.3), (100, 0.4))
    assert at.sync.points == [
        ("run 0", 50, {"dev/accuracy": 0.3, "train/loss": 1.0}),
        ("run 0", 100, {"dev/accuracy": 0.4, "train/loss": 1.0}),
    ]


def test_earlier_stages_are_logged_by_their_name_and_not_twice(world: MakeWorld) -> None:
    at = world("search.trials=1")
    at.begin(at.next())
    report = Report("evaluated", stage="intermediate", examples=8, metrics={"accuracy": 0.1})
    at.scheduler.on_report(0, report)
    at.scheduler.on_report(0, Report("evaluated", stage="intermediate", examples=8,
                           metrics={"accuracy": 0.1}, is_replay=True))  # fmt: skip
    assert at.sync.points == [("run 0", 8, {"intermediate/dev/accuracy": 0.1})]
    assert at.ledger.trial(0).curve == ()


def test_a_waiting_trial_is_shown_and_nothing_is_written(world: MakeWorld) -> None:
    at = world("search.trials=1")
    at.begin(at.next())
    assert at.scheduler.next_task() is None
    before = at.ledger.trial(0)
    assert not at.scheduler.on_report(0, Report("waiting", stage="target", holder="process 3"))
    assert at.ledger.trial(0) == before
    assert at.diary.lines[-1] == ("heard", 0, "waiting")


def test_a_trial_that_falls_behind_is_stopped_early(world: MakeWorld) -> None:
    at = world("intermediate=null", "early_stop={method: asha, grace_examples: 10, reduction: 2}",
               "search.trials=2")  # fmt: skip
    good, bad = at.next(), at.next()
    at.begin(good)
    at.begin(bad)
    assert not at.evaluated(good.number, 10, 0.9)
    assert at.evaluated(bad.number, 10, 0.1)
    at.scheduler.finish(bad.number, None)
    assert at.ledger.trial(bad.number).state == "pruned"
    assert at.sync.status[f"run {bad.number}"] == "pruned"


def test_a_trial_is_not_stopped_at_its_very_end(world: MakeWorld) -> None:
    at = world("intermediate=null", "early_stop={method: asha, grace_examples: 10, reduction: 2}",
               "search.trials=2")  # fmt: skip
    for task, value in ((at.next(), 0.9), (at.next(), 0.1)):
        at.begin(task)
        assert not at.evaluated(task.number, 100, value)


def test_other_repeats_wait_for_the_first_one_and_are_never_stopped(world: MakeWorld) -> None:
    at = world("intermediate=null", "early_stop={method: asha, grace_examples: 10, reduction: 2}",
               "search.seeds=2")  # fmt: skip
    good, bad = at.next(), at.next()
    for task in (good, bad):
        at.begin(task)
    assert [at.ledger.trial(one.number).configuration for one in (good, bad)] == [0, 1]
    assert not at.evaluated(good.number, 20, 0.9)
    assert at.evaluated(bad.number, 20, 0.1)
    at.scheduler.finish(bad.number, None)
    assert at.scheduler.next_task() is None
    assert not at.scheduler.is_done, "the first repeat may be followed by another"
    at.sit_down()
    assert not at.scheduler.is_done, "a driver that comes later knows it, too"
    at.complete(at.next(), 0.9)
    again = at.next()
    view = at.ledger.trial(again.number)
    assert (view.configuration, view.repeat) == (0, 1)
    at.begin(again)
    assert not at.evaluated(again.number, 20, 0.0)
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_done
    at.complete(again, 0.1)
    assert at.scheduler.is_finished


def test_an_oracle_objective_is_judged_by_what_its_value_is(world: MakeWorld) -> None:
    at = world("intermediate=null", "early_stop={method: asha, grace_examples: 10, reduction: 2}",
               "objective.languages=[qab, qac]")  # fmt: skip
    first, second = at.next(), at.next()
    for task in (first, second):
        at.begin(task)

    def evaluated(number: int, source: float, **values: float) -> bool:
        by_language = {language: {"accuracy": value} for language, value in values.items()}
        return at.evaluated(number, 20, source, by_language=by_language)

    assert not evaluated(first.number, 0.1, qab=0.5, qac=0.75)
    # Better in the source language, which the objective does not read.
    assert evaluated(second.number, 0.9, qab=0.5, qac=0.5)
    assert at.ledger.trial(first.number).curve == ((20, 0.625),)
    assert at.ledger.trial(second.number).curve == ((20, 0.5),)
    assert at.sync.points[0][2] == {
        "dev/accuracy": 0.1, "dev/objective": 0.625, "train/loss": 1.0,
    }  # fmt: skip


def test_a_training_that_was_made_without_what_the_objective_reads_is_not_judged(
    world: MakeWorld,
) -> None:
    at = world("intermediate=null", "early_stop={method: asha, grace_examples: 10, reduction: 2}",
               "objective.languages=[qab]")  # fmt: skip
    task = at.next()
    at.begin(task)
    assert not at.evaluated(task.number, 20, 0.0, is_replay=True)
    assert at.ledger.trial(task.number).curve == ()


def test_an_evaluation_over_which_the_last_driver_died_is_judged_by_the_next(
    world: MakeWorld,
) -> None:
    at = world("intermediate=null", "early_stop={method: asha, grace_examples: 10, reduction: 2}")
    good, bad = at.next(), at.next()
    for task in (good, bad):
        at.begin(task)
    assert not at.evaluated(good.number, 20, 0.5)
    at.ledger.report(bad.number, 20, 0.1)
    at.sit_down()
    for _ in range(2):
        at.begin(at.next())
    assert at.evaluated(bad.number, 20, 0.1, is_replay=True)
    assert not at.evaluated(good.number, 20, 0.5, is_replay=True)


def test_a_failed_trial_keeps_its_cause_and_log(world: MakeWorld) -> None:
    at = world()
    at.fail(at.next(), "MemoryError: no room", cause="oom")
    view = at.ledger.trial(0)
    assert (view.state, view.cause, view.log) == ("failed", "oom", "traceback")
    assert view.message == "MemoryError: no room"
    assert at.sync.status == {"run 0": "failed"}


def test_a_trial_whose_process_was_lost_for_good_has_failed(world: MakeWorld) -> None:
    at = world()
    task = at.next()
    at.begin(task)
    at.begin(task)
    at.scheduler.finish(task.number, None)
    view = at.ledger.trial(0)
    assert (view.state, view.cause) == ("failed", "lost")
    assert "2 attempts" in view.message


def test_a_trial_that_never_began_has_no_run_to_finish(world: MakeWorld) -> None:
    at = world()
    at.scheduler.finish(at.next().number, None)
    assert at.ledger.trial(0).state == "failed"
    assert at.sync.status == {}


def test_an_attempt_in_the_same_process_is_counted_and_shown(world: MakeWorld) -> None:
    at = world("search.trials=1")
    task = at.next()
    at.begin(task)
    for cause in ("oom", "storage"):
        retrying = Report("retrying", stage="target", cause=cause, message="x", remedy="at once")
        assert not at.scheduler.on_report(task.number, retrying)
    assert not at.scheduler.on_report(task.number, Report("pausing"))
    assert at.ledger.trial(0).attempts == 3
    assert [line for line in at.diary.lines if line[2] == "retrying"] == [
        ("heard", 0, "retrying"), ("heard", 0, "retrying"),
    ]  # fmt: skip


def test_a_lost_process_is_shown_and_its_successor_counts_the_attempt(world: MakeWorld) -> None:
    at = world("search.trials=1")
    task = at.next()
    at.begin(task)
    assert not at.scheduler.on_report(task.number, Report("lost", cause="timeout", message="x"))
    assert at.ledger.trial(0).attempts == 1
    at.begin(task)
    assert at.ledger.trial(0).attempts == 2
    assert ("heard", 0, "lost") in at.diary.lines


# -- ending ----------------------------------------------------------------------------------


def test_the_same_bug_again_and_again_ends_the_asking(world: MakeWorld) -> None:
    at = world("search={trials: 50, sampler: random}", "intermediate=null",
               "target.learning_rate={float: [1e-5, 1e-3]}")  # fmt: skip
    for _ in range(SAME_BUG):
        assert not at.scheduler.repeated_bug
        at.fail(at.next(), "KeyError: 'x'")
    assert at.scheduler.repeated_bug == "KeyError: 'x'"
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_done
    assert len(at.ledger.trials()) == SAME_BUG


def test_one_message_from_different_places_is_not_one_bug(world: MakeWorld) -> None:
    at = world("search={trials: 50, sampler: random}", "intermediate=null",
               "target.learning_rate={float: [1e-5, 1e-3]}")  # fmt: skip
    places = [f'  File "loop.py", line {line}, in train' for line in range(SAME_BUG)]
    for log in (*places, *[places[0]] * (SAME_BUG - 1)):
        assert not at.scheduler.repeated_bug
        task = at.next()
        at.begin(task)
        report = Report("failed", cause="bug", message="KeyError: 'x'", log=log)
        at.scheduler.finish(task.number, report)
    assert at.scheduler.repeated_bug == "loop.py:0 in train: KeyError: 'x'"


def test_a_bug_ends_the_asking_only_where_it_met_a_share_of_the_trials(world: MakeWorld) -> None:
    at = world("search={trials: 99, sampler: random}", "intermediate=null",
               "target.learning_rate={float: [1e-5, 1e-3]}",
               "failures.repeated_bug={times: 2, share: 0.5}")  # fmt: skip
    for _ in range(3):
        at.complete(at.next())
    for _ in range(2):
        at.fail(at.next(), "KeyError: 'x'")
        assert not at.scheduler.repeated_bug, "1 of 4, 2 of 5"
    running = at.next()
    at.fail(at.next(), "KeyError: 'x'")
    assert at.scheduler.repeated_bug == "KeyError: 'x'"
    at.complete(running)
    assert at.scheduler.repeated_bug, "3 of 7, but it had been enough before"
    assert at.scheduler.next_task() is None


def test_an_evaluation_without_the_objective_fails_with_how_to_make_it_again(
    world: MakeWorld,
) -> None:
    at = world("objective.metric=macro_f1")
    task = at.next()
    at.begin(task)
    scores = tuple(score for score in scores_of(0.5) if score.metric == "accuracy")
    at.scheduler.finish(task.number, Report("complete", scores=scores))
    view = at.ledger.trial(task.number)
    assert (view.state, view.cause) == ("failed", "data")
    assert "its evaluation has no score of macro_f1, only of accuracy" in (view.message or "")
    assert "resume NAME --failed" in (view.message or "")


def test_data_that_cannot_be_scored_let_no_further_trial_begin_and_cost_no_training(
    world: MakeWorld,
) -> None:
    at = world()
    first, other = at.next(), at.next()
    at.begin(other)
    at.begin(first)
    at.make(first, "intermediate")
    at.evaluated(first.number, 50, 0.4)
    at.make(first, "target")
    message = "DataError: xnli/de.test.tsv:7: unknown label 'maybe'"
    failure = Report("failed", stage="evaluate", cause="data", message=message, log="traceback")
    at.scheduler.finish(first.number, failure)
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_done
    assert message in at.scheduler.stopped_by
    assert "`xlt resume t --failed`" in at.scheduler.stopped_by
    view = at.ledger.trial(first.number)
    assert (view.state, view.curve) == ("failed", ((50, 0.4),))
    assert at.sync.points[0][2]["dev/accuracy"] == 0.4
    for stage in stages_to_run(other.path):
        at.make(other, stage.kind)
    at.scheduler.finish(other.number, Report("complete", scores=scores_of(0.5)))
    assert at.ledger.trial(other.number).state == "complete", "what runs goes on to its end"
    at.scheduler.close(is_finished=False)
    at.sit_down()
    at.ledger.enqueue_failed(Retry())
    at.sit_down()
    again = next(
        task
        for task in iter(at.scheduler.next_task, None)
        if at.ledger.trial(task.number).retry_of == first.number
    )
    assert [stage.kind for stage in stages_to_run(again.path) if stage not in at.store] == [
        "evaluate"
    ]


def test_data_that_have_changed_since_the_start_let_no_further_trial_begin(
    world: MakeWorld,
) -> None:
    at = world()
    at.begin(task := at.next())
    message = f"DataError: nli/qab/test: {CHANGED}: it is gone"
    at.scheduler.finish(
        task.number, Report("failed", stage="target", cause="data", message=message)
    )
    assert message in at.scheduler.stopped_by
    assert at.scheduler.next_task() is None


def test_data_that_a_training_cannot_read_fail_that_trial_alone(world: MakeWorld) -> None:
    at = world()
    at.begin(task := at.next())
    at.scheduler.finish(task.number, Report("failed", stage="target", cause="data", message="no"))
    assert not at.scheduler.stopped_by
    assert at.scheduler.next_task() is not None


def test_a_full_disk_lets_no_further_trial_begin_until_the_next_start(world: MakeWorld) -> None:
    at = world()
    first, other = at.next(), at.next()
    at.begin(other)
    at.fail(first, "OSError: [Errno 28] No space left on device", cause="disk")
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_done
    assert "a disk is full (trial 0: OSError: [Errno 28]" in at.scheduler.stopped_by
    assert "\n" not in at.scheduler.stopped_by
    for stage in stages_to_run(other.path):
        at.make(other, stage.kind)
    at.scheduler.finish(other.number, Report("complete", scores=scores_of(0.5)))
    assert at.ledger.trial(other.number).state == "complete"
    assert not at.scheduler.is_finished
    assert not at.scheduler.is_out_of_budget
    at.scheduler.close(is_finished=False)
    at.sit_down()
    assert at.next().number == 1, "there is room again"


def test_different_failures_do_not_end_the_asking(world: MakeWorld) -> None:
    at = world("search={trials: 50, sampler: random}", "intermediate=null",
               "target.learning_rate={float: [1e-5, 1e-3]}")  # fmt: skip
    for index in range(SAME_BUG):
        at.fail(at.next(), f"KeyError: {index}")
        at.fail(at.next(), "out of memory", cause="oom")
    assert not at.scheduler.repeated_bug
    assert at.scheduler.next_task() is not None


def test_a_budget_of_hours_counts_from_the_first_trial(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    at = world("budget.hours=1")
    at.complete(at.next())
    assert at.scheduler.next_task() is not None
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    at.sit_down()
    assert at.scheduler.next_task() is None
    assert at.scheduler.is_done


def test_a_desk_keeps_which_versions_made_what_it_reuses(world: MakeWorld) -> None:
    at = world("intermediate=null")
    task = at.next()
    at.begin(task)
    for kind, versions in (("target", {"torch": "0.4"}), ("evaluate", {})):
        stage = next(stage for stage in task.path if stage.kind == kind)
        found = StageUse(kind, stage.key, stage.label, bool(versions), 0, 2.0)
        at.scheduler.on_report(
            task.number, Report("stage", stage=kind, finished_stage=found, versions=versions)
        )
    assert [*at.scheduler.reused_from.values()] == [{"torch": "0.4"}]


def test_leaving_marks_running_trials_as_stopped_and_they_go_on(world: MakeWorld) -> None:
    at = world()
    first, second = at.next(), at.next()
    at.begin(first)
    at.scheduler.close(is_finished=False)
    assert at.sync.status == {"run 0": "interrupted"}
    assert at.sync.ends == [("KILLED", 0.0), ("flushed", NO_REPLY_TIMEOUT_S)]
    assert [trial.state for trial in at.ledger.trials()].count("running") == 3
    at.sit_down()
    assert {at.next().number, at.next().number} == {first.number, second.number}


def test_what_mlflow_answers_late_reaches_the_ledger_and_the_user(world: MakeWorld) -> None:
    at = world("search.trials=1")
    at.sync.is_slow = True
    task = at.next()
    assert at.complete(task).mlflow_run_id is None
    at.sync.answers.warnings.append("the server answers again")
    at.scheduler.close(is_finished=True)
    assert at.sync.ends == [("FINISHED", 0.0), ("flushed", FLUSH_TIMEOUT_S)]
    assert at.ledger.trial(task.number).mlflow_run_id == "run 0"
    assert at.diary.lines[-1] == ("warned", -1, "the server answers again")
    at.sit_down()
    assert at.ledger.trial(task.number).mlflow_run_id == "run 0", "the next driver knows it, too"


@pytest.mark.parametrize("languages", ["source", "target", "all"])
def test_the_objective_is_of_the_target_task_in_one_language(
    world: MakeWorld, languages: str
) -> None:
    besides = (
        Score("nli-pairs", "qaa:qab", "dev", "accuracy", 0.01, 50, "pairs"),
        Score("other", "qaa", "dev", "accuracy", 0.02, 50, "further"),
        Score("other", "qad", "dev", "accuracy", 0.03, 50, "further"),
    )
    found = []
    for scores in (scores_of(0.8), (*besides, *scores_of(0.8)), (*scores_of(0.8), *besides)):
        at = world(f"objective.languages={languages}", f"name=t{len(found)}")
        task = at.next()
        at.begin(task)
        for stage in stages_to_run(task.path):
            at.make(task, stage.kind)
        at.scheduler.finish(task.number, Report("complete", scores=scores))
        found.append(at.ledger.trial(task.number).objective)
    assert found == [found[0]] * 3
    assert found[0] is not None


def test_after_few_shots_the_objective_is_the_source_dev_set(world: MakeWorld) -> None:
    at = world("few_shot={language: qab, shots: 5}")
    task = at.next()
    at.begin(task)
    for stage in stages_to_run(task.path):
        at.make(task, stage.kind)
    scores = tuple(
        Score("nli-few-shot", language, split, "accuracy", value, 50, "few_shot")
        for language, split, value in (
            ("qaa", "dev", 0.6), ("qaa", "test", 0.1), ("qab", "test", 0.2),
        )
    )  # fmt: skip
    at.scheduler.finish(task.number, Report("complete", scores=scores))
    assert at.ledger.trial(task.number).objective == 0.6
