"""Simulated actors: what Ray does for Tune, in this process and in simulated time.

Tune's controller is real, down to the manager of its actors, which gets :class:`SimulatedRay` in
place of Ray: an actor is an object here; a call is executed when Tune fetches its result, and is
due at a moment of the simulated time. Arguments and results are pickled, as in Ray. The cost of
Ray's own processes, messages and placement groups is missing.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import ray
from ray import cloudpickle
from ray.air.execution import ResourceManager, ResourceRequest
from ray.air.execution.resources.fixed import FixedAcquiredResources

PATCHED = (
    "ray.air.execution._internal.actor_manager.ray",
    "ray.air.execution._internal.event_manager.ray",
    "ray.tune.execution.class_cache.ray",
    "ray.tune.experiment.trial.ray",
)


class SimulationClock:
    """CPU seconds of this thread that a cluster spends in other processes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.thread_time() - began


@dataclass(eq=False)
class Ref:
    """The result of a call, once it is due."""

    due: float
    call: Callable[[], Any]


class SimulatedActor:
    """Has every method of a trainable, and those that Ray adds."""

    def __init__(self, world: SimulatedRay, make: Callable[[], Any]) -> None:
        self._world = world
        self._make = make
        self._trainable: Any = None

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any, **named: Any) -> Ref:
            call = cloudpickle.dumps((arguments, named))
            if name == "set_report_interval":
                # Its result is never fetched.
                self._execute(name, call)
            seconds = 0.0
            if name == "train":
                seconds = getattr(self._trainable, "step_s", None) or random.uniform(0.5, 1.5)
            return Ref(self._world.now + seconds, lambda: self._execute(name, call))

        return SimpleNamespace(remote=remote)

    def _execute(self, name: str, call: bytes) -> bytes:
        with self._world.simulation():
            if self._trainable is None:
                self._trainable = self._make()
            arguments, named = cloudpickle.loads(call)
            result = None
            if not name.startswith("__ray_"):
                result = getattr(self._trainable, name)(*arguments, **named)
            return cloudpickle.dumps(result)


class SimulatedClass:
    """What ``ray.remote`` makes of a class."""

    def __init__(self, world: SimulatedRay, kind: type) -> None:
        self._world = world
        self._kind = kind

    def options(self, **_: Any) -> SimulatedClass:
        return self

    def remote(self, **named: Any) -> SimulatedActor:
        given = cloudpickle.dumps(named)
        return SimulatedActor(self._world, lambda: self._kind(**cloudpickle.loads(given)))


class SimulatedRay:
    """The module ``ray``, as Tune's manager of actors uses it."""

    ObjectRef = Ref
    actor = SimpleNamespace(ActorClass=SimulatedClass)

    def __init__(self) -> None:
        self.now = 0.0
        self.simulation = SimulationClock()

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def remote(self, **_: Any) -> Callable[[type], SimulatedClass]:
        return lambda kind: SimulatedClass(self, kind)

    def wait(
        self, refs: Sequence[Ref], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Ref], list[Ref]]:
        assert num_returns == 1
        with self.simulation():
            first = min(refs, key=lambda ref: ref.due, default=None)
        if first is None:
            return [], []
        self.now = max(self.now, first.due)
        return [first], []

    def get(self, ref: Ref) -> Any:
        return cloudpickle.loads(ref.call())

    def kill(self, actor: SimulatedActor) -> None: ...


class Slots(ResourceManager):
    """Room for this many actors, whatever they ask for."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._requested: Counter[ResourceRequest] = Counter()

    def request_resources(self, resource_request: ResourceRequest) -> None:
        self._requested[resource_request] += 1

    def cancel_resource_request(self, resource_request: ResourceRequest) -> None:
        self._requested[resource_request] -= 1

    def has_resources_ready(self, resource_request: ResourceRequest) -> bool:
        return self._free > 0 and self._requested[resource_request] > 0

    def acquire_resources(self, resource_request: ResourceRequest) -> FixedAcquiredResources | None:
        if not self.has_resources_ready(resource_request):
            return None
        self._free -= 1
        self._requested[resource_request] -= 1
        return FixedAcquiredResources(resource_request, resource_request.bundles)

    def free_resources(self, acquired_resource: FixedAcquiredResources) -> None:
        self._free += 1

    def clear(self) -> None:
        self._requested.clear()


@contextmanager
def simulated_ray(workers: int) -> Iterator[SimulatedRay]:
    """Give Tune's controller this many simulated actors."""
    world = SimulatedRay()
    with ExitStack() as stack:
        for name in PATCHED:
            stack.enter_context(patch(name, world))
        manager = "ray.tune.execution.tune_controller.PlacementGroupResourceManager"
        stack.enter_context(patch(manager, lambda: Slots(workers)))
        yield world
