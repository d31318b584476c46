"""PostgreSQL and MLflow with a login as the recipes run them, each a process of its own, and sweeps
that keep ledger and runs there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from tests.database import PASSWORD
from tests.sweeps.conftest import Place
from tests.sweeps.test_outage import free_port
from tests.sweeps.test_tracking import runs_of, scores_of, sweep_in
from xlt_ray.errors import TrackingError

CLUSTER = Path(__file__).parents[2] / "cluster"
SECRETS = {
    "PGPASSWORD": PASSWORD,
    "MLFLOW_TRACKING_USERNAME": "xlt",
    "MLFLOW_TRACKING_PASSWORD": "login-of-no-account",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-no-account",
}
LOGIN = {name: value for name, value in SECRETS.items() if "TRACKING" in name}
HIDDEN = [value for name, value in SECRETS.items() if not name.endswith("USERNAME")]


@dataclass(frozen=True)
class Servers:
    """Where they are; passwords are in the environment, as always."""

    ledger: str
    tracking: str
    root: Path


def recipe_command(port: int, artifacts: Path) -> list[str]:
    """What the MLflow image of the recipes runs, on this machine's loopback."""
    command = re.search(r"^CMD (\[.+?\])$", image(), re.M)
    assert command is not None
    own = {"0.0.0.0": "127.0.0.1", "5000": str(port), "/mlflow/artifacts": str(artifacts)}
    words = [own.get(load, load) for load in json.loads(command[1])]
    assert set(own.values()) <= set(words)
    return [sys.executable, "-m", *words]


def image() -> str:
    """The part of the Dockerfile that makes the MLflow image."""
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").partition(" AS mlflow\n")[2]
    return text.partition("\nFROM ")[0].replace("\\\n", "")


def recipe_environment(database: str, root: Path) -> dict[str, str]:
    """The environment that image and compose file give to MLflow, with these secrets and files."""
    users = root / "mlflow-auth.ini"
    text = (CLUSTER / "mlflow-auth.ini").read_text(encoding="utf-8")
    users.write_text(text.replace("/mlflow/users.db", str(root / "users.db")))
    own = {
        "postgresql+psycopg://xlt@postgres:5432/mlflow": database,
        "/etc/mlflow-auth.ini": str(users),
    }
    service = yaml.safe_load((CLUSTER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    given = {
        name: own.get(value, re.sub(r"\$\{(\w+):\?[^}]*\}", lambda name: SECRETS[name[1]], value))
        for name, value in service["mlflow"]["environment"].items()
    }
    assert set(own.values()) <= set(given.values())
    variables = re.search(r"^ENV (.+)$", image(), re.M)
    assert variables is not None
    return {**dict(pair.split("=") for pair in variables[1].split()), **given}


@pytest.fixture
def servers(postgres: str, tmp_path: Path) -> Iterator[Servers]:
    """A PostgreSQL with a database for each, and an MLflow server that keeps its runs in it."""
    pytest.importorskip("flask_wtf", reason="logins come with mlflow[auth]")
    import psycopg

    number = os.getpid()
    with psycopg.connect(f"{postgres.replace('+psycopg', '')}/postgres", autocommit=True) as made:
        for name in ("ledger", "mlflow"):
            made.execute(f"CREATE DATABASE {name}{number}")  # type: ignore[call-overload]
    port = free_port()
    log = tmp_path / "server.txt"
    with log.open("ab") as output:
        process = subprocess.Popen(
            recipe_command(port, tmp_path / "artifacts"),
            cwd=tmp_path,
            env={
                **os.environ,
                **recipe_environment(f"{postgres}/mlflow{number}", tmp_path),
                # One reader needs no four of them.
                "MLFLOW_WORKERS": "1",
            },
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while status(f"http://127.0.0.1:{port}/health") != 200:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield Servers(f"{postgres}/ledger{number}", f"http://127.0.0.1:{port}", tmp_path)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with psycopg.connect(
            f"{postgres.replace('+psycopg', '')}/postgres", autocommit=True
        ) as made:
            for name in ("ledger", "mlflow"):
                made.execute(f"DROP DATABASE {name}{number} WITH (FORCE)")  # type: ignore[call-overload]


def status(url: str, **headers: str) -> int:
    """What a server answers; 0 where nobody does."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=5
        ) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.long
def test_mlflow_of_the_recipes_lets_in_who_logs_in_and_keeps_runs_in_postgresql(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = f"{servers.tracking}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status(experiments) == 401
    assert status(experiments, Host="elsewhere.example") in (401, 403)
    overrides = (f"places.ledger={servers.ledger}",)
    opened = sweep_in(servers.root / "home", *overrides, uri=servers.tracking)

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "xlt")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-guess")
    with pytest.raises(TrackingError) as refused:
        opened.begun()
    assert "wrong-guess" not in str(refused.value)

    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    tracker = opened.begun()
    view = opened.ask()
    run_id = opened.show(tracker, view, opened.config(view))
    opened.ledger.set_run_id(view.number, run_id)
    opened.walk(view.number, scores_of(0.7))
    opened.ledger.tell_complete(view.number, 0.7)
    opened.show(tracker, opened.ledger.trial(view.number))
    opened.end(tracker)
    runs = {run.data.tags["xlt.kind"]: run for run in runs_of(servers.tracking)}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["trial"].info.run_id == run_id
    assert runs["trial"].data.metrics["objective"] == pytest.approx(0.7)
    artifacts = [file.read_text() for file in (servers.root / "artifacts").rglob("*.json")]
    assert artifacts
    everything = [*artifacts, *(str(run.to_dictionary()) for run in runs.values())]
    everything += [file.read_text() for file in opened.home.root.rglob("*.json*")]
    assert not [text for text in everything for secret in HIDDEN if secret in text]


@pytest.mark.long
def test_a_sweep_keeps_its_ledger_and_its_runs_with_the_servers_of_the_recipes(
    servers: Servers, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in = replace(place, variables=SECRETS)
    command = (
        "run", "small.yaml", "search.trials=2",
        f"places.ledger={servers.ledger}", f"places.tracking={servers.tracking}",
    )  # fmt: skip
    run = logged_in.xlt(*command)
    assert run.returncode == 0, run.stdout + run.stderr
    assert not list((place.home / "ledger").glob("*.journal")), "the ledger is in PostgreSQL"
    trials = logged_in.trials()
    assert [trial["state"] for trial in trials] == ["complete"] * 2
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    runs = [run for run in runs_of(servers.tracking) if run.data.tags["xlt.kind"] == "trial"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.run_id for run in runs} == {trial["mlflow_run_id"] for trial in trials}

    again = logged_in.xlt(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 new stages" in again.stdout
    shown = [run.stdout, run.stderr, again.stdout, again.stderr]
    shown += [str(run.to_dictionary()) for run in runs_of(servers.tracking)]
    kept = [file.read_bytes() for file in place.home.rglob("*") if file.is_file()]
    for secret in HIDDEN:
        assert not [text for text in shown if secret in text]
        assert not [content for content in kept if secret.encode() in content]
