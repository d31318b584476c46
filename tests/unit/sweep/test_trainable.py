"""Attempts of a trial in one process, without Ray, and the limits that they learn of memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray.exceptions as rayed
from ray.tune.result import DONE

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import DataError, TrialFailure
from xlt_ray.home import Home
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import path_of, stages_to_run
from xlt_ray.sweep.batch_limits import read_batch_limits, save_batch_limit
from xlt_ray.sweep.failures import ProcessFailures
from xlt_ray.sweep.tasks import Report, TrialTask, pack, task_for
from xlt_ray.sweep.trainable import REPORT, TrialWalk
from xlt_ray.sweep.workers import Update, runtime_of
from xlt_ray.training.events import Committed, Event

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
intermediate: {task: pairs, size: 100, batch_size: 24, max_length: 32}
target: {task: nli, source_language: qaa, batch_size: 16, max_length: 64}
search: {trials: 1}
"""
OOM = "CUDA out of memory. Tried to allocate 20.00 MiB"


@dataclass
class Script:
    """What workers meet, one entry for each attempt: stages that they make, then how it ends."""

    attempts: list[list[Exception | str]]
    tasks: list[TrialTask] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def workers(self, _: TrialTask) -> ScriptedWorkers:
        return ScriptedWorkers(self)


class ScriptedWorkers:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._events: list[Exception | Event] = []

    def begin(self, task: TrialTask) -> None:
        stages = {stage.kind: stage for stage in stages_to_run(task.path)}
        self._events = [
            attempt if isinstance(attempt, Exception) else committed(stages[attempt])
            for attempt in self._script.attempts[len(self._script.tasks)]
        ]
        self._script.tasks.append(task)

    def fetch(self, number: int, seconds: float) -> Update:
        event = self._events[number] if number < len(self._events) else None
        if isinstance(event, Exception):
            raise event
        return Update(event)

    def keep(self) -> None:
        self._script.ended.append("kept")

    def end(self) -> None:
        self._script.ended.append("ended")

    def nodes(self) -> tuple[str, ...]:
        return ("a",)

    def abandon(self) -> None:
        self._script.ended.append("abandoned")


def committed(stage: Stage) -> Committed:
    return Committed(stage, StageRecord(stage.key, stage.payload, stage.label, {}), reused=False)


@pytest.fixture
def task(
    sweep_from: Callable[..., SweepSpec], facts: Facts, home: Home
) -> Callable[..., TrialTask]:
    """``task(*overrides)``: the only trial of the sweep."""

    def build(*overrides: str) -> TrialTask:
        sweep = sweep_from(TEXT, *overrides)
        trial = sweep.trial_of({})
        return task_for(0, trial, path_of(trial, facts, seed=0, shared_seed=0), sweep, home)

    return build


@pytest.fixture
def walk(
    task: Callable[..., TrialTask], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[Report], Script]]:
    """``walk(attempts, *overrides)``: all reports of a trial without those of pauses."""

    def run(attempts: list[list[Exception | str]], *overrides: str) -> tuple[list[Report], Script]:
        script, asked = Script(attempts), task(*overrides)
        monkeypatch.setattr("xlt_ray.sweep.trainable.workers_for", script.workers)
        trainable = TrialWalk({"task": pack(asked)})
        driver = ProcessFailures(asked.failures, Path(asked.hangs))
        reports: list[Report] = []
        while True:
            result = trainable.step()
            report = result[REPORT]
            retry = driver.on_failed_attempt(0, report) if report.kind == "failed" else None
            if retry is not None:
                report, pause_s = retry
                trainable.pause(pause_s)
            if report.kind != "pausing":
                reports.append(report)
            if result[DONE] or report.kind == "failed":
                trainable.cleanup()
                return reports, script

    return run


Walk = Callable[..., tuple[list[Report], Script]]


def kinds(reports: list[Report]) -> list[str]:
    return [report.kind for report in reports]


def pass_of(task: TrialTask, kind: str) -> tuple[int, int]:
    """Micro-batch and accumulation steps of a stage of a task."""
    settings = next(stage for stage in task.path if stage.kind == kind).settings
    return runtime_of(task).fitted(settings).accumulation(settings["batch_size"])


