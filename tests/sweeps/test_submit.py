"""A sweep sent to a real Ray cluster: by its job server, with a token, and looked at from here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sweeps.conftest import SMALL, XLT

TOKEN = "0123456789abcdef" * 4
OVERRIDES = ("search.trials=2", "target.epochs=1")


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@dataclass(frozen=True)
class Head:
    address: str
    home: Path

    def xlt(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``xlt`` on this side, which has no home and none of the cluster's variables."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        kept |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        return subprocess.run(
            [str(XLT), *arguments, "--address", self.address],
            env={**kept, "XLT_HOME": "/nowhere", **environment},
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head of its own ports and folders, on loopback, which ends with the tests."""
    pytest.importorskip("aiohttp_cors", reason="the job server comes with xlt-ray[cluster]")
    # Paths of sockets must be short.
    folder = Path(tempfile.mkdtemp(prefix="xlt-"))
    home = tmp_path_factory.mktemp("cluster") / "home"
    ports = {name: free_port() for name in ("port", "dashboard-port",
                                            "dashboard-agent-listen-port")}  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
         "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}",
         "--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats",
         *(f"--{name}={port}" for name, port in ports.items())],
        env={
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XLT_HOME": str(home),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_worker_niceness": "0",
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    head = Head(f"http://127.0.0.1:{ports['dashboard-port']}", home)
    try:
        while "no Ray dashboard answers" in head.xlt("logs", "nothing").stderr:
            assert process.poll() is None, "Ray ended"
        yield head
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_sweep_is_sent_followed_and_read_from_elsewhere(head: Head, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)

    refused = head.xlt("submit", str(file), RAY_AUTH_TOKEN="f" * 64)
    assert refused.returncode == 2
    assert "the cluster requires a token and rejected this one" in refused.stderr
    assert head.xlt("logs", "small").stderr.endswith(
        "no job of a sweep 'small'; its sweeps: none\n"
    )

    sent = head.xlt("submit", str(file), *OVERRIDES)
    assert sent.returncode == 0, sent.stderr
    assert f"small: sent to {head.address} as xlt-small-" in sent.stdout
    again = head.xlt("submit", str(file), *OVERRIDES)
    assert again.returncode == 2
    assert "small is already being run there as xlt-small-" in again.stderr

    followed = head.xlt("logs", "small", "--follow")
    assert followed.returncode == 0, followed.stderr
    assert "small: 2 complete" in followed.stdout
    assert TOKEN not in followed.stdout

    listed = head.xlt("trials", "small", "--json")
    assert [load["state"] for load in json.loads(listed.stdout)] == ["complete", "complete"]
    (row,) = json.loads(head.xlt("status", "small", "--json").stdout)
    assert (row["trials"]["complete"], row["is_running"]) == (2, False)
    looked = json.loads(head.xlt("doctor", "small", "--json").stdout)
    assert {finding["name"] for finding in looked["findings"]} >= {"cluster", "home", "ledger"}
    assert looked["ok"], looked
    nothing = head.xlt("logs", "small", "7")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr == "xlt: small: there is no trial 7; the last one is 1\n"
    assert (head.home / "stages").is_dir()

    # Sent again when it is done, it goes on where it stopped: nothing is left.
    assert head.xlt("submit", str(file), *OVERRIDES).returncode == 0
    assert "everything was in the store" in head.xlt("logs", "small", "--follow").stdout

    # Damage that leaves every file its size is found where the job is to look for it.
    for weights in (head.home / "stages").rglob("*.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    assert head.xlt("submit", str(file), *OVERRIDES, "--verify").returncode == 0
    verified = head.xlt("logs", "small", "--follow").stdout
    assert "missing from the store or damaged, and made again: " in verified
