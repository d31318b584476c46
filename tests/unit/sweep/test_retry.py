"""How often another process may try a trial whose process is gone: each cause has its count."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import ray.exceptions as rayed

from xlt_ray.config.retry_policy import Failures, Policy
from xlt_ray.errors import LeaseLost
from xlt_ray.sweep.failures import ProcessFailures, hang_file, noting_node
from xlt_ray.sweep.tasks import Report

DIED = rayed.ActorDiedError()
TAKEN = rayed.RayActorError(error_msg="its node is gone", preempted=True)
STAGE = Report("stage", nodes=("a",))
HANG = """watched thread: 0x1
Timeout (0:30:00)!
Thread 0x1 (most recent call first):
  File "a.py", line 3 in wait
"""


def hang(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    hang_file(folder, number, 0).write_text(HANG)


def test_a_lost_process_is_replaced_as_often_as_the_policy_says(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(), tmp_path)
    first = process_failures.on_process_end(3, DIED)
    assert first is not None
    assert (first.kind, first.cause) == ("lost", "lost")
    assert process_failures.on_process_end(3, LeaseLost("gone", key="k")) is not None
    assert process_failures.on_process_end(3, DIED) is None
    final_report = process_failures.final_report(3)
    assert final_report is not None
    assert (final_report.kind, final_report.cause) == ("failed", "lost")
    assert final_report.message.endswith("(attempts in this run: 3)")


def test_no_cause_uses_up_the_attempts_of_another(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(lost=Policy(action="retry", times=1)), tmp_path)
    for _ in range(5):
        assert process_failures.on_process_end(3, TAKEN) is not None
    assert process_failures.on_process_end(3, DIED) is not None
    hang(tmp_path, 3)
    assert process_failures.on_process_end(3, DIED) is not None
    assert process_failures.on_process_end(3, DIED) is None


def test_an_attempt_within_a_process_counts_for_all_that_follow(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(oom=Policy(action="shrink", times=3)), tmp_path)
    oom = Report("failed", cause="oom", remedy="with 8 sequences")
    for _ in range(2):
        assert process_failures.on_failed_attempt(3, oom) is not None
    process_failures.on_failed_attempt(3, Report("failed", cause="storage"))
    process_failures.on_failed_attempt(4, oom)
    # Ray ends a process for the memory of its machine.
    assert process_failures.on_process_end(3, rayed.OutOfMemoryError("x")) is not None
    assert process_failures.on_process_end(3, rayed.OutOfMemoryError("x")) is None


def test_no_trial_uses_up_the_attempts_of_another(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(lost=Policy(action="retry", times=1)), tmp_path)
    assert process_failures.on_process_end(3, DIED) is not None
    assert process_failures.on_process_end(4, DIED) is not None
    assert process_failures.on_process_end(3, DIED) is None


def test_a_process_that_hung_is_told_from_one_that_was_killed(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(), tmp_path)
    hang(tmp_path, 3)
    report = process_failures.on_process_end(3, DIED)
    assert report is not None
    assert report.cause == "timeout"
    assert "a.py" in report.log
    assert report.message == "nothing happened for 0:30:00: in wait (a.py:3)"
    hang(tmp_path, 3)
    assert process_failures.on_process_end(3, DIED) is None
    final_report = process_failures.final_report(3)
    assert final_report is not None
    assert (final_report.cause, final_report.log) == ("timeout", report.log)
    assert "2" in final_report.message


def test_a_process_of_which_nothing_is_known_was_lost(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(lost=Policy(action="fail")), tmp_path)
    assert process_failures.final_report(1) is None
    assert process_failures.on_process_end(1, None) is None
    final_report = process_failures.final_report(1)
    assert final_report is not None
    assert final_report.cause == "lost"


def broken(node: str) -> RuntimeError:
    error = RuntimeError("CUDA error: unspecified launch failure")
    with contextlib.suppress(RuntimeError), noting_node(lambda: node):
        raise error
    return error


def test_a_node_whose_devices_fail_again_and_again_is_left(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(), tmp_path)
    for number in range(2):
        process_failures.on_process_end(number, broken("a"))
        process_failures.on_process_end(number, broken("b"))
    assert process_failures.left_nodes == ()
    process_failures.on_process_end(2, broken("a"))
    assert process_failures.left_nodes == ("a",)
    process_failures.on_process_end(2, broken("a"))
    process_failures.on_process_end(3, broken("b"))
    assert process_failures.left_nodes == ("a", "b")


def test_a_stage_that_a_node_has_made_clears_it(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(leave_node_after=2), tmp_path)
    for number in range(4):
        process_failures.on_process_end(number, broken("a"))
        process_failures.note_made(STAGE)
    process_failures.on_process_end(5, broken("a"))
    process_failures.note_made(replace(STAGE, nodes=("b",)))
    process_failures.on_process_end(6, broken("a"))
    assert process_failures.left_nodes == ("a",)


def test_only_failures_of_a_device_count_against_their_node(tmp_path: Path) -> None:
    process_failures = ProcessFailures(Failures(leave_node_after=1), tmp_path)
    lost = LeaseLost("gone", key="k")
    with contextlib.suppress(LeaseLost), noting_node(lambda: "a"):
        raise lost
    process_failures.on_process_end(0, lost)
    process_failures.on_process_end(1, RuntimeError("CUDA error: unspecified launch failure"))
    process_failures.on_process_end(2, DIED)
    assert process_failures.left_nodes == ()
