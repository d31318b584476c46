"""Sweeps that write to an MLflow server which is away, comes and goes, or never answers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.conftest import Place
from tests.sweeps.test_tracking import client_of, runs_of
from xlt_ray.home import Home
from xlt_ray.ledger import load_ledger
from xlt_ray.store.store import StageStore
from xlt_ray.tracking import LedgerSnapshot, Tracker


def wait_until(happened: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + 400
    while not happened():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


@dataclass
class Server:
    """A real MLflow server with its database, at one port of this machine."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.root / 'server.db'}"]
        command += ["--artifacts-destination", str(self.root / "artifacts")]
        with (self.root / "server.txt").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                },
            )
        wait_until(lambda: answers(self.uri), (self.root / "server.txt").read_text)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, free_port())
    yield made
    made.kill()


@contextlib.contextmanager
def silence(port: int) -> Iterator[list[socket.socket]]:
    """Whoever connects to this port is let in, and never answered."""
    guests: list[socket.socket] = []
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", port))
        door.listen()

        def let_in() -> None:
            with contextlib.suppress(OSError):
                while True:
                    guests.append(door.accept()[0])

        thread = threading.Thread(target=let_in, daemon=True)
        thread.start()
        yield guests
        door.shutdown(socket.SHUT_RDWR)
        thread.join()
    for guest in guests:
        guest.close()


def shown(uri: str) -> dict[str, Any]:
    """What MLflow has of every trial of the only sweep, but for what depends on clock and home."""
    client = client_of(uri)
    trials: dict[str, Any] = {}
    for run in runs_of(uri):
        data = run.data
        if data.tags["xlt.kind"] != "trial":
            assert run.info.status == "FINISHED"
            continue
        assert data.tags["xlt.trial"] not in trials, "a trial has one run"
        curves = {
            name: sorted(
                (point.step, None if name.startswith("system/") else point.value)
                for point in client.get_metric_history(run.info.run_id, name)
            )
            for name in data.metrics
            if name != "seconds" and not name.endswith("examples_per_s")
        }
        tags = {
            name: value
            for name, value in data.tags.items()
            if name.startswith("xlt.") and name not in ("xlt.host", "xlt.ledger")
        }
        artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert run.info.status == "FINISHED"
        trials[data.tags["xlt.trial"]] = (data.params, tags, curves, artifacts)
    return trials


def unbroken(finished: Place) -> dict[str, Any]:
    return shown(f"sqlite:///{finished.home / 'mlflow' / 'mlflow.db'}")


def projected(place: Place, root: Path) -> dict[str, Any]:
    """What ledger and store of a place give in a new database."""
    home, projected_to = Home(place.home), Home(root / "projected")
    ledger, store = load_ledger(home, "small"), StageStore(home.stages)
    tracker, snapshot = Tracker(projected_to, "small"), LedgerSnapshot.of(ledger)
    tracker.project(snapshot, store)
    tracker.end(snapshot, "FINISHED")
    return shown(projected_to.tracking_uri)


@pytest.mark.long
def test_a_server_that_comes_and_goes_has_everything_once(
    place: Place, server: Server, tmp_path: Path
) -> None:
    def logged(pattern: str, times: int = 1) -> Callable[[], bool]:
        return lambda: sweep.poll() is not None or len(re.findall(pattern, place.log())) >= times

    longer = ["target.epochs=400", "search.trials=2", "search.concurrent=1"]
    # It is away as the sweep begins, comes, is killed while a trial is at work, and comes again.
    sweep = place.start("run", "small.yaml", f"places.tracking={server.uri}", *longer)
    wait_until(logged(r"does not answer \("), place.log)
    server.start()
    wait_until(logged(": answers again"), place.log)
    server.kill()
    wait_until(logged(r"does not answer \(", 2), place.log)
    assert sweep.poll() is None, place.log()
    server.start()
    assert sweep.wait(900) == 0, place.log()
    assert len(re.findall(": answers again", place.log())) == 2
    assert "were not updated" not in place.log()
    trials = shown(server.uri)
    for _, tags, curves, artifacts in trials.values():
        assert tags["xlt.told"].endswith("complete")
        assert curves["system/memory_gib"] == [(step, None) for step, _ in curves["train/loss"]]
        assert artifacts == {"config.json", "scores.json"}
    expected = projected(place, tmp_path)
    assert {trial: row[2] for trial, row in trials.items()} == {
        trial: row[2] for trial, row in expected.items()
    }
    known = {trial["mlflow_run_id"] for trial in place.trials()}
    assert len(known - {None}) == 2


@pytest.mark.long
def test_a_server_that_never_answers_delays_nothing_and_is_reported_later(
    place: Place, finished: Place, server: Server
) -> None:
    with silence(server.port) as guests:
        run = place.xlt("run", "small.yaml", f"places.tracking={server.uri}")
        assert guests, "the server was asked"
    assert run.returncode == 0, run.stdout + run.stderr
    assert [trial["state"] for trial in place.trials()] == ["complete"] * 4
    assert "20 s at most if it does not answer" in run.stdout
    assert "were not updated" in run.stdout
    server.start()
    again = place.xlt("run", "small.yaml", f"places.tracking={server.uri}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 new stages" in again.stdout
    assert shown(server.uri) == unbroken(finished)
    assert {trial["mlflow_run_id"] for trial in place.trials()}.isdisjoint({None})


def test_a_place_that_is_none_of_mlflows_is_refused_at_once(place: Place) -> None:
    refused = place.xlt("run", "small.yaml", "places.tracking=nonsense://x")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert refused.stderr.startswith("xlt: nonsense://x: ")
    assert "Traceback" not in refused.stderr
