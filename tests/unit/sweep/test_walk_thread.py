"""A walk in a thread: it goes on while nobody asks for news, and nothing of it is lost."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sweep.test_trainable import TEXT, committed
from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import path_of, stages_to_run
from xlt_ray.sweep.failures import read_hang_report
from xlt_ray.sweep.workers import WalkThread
from xlt_ray.training.loop import Evaluated, Event, Stop, Ticked
from xlt_ray.training.process_group import ProcessGroup


@pytest.fixture
def stage(sweep_from: Callable[..., SweepSpec], facts: Facts) -> Stage:
    trial = sweep_from(TEXT).trial_of({})
    return stages_to_run(path_of(trial, facts, seed=0, shared_seed=0))[0]


def evaluated(stage: Stage, step: int) -> Evaluated:
    return Evaluated(stage, step, 16 * step, {"loss": 1.0})


def walking(events: Iterator[Event], process_group: Any = None) -> WalkThread:
    return WalkThread(lambda: (events, process_group or ProcessGroup()), None)


def test_training_goes_on_while_nobody_asks_and_no_score_is_lost(stage: Stage) -> None:
    is_over = threading.Event()

    def walk() -> Iterator[Event]:
        for step in range(1, 101):
            yield Ticked(stage, 16 * step)
            if step % 10 == 0:
                yield evaluated(stage, step)
        yield committed(stage)
        is_over.set()

    thread = walking(walk())
    assert is_over.wait(60), "nothing was fetched so far"
    thread.stop("end")
    update = [thread.fetch(number, 0.0) for number in range(12)]
    events = [one.event for one in update if one is not None]
    assert [event.step for event in events if isinstance(event, Evaluated)] == list(
        range(10, 101, 10)
    )
    assert [type(event).__name__ for event in events[-2:]] == ["Committed", "NoneType"]
    # A worker that was asked too early is asked once more.
    assert thread.fetch(11, 0.0) == update[11]


def test_of_signs_of_life_the_latest_is_told_when_the_time_is_up(stage: Stage) -> None:
    go_on, ticked = threading.Event(), threading.Event()

    def walk() -> Iterator[Event]:
        yield evaluated(stage, 1)
        for step in range(2, 50):
            yield Ticked(stage, 16 * step)
        ticked.set()
        go_on.wait(60)
        yield evaluated(stage, 50)

    thread = walking(walk())
    assert ticked.wait(60)
    assert thread.fetch(0, 0.0).event == evaluated(stage, 1)  # type: ignore[union-attr]
    sign = thread.fetch(1, 0.01)
    assert sign is not None
    assert sign.is_heartbeat
    assert sign.event == Ticked(stage, 16 * 49)
    go_on.set()
    assert thread.fetch(1, 60.0).event == evaluated(stage, 50)  # type: ignore[union-attr]
    thread.stop("end")


@pytest.mark.parametrize(("mode", "met"), [("keep", Stop), ("end", GeneratorExit)])
def test_a_walk_that_is_stopped_ends_at_its_next_event(
    stage: Stage, mode: Any, met: type[BaseException]
) -> None:
    ended: list[type[BaseException]] = []
    begun = threading.Event()

    def walk() -> Iterator[Event]:
        try:
            while True:
                begun.set()
                yield Ticked(stage, 0)
        except BaseException as error:
            ended.append(type(error))
            raise

    thread = walking(walk())
    assert begun.wait(60)
    thread.stop(mode)
    assert ended == [met]
    thread.stop("end")


def test_what_a_walk_raises_is_raised_after_its_news(stage: Stage) -> None:
    def walk() -> Iterator[Event]:
        yield evaluated(stage, 1)
        raise KeyError("labels")

    thread = walking(walk())
    assert thread.fetch(0, 60.0).event == evaluated(stage, 1)  # type: ignore[union-attr]
    with pytest.raises(KeyError, match="labels") as raised:
        thread.fetch(1, 60.0)
    assert raised.traceback[-1].name == "walk", "the log shows where"


def test_workers_in_lockstep_end_at_the_event_at_which_the_leader_is_told_to(
    stage: Stage,
) -> None:
    said: queue.Queue[Any] = queue.Queue()

    class Follower(ProcessGroup):
        def share(self, value: Any) -> Any:
            return said.get(timeout=60)

    class Leader(ProcessGroup):
        def share(self, value: Any) -> Any:
            said.put(value)
            return value

    last: dict[str, int] = {}
    begun = threading.Event()

    def walk(name: str) -> Iterator[Event]:
        for step in range(10**9):
            last[name] = step
            if step == 20:
                begun.set()
            yield Ticked(stage, step)

    leader = walking(walk("leader"), Leader())
    follower = walking(walk("follower"), Follower())
    assert begun.wait(60)
    leader.stop("keep")
    follower.stop("keep")
    assert last["leader"] == last["follower"]


HANGING = """
import sys, time
from pathlib import Path
from xlt_ray.sweep.failures import Watchdog, hang_file
from xlt_ray.sweep.workers import WalkThread

def hang():
    time.sleep(600)
    yield

watch = Watchdog(hang_file(Path(sys.argv[1]), 7, 0), 0.5)
thread = WalkThread(lambda: (hang(), None), watch)
while thread.fetch(0, 0.1) is None:
    pass
"""


def test_a_walk_that_hangs_ends_its_process_although_the_steps_go_on(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", HANGING, str(tmp_path)], timeout=60, check=False)
    assert ended.returncode == 1
    failure = read_hang_report(tmp_path, 7)
    assert failure is not None
    assert (failure.cause, failure.message) == (
        "timeout", "nothing happened for 0:00:00: in hang (<string>:8)",
    )  # fmt: skip
