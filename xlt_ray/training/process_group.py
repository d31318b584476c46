"""The workers of one trial as a group: who leads, and how they agree.

Several workers run the same code in lockstep. The leader alone handles leases, the store and the
clock, and shares the results. A single worker needs no communication.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among ``size`` workers."""

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def share(self, value: T) -> T:
        """The leader's value, in every worker."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def from_leader(self, compute: Callable[[], T]) -> T:
        """What the leader alone computes, in every worker."""
        # Other workers get the leader's value in place of their own.
        return self.share(compute() if self.is_leader else None)  # type: ignore[return-value]

    def gather(self, value: T) -> list[T]:
        """Every worker's value, by rank, in every worker."""
        if self.size == 1:
            return [value]
        boxes: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(boxes, value)
        return boxes


def join_process_group(
    rank: int,
    size: int,
    device: str,
    *,
    address: str = "",
    listener: socket.socket | None = None,
) -> ProcessGroup:
    """Connect this process with the others; the group lives as long as the process.

    DeepSpeed needs a process group even for one worker, which opens no port.

    Args:
        device: ``cpu`` or ``cuda``.
        address: ``host:port`` of the leader, for several workers.
        listener: the leader's socket at that address (:func:`listen`).
    """
    # DeepSpeed picks its accelerator once per process, when it is imported.
    os.environ.setdefault("DS_ACCELERATOR", device)
    import deepspeed

    if torch.distributed.is_initialized():
        return ProcessGroup(torch.distributed.get_rank(), torch.distributed.get_world_size())
    # Not its shared-memory all-reduce, which is compiled at first use and does what gloo does.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    host, _, port = address.rpartition(":")
    if size == 1 or ipaddress.ip_address(host).is_loopback:
        # ``lo`` on Linux, ``lo0`` elsewhere.
        loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK="0", LOCAL_SIZE="1")
    store: torch.distributed.Store
    if size == 1:
        store = torch.distributed.HashStore()
    else:
        store = torch.distributed.TCPStore(
            host,
            int(port),
            size,
            is_master=rank == 0,
            master_listen_fd=listener.detach() if listener is not None else None,
        )
    torch.distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        # As DeepSpeed does for its own groups.
        device_id=torch.device("cuda", 0) if device == "cuda" and size > 1 else None,
    )
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    return ProcessGroup(rank, size)


def listen(host: str) -> socket.socket:
    """The leader's socket for :func:`join_process_group`, whose port no other process can get.

    It listens at ``host`` alone; PyTorch's own would listen on every interface, where any
    client could change what the workers read.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family, backlog=128)


def address_of(listener: socket.socket) -> str:
    """``host:port`` of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"
