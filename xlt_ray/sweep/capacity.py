"""How many trials a Ray cluster holds: what each needs of one node, and which nodes there are.

Ray keeps a trial that can never be placed pending for ever, so this is checked before anything is
started. A trial needs equal bundles, one for each worker. The arithmetic is therefore exact: a node
has a number of places, whatever the order in which they are taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.config.resources import Resources, Strategy
from xlt_ray.errors import ClusterError

Node = Mapping[str, float]
"""Resources of one node by name."""

UNBOUNDED = 2**31 - 1
"""A maximum of the autoscaler from here on is no limit (the default of KubeRay)."""
MAX_NODES = 1000
"""Nodes of a kind; more of them do not count."""
REFRESH_S = 2.0
"""Seconds between two looks at the nodes of the cluster."""
_SCALE = 10_000
"""Ray counts shares of resources in ten-thousandths. So do we, without rounding floats."""


@dataclass(frozen=True)
class Demand:
    """What one trial needs: a bundle for each worker, placed by a strategy."""

    bundle: Mapping[str, float]
    workers: int = 1
    strategy: Strategy = "pack"

    @classmethod
    def of(cls, resources: Resources) -> Demand:
        """What a trial with these resources needs.

        >>> Demand.of(Resources(workers=2, gpus_per_worker=1)).bundle
        {'CPU': 1.0, 'GPU': 1.0}
        """
        bundle = {"CPU": float(resources.cpus_per_worker)}
        if resources.gpus_per_worker:
            bundle["GPU"] = float(resources.gpus_per_worker)
        return cls(bundle, resources.workers, resources.strategy)

    @property
    def total(self) -> dict[str, float]:
        return {name: amount * self.workers for name, amount in self.bundle.items()}

    def bundles(self, left_nodes: Iterable[str] = ()) -> Any:
        """For Tune: one bundle for a trial in one process; else an empty one first, for the
        trainable, which only waits.

        Args:
            left_nodes: ids of nodes on which the trial is not placed.
        """
        from ray.tune import PlacementGroupFactory

        bundles = [dict(self.bundle)] * self.workers
        ids = ",".join(left_nodes)
        elsewhere = [{"ray.io/node-id": f"!in({ids})"}] * self.workers if ids else None
        if self.workers == 1:
            return PlacementGroupFactory(bundles, bundle_label_selector=elsewhere)
        return PlacementGroupFactory(
            [{}, *bundles], strategy=self.strategy.upper(), bundle_label_selector=elsewhere
        )

    def places(self, node: Node) -> int:
        """How many workers fit on a node; a share of a GPU never spans two GPUs.

        >>> Demand({"CPU": 1, "GPU": 0.4}).places({"CPU": 16, "GPU": 2})
        4
        """

        def fitting(name: str, needed: float) -> int:
            units, available = max(round(needed * _SCALE), 1), node.get(name, 0)
            if name == "GPU" and needed < 1:
                return int(available) * (_SCALE // units)
            return math.floor(available * _SCALE) // units

        return min(fitting(name, needed) for name, needed in self.bundle.items())

    def num_places(self, nodes: Iterable[Node]) -> int:
        """How many such trials these nodes hold at a time."""
        places = [self.places(node) for node in nodes]
        if self.strategy == "strict_pack":
            return sum(place // self.workers for place in places)
        trials = sum(places) // self.workers
        if self.strategy == "strict_spread":
            # Each trial takes at most one place on a node.
            while trials and sum(min(place, trials) for place in places) < trials * self.workers:
                trials -= 1
        return trials


@dataclass(frozen=True)
class Group:
    """Nodes of one kind that an autoscaler may start."""

    node: Node
    max_nodes: int
    """:data:`UNBOUNDED` or more where there is no limit."""


@dataclass(frozen=True)
class Capacity:
    """The nodes of a cluster, and those that its autoscaler may start."""

    nodes: Sequence[Node]
    groups: Sequence[Group] = ()
    place: str = "the cluster"
    """What messages call it."""

    @property
    def total(self) -> dict[str, float]:
        """All resources by name, once the autoscaler has started all that it may."""
        total: dict[str, float] = {}
        for group in [*(Group(node, 1) for node in self.nodes), *self.groups]:
            for name, amount in group.node.items():
                total[name] = total.get(name, 0.0) + amount * min(group.max_nodes, UNBOUNDED)
        return total

    def can_hold(self, demand: Demand) -> bool:
        """Whether one such trial can be placed, now or after the autoscaler has started nodes."""
        # More nodes of a kind than a trial has workers make no difference.
        return demand.num_places([*self.nodes, *self._startable(demand.workers)]) > 0

    def num_trials(self, demand: Demand, limit: int | None = None) -> int:
        """How many such trials may run at a time: at least one, for which a node may have to start,
        and at most ``limit``.

        If the autoscaler has a bound, or there is a limit, nodes count that it may start;
        otherwise only those of now.

        >>> Capacity([{"CPU": 4}], [Group({"CPU": 8, "GPU": 1}, 8)]).num_trials(
        ...     Demand({"CPU": 2, "GPU": 1})
        ... )
        8
        """
        startable = self._startable(MAX_NODES, is_bounded=limit is None)
        most = max(demand.num_places(self.nodes), demand.num_places(startable), 1)
        return most if limit is None else min(most, limit)

    def _startable(self, most: int, *, is_bounded: bool = False) -> list[Node]:
        """Up to ``most`` nodes of each kind; ``is_bounded``: only of kinds with a limit."""
        return [
            group.node
            for group in self.groups
            if group.max_nodes < UNBOUNDED or not is_bounded
            for _ in range(min(group.max_nodes, most))
        ]

    def refuse_impossible(self, resources: Resources, models: Iterable[str]) -> None:
        """Raise ClusterError if trials of a model could never be placed."""
        for model, demand in demands_of(resources, models).items():
            if not self.can_hold(demand):
                trial = f"a trial of {model}" if model in resources.by_model else "a trial"
                raise ClusterError(
                    f"{trial} asks for {self._shortage(demand)}",
                    asked=demand.total,
                    available=self.total,
                )

    def _shortage(self, demand: Demand) -> str:
        """What is needed and missing, and what to change."""
        available = self.total
        for name, amount in demand.total.items():
            if amount > available.get(name, 0):
                return (
                    f"{amount:g} {name}s, {self.place} has {available.get(name, 0):g}; lower "
                    f"resources.workers or resources.{name.lower()}s_per_worker"
                )
        worker = " and ".join(f"{amount:g} {name}s" for name, amount in demand.bundle.items())
        if not any(map(demand.places, [*self.nodes, *self._startable(1)])):
            return (
                f"{worker} for each worker, and no node of {self.place} has that; lower "
                "resources.cpus_per_worker, and use more workers"
            )
        is_strict = demand.strategy.startswith("strict")
        where = {"strict_pack": " on one node", "strict_spread": " on a node each"}
        return (
            f"{demand.workers} workers with {worker} each{where.get(demand.strategy, '')}, and the "
            f"nodes of {self.place} cannot hold them; use fewer workers"
            + (f", or resources.strategy: {demand.strategy[7:]}" if is_strict else "")
        )


def cluster_capacity(left_nodes: Collection[str] = ()) -> Capacity:
    """The capacity of the cluster that this process has joined, without nodes of these ids.

    A cluster with an autoscaler may have no GPU now and eight a few minutes after a trial needs
    them.
    """
    import ray

    # Ray Train and Ray Data read the same place; there is no public one.
    from ray._private.state import state

    config = state.get_cluster_config()
    groups = [] if config is None else config.node_group_configs
    alive = [node for node in ray.nodes() if node["Alive"]]
    return Capacity(
        [node["Resources"] for node in alive if node["NodeID"] not in left_nodes],
        [
            Group(
                {name: _bound(amount) for name, amount in group.resources.items()},
                _bound(group.max_count),
            )
            for group in groups
        ],
    )


def draining_nodes() -> frozenset[str]:
    """Ids of nodes that will be taken away: a cloud announced it to Ray, or Ray's processes there
    got SIGTERM. Ray places nothing more on them."""
    import ray
    from ray._private.state import state

    return frozenset(state.get_draining_nodes()) if ray.is_initialized() else frozenset()


def _bound(number: float) -> int:
    """Ray writes -1 for no limit."""
    return int(number) if number >= 0 else UNBOUNDED


def node_names(ids: Iterable[str]) -> list[str]:
    """For users: the address of each node and the first letters of its id."""
    import ray

    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    return [f"{addresses.get(id_, 'unknown')} ({id_[:8]})" for id_ in ids]


def demands_of(resources: Resources, models: Iterable[str]) -> dict[str, Demand]:
    """What the trials of each model need."""
    return {model: Demand.of(resources.of(model)) for model in models}


class Concurrency:
    """How many trials may run at a time; follows the nodes of the cluster as they come and go.

    Trials of several models count by the smallest demand. One that needs more waits at the head of
    Tune's queue until its place is free, and holds back those behind it.
    """

    def __init__(
        self,
        demands: Iterable[Demand],
        limit: Callable[[], int | None],
        capacity: Callable[[], Capacity] = cluster_capacity,
    ) -> None:
        """``limit`` is asked again whenever the capacity is."""
        self._demands = tuple(demands)
        self._limit = limit
        self._capacity = capacity
        self._refreshed_s = -math.inf
        self._num_trials = 1

    @property
    def max_pending(self) -> int:
        """How many trials may wait for their places at a time, so that an autoscaler knows of all.

        Only one if some need more than others: Ray would keep giving the places that become free
        to smaller trials.
        """
        are_alike = all(demand == self._demands[0] for demand in self._demands)
        return (self._limit() or MAX_NODES) if are_alike else 1

    def __call__(self) -> int:
        now = time.monotonic()
        if now - self._refreshed_s >= REFRESH_S:
            capacity = self._capacity()
            self._num_trials = max(
                capacity.num_trials(demand, self._limit()) for demand in self._demands
            )
            self._refreshed_s = now
        return self._num_trials
