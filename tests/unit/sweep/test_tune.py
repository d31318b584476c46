"""The adapters of Tune, the monitor of heartbeats, and the end of a sweep when Ray dies."""

from __future__ import annotations

import copy
import errno
import itertools
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import psutil
import pytest
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ActorDiedError, OutOfMemoryError

from xlt_ray.config.facts import Facts
from xlt_ray.config.retry_policy import Failures, Policy
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LeaseLost
from xlt_ray.home import Home
from xlt_ray.store.stage_path import path_of
from xlt_ray.sweep import ray_connection
from xlt_ray.sweep.capacity import Demand
from xlt_ray.sweep.failures import ProcessFailures
from xlt_ray.sweep.ray_connection import is_listening
from xlt_ray.sweep.tasks import Report, TrialTask, pack, task_for
from xlt_ray.sweep.trainable import INTERVAL, REPORT, TrialWalk
from xlt_ray.sweep.tune import (
    HeartbeatMonitor,
    LiveTrialScheduler,
    SchedulerSearcher,
    _kill,
    let_trials_outlive_memory_kills,
)
from xlt_ray.sweep.workers import GRACE_S

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
target: {task: nli, source_language: qaa}
search: {trials: 1}
"""


@pytest.fixture
def task(home: Home, facts: Facts) -> TrialTask:
    """Of trial 3."""
    sweep = sweep_of(parse_document(TEXT, "t.yaml"))
    trial = sweep.trial_of({})
    return task_for(3, trial, path_of(trial, facts, seed=0, shared_seed=0), sweep, home)


class RecordingScheduler:
    """A scheduler that keeps its reports."""

    def __init__(
        self, num_running: int = 1, *, is_to_stop: bool = False, keeps_progress: bool = False
    ) -> None:
        self.reports: list[Report] = []
        self._keeps_progress = keeps_progress
        self.num_running = num_running
        self._is_to_stop = is_to_stop

    def on_report(self, number: int, report: Report) -> bool:
        self.reports.append(report)
        return self._is_to_stop

    def keeps_progress(self, _: int) -> bool:
        return self._keeps_progress


class CalledProcess:
    """A trial's process that keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: self.calls.append((name, *given)))


class FullDiskScheduler:
    """A scheduler on a full disk, with one trial."""

    num_running = 0
    is_done = False

    def __init__(self, task: TrialTask) -> None:
        self._task = task

    def next_task(self) -> TrialTask:
        return self._task

    def finish(self, number: int, report: Report | None) -> None:
        raise OSError(28, "No space left on device")

    def on_report(self, number: int, report: Report) -> bool:
        raise AssertionError("the trial has ended, and does not go on")


def test_an_end_that_cannot_be_written_ends_the_run_and_not_the_trial_alone(
    tmp_path: Path, task: TrialTask
) -> None:
    scheduler: Any = FullDiskScheduler(task)
    process_failures = ProcessFailures(Failures(), tmp_path)
    searcher = SchedulerSearcher(scheduler, process_failures, lambda: 1)
    searcher.suggest("a")
    with pytest.raises(OSError, match="No space"):
        searcher.on_trial_complete("a", {"report": None})
    # Tune takes that for a failure of the trial, and asks the scheduler what is to be done.
    trial = SimpleNamespace(config={"task": pack(task)}, pickled_error_file=None, trial_id="a")
    with pytest.raises(OSError, match="No space"):
        LiveTrialScheduler(scheduler, process_failures).on_trial_error(None, trial)


def test_tune_carries_a_small_task_and_a_process_unpacks_it(
    tmp_path: Path, task: TrialTask
) -> None:
    """Tune prints, copies and keeps what it carries of every trial."""
    scheduler: Any = FullDiskScheduler(task)
    searcher = SchedulerSearcher(
        scheduler, ProcessFailures(Failures(), tmp_path), lambda: 1
    ).suggest("a")
    assert isinstance(searcher, dict)
    carried = searcher["task"]
    assert repr(carried) == "PackedTask(number=3, model='toy:2x64')"
    assert copy.deepcopy(carried).payload is carried.payload
    assert carried.open() == task


def test_the_first_that_waits_is_chosen_among_those_that_have_not_ended(
    tmp_path: Path, task: TrialTask
) -> None:
    def trial(number: int, status: str) -> SimpleNamespace:
        return SimpleNamespace(config={"task": pack(replace(task, number=number))}, status=status)

    scheduler = LiveTrialScheduler(FullDiskScheduler(task), ProcessFailures(Failures(), tmp_path))  # type: ignore[arg-type]
    live = [trial(4, "PENDING"), trial(2, "PENDING"), trial(1, "RUNNING"), trial(0, "ERROR")]
    # Nothing else is asked: it would be of all trials that ever were.
    controller = SimpleNamespace(get_live_trials=lambda: live)
    assert scheduler.choose_trial_to_run(controller) is live[1]
    del live[:2]
    assert scheduler.choose_trial_to_run(controller) is None


