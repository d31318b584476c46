"""Workers: a walk in its thread loses nothing; the runtime of a task."""

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
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import path_of, stages_to_run
from xlt_ray.sweep.failures import read_hang_report
from xlt_ray.sweep.tasks import maker_of, task_for
from xlt_ray.sweep.workers import CONTEXT_BYTES, WalkThread, memory_share, runtime_of
from xlt_ray.training.events import Evaluated, Event, Stop, Ticked
from xlt_ray.training.process_group import ProcessGroup


@pytest.fixture
def stage(sweep_from: Callable[..., SweepSpec], facts: Facts) -> Stage:
    trial = sweep_from(TEXT).trial_of({})
    return stages_to_run(path_of(trial, facts, seed=0, shared_seed=0))[0]


def evaluated(stage: Stage, step: int) -> Evaluated:
    return Evaluated(stage, step, 16 * step, {"loss": 1.0})


def walking(events: Iterator[Event], process_group: Any = None) -> WalkThread:
    return WalkThread(lambda: (events, process_group or ProcessGroup()), None)


def test_training_goes_on_without_fetches_and_no_score_is_lost(stage: Stage) -> None:
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
    updates = [thread.fetch(number, 0.0) for number in range(12)]
    events = [update.event for update in updates if update is not None]
    assert [event.step for event in events if isinstance(event, Evaluated)] == list(
        range(10, 101, 10)
    )
    assert [type(event).__name__ for event in events[-2:]] == ["Committed", "NoneType"]
    # A worker that was called too early is called once more.
    assert thread.fetch(11, 0.0) == updates[11]


def test_without_an_update_the_latest_heartbeat_is_fetched(stage: Stage) -> None:
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
    heartbeat = thread.fetch(1, 0.01)
    assert heartbeat is not None
    assert heartbeat.is_heartbeat
    assert heartbeat.event == Ticked(stage, 16 * 49)
    go_on.set()
    assert thread.fetch(1, 60.0).event == evaluated(stage, 50)  # type: ignore[union-attr]
    thread.stop("end")