def test_a_trial_without_failures_has_one_attempt(walk: Walk) -> None:
    reports, script = walk([["intermediate", "target", "evaluate"]])
    assert kinds(reports) == ["begun", "stage", "stage", "stage", "complete"]
    assert len(script.tasks) == 1
    assert "abandoned" not in script.ended


def test_data_that_cannot_be_scored_fail_at_the_evaluation(walk: Walk) -> None:
    reports, _ = walk([["intermediate", "target", DataError("f.tsv:7: unknown label")]])
    assert reports[-1].kind == "failed"
    assert (reports[-1].cause, reports[-1].stage) == ("data", "evaluate")


def test_out_of_memory_halves_the_pass_and_keeps_the_batch(walk: Walk, home: Home) -> None:
    oom = RuntimeError(OOM)
    reports, script = walk([["intermediate", oom], [oom], ["intermediate", "target", "evaluate"]])
    assert kinds(reports) == ["begun", "stage", "retrying", "retrying", *["stage"] * 3, "complete"]
    assert [(report.cause, report.stage) for report in reports[2:4]] == [
        ("oom", "target"), ("oom", "intermediate"),
    ]  # fmt: skip
    assert reports[2].remedy == "with 8 instead of 16 sequences a pass"
    assert reports[3].remedy == "with 12 instead of 24 sequences a pass"
    assert [pass_of(task, "target") for task in script.tasks] == [(16, 1), (8, 2), (8, 2)]
    intermediate = [pass_of(task, "intermediate") for task in script.tasks]
    assert intermediate == [(24, 1), (24, 1), (12, 2)]
    assert read_batch_limits(home.batch_limits, "toy:2x64", "cpu") == {64: 8, 32: 12}
    assert script.ended.count("abandoned") == 2


def test_later_trials_start_with_the_limit(walk: Walk, home: Home) -> None:
    save_batch_limit(home.batch_limits, "toy:2x64", "cpu", 64, 4)
    _, script = walk([["intermediate", "target", "evaluate"]])
    assert pass_of(script.tasks[0], "target") == (4, 4)
    assert pass_of(script.tasks[0], "intermediate") == (24, 1)


def test_the_last_attempt_that_does_not_fit_fails_the_trial(walk: Walk) -> None:
    reports, _ = walk([[RuntimeError(OOM)]] * 3, "failures.oom.times=2")
    assert kinds(reports) == ["begun", "retrying", "retrying", "failed"]
    assert reports[-1].cause == "oom"
    assert OOM in reports[-1].message
    assert "RuntimeError" in reports[-1].log


def test_one_sequence_cannot_be_halved(walk: Walk) -> None:
    reports, _ = walk([[RuntimeError(OOM)]], "resources.micro_batch=1")
    assert kinds(reports) == ["begun", "failed"]


def test_an_evaluation_that_does_not_fit_reads_less_at_a_time(walk: Walk) -> None:
    reports, script = walk(
        [["intermediate", "target", MemoryError()], ["intermediate", "target", "evaluate"]]
    )
    assert reports[3].remedy == "with 32 instead of 64 sequences a pass"
    evaluation = script.tasks[1].path[-1]
    assert runtime_of(script.tasks[1]).fitted(evaluation.settings).evaluation_batch == 32
    assert pass_of(script.tasks[1], "target") == (16, 1)


def test_a_trial_shrinks_in_a_home_that_cannot_be_written(
    walk: Walk, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("xlt_ray.sweep.batch_limits.save_batch_limit", refuse)
    reports, script = walk(
        [["intermediate", MemoryError()], ["intermediate", "target", "evaluate"]]
    )
    assert reports[-1].kind == "complete"
    assert pass_of(script.tasks[1], "target") == (8, 2)
    assert not home.batch_limits.exists()


def test_each_pause_for_unreachable_storage_is_longer(walk: Walk) -> None:
    gone = OSError(116, "Stale file handle")
    reports, _ = walk(
        [[gone], [gone], ["intermediate", "target", "evaluate"]],
        "failures={storage: {seconds: 0.3}}",
    )
    assert kinds(reports)[:3] == ["begun", "retrying", "retrying"]
    assert [report.remedy for report in reports[1:3]] == ["in 0 s", "in 1 s"]
    assert reports[-1].kind == "complete"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TrialFailure("the loss is nan", cause="nan"), "nan"),
        (KeyError("labels"), "bug"),
        (OSError(28, "No space left on device"), "disk"),
    ],
)
def test_a_permanent_cause_fails_at_once(walk: Walk, error: Exception, cause: str) -> None:
    reports, script = walk([["intermediate", error]])
    assert kinds(reports) == ["begun", "stage", "failed"]
    assert (reports[-1].cause, reports[-1].stage) == (cause, "target")
    assert script.ended == ["abandoned"]


