"""The workers of one trial as a group: who leads, and how they agree.

One worker needs no communication. Several run the same code in lockstep; what only one may do
(leases, the store, the clock) the leader does and shares.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
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

    def gather(self, value: T) -> list[T]:
        """Every worker's value, by rank, in every worker."""
        if self.size == 1:
            return [value]
        boxes: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(boxes, value)
        return boxes


def join_team(rank: int, size: int, address: str, device: str) -> Team:
    """Connect this process with the others at ``address`` (host:port of the leader).

    DeepSpeed wants a process group even for one worker. The group lives as long as the process.
    """
    # DeepSpeed picks its accelerator once per process, when it is imported.
    os.environ.setdefault("DS_ACCELERATOR", device)
    import deepspeed

    if torch.distributed.is_initialized():
        return Team(torch.distributed.get_rank(), torch.distributed.get_world_size())
    _without_compiling(deepspeed)
    host, _, port = address.rpartition(":")
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK="0",
        LOCAL_SIZE="1",
        MASTER_ADDR=host,
        MASTER_PORT=port,
    )
    deepspeed.init_distributed(
        dist_backend="nccl" if device == "cuda" else "gloo",
        init_method=f"tcp://{address}",
        rank=rank,
        world_size=size,
        auto_mpi_discovery=False,
        verbose=False,
    )
    return Team(rank, size)


def _without_compiling(deepspeed: Any) -> None:
    """Keep DeepSpeed from building its shared-memory all-reduce at first use.

    It needs a compiler on every node and takes seconds; gloo does the same work.
    """
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def free_address(host: str | None = None) -> str:
    """A free port of this machine as ``host:port``, for :func:`join_team`."""
    with socket.socket() as probe:
        probe.bind((host or "127.0.0.1", 0))
        return f"{host or '127.0.0.1'}:{probe.getsockname()[1]}"
