"""The processes of one trial: one in place, or several Ray actors in its placement group.

Both run the same :class:`Worker`; several do so in lockstep, and what the leader reports counts.
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
from xlt_ray.sweep.failures import naming
from xlt_ray.sweep.tasks import TrialTask
from xlt_ray.sweep.walk_thread import News, WalkThread
from xlt_ray.sweep.watchdog import Watchdog, hang_file
from xlt_ray.training.loop import Event
from xlt_ray.training.runtime import Runtime

if TYPE_CHECKING:
    from xlt_ray.training.process_group import ProcessGroup

GRACE_S = 60.0
"""A worker that hangs ends itself; one that cannot even do that is given up so much later."""
CONTEXT_BYTES = 9 * 2**26
"""Of a GPU's memory, for CUDA itself and its libraries in each process: about 0.56 GiB."""


def runtime_of(order: TrialTask) -> Runtime:
    """How the stages of an order are made."""
    resources = order.resources
    return Runtime(
        cache=Path(order.cache),
        workers=resources["workers"],
        zero_stage=resources["zero_stage"],
        offload=resources["offload"],
        micro_batch=resources["micro_batch"],
        threads=resources["cpus_per_worker"],
        device="cuda" if resources["gpus_per_worker"] else "cpu",
        gpu_share=resources["gpus_per_worker"] or 1.0,
        progress_every=order.progress_every,
        evaluations=order.trial.target.evaluations,
        watched=order.watched,
        watched_examples=order.trial.evaluate.examples,
        batch_limits=order.fits,
        made_by=order.made_by,
    )


def memory_share(gpu_share: float, total_bytes: int) -> float:
    """Part of a GPU's memory that PyTorch may take for tensors in one of the processes that
    use it together: beyond it, this trial is out of memory, and not its neighbours.

    >>> round(memory_share(0.25, 16 * 2**30), 3)
    0.215
    """
    return max(gpu_share - CONTEXT_BYTES / total_bytes, gpu_share / 2)


def open_walk(
    order: TrialTask, rank: int = 0, address: str = "", listener: socket.socket | None = None
) -> tuple[Iterator[Event], ProcessGroup]:
    """Get ready to run an order in this process and thread; iterating does the work."""
    import torch
    import transformers

    from xlt_ray.data.sources.base import open_source
    from xlt_ray.training.load import TrainingInputs
    from xlt_ray.training.process_group import join_process_group
    from xlt_ray.training.walk import walk

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    runtime = runtime_of(order)
    torch.set_num_threads(runtime.threads)
    group = join_process_group(
        rank, runtime.workers, runtime.device, address=address, listener=listener
    )
    if runtime.gpu_share < 1:
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(memory_share(runtime.gpu_share, total))
    inputs = TrainingInputs(order.trial.model, open_source(order.trial.data))
    store = StageStore(order.store)
    return walk(order.path, inputs, store, runtime, group, until=order.until), group


class Worker:
    """One process's part of a trial. Kept warm: it may be given one order after another."""

    def __init__(self) -> None:
        self._walk: WalkThread | None = None
        self._listener: socket.socket | None = None

    def node(self) -> tuple[str, str]:
        """Id of this worker's node, and its IP address as the other nodes know it."""
        import ray

        return _own_node(), str(ray.util.get_node_ip_address())

    def listen(self, host: str) -> str:
        """As the leader: ``host:port`` where the others reach this worker from now on."""
        from xlt_ray.training.process_group import address_of, listen

        self._listener = listen(host)
        return address_of(self._listener)

    def begin(self, order: TrialTask, rank: int, address: str) -> None:
        """Begin to run an order, in a thread."""
        self.end()
        watch = None
        if order.hangs:
            file = hang_file(Path(order.hangs), order.number, rank)
            watch = Watchdog(file, order.failures.hang_after)
        self._walk = WalkThread(partial(open_walk, order, rank, address, self._listener), watch)

    def fetch(self, number: int, seconds: float) -> News | None:
        """See :meth:`~xlt_ray.sweep.walk_thread.WalkThread.fetch`."""
        assert self._walk is not None, "fetch before begin"
        with naming(_own_node):
            return self._walk.fetch(number, seconds)

    def keep(self) -> None:
        """Save what was trained since the last progress, and end the walk."""
        if self._walk is not None:
            self._walk.stop("keep")

    def end(self) -> None:
        """Leave the trial: leases are released, memory is given back."""
        if self._walk is not None:
            self._walk.stop("end")
            self._walk = None


def _own_node() -> str:
    """Id of this process's node; nothing without Ray, as for ``xlt stage``."""
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


class WorkerGroup(Protocol):
    """All workers of one trial."""

    def nodes(self) -> tuple[str, ...]:
        """Ids of the nodes that they are on."""

    def begin(self, order: TrialTask) -> None: ...

    def fetch(self, number: int, seconds: float) -> News | None:
        """See :meth:`~xlt_ray.sweep.walk_thread.WalkThread.fetch`."""

    def keep(self) -> None: ...

    def end(self) -> None: ...

    def abandon(self) -> None:
        """End after a failure; this crew takes no further order."""


class LocalWorkers:
    """One worker, in this process."""

    def __init__(self) -> None:
        self._worker = Worker()

    def nodes(self) -> tuple[str, ...]:
        return (_own_node(),)

    def begin(self, order: TrialTask) -> None:
        self._worker.begin(order, 0, address="")

    def fetch(self, number: int, seconds: float) -> News | None:
        return self._worker.fetch(number, seconds)

    def keep(self) -> None:
        self._worker.keep()

    def end(self) -> None:
        self._worker.end()

    def abandon(self) -> None:
        import torch

        self._worker.end()
        # What is tried next in this process may need all of its memory.
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
                # Tune drops the trainable's own, empty bundle: it only waits and needs no CPU.
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

    def begin(self, order: TrialTask) -> None:
        self._patience = order.failures.hang_after + GRACE_S
        self._all("begin", lambda rank: (order, rank, self._address))

    def fetch(self, number: int, seconds: float) -> News | None:
        # All have the same news; where one is early, the next call asks for the same number.
        return cast("News | None", self._all("fetch", lambda _: (number, seconds))[0])

    def keep(self) -> None:
        self._all("keep", lambda _: ())

    def end(self) -> None:
        # Lockstep workers stop at the same event, so each can leave by itself.
        self._all("end", lambda _: ())

    def abandon(self) -> None:
        import ray

        # Where one failed, the others may wait for it inside a collective call.
        for actor in self._actors:
            ray.kill(actor)

    def _all(self, method: str, arguments: Any) -> list[Any]:
        """Call every worker; the first failure counts, without waiting for the others.

        Raises:
            TrialFailure: none of them answers (``timeout``).
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


def workers_for(order: TrialTask) -> WorkerGroup:
    """The workers that an order asks for."""
    return LocalWorkers() if order.resources["workers"] == 1 else RayWorkers(order.resources)
