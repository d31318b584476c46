"""Two processes that train one trial together over gloo, as two workers on two nodes do, and a
record of what each step saw. The processes are warm: one pair serves many trainings."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from tests.training.conftest import Bench, stop

PATIENCE_S = 300


@dataclass
class Trace:
    """What happened in one training of a path: of one process, or of several put together."""

    losses: list[float] = field(default_factory=list)
    """Of the target stage: the mean training loss before each evaluation."""
    scores: list[Mapping[str, float]] = field(default_factory=list)
    """Dev metrics at each evaluation."""
    seen: list[list[str]] = field(default_factory=list)
    """For every optimizer step, a digest of every row that it was trained on, sorted."""


@dataclass(frozen=True)
class Job:
    root: Path
    overrides: tuple[str, ...]
    runtime: Mapping[str, Any]
    num_evaluations: int | None
    """After so many evaluations of the target stage the training is broken off."""


def follow(bench: Bench, job: Job) -> Trace:
    """Train in this process as a job says."""
    from xlt_ray.training.events import Evaluated

    trace = Trace()
    with _witness(trace.seen):
        events = bench.walk(job.root, *job.overrides, **job.runtime)
        for event in events:
            if isinstance(event, Evaluated) and event.stage.kind == "target":
                metrics = dict(event.metrics)
                trace.losses.append(metrics.pop("loss"))
                trace.scores.append(metrics)
                if len(trace.losses) == job.num_evaluations:
                    break
        stop(events)
    return trace


@contextmanager
def _witness(seen: list[list[str]]) -> Iterator[None]:
    """Every step of the engine notes its rows."""
    from xlt_ray.training.deepspeed_engine import Engine

    step = Engine.step

    def watched(self: Any, micro_batches: list[list[dict[str, Any]]], rate: float) -> Any:
        seen.append(sorted(_rows(micro_batches)))
        return step(self, micro_batches, rate)

    Engine.step = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        Engine.step = step  # type: ignore[method-assign]


def _rows(micro_batches: list[list[dict[str, Any]]]) -> Iterator[str]:
    """A digest of every row, whatever it is padded to; a row computed in vain is none."""
    for batch in chain.from_iterable(micro_batches):
        if batch["denominator"].isinf():
            continue
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            yield hashlib.sha256(ids[mask.bool()].numpy().tobytes()).hexdigest()[:12]


@dataclass(frozen=True)
class Pair:
    """Two processes that wait for jobs."""

    connections: tuple[Any, Any]

    def follow(
        self,
        root: Path,
        *overrides: str,
        num_evaluations: int | None = None,
        **runtime: Any,
    ) -> Trace:
        """Both train one path as two workers; EOFError where one fails."""
        job = Job(root, overrides, {"workers": 2, **runtime}, num_evaluations)
        for connection in self.connections:
            connection.send(job)
        answers = []
        for connection in self.connections:
            assert connection.poll(PATIENCE_S), "a worker does not answer"
            answers.append(connection.recv())
        leader, other = answers
        assert leader.losses == other.losses
        seen = [sorted(parts) for parts in map(list.__add__, leader.seen, other.seen)]
        return replace(leader, seen=seen)


@contextmanager
def pair_beside(bench: Bench) -> Iterator[Pair]:
    """Two processes with the facts and the tokenised data of a bench; ended with the block."""
    from xlt_ray.training.process_group import listen

    spawn = multiprocessing.get_context("spawn")
    listener = listen("127.0.0.1")
    ends = [spawn.Pipe() for _ in range(2)]
    workers = [
        spawn.Process(
            target=_serve, args=(rank, listener, bench.facts, bench.cache, there), daemon=True
        )
        for rank, (_, there) in enumerate(ends)
    ]
    for worker in workers:
        worker.start()
    try:
        yield Pair((ends[0][0], ends[1][0]))
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _serve(rank: int, listener: socket.socket, facts: Any, cache: Path, connection: Any) -> None:
    import torch
    import transformers

    from xlt_ray.data.sources.base import open_source
    from xlt_ray.training.process_group import address_of, join_process_group

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    address = address_of(listener)
    group = join_process_group(rank, 2, "cpu", address=address, listener=None if rank else listener)
    opened = functools.cache(open_source)
    bench = Bench(facts, cache, group, lambda trial: opened(trial.data))
    while True:
        # Where one fails, it ends with its traceback, and the other waits for it until both are
        # ended with the test.
        connection.send(follow(bench, connection.recv()))
