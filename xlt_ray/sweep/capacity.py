"""How many trials a Ray cluster holds: what each asks of one node, and which nodes there are.

Ray keeps a trial that can never be placed pending for ever, so this is asked before anything is
started. A trial asks for equal bundles, one a worker, which makes the arithmetic exact: a node
has so many places, whatever the order in which they are taken.
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
"""From here on, a maximum of the autoscaler's is none (KubeRay's default is this number)."""
MANY = 1000
"""Nodes of a kind; what more of them would hold is not counted."""
AGAIN_S = 2.0
"""How long an answer of the cluster about its nodes is good."""
_GRAIN = 10_000
"""Ray counts shares of resources in ten-thousandths; so do we, and never by rounding floats."""


@dataclass(frozen=True)
class Demand:
    """What one trial asks for: a bundle for each worker, placed by a strategy."""

    bundle: Mapping[str, float]
    workers: int = 1
    strategy: Strategy = "pack"

    @classmethod
    def of(cls, resources: Resources) -> Demand:
        """What a trial with these resources asks for.

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
        """For Tune: one bundle for a trial in one process; else an empty one for the trainable
        first, which only waits.

        Args:
            left_nodes: ids of nodes that it is not placed on.
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
        """How many workers fit on a node; a share of a GPU is never made of two GPUs.

        >>> Demand({"CPU": 1, "GPU": 0.4}).places({"CPU": 16, "GPU": 2})
        4
        """
        return min(_places(name, asked, node.get(name, 0)) for name, asked in self.bundle.items())

    def num_places(self, nodes: Iterable[Node]) -> int:
        """How many such trials these nodes hold at a time."""
        places = [self.places(node) for node in nodes]
        if self.strategy == "strict_pack":
            return sum(place // self.workers for place in places)
        trials = sum(places) // self.workers
        if self.strategy == "strict_spread":
            # Each trial takes one place on a node at most.
            while trials and sum(min(place, trials) for place in places) < trials * self.workers:
                trials -= 1
        return trials


def _places(name: str, asked: float, there: float) -> int:
    if name == "GPU" and asked < 1:
        return int(there) * (_GRAIN // max(round(asked * _GRAIN), 1))
    return math.floor(there * _GRAIN) // max(round(asked * _GRAIN), 1)


def nodes_there(left_nodes: Collection[str] = ()) -> list[Node]:
    """The nodes of the cluster that this process has joined, as they are now, but for those with
    these ids."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    return [node["Resources"] for node in alive if node["NodeID"] not in left_nodes]


def node_names(ids: Iterable[str]) -> list[str]:
    """For users: the address of each node and the first letters of its id."""
    import ray

    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    return [f"{addresses.get(id_, 'unknown')} ({id_[:8]})" for id_ in ids]


@dataclass(frozen=True)
class Group:
    """Nodes of one kind that an autoscaler may start."""

    node: Node
    most: int
    """How many; :data:`UNBOUNDED` or more where there is no limit."""


def groups_announced() -> list[Group]:
    """What the cluster's autoscaler may start; nothing where there is none.

    A cluster with an autoscaler may have no GPU at this moment and eight a few minutes after they
    are asked for.
    """
    from ray._private.state import state

    # Ray Train and Ray Data ask in the same place; there is no public one.
    config = state.get_cluster_config()
    if config is None:
        return []
    return [
        Group(
            {name: _bound(amount) for name, amount in group.resources.items()},
            _bound(group.max_count),
        )
        for group in config.node_group_configs
    ]


def _bound(number: float) -> int:
    """Ray writes -1 where there is no limit."""
    return int(number) if number >= 0 else UNBOUNDED


def can_ever_fit(demand: Demand, nodes: Sequence[Node], groups: Sequence[Group] = ()) -> bool:
    """Whether one such trial can be placed, now or when the autoscaler has done what it may."""
    # More nodes of a kind than a trial has workers make no difference.
    may_come = [group.node for group in groups for _ in range(min(group.most, demand.workers))]
    return demand.num_places([*nodes, *may_come]) > 0