class Planted:
    """Unpickling it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize(
    "theft", ["another owner", "a file that others can write", "a link", "a pipe"]
)
def test_an_error_that_another_user_can_have_written_is_not_unpickled(
    tmp_path: Path, task: TrialTask, monkeypatch: pytest.MonkeyPatch, theft: str
) -> None:
    file, trace = tmp_path / "error.pkl", tmp_path / "ran"
    file.write_bytes(pickle.dumps(Planted(trace)))
    if theft == "a link":
        file = tmp_path / "link"
        file.symlink_to(tmp_path / "error.pkl")
    elif theft == "a pipe":
        # The driver would wait for ever for somebody to write into it.
        file = tmp_path / "pipe"
        os.mkfifo(file, 0o600)
    elif theft == "another owner":
        owner = file.stat().st_uid
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    else:
        file.chmod(0o666)
    process_failures = ProcessFailures(Failures(), tmp_path)
    heard: list[Report] = []
    scheduler: Any = SimpleNamespace(on_report=lambda _, report: heard.append(report))
    trial = SimpleNamespace(
        config={"task": pack(task)}, pickled_error_file=str(file), trial_id="a",
        set_config=lambda _: None,
    )  # fmt: skip
    LiveTrialScheduler(scheduler, process_failures).on_trial_error(None, trial)
    assert not trace.exists()
    assert [report.cause for report in heard] == ["lost"]


GONE = OSError(errno.ESTALE, "Stale file handle")


class FailingWorkers:
    """Workers that fail in one way after another."""

    def __init__(self, failures: list[Exception]) -> None:
        self._failures = failures

    def nodes(self) -> tuple[str, ...]:
        return ()

    def begin(self, task: TrialTask) -> None: ...

    def abandon(self) -> None: ...

    def end(self) -> None: ...

    def fetch(self, number: int, seconds: float) -> None:
        raise self._failures.pop(0)


@pytest.mark.parametrize(
    "failures",
    [
        [GONE, GONE, GONE, LeaseLost("x", key="k"), GONE],
        [GONE, GONE, LeaseLost("x", key="k"), GONE, LeaseLost("x", key="k"), GONE],
        [LeaseLost("x", key="k"), GONE, LeaseLost("x", key="k"), GONE, GONE, GONE],
        [GONE, GONE, GONE, GONE],
    ],
)
def test_attempts_are_counted_over_all_processes_of_a_trial(
    tmp_path: Path, task: TrialTask, monkeypatch: pytest.MonkeyPatch, failures: list[Exception]
) -> None:
    """Three of storage and two of losses are never more than three of storage."""
    waits = Policy(action="wait", times=3, seconds=1e-6)
    rules = Failures(storage=waits, lost=Policy(action="retry", times=2))
    task = replace(task, failures=rules)
    recorder: Any = RecordingScheduler()
    scheduler = LiveTrialScheduler(recorder, ProcessFailures(rules, tmp_path))
    left = list(failures)
    monkeypatch.setattr("xlt_ray.sweep.trainable.workers_for", lambda _: FailingWorkers(left))
    error = tmp_path / "error.pkl"
    trial = SimpleNamespace(config={"task": pack(task)}, trial_id="a",
                            pickled_error_file=str(error),
                            temporary_state=SimpleNamespace(ray_actor=CalledProcess()))  # fmt: skip
    trial.set_config = lambda config: setattr(trial, "config", config)
    process = TrialWalk(trial.config)
    decision, result = "CONTINUE", {}
    while decision != "STOP":
        try:
            result = process.step()
        except LeaseLost as lost:
            error.write_bytes(pickle.dumps(lost))
            error.chmod(0o600)
            scheduler.on_trial_error(None, trial)
            process = TrialWalk(trial.config)
        else:
            decision = scheduler.on_trial_result(None, trial, result)
    assert not left, "the fourth failure of storage is final"
    causes = [(report.kind, report.cause) for report in recorder.reports if report.cause]
    assert causes.count(("retrying", "storage")) == 3
    assert (result[REPORT].kind, result[REPORT].cause) == ("failed", "storage")


def test_a_process_in_which_a_trial_has_failed_takes_no_other_one(tmp_path: Path) -> None:
    """Tune keeps a process for trials that ask for the same."""
    scheduler = LiveTrialScheduler(RecordingScheduler(), ProcessFailures(Failures(), tmp_path))  # type: ignore[arg-type]
    asked = Demand({"CPU": 1.0}).bundles()
    trials = [SimpleNamespace(trial_id=name, placement_group_factory=asked) for name in "abc"]
    for trial, kind in zip(trials, ("complete", "failed", "failed"), strict=True):
        scheduler.on_trial_complete(None, trial, {REPORT: Report(kind)})
    complete, *failed = (trial.placement_group_factory for trial in trials)
    assert complete == asked
    assert len({asked, *failed}) == 3


def test_a_trial_is_placed_on_no_node_that_was_left(tmp_path: Path, task: TrialTask) -> None:
    error = RuntimeError("CUDA error: unspecified launch failure")
    error.add_note("on node bad")
    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(error))
    file.chmod(0o600)
    process_failures = ProcessFailures(Failures(leave_node_after=2), tmp_path)
    left: list[tuple[str, ...]] = []
    scheduler: Any = RecordingScheduler()
    scheduler = LiveTrialScheduler(
        scheduler, process_failures, lambda: left.append(process_failures.left_nodes)
    )
    renewed: list[tuple[str, ...]] = []
    trial = SimpleNamespace(config={"task": pack(task)}, pickled_error_file=str(file))
    trial.set_config = lambda config: setattr(trial, "config", config)
    trial.create_placement_group_factory = lambda: renewed.append(trial.config["task"].left_nodes)
    scheduler.on_trial_error(None, trial)
    assert (renewed, left) == ([], [])
    scheduler.on_trial_error(None, trial)
    assert (renewed, left) == ([("bad",)], [("bad",)])
    asked = SchedulerSearcher(FullDiskScheduler(task), process_failures, lambda: 1).suggest("b")  # type: ignore[arg-type]
    assert isinstance(asked, dict)
    assert asked["task"].left_nodes == ("bad",)


def reply_to(
    scheduler: Any, task: TrialTask, folder: Path, interval_s: float
) -> tuple[str, list[Any]]:
    """What the scheduler decides on a result, and what it tells the process."""
    process = CalledProcess()
    trial = SimpleNamespace(
        config={"task": pack(task)}, temporary_state=SimpleNamespace(ray_actor=process)
    )
    scheduler = LiveTrialScheduler(scheduler, ProcessFailures(Failures(), folder))
    result = {REPORT: Report("evaluated"), INTERVAL: interval_s}
    return scheduler.on_trial_result(None, trial, result), process.calls


@pytest.mark.parametrize(
    ("num_running", "interval_s", "reply"),
    [
        (8, 2.0, []),
        (100, 2.0, [("set_report_interval", 5.0)]),
        (450, 5.0, [("set_report_interval", 22.5)]),
        (440, 22.5, []),
        (8, 22.5, [("set_report_interval", 2.0)]),
    ],
)
def test_the_more_trials_run_the_rarer_are_their_signs_of_life(
    tmp_path: Path, task: TrialTask, num_running: int, interval_s: float, reply: list[Any]
) -> None:
    scheduler = RecordingScheduler(num_running)
    assert reply_to(scheduler, task, tmp_path, interval_s) == ("CONTINUE", reply)


@pytest.mark.parametrize(
    ("keeps_progress", "reply"), [(False, "end_early"), (True, "end_with_progress")]
)
def test_a_trial_that_is_to_end_is_left_at_once(
    tmp_path: Path, task: TrialTask, keeps_progress: bool, reply: str
) -> None:
    """It trains on its own, and Tune may keep its process for a later trial without a word."""
    scheduler = RecordingScheduler(is_to_stop=True, keeps_progress=keeps_progress)
    assert reply_to(scheduler, task, tmp_path, 2.0) == ("STOP", [(reply,)])


# -- heartbeats ---

HANG_AFTER = 100.0
PATIENCE = HANG_AFTER + 2 * GRACE_S


class Clock:
    """A clock, and the monitor that a driver calls at every step of its loop."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        self.ended: list[tuple[str, int]] = []
        self.process_failures = ProcessFailures(Failures(), folder)
        self.monitor = HeartbeatMonitor(
            HANG_AFTER,
            self.process_failures,
            lambda *process: self.ended.append(process),
            lambda: self.now_s,
        )

    def trial(self, number: int) -> Any:
        return SimpleNamespace(config={"task": SimpleNamespace(number=number)})

    def on_report(self, number: int) -> None:
        result = {"node_ip": "10.0.0.1", "pid": 1000 + number}
        self.monitor.on_trial_result(0, [], self.trial(number), result)

    def work(self, seconds: float) -> None:
        """Check every second, as a running driver does."""
        for _ in range(int(seconds)):
            self.now_s += 1
            self.monitor.on_step_begin(0, [])


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def test_a_silent_process_is_ended_once(clock: Clock) -> None:
    clock.on_report(3)
    clock.work(PATIENCE)
    assert clock.ended == []
    clock.work(PATIENCE)
    assert clock.ended == [("10.0.0.1", 1003)]
    report = clock.process_failures.on_process_end(3, ActorDiedError())
    assert report is not None
    assert report.cause == "timeout"
    assert report.message == f"its process gave no sign of life for {PATIENCE + 1:.0f} s"
    assert clock.process_failures.on_process_end(3, ActorDiedError()).cause == "lost", (
        "what follows is its own"
    )