def test_a_sweep_may_retry_a_permanent_cause(walk: Walk) -> None:
    attempts = [[TrialFailure("x", cause="nan")], ["intermediate", "target", "evaluate"]]
    reports, _ = walk(attempts, "failures={nan: {action: retry, times: 1}}")
    assert kinds(reports)[:2] == ["begun", "retrying"]
    assert reports[1].remedy == "at once"
    assert reports[-1].kind == "complete"


@pytest.mark.parametrize(
    "error", [rayed.ActorDiedError(), TrialFailure("no answer", cause="timeout")]
)
def test_a_lost_worker_is_left_to_tune(
    task: Callable[..., TrialTask], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    script = Script([[error]])
    monkeypatch.setattr("xlt_ray.sweep.trainable.workers_for", script.workers)
    trainable = TrialWalk({"task": pack(task())})
    trainable.step()
    with pytest.raises(type(error)):
        trainable.step()
    assert script.ended == ["abandoned"]


def test_a_stage_is_reported_with_what_it_took_whoever_made_it(
    task: Callable[..., TrialTask],
) -> None:
    """An earlier process of the trial may have made it; only the scheduler knows."""
    asked = task()
    trainable = TrialWalk({"task": pack(asked)})
    stage = stages_to_run(asked.path)[0]
    trainable._remaining = list(stages_to_run(asked.path))
    record = StageRecord(
        stage.key, stage.payload, stage.label, {}, num_examples=96, seconds=3600.0,
        made_by={"sweep": "t", "trial": 0},
    )  # fmt: skip
    use = trainable._report(Committed(stage, record, reused=True)).finished_stage
    assert use is not None
    assert (use.reused, use.examples, use.seconds, use.made_by) == (True, 96, 3600.0, "t/0")


# -- the file of limits ---


def test_a_limit_holds_for_its_model_device_and_length(tmp_path: Path) -> None:
    file = tmp_path / "home" / "fits.json"
    assert read_batch_limits(file, "large", "cuda") == {}
    save_batch_limit(file, "large", "cuda", 128, 8)
    save_batch_limit(file, "large", "cuda", 512, 2)
    assert read_batch_limits(file, "large", "cuda") == {128: 8, 512: 2}
    assert read_batch_limits(file, "large", "cpu") == {}
    assert read_batch_limits(file, "base", "cuda") == {}
    assert [path.name for path in file.parent.glob("*.json")] == ["fits.json"]


def test_the_smaller_number_stays(tmp_path: Path) -> None:
    file = tmp_path / "fits.json"
    for number in (8, 16, 4, 32):
        save_batch_limit(file, "m", "cuda", 128, number)
    assert read_batch_limits(file, "m", "cuda") == {128: 4}


def test_trials_that_write_limits_at_the_same_time_lose_none(tmp_path: Path) -> None:
    file = tmp_path / "fits.json"
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda length: save_batch_limit(file, f"m{length % 3}", "cuda", length, 4),
                range(12),
            )
        )
    known = {
        length for model in range(3) for length in read_batch_limits(file, f"m{model}", "cuda")
    }
    assert known == set(range(12))


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_a_damaged_file_counts_as_empty_and_is_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "fits.json"
    file.write_text(content)
    assert read_batch_limits(file, "m", "cuda") == {}
    save_batch_limit(file, "m", "cuda", 128, 4)
    assert json.loads(file.read_text()) == {"m": {"cuda": {"128": 4}}}