@pytest.mark.parametrize(("mode", "raised"), [("keep", Stop), ("end", GeneratorExit)])
def test_a_walk_that_is_stopped_ends_at_its_next_event(
    stage: Stage, mode: Any, raised: type[BaseException]
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
    assert ended == [raised]
    thread.stop("end")


def test_an_exception_of_a_walk_is_raised_after_its_updates(stage: Stage) -> None:
    def walk() -> Iterator[Event]:
        yield evaluated(stage, 1)
        raise KeyError("labels")

    thread = walking(walk())
    assert thread.fetch(0, 60.0).event == evaluated(stage, 1)  # type: ignore[union-attr]
    with pytest.raises(KeyError, match="labels") as raised:
        thread.fetch(1, 60.0)
    assert raised.traceback[-1].name == "walk", "the log shows where"


def test_workers_in_lockstep_end_at_the_event_of_the_leader(
    stage: Stage,
) -> None:
    values: queue.Queue[Any] = queue.Queue()

    class Follower(ProcessGroup):
        def share(self, value: Any) -> Any:
            return values.get(timeout=60)

    class Leader(ProcessGroup):
        def share(self, value: Any) -> Any:
            values.put(value)
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

watchdog = Watchdog(hang_file(Path(sys.argv[1]), 7, 0), 0.5)
thread = WalkThread(lambda: (hang(), None), watchdog)
while thread.fetch(0, 0.1) is None:
    pass
"""


def test_a_walk_that_hangs_ends_its_process(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", HANGING, str(tmp_path)], timeout=60, check=False)
    assert ended.returncode == 1
    failure = read_hang_report(tmp_path, 7)
    assert failure is not None
    assert (failure.cause, failure.message) == (
        "timeout", "nothing happened for 0:00:00: in hang (<string>:8)",
    )  # fmt: skip


# -- the runtime of a task ---


@pytest.mark.parametrize(
    ("made_by", "named"),
    [
        ({"sweep": "small", "trial": 3, "host": "here"}, "small/3"),
        ({"sweep": "small", "trial": 0}, "small/0"),
        ({"sweep": "small", "trial": -1}, "small"),
        ({"host": "here"}, ""),
        ({}, ""),
    ],
)
def test_a_maker_is_named_by_sweep_and_trial(made_by: dict[str, object], named: str) -> None:
    assert maker_of(StageRecord("k" * 64, {}, "target", {}, made_by=made_by)) == named


@pytest.mark.parametrize(
    ("model", "workers", "device", "share"),
    [("toy:2x64", 4, "cuda", 1.0), ("toy:4x64", 1, "cuda", 0.25), ("real", 2, "cpu", 1.0)],
)
def test_a_task_has_the_resources_of_its_model(
    home: Home, facts: Facts, model: str, workers: int, device: str, share: float
) -> None:
    sweep = sweep_of(
        parse_document(
            f"""
            name: t
            data: {{source: toy}}
            model: {model}
            target: {{task: nli, source_language: qaa}}
            search: {{trials: 1}}
            resources:
              workers: 4
              gpus_per_worker: 1
              by_model:
                toy:4x64: {{workers: 1, gpus_per_worker: 0.25}}
                real: {{workers: 2, gpus_per_worker: 0}}
            """,
            "t.yaml",
        )
    )
    trial = sweep.trial_of({})
    path = path_of(trial, facts, seed=0, shared_seed=0)
    runtime = runtime_of(task_for(0, trial, path, sweep, home))
    assert (runtime.workers, runtime.device, runtime.gpu_share) == (workers, device, share)


def test_a_task_has_the_commit_of_the_code(
    facts: Facts, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "target: {task: nli, source_language: qaa}"
    text = f"name: t\ndata: {{source: toy}}\nmodel: toy:2x64\n{target}\nsearch: {{trials: 1}}"
    sweep = sweep_of(parse_document(text, "t.yaml"))
    trial = sweep.trial_of({})
    path = path_of(trial, facts, seed=0, shared_seed=0)
    for commit, fields in (("c" * 40 + "+", {"commit": "c" * 40 + "+"}), ("", {})):
        monkeypatch.setattr("xlt_ray.sweep.tasks.commit_of", lambda commit=commit: commit)
        made_by = runtime_of(task_for(3, trial, path, sweep, home)).made_by
        assert made_by == {"sweep": "t", "trial": 3, **fields}


@pytest.mark.parametrize("total_gib", [4, 16, 80])
def test_trials_on_one_gpu_leave_memory_for_cuda(total_gib: int) -> None:
    total = total_gib * 2**30
    for number in (2, 4, 8):
        part = memory_share(1 / number, total)
        assert 0 < part < 1 / number
        fits_beside = number * (part * total + CONTEXT_BYTES) <= total * 1.001
        assert fits_beside or part == 1 / number / 2, "on tiny shares half of it is left to try"


@pytest.mark.parametrize(
    ("overrides", "watched"),
    [
        (("early_stop={method: asha, grace: 0.2}", "objective.languages=target"), ("qab", "qac")),
        (("early_stop={method: asha, grace: 0.2}", "objective.languages=all"),
         ("qaa", "qab", "qac")),
        (("early_stop={method: asha, grace: 0.2}", "objective.languages=[qac]"), ("qac",)),
        (("early_stop={method: asha, grace: 0.2}",), ()),
        (("objective.languages=all",), ()),
    ],
)  # fmt: skip
def test_early_stopping_by_an_oracle_objective_watches_its_languages(
    home: Home, facts: Facts, overrides: tuple[str, ...], watched: tuple[str, ...]
) -> None:
    text = "{name: t, data: {source: toy}, model: real, search: {trials: 1}, target: {task: nli, "
    text += "source_language: qaa}, evaluate: {languages: [qab, qac], examples: 20}}"
    sweep = sweep_of(parse_document(text, "t.yaml", overrides))
    trial = sweep.trial_of({})
    path = path_of(trial, facts, seed=0, shared_seed=0)
    task = task_for(0, trial, path, sweep, home)
    assert task.watched == watched
    runtime = runtime_of(task)
    assert (runtime.watched, runtime.watched_examples) == (watched, 20)
