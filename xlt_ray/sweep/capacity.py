"""How large the joined Ray cluster is, and how large its autoscaler may make it."""

from __future__ import annotations

from collections.abc import Mapping

UNBOUNDED = float(2**31 - 1)
"""From here on, a maximum of the autoscaler's is none (KubeRay's default is this number)."""


def cluster_capacity() -> dict[str, float]:
    """Resources of the cluster that this process has joined, at its largest.

    A cluster with an autoscaler may have no GPU at this moment and eight a few minutes after
    they are asked for.
    """
    import ray
    from ray._private.state import state

    # Ray Train and Ray Data ask in the same place; there is no public one.
    return at_most(ray.cluster_resources(), state.get_max_resources_from_cluster_config())


def at_most(there: Mapping[str, float], bounds: Mapping[str, float] | None) -> dict[str, float]:
    """The larger of what is there and what the autoscaler may add, for each resource.

    >>> at_most({"CPU": 4.0}, {"CPU": 64, "GPU": 8})
    {'CPU': 64.0, 'GPU': 8.0}
    >>> at_most({"CPU": 4.0}, None)
    {'CPU': 4.0}
    """
    known = dict(bounds or {})
    return {
        name: max(float(there.get(name, 0)), float(known.get(name, 0)))
        for name in dict.fromkeys([*there, *known])
    }


def room_for(
    asked: Mapping[str, int], there: Mapping[str, float], most: Mapping[str, float]
) -> int:
    """How many trials that ask for so much go on at a time; at least one.

    Where the autoscaler has no bound, as many as there is room for now.

    >>> room_for({"CPU": 2, "GPU": 1}, {"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0})
    8
    """
    amounts = {
        name: there.get(name, 0.0) if most.get(name, 0.0) >= UNBOUNDED else most.get(name, 0.0)
        for name in asked
    }
    return max(min(int(amounts[name] // asked[name]) for name in asked), 1)
