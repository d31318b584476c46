"""What a sweep without a cluster opens to the network: nothing."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from xlt_ray.training.process_group import listen

LISTENING = """
import json, os, psutil
import xlt_ray.cli, xlt_ray.cli.progress, xlt_ray.cli.run
from xlt_ray.sweep.runner import connect

connect()
import ray
address = ray.get(ray.remote(ray.util.get_node_ip_address).remote())
here = psutil.Process()
print(json.dumps({
    "address of a worker": address,
    "listening": [
        connection.laddr.ip
        for process in (here, *here.children(recursive=True))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ],
    "processes": {process.pid: process.name() for process in here.children(recursive=True)},
    "left behind": sorted(name for name in os.environ if "CLUSTER" in name),
}))
"""


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, Any]]:
    """What a driver saw of the Ray that it has started, after it has ended."""
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, "-c", LISTENING],
            capture_output=True,
            text=True,
            env={**variables, "RAY_TMPDIR": folder},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        yield {**json.loads(done.stdout.splitlines()[-1]), "files": os.listdir(folder)}


def test_nothing_of_the_ray_that_a_sweep_starts_outlives_it(seen: dict[str, Any]) -> None:
    assert {"raylet", "gcs_server"} < set(seen["processes"].values())
    left = []
    for number, name in seen["processes"].items():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(number))
            if process.status() != psutil.STATUS_ZOMBIE and process.name() == name:
                left.append(name)
    assert left == []
    assert seen["files"] == []


def test_ray_that_a_sweep_starts_listens_on_loopback_alone(seen: dict[str, Any]) -> None:
    assert len(seen["listening"]) >= 5, "gcs, raylet, agent, worker and driver"
    for text in (seen["address of a worker"], *seen["listening"]):
        address = ipaddress.ip_address(text.removeprefix("::ffff:"))
        assert address.is_loopback, seen
    assert seen["left behind"] == [], "`ray start` of this environment would refuse to work"


WORKERS = """
import json, multiprocessing, sys
import psutil

def work(rank, size, listener, results):
    import torch
    from xlt_ray.training.process_group import address_of, join_process_group

    address = address_of(listener) if listener is not None else ""
    group = join_process_group(
        rank, size, "cpu", address=address, listener=listener if rank == 0 else None
    )
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    listening = [
        connection.laddr.ip
        for connection in psutil.Process().net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    results.put((group.gather(rank), float(total), listening))
    group.gather(None)

if __name__ == "__main__":
    from xlt_ray.training.process_group import listen

    size = int(sys.argv[1])
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    listener = listen("127.0.0.1") if size > 1 else None
    workers = [
        spawn.Process(target=work, args=(rank, size, listener, results)) for rank in range(size)
    ]
    for worker in workers:
        worker.start()
    print(json.dumps([results.get(timeout=200) for _ in workers]))
    for worker in workers:
        worker.join()
"""


@pytest.mark.parametrize("size", [1, 2])
def test_workers_of_one_node_listen_on_loopback_alone(size: int, tmp_path: Path) -> None:
    program = tmp_path / "workers.py"
    program.write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, program, str(size)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert len(seen) == size
    for ranks, total, listening in seen:
        assert ranks == list(range(size))
        assert total == size
        for text in listening:
            assert ipaddress.ip_address(text.removeprefix("::ffff:")).is_loopback, seen
    if size == 1:
        ((_, _, listening),) = seen
        assert len(listening) <= 1, "gloo alone, which a group of one never connects"


def test_nobody_else_gets_the_port_of_a_leader() -> None:
    with listen("127.0.0.1") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match="in use"), socket.socket() as other:
            other.bind(("127.0.0.1", port))