def room_for(
    demand: Demand, nodes: Sequence[Node], groups: Sequence[Group] = (), limit: int | None = None
) -> int:
    """How many such trials go on at a time; at least one, which may be waited for, and ``limit`` at
    most.

    Where the autoscaler has a bound, or ``limit`` is one, as many as there may be; else as many as
    fit now.

    >>> room_for(Demand({"CPU": 2, "GPU": 1}), [{"CPU": 4}], [Group({"CPU": 8, "GPU": 1}, 8)])
    8
    """
    bounded = [group for group in groups if limit is not None or group.most < UNBOUNDED]
    at_most = demand.num_places(
        group.node for group in bounded for _ in range(min(group.most, MANY))
    )
    most = max(demand.num_places(nodes), at_most, 1)
    return most if limit is None else min(most, limit)


class Concurrency:
    """How many trials may go on at a time, as the cluster is now: nodes come and go.

    Trials of several models count by the smallest demand; one that asks for more waits at the
    head of Tune's queue until its place is free, and holds back those behind it.
    """

    def __init__(
        self,
        demands: Iterable[Demand],
        limit: int | None,
        ask: Callable[[], tuple[Sequence[Node], Sequence[Group]]] | None = None,
    ) -> None:
        self._demands = tuple(demands)
        self._limit = limit
        self._ask = ask or (lambda: (nodes_there(), groups_announced()))
        self._asked_at = -math.inf
        self._room = 1

    @property
    def most_pending(self) -> int:
        """How many trials may wait for their places at a time, so that an autoscaler hears of all.

        One where some ask for more than others: Ray would go on giving them places that are too
        small for the one that waits longest.
        """
        are_alike = all(demand == self._demands[0] for demand in self._demands)
        return (self._limit or MANY) if are_alike else 1

    def __call__(self) -> int:
        now = time.monotonic()
        if now - self._asked_at >= AGAIN_S:
            nodes, groups = self._ask()
            self._room = max(
                room_for(demand, nodes, groups, self._limit) for demand in self._demands
            )
            self._asked_at = now
        return self._room


def demands_of(resources: Resources, models: Iterable[str]) -> dict[str, Demand]:
    """What the trials of each model ask for."""
    return {model: Demand.of(resources.of(model)) for model in models}


def refuse_impossible(
    resources: Resources,
    models: Iterable[str],
    place: str,
    nodes: Sequence[Node],
    groups: Sequence[Group] = (),
) -> None:
    """Raise ClusterError where trials of a model could never be placed.

    Args:
        place: what the nodes are called in the message.
    """
    for model, demand in demands_of(resources, models).items():
        if can_ever_fit(demand, nodes, groups):
            continue
        whose = f"a trial of {model}" if model in resources.by_model else "a trial"
        raise ClusterError(
            f"{whose} asks for {_lacking(demand, place, nodes, groups)}",
            asked=demand.total,
            available=_sum([*nodes, *_many(groups)]),
        )


def _lacking(demand: Demand, place: str, nodes: Sequence[Node], groups: Sequence[Group]) -> str:
    """What is asked and not there, and what to change."""
    available = _sum([*nodes, *_many(groups)])
    for name, amount in demand.total.items():
        there = available.get(name, 0)
        if amount > there:
            return (
                f"{amount:g} {name}s, {place} has {there:g}; lower resources.workers or "
                f"resources.{name.lower()}s_per_worker"
            )
    worker = " and ".join(f"{amount:g} {name}s" for name, amount in demand.bundle.items())
    largest = max(
        (demand.places(node) for node in [*nodes, *(group.node for group in groups)]), default=0
    )
    if largest == 0:
        return (
            f"{worker} for each worker, and no node of {place} has that; lower "
            "resources.cpus_per_worker, and use more workers"
        )
    wanted = f"{demand.workers} workers with {worker} each"
    if demand.strategy == "strict_pack":
        return (
            f"{wanted} on one node, and no node of {place} has that; fewer workers, or "
            "resources.strategy: pack"
        )
    if demand.strategy == "strict_spread":
        return (
            f"{wanted} on a node each, and {place} has not so many nodes; fewer workers, or "
            "resources.strategy: spread"
        )
    return f"{wanted}, and the nodes of {place} have fewer places in all; fewer workers"


def _many(groups: Sequence[Group]) -> list[Node]:
    """All nodes of a group as one, for what is shown."""
    return [
        {name: amount * min(group.most, UNBOUNDED) for name, amount in group.node.items()}
        for group in groups
    ]


def _sum(nodes: Iterable[Node]) -> dict[str, float]:
    total: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            total[name] = total.get(name, 0.0) + float(amount)
    return total
