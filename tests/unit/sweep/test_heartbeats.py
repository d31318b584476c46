"""Frozen processes: they are ended after hang_after and two graces, and nobody else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from ray.exceptions import ActorDiedError

from xlt_ray.config.retry_policy import Failures
from xlt_ray.sweep.failures import ProcessFailures
from xlt_ray.sweep.tune import HeartbeatMonitor, _kill
from xlt_ray.sweep.workers import GRACE_S

HANG_AFTER = 100.0
PATIENCE = HANG_AFTER + 2 * GRACE_S


class Driver:
    """A clock, and what a driver does at every step of its loop."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        self.ended: list[tuple[str, int]] = []
        self.process_failures = ProcessFailures(Failures(), folder)
        self.silences = HeartbeatMonitor(
            HANG_AFTER,
            self.process_failures,
            lambda *process: self.ended.append(process),
            lambda: self.now_s,
        )

    def trial(self, number: int) -> Any:
        return SimpleNamespace(config={"task": SimpleNamespace(number=number)})

    def on_report(self, number: int) -> None:
        result = {"node_ip": "10.0.0.1", "pid": 1000 + number}
        self.silences.on_trial_result(0, [], self.trial(number), result)

    def work(self, seconds: float) -> None:
        """Look every second, as a driver does that is awake."""
        for _ in range(int(seconds)):
            self.now_s += 1
            self.silences.on_step_begin(0, [])


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def test_a_silent_process_is_ended_once_and_its_trial_hung(driver: Driver) -> None:
    driver.on_report(3)
    driver.work(PATIENCE)
    assert driver.ended == []
    driver.work(PATIENCE)
    assert driver.ended == [("10.0.0.1", 1003)]
    report = driver.process_failures.on_process_end(3, ActorDiedError())
    assert report is not None
    assert report.cause == "timeout"
    assert report.message == f"its process gave no sign of life for {PATIENCE + 1:.0f} s"
    assert driver.process_failures.on_process_end(3, ActorDiedError()).cause == "lost", (
        "what follows is its own"
    )


def test_a_process_that_speaks_is_left_alone(driver: Driver) -> None:
    for _ in range(20):
        driver.on_report(3)
        driver.work(PATIENCE / 2)
    assert driver.ended == []


@pytest.mark.parametrize("end", ["on_trial_complete", "on_trial_error", "on_trial_recover"])
def test_a_trial_that_ended_is_not_waited_for(driver: Driver, end: str) -> None:
    driver.on_report(3)
    getattr(driver.silences, end)(0, [], driver.trial(3))
    driver.work(3 * PATIENCE)
    assert driver.ended == []


def test_a_driver_that_was_away_itself_blames_nobody(driver: Driver) -> None:
    driver.on_report(3)
    driver.work(PATIENCE / 2)
    driver.now_s += 10 * PATIENCE
    driver.work(PATIENCE / 2 - 1)
    assert driver.ended == []
    driver.work(PATIENCE)
    assert len(driver.ended) == 1


def test_only_processes_of_ray_are_killed() -> None:
    waiting = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]
    stranger = subprocess.Popen(waiting, stdout=subprocess.PIPE)
    worker = subprocess.Popen([*waiting, "ray::TrialWalk.train"], stdout=subprocess.PIPE)
    try:
        for process in (stranger, worker):
            # Until it has spoken, the kernel may not know its command line yet.
            assert process.stdout is not None
            assert process.stdout.readline() == b"here\n"
            _kill(process.pid)
        assert worker.wait(30) < 0
        assert psutil.pid_exists(stranger.pid)
        assert stranger.poll() is None
        _kill(worker.pid)
    finally:
        for process in (stranger, worker):
            process.kill()
            process.communicate()
