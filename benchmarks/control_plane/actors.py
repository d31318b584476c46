"""Actors that are played: what Ray does for Tune, in this process and in a time of its own.

Tune's controller is as it is, down to the manager of its actors. In place of Ray that one has
:class:`PlayedRay`: an actor is an object here, a call of it is carried out when Tune fetches what
it gives, and is due at a moment of a simulated time. Arguments and results are pickled, as Ray
does. Nothing is here of what Ray itself takes for processes, messages and placement groups.
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


class Elsewhere:
    """CPU seconds of this thread that on a cluster are spent in other processes."""

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
    """What a call gives, once it is due."""

    due: float
    call: Callable[[], Any]


class PlayedActor:
    """Answers to every method of a trainable, and to those that Ray adds."""

    def __init__(self, world: PlayedRay, make: Callable[[], Any]) -> None:
        self._world = world
        self._make = make
        self._trainable: Any = None

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any, **named: Any) -> Ref:
            given = cloudpickle.dumps((arguments, named))
            if name == "set_report_interval":
                # Nobody fetches what it gives.
                self._carry_out(name, given)
            seconds = 0.0
            if name == "train":
                seconds = getattr(self._trainable, "step_s", None) or random.uniform(0.5, 1.5)
            return Ref(self._world.now + seconds, lambda: self._carry_out(name, given))

        return SimpleNamespace(remote=remote)

    def _carry_out(self, name: str, given: bytes) -> bytes:
        with self._world.elsewhere():
            if self._trainable is None:
                self._trainable = self._make()
            arguments, named = cloudpickle.loads(given)
            # Those that Ray adds give nothing.
            found = None
            if not name.startswith("__ray_"):
                found = getattr(self._trainable, name)(*arguments, **named)
            return cloudpickle.dumps(found)


class PlayedClass:
    """A class of actors, as ``ray.remote`` gives it."""

    def __init__(self, world: PlayedRay, kind: type) -> None:
        self._world = world
        self._kind = kind

    def options(self, **_: Any) -> PlayedClass:
        return self

    def remote(self, **named: Any) -> PlayedActor:
        given = cloudpickle.dumps(named)
        return PlayedActor(self._world, lambda: self._kind(**cloudpickle.loads(given)))


class PlayedRay:
    """The module ``ray`` as Tune's manager of actors sees it."""

    ObjectRef = Ref
    actor = SimpleNamespace(ActorClass=PlayedClass)

    def __init__(self) -> None:
        self.now = 0.0
        self.elsewhere = Elsewhere()

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def remote(self, **_: Any) -> Callable[[type], PlayedClass]:
        return lambda kind: PlayedClass(self, kind)

    def wait(
        self, refs: Sequence[Ref], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Ref], list[Ref]]:
        assert num_returns == 1
        with self.elsewhere():
            first = min(refs, key=lambda one: one.due, default=None)
        if first is None:
            return [], []
        self.now = max(self.now, first.due)
        return [first], []

    def get(self, ref: Ref) -> Any:
        return cloudpickle.loads(ref.call())

    def kill(self, actor: PlayedActor) -> None: ...


class Slots(ResourceManager):
    """Room for so many actors, whatever they ask for."""

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
def played(workers: int) -> Iterator[PlayedRay]:
    """Let Tune's controller have so many actors that are played."""
    world = PlayedRay()
    with ExitStack() as stack:
        for name in PATCHED:
            stack.enter_context(patch(name, world))
        manager = "ray.tune.execution.tune_controller.PlacementGroupResourceManager"
        stack.enter_context(patch(manager, lambda: Slots(workers)))
        yield world
