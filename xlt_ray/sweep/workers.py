"""The processes of one trial: this one, or several Ray actors in the trial's placement group.

A worker trains in a thread, so training never waits for the driver. Several workers run in
lockstep: they have the same updates, and the reports of the first one, the leader, count.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from xlt_ray.errors import TrialFailure
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.failures import Watchdog, hang_file, noting_node
from xlt_ray.sweep.tasks import TrialTask
from xlt_ray.training.events import Event, Stop, Ticked, Waiting
from xlt_ray.training.runtime import Runtime

if TYPE_CHECKING:
    from xlt_ray.training.load import TrainingContext
    from xlt_ray.training.process_group import ProcessGroup

GRACE_S = 60.0
"""Seconds that a worker that hangs gets to end itself, before it is ended from outside."""
CONTEXT_BYTES = 9 * 2**26
"""GPU memory of CUDA and its libraries in each process: about 0.56 GiB."""
StopMode = Literal["", "keep", "end"]
"""What a walk does at its next event: continue, save progress and end, or end."""


@dataclass(frozen=True)
class Update:
    """An event of a walk; None at the end of the path."""

    event: Event | None

    @property
    def is_heartbeat(self) -> bool:
        """Whether it only says that the walk is still running."""
        return isinstance(self.event, Waiting | Ticked)


class WalkThread:
    """The walk of one process, in a thread.

    Scores and finished stages are kept in order until they are fetched, a few for each stage. Only
    the latest heartbeat is kept, so a driver that is away for hours costs no memory.
    """

    def __init__(
        self,
        open_walk: Callable[[], tuple[Iterator[Event], ProcessGroup]],
        watchdog: Watchdog | None,
    ) -> None:
        """Start the walk.

        Args:
            open_walk: called in the thread, because PyTorch has settings per thread.
            watchdog: ends this process where a single event takes too long; closed at the end.
        """
        self._open_walk = open_walk
        self._watchdog = watchdog
        self._changed = threading.Condition()
        self._updates: deque[Update | BaseException] = deque()
        """The first one has the number ``_first``."""
        self._first = 0
        self._heartbeat: Update | None = None
        self._stop_mode: StopMode = ""
        # The process can exit without waiting for the thread.
        self._thread = threading.Thread(target=self._run, name="walk", daemon=True)
        self._thread.start()

    def fetch(self, number: int, seconds: float) -> Update | None:
        """Wait for the update of this number, counted from 0, and forget those before it.

        After ``seconds`` without it, returns the last heartbeat, or None if there was none since
        the last update. Raises what the walk raised, after all of its updates.
        """
        with self._changed:
            while self._first < number:
                self._updates.popleft()
                self._first += 1
            self._changed.wait_for(lambda: self._updates, seconds)
            if not self._updates:
                return self._heartbeat
            update = self._updates[0]
            if isinstance(update, Update):
                return update
            self._updates.clear()
        try:
            raise update
        finally:
            # The frames of the exception hold tensors, and this frame is among them.
            del update

    def stop(self, mode: StopMode) -> None:
        """End the walk at its next event, wait for that, and drop what it raises."""
        self._stop_mode = self._stop_mode or mode
        self._thread.join()

    def _run(self) -> None:
        try:
            self._walk()
        except BaseException as error:  # noqa: BLE001 - `fetch` raises it
            self._publish(error)
        finally:
            if self._watchdog is not None:
                self._watchdog.close()

    def _walk(self) -> None:
        watched = self._watchdog or contextlib.nullcontext()
        with watched:
            events, process_group = self._open_walk()
        mode: StopMode = ""
        while not mode:
            with watched:
                event = next(events, None)
            self._publish(Update(event))
            if event is None:
                return
            with watched:
                mode = process_group.share(self._stop_mode)
                if mode == "keep":
                    with contextlib.suppress(Stop, StopIteration):
                        events.throw(Stop())  # type: ignore[attr-defined]
                elif mode:
                    events.close()  # type: ignore[attr-defined]

    def _publish(self, update: Update | BaseException) -> None:
        with self._changed:
            if isinstance(update, Update) and update.is_heartbeat:
                self._heartbeat = update
                return
            self._heartbeat = None
            self._updates.append(update)
            self._changed.notify_all()


def runtime_of(task: TrialTask) -> Runtime:
    """The runtime of a task."""
    resources = task.resources
    return Runtime(
        cache=Path(task.cache),
        workers=resources["workers"],
        zero_stage=resources["zero_stage"],
        offload=resources["offload"],
        micro_batch=resources["micro_batch"],
        activation_checkpointing=resources["activation_checkpointing"],
        compile=resources["compile"],
        threads=resources["cpus_per_worker"],
        device="cuda" if resources["gpus_per_worker"] else "cpu",
        gpu_share=resources["gpus_per_worker"] or 1.0,
        progress=task.progress,
        evaluations=task.trial.target.evaluations,
        watched=task.watched,
        watched_examples=task.trial.evaluate.examples,
        batch_limits=task.batch_limits,
        made_by=task.made_by,
    )


def memory_share(gpu_share: float, total_bytes: int) -> float:
    """Share of a GPU's memory that PyTorch may use for tensors in a process that shares the GPU,
    so that a trial which needs more runs out of memory and its neighbours do not.

    >>> round(memory_share(0.25, 16 * 2**30), 3)
    0.215
    """
    return max(gpu_share - CONTEXT_BYTES / total_bytes, gpu_share / 2)


def open_walk(
    task: TrialTask, rank: int = 0, address: str = "", listener: socket.socket | None = None
) -> tuple[Iterator[Event], ProcessGroup]:
    """Prepare to run a task in this process and thread; iterating over the events runs it."""
    from xlt_ray.training.walk import walk

    context = open_context(task, rank, address, listener)
    return walk(task.path, context, until=task.until), context.group


def open_context(
    task: TrialTask, rank: int = 0, address: str = "", listener: socket.socket | None = None
) -> TrainingContext:
    """Set this process and thread up to make the stages of a task."""
    import torch
    import transformers

    from xlt_ray.data.sources.base import open_source
    from xlt_ray.training.load import TrainingContext
    from xlt_ray.training.process_group import join_process_group

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    runtime = runtime_of(task)
    torch.set_num_threads(runtime.threads)
    # The tokenizers library reads it once, when it first uses threads.
    os.environ.setdefault("RAYON_NUM_THREADS", str(runtime.threads))
    process_group = join_process_group(
        rank, runtime.workers, runtime.device, address=address, listener=listener
    )
    if runtime.gpu_share < 1:
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(memory_share(runtime.gpu_share, total))
    trial, store = task.trial, StageStore(task.store)
    source = open_source(trial.data, runtime.cache)
    return TrainingContext(trial.model, source, store, runtime, process_group)


def probe(task: TrialTask, stage: Stage) -> float:
    """Seconds of a step of a training stage of a task, measured in this process."""
    from xlt_ray.training.probe import seconds_of_a_step

    return seconds_of_a_step(stage, task.path[0], open_context(task))


class Worker:
    """The part of a trial that one process runs; it may run several tasks, one after another."""

    def __init__(self) -> None:
        # PyTorch and transformers: seconds, which are not part of a task and not on its watchdog.
        import xlt_ray.training.walk  # noqa: F401

        self._walk: WalkThread | None = None
        self._listener: socket.socket | None = None

    def nodes(self) -> tuple[str, ...]:
        """Id of its node; an empty id without Ray, as in ``xlt stage``."""
        return (_own_node(),)

    def ip_address(self) -> str:
        """The address at which other nodes reach this one."""
        import ray

        return str(ray.util.get_node_ip_address())

    def listen(self, host: str) -> str:
        """Make this worker the leader; the ``host:port`` at which the others reach it."""
        from xlt_ray.training.process_group import address_of, listen

        self._listener = listen(host)
        return address_of(self._listener)

    def begin(self, task: TrialTask, rank: int = 0, address: str = "") -> None:
        """Start a task in a thread."""
        self.end()
        watchdog = None
        if task.hangs:
            file = hang_file(Path(task.hangs), task.number, rank)
            watchdog = Watchdog(file, task.failures.hang_after)
        self._walk = WalkThread(partial(open_walk, task, rank, address, self._listener), watchdog)

    def fetch(self, number: int, seconds: float) -> Update | None:
        """See :meth:`WalkThread.fetch`."""
        assert self._walk is not None, "fetch before begin"
        with noting_node(_own_node):
            return self._walk.fetch(number, seconds)

    def keep(self) -> None:
        """Save progress and end the walk."""
        if self._walk is not None:
            self._walk.stop("keep")

    def end(self) -> None:
        """End the walk; releases leases and memory."""
        if self._walk is not None:
            self._walk.stop("end")
            self._walk = None

    def abandon(self) -> None:
        """End after a failure: the next attempt in this process may need all of its memory."""
        import torch

        self.end()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _own_node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


class RayWorkers:
    """Several workers, each an actor in its own bundle of the trial's placement group.

    It has the methods of a :class:`Worker`, which call all of them.
    """

    def __init__(self, resources: Any) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = ray.util.get_current_placement_group()
        remote = ray.remote(Worker)
        self._actors = [
            remote.options(
                num_cpus=resources["cpus_per_worker"],
                num_gpus=resources["gpus_per_worker"],
                # Tune drops the empty bundle of the trainable, which only waits and needs no CPU.
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=group, placement_group_bundle_index=rank
                ),
            ).remote()
            for rank in range(resources["workers"])
        ]
        self._nodes = tuple(
            node
            for nodes in ray.get([actor.nodes.remote() for actor in self._actors])
            for node in nodes
        )
        addresses = ray.get([actor.ip_address.remote() for actor in self._actors])
        host = "127.0.0.1" if len(set(addresses)) == 1 else addresses[0]
        self._address = ray.get(self._actors[0].listen.remote(host))
        self._patience_s = GRACE_S

    def nodes(self) -> tuple[str, ...]:
        return self._nodes

    def begin(self, task: TrialTask) -> None:
        self._patience_s = task.failures.hang_after + GRACE_S
        self._all("begin", lambda rank: (task, rank, self._address))

    def fetch(self, number: int, seconds: float) -> Update | None:
        # All have the same updates; if one is early, the next call requests the same number.
        return cast("Update | None", self._all("fetch", lambda _: (number, seconds))[0])

    def keep(self) -> None:
        self._all("keep")

    def end(self) -> None:
        # Workers in lockstep stop at the same event, so each can end by itself.
        self._all("end")

    def abandon(self) -> None:
        """End after a failure: the others may wait inside a collective call for one that failed."""
        import ray

        for actor in self._actors:
            ray.kill(actor)

    def _all(self, method: str, arguments: Callable[[int], Any] = lambda _: ()) -> list[Any]:
        """Call every worker; raises the first failure without waiting for the others.

        Raises:
            TrialFailure: no worker answers in time (``timeout``).
        """
        import ray

        pending = [
            getattr(actor, method).remote(*arguments(rank))
            for rank, actor in enumerate(self._actors)
        ]
        waiting = list(pending)
        while waiting:
            done, waiting = ray.wait(waiting, timeout=self._patience_s)
            if not done:
                raise TrialFailure(
                    f"{len(waiting)} workers did not answer for {self._patience_s:.0f} s",
                    cause="timeout",
                )
            ray.get(done)
        return cast("list[Any]", ray.get(pending))


def workers_for(task: TrialTask) -> Worker | RayWorkers:
    """The workers that a task needs."""
    return Worker() if task.resources["workers"] == 1 else RayWorkers(task.resources)