def test_a_process_that_reports_is_not_ended(clock: Clock) -> None:
    for _ in range(20):
        clock.on_report(3)
        clock.work(PATIENCE / 2)
    assert clock.ended == []


@pytest.mark.parametrize("end", ["on_trial_complete", "on_trial_error", "on_trial_recover"])
def test_a_trial_that_ended_is_not_monitored(clock: Clock, end: str) -> None:
    clock.on_report(3)
    getattr(clock.monitor, end)(0, [], clock.trial(3))
    clock.work(3 * PATIENCE)
    assert clock.ended == []


def test_a_driver_that_stalled_itself_ends_no_process(clock: Clock) -> None:
    clock.on_report(3)
    clock.work(PATIENCE / 2)
    clock.now_s += 10 * PATIENCE
    clock.work(PATIENCE / 2 - 1)
    assert clock.ended == []
    clock.work(PATIENCE)
    assert len(clock.ended) == 1


def test_only_processes_of_ray_are_killed() -> None:
    waiting = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]
    unrelated = subprocess.Popen(waiting, stdout=subprocess.PIPE)
    worker = subprocess.Popen([*waiting, "ray::TrialWalk.train"], stdout=subprocess.PIPE)
    try:
        for process in (unrelated, worker):
            # Until it has spoken, the kernel may not know its command line yet.
            assert process.stdout is not None
            assert process.stdout.readline() == b"here\n"
            _kill(process.pid)
        assert worker.wait(30) < 0
        assert psutil.pid_exists(unrelated.pid)
        assert unrelated.poll() is None
        _kill(worker.pid)
    finally:
        for process in (unrelated, worker):
            process.kill()
            process.communicate()


