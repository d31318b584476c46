"""The processes of one trial: one in place, or several Ray actors in its placement group.

Both run the same :class:`Worker`; several do so in lockstep, and what the leader reports counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from xlt_ray.stages.store import StageStore
from xlt_ray.sweep.order import Order
from xlt_ray.training.events import Event
from xlt_ray.training.runtime import Runtime


class Worker:
    """One process's part of a trial. Kept warm: it may be given one order after another."""

    def __init__(self) -> None:
        self._events: Iterator[Event] | None = None

    def address(self) -> str:
        """Where the others can reach this worker, should it lead."""
        import ray

        from xlt_ray.training.team import free_address

        return free_address(ray.util.get_node_ip_address())

    def begin(self, order: Order, rank: int, address: str) -> None:
        """Get ready to run an order; :meth:`advance` does the work."""
        import torch
        import transformers

        from xlt_ray.data.source import open_source
        from xlt_ray.training.load import Materials
        from xlt_ray.training.make import walk
        from xlt_ray.training.team import join_team

        self.end()
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        resources = order.resources
        torch.set_num_threads(resources["cpus_per_worker"])
        device: Literal["cpu", "cuda"] = "cuda" if resources["gpus_per_worker"] else "cpu"
        runtime = Runtime(
            cache=Path(order.cache),
            workers=resources["workers"],
            zero_stage=resources["zero_stage"],
            micro_batch=resources["micro_batch"],
            threads=resources["cpus_per_worker"],
            device=device,
            progress_every=order.progress_every,
            evaluations=order.trial.target.evaluations,
            made_by=order.made_by,
        )
        team = join_team(rank, resources["workers"], address, device)
        materials = Materials(order.trial.model, open_source(order.trial.data))
        self._events = walk(order.path, materials, StageStore(order.store), runtime, team)

    def advance(self) -> Event | None:
        """Work until something happens; None at the end of the path."""
        assert self._events is not None, "advance before begin"
        return next(self._events, None)

    def end(self) -> None:
        """Leave the trial: leases are released, memory is given back."""
        if self._events is not None:
            self._events.close()  # type: ignore[attr-defined]
            self._events = None


class Crew(Protocol):
    """All workers of one trial."""

    def begin(self, order: Order) -> None: ...

    def advance(self) -> Event | None: ...

    def end(self) -> None: ...


class SoloCrew:
    """One worker, in this process."""

    def __init__(self) -> None:
        self._worker = Worker()

    def begin(self, order: Order) -> None:
        from xlt_ray.training.team import free_address

        self._worker.begin(order, 0, free_address())

    def advance(self) -> Event | None:
        return self._worker.advance()

    def end(self) -> None:
        self._worker.end()


class ActorCrew:
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
        self._address = ray.get(self._actors[0].address.remote())

    def begin(self, order: Order) -> None:
        self._all("begin", lambda rank: (order, rank, self._address))

    def advance(self) -> Event | None:
        return cast("Event | None", self._all("advance", lambda _: ())[0])

    def end(self) -> None:
        # Lockstep workers stop at the same event, so each can leave by itself.
        self._all("end", lambda _: ())

    def _all(self, method: str, arguments: Any) -> list[Any]:
        """Call every worker; the first failure counts, without waiting for the others."""
        import ray

        pending = [
            getattr(actor, method).remote(*arguments(rank))
            for rank, actor in enumerate(self._actors)
        ]
        waiting = list(pending)
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
        return cast("list[Any]", ray.get(pending))


def crew_for(order: Order) -> Crew:
    """The workers that an order asks for."""
    return SoloCrew() if order.resources["workers"] == 1 else ActorCrew(order.resources)
