"""The way to Ray: the cluster of ``RAY_ADDRESS``, or one that is started on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from xlt_ray.errors import ClusterError

_SPANS_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def connect() -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine.

    Raises:
        ClusterError: there is no cluster at RAY_ADDRESS, or it does not let us in.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with nullcontext() if os.environ.get("RAY_ADDRESS") else _on_loopback():
        _join()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray that is first imported in here listens on loopback alone, its processes do, too.

    The switch is Ray's own for systems on which its clusters do not span machines. It is put back,
    because ``ray start`` refuses to work below it.
    """
    was_set = _SPANS_MACHINES in os.environ
    os.environ.setdefault(_SPANS_MACHINES, "0")
    try:
        yield
    finally:
        if not was_set:
            del os.environ[_SPANS_MACHINES]


def _join() -> None:
    import ray
    from ray.exceptions import AuthenticationError

    if ray.is_initialized():
        return
    local: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        local = {
            # Otherwise Ray joins what somebody else has started on this machine.
            "address": "local",
            "num_cpus": len(os.sched_getaffinity(0)),
            "include_dashboard": False,
            # Trials exchange small reports only; weights go through the store.
            "object_store_memory": 100 * 2**20,
        }
    _refuse_silent(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **local)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        address = os.environ.get("RAY_ADDRESS", "this machine")
        reason = " ".join(str(error.__cause__ or error).split())
        refused = isinstance(error, AuthenticationError) or "AuthenticationError" in reason
        raise ClusterError(
            f"RAY_ADDRESS={address}: "
            + ("the cluster asks for a token" if refused else "no Ray cluster can be reached")
            + (
                "; set RAY_AUTH_MODE=token and copy the head's ~/.ray/auth_token to this machine"
                if refused
                else "; start one with `ray start --head`, or unset RAY_ADDRESS to use this machine"
            ),
            asked={},
            available={},
        ) from error


def _refuse_silent(address: str) -> None:
    """Raise ClusterError at once where nothing listens: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: nothing answers there ({error}); start a cluster with "
            "`ray start --head`, or unset RAY_ADDRESS to use this machine",
            asked={},
            available={},
        ) from error