# -- the death of Ray ---


class Ended(Exception):
    """The process would end, with this code."""


def end(code: int) -> NoReturn:
    raise Ended(code)


@pytest.mark.parametrize(
    ("address", "may_miss"), [("10.0.0.3:6379", 4), (None, 1)], ids=["a cluster's", "its own"]
)
def test_only_a_server_that_stays_away_ends_the_sweep(
    monkeypatch: pytest.MonkeyPatch, address: str | None, may_miss: int
) -> None:
    looks = [True, *[False] * may_miss, True, *[False] * 100]
    left = iter(looks)
    warnings: list[str] = []
    scheduler: Any = SimpleNamespace(reporter=SimpleNamespace(warned=warnings.append))
    is_over: Any = SimpleNamespace(wait=lambda _: False)
    clock = itertools.count(step=10)
    if address is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", address)
    context = SimpleNamespace(gcs_address="10.0.0.3:6379")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray_connection, "is_listening", lambda _: next(left))
    monkeypatch.setattr(
        ray_connection, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None)
    )
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended, match="1"):
        ray_connection._watch_server(scheduler, is_over)
    assert len([*left]) == 100 - (may_miss + 1)
    (line,) = warnings
    assert "10.0.0.3:6379" in line
    assert line.endswith("the same command goes on")


def test_a_listening_port_is_recognised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert is_listening(address)
    assert not is_listening(address)


def test_a_process_that_was_killed_for_memory_fails_its_trial_and_not_the_run() -> None:
    let_trials_outlive_memory_kills()
    killed = OutOfMemoryError("1 worker(s) were killed due to the node running low on memory")
    seen: list[Exception] = []
    actor = SimpleNamespace(actor_id=7, _on_error=None)
    task = SimpleNamespace(_tracked_actor=actor, _on_error=lambda _, error: seen.append(error))
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda **_: None)
    RayActorManager._actor_task_failed(manager, task, killed)  # type: ignore[arg-type]
    assert seen == [killed]
    assert manager._failed_actor_ids == {7}
