"""The processes of one trial: this one, or several Ray actors in the trial's placement group.

Both run the same :class:`Worker`. Several run in lockstep, and the reports of the leader count.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from xlt_ray.errors import TrialFailure
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.failures import noting_node
from xlt_ray.sweep.tasks import TrialTask
from xlt_ray.sweep.walk_thread import Update, WalkThread
from xlt_ray.sweep.watchdog import Watchdog, hang_file
from xlt_ray.training.loop import Event
from xlt_ray.training.runtime import Runtime

if TYPE_CHECKING:
    from xlt_ray.training.process_group import ProcessGroup

GRACE_S = 60.0
"""Seconds that a worker that hangs gets to end itself, before it is ended from outside."""
CONTEXT_BYTES = 9 * 2**26
"""GPU memory of CUDA and its libraries in each process: about 0.56 GiB."""


def runtime_of(task: TrialTask) -> Runtime:
    """The runtime of a task."""
    resources = task.resources
    return Runtime(
        cache=Path(task.cache),
        workers=resources["workers"],
        zero_stage=resources["zero_stage"],
        offload=resources["offload"],
        micro_batch=resources["micro_batch"],
        threads=resources["cpus_per_worker"],
        device="cuda" if resources["gpus_per_worker"] else "cpu",
        gpu_share=resources["gpus_per_worker"] or 1.0,
        progress_every=task.progress_every,
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
    import torch
    import transformers

    from xlt_ray.data.sources.base import open_source
    from xlt_ray.training.load import TrainingInputs
    from xlt_ray.training.process_group import join_process_group
    from xlt_ray.training.walk import walk

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    runtime = runtime_of(task)
    torch.set_num_threads(runtime.threads)
    process_group = join_process_group(
        rank, runtime.workers, runtime.device, address=address, listener=listener
    )
    if runtime.gpu_share < 1:
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(memory_share(runtime.gpu_share, total))
    inputs = TrainingInputs(task.trial.model, open_source(task.trial.data))
    store = StageStore(task.store)
    return walk(task.path, inputs, store, runtime, process_group, until=task.until), process_group


class Worker:
    """The part of a trial that one process runs; it may run several tasks, one after another."""

    def __init__(self) -> None:
        self._walk: WalkThread | None = None
        self._listener: socket.socket | None = None

    def node(self) -> tuple[str, str]:
        """Id of this worker's node, and the IP address at which other nodes reach it."""
        import ray

        return _own_node(), str(ray.util.get_node_ip_address())

    def listen(self, host: str) -> str:
        """Make this worker the leader; the ``host:port`` at which the others reach it."""
        from xlt_ray.training.process_group import address_of, listen

        self._listener = listen(host)
        return address_of(self._listener)

    def begin(self, task: TrialTask, rank: int, address: str) -> None:
        """Start a task in a thread."""
        self.end()
        watchdog = None
        if task.hangs:
            file = hang_file(Path(task.hangs), task.number, rank)
            watchdog = Watchdog(file, task.failures.hang_after)
        self._walk = WalkThread(partial(open_walk, task, rank, address, self._listener), watchdog)

    def fetch(self, number: int, seconds: float) -> Update | None:
        """See :meth:`~xlt_ray.sweep.walk_thread.WalkThread.fetch`."""
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


def _own_node() -> str:
    """Id of this process's node; empty without Ray, as in ``xlt stage``."""
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


class WorkerGroup(Protocol):
    """All workers of one trial."""

    def nodes(self) -> tuple[str, ...]:
        """Ids of their nodes."""

    def begin(self, task: TrialTask) -> None: ...

    def fetch(self, number: int, seconds: float) -> Update | None:
        """See :meth:`~xlt_ray.sweep.walk_thread.WalkThread.fetch`."""

    def keep(self) -> None: ...

    def end(self) -> None: ...

    def abandon(self) -> None:
        """End after a failure; these workers run no further task."""


class LocalWorkers:
    """One worker, in this process."""

    def __init__(self) -> None:
        self._worker = Worker()

    def nodes(self) -> tuple[str, ...]:
        return (_own_node(),)

    def begin(self, task: TrialTask) -> None:
        self._worker.begin(task, 0, address="")

    def fetch(self, number: int, seconds: float) -> Update | None:
        return self._worker.fetch(number, seconds)

    def keep(self) -> None:
        self._worker.keep()

    def end(self) -> None:
        self._worker.end()

    def abandon(self) -> None:
        import torch

        self._worker.end()
        # The next attempt in this process may need all of its memory.
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


class RayWorkers:
    """Several workers, each an actor in its own bundle of the trial's placement group."""

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
        nodes = ray.get([actor.node.remote() for actor in self._actors])
        addresses = [address for _, address in nodes]
        self._nodes = tuple(node for node, _ in nodes)
        host = "127.0.0.1" if len(set(addresses)) == 1 else addresses[0]
        self._address = ray.get(self._actors[0].listen.remote(host))
        self._patience = GRACE_S

    def nodes(self) -> tuple[str, ...]:
        return self._nodes

    def begin(self, task: TrialTask) -> None:
        self._patience = task.failures.hang_after + GRACE_S
        self._all("begin", lambda rank: (task, rank, self._address))

    def fetch(self, number: int, seconds: float) -> Update | None:
        # All have the same updates; if one is early, the next call requests the same number.
        return cast("Update | None", self._all("fetch", lambda _: (number, seconds))[0])

    def keep(self) -> None:
        self._all("keep", lambda _: ())

    def end(self) -> None:
        # Workers in lockstep stop at the same event, so each can end by itself.
        self._all("end", lambda _: ())

    def abandon(self) -> None:
        import ray

        # If one failed, the others may wait for it inside a collective call.
        for actor in self._actors:
            ray.kill(actor)

    def _all(self, method: str, arguments: Any) -> list[Any]:
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
            done, waiting = ray.wait(waiting, timeout=self._patience)
            if not done:
                raise TrialFailure(
                    f"{len(waiting)} workers did not answer for {self._patience:.0f} s",
                    cause="timeout",
                )
            ray.get(done)
        return cast("list[Any]", ray.get(pending))


def workers_for(task: TrialTask) -> WorkerGroup:
    """The workers that a task needs."""
    return LocalWorkers() if task.resources["workers"] == 1 else RayWorkers(task.resources)
