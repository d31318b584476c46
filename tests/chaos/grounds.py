"""Where the rounds take place: a cluster of Ray and a server of MLflow, started for them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sweeps.test_outage import Server

NODES = 2
_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@dataclass
class Grounds:
    """A cluster with a head that takes no trials and two nodes of one CPU, and a server."""

    server: Server
    cluster: Any
    nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def lose_node(self) -> None:
        """One node dies without a word, and everything on it."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def mend(self) -> None:
        """Two nodes again."""
        while len(self.nodes) < NODES:
            self.nodes.append(self.cluster.add_node(**_NODE))


@contextlib.contextmanager
def grounds(root: Path) -> Iterator[Grounds]:
    """Everything is ended with the block."""
    from ray.cluster_utils import Cluster

    # Ray lets its workers yield to everything else, which a busy machine would make endless.
    os.environ.update({"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(root, free.getsockname()[1])
    server.start()
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    made = Grounds(server, cluster)
    try:
        made.mend()
        yield made
    finally:
        cluster.shutdown()
        server.kill()
