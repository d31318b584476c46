"""The ledger in a real PostgreSQL: the same promises as in a journal, and several drivers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.database import PASSWORD
from tests.two_models import bounds
from tests.unit.ledger.test_ledger import TEXT, ask, run_through
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import access, load_ledger, open_ledger, sweep_of_ledger
from xlt_ray.ledger.access import sole_driver

ReadSweep = Callable[..., SweepSpec]


@pytest.fixture
def sweep(sweep_from: ReadSweep, database: str) -> SweepSpec:
    return sweep_from(TEXT, f"places.ledger={database}")


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_every_sampler_asks_the_same_from_a_database(
    tmp_path: Path, sweep_from: ReadSweep, database: str, sampler: str
) -> None:
    rate = ("target.learning_rate={choice: [1e-5, 1e-4, 1e-3]}", "target.fusion={method: none}")
    overrides = (f"search={{trials: 6, sampler: {sampler}}}", *rate)
    in_database = sweep_from(TEXT, f"places.ledger={database}", *overrides)
    assert run_through(Home(tmp_path / "a"), in_database, reopen=True, lag=2) == run_through(
        Home(tmp_path / "b"), sweep_from(TEXT, *overrides), reopen=False, lag=2
    )


def test_another_home_reads_all_that_was_written(tmp_path: Path, sweep: SweepSpec) -> None:
    ledger = open_ledger(Home(tmp_path / "a"), sweep)
    numbers = [ask(ledger, sweep).number for _ in range(3)]
    ledger.begin_attempt(numbers[0])
    ledger.report(numbers[0], 10, 0.25)
    ledger.tell_complete(numbers[0], 1 / 3)
    ledger.tell_failed(numbers[1], "oom", "out of memory: \0 ü 字", "line\n" * 100)
    ledger.set_run_id(numbers[2], "run")
    reader = open_ledger(Home(tmp_path / "b"), sweep)
    assert reader.trials() == ledger.trials()
    best, failed, running = reader.trials()
    assert (best.objective, best.curve, best.attempts) == (1 / 3, ((10, 0.25),), 1)
    assert (failed.cause, failed.message) == ("oom", "out of memory: \0 ü 字")
    assert (running.state, running.mlflow_run_id) == ("running", "run")


def test_a_sweep_is_known_by_name_where_its_ledger_was_opened(home: Home, sweep: SweepSpec) -> None:
    open_ledger(home, sweep)
    again = sweep_of_ledger(load_ledger(home, sweep.name))
    assert again.settings == sweep.settings
    assert PASSWORD not in home.ledger_url(sweep.name).read_text()


DRIVER = """
import sys, time
from pathlib import Path
from tests.two_models import bounds
from tests.unit.ledger.test_ledger import TEXT
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger
from xlt_ray.config.yaml import parse_document
from xlt_ray.config.sweep import sweep_of
from xlt_ray.ledger.access import sole_driver
sweep = sweep_of(parse_document(TEXT, "f.yaml", ["places.ledger=" + sys.argv[1]]))
home = Home(Path(sys.argv[2]))
with sole_driver(home, sweep.name, sweep.settings.places.ledger):
    ledger = open_ledger(home, sweep)
    ledger.begin_attempt(ledger.ask(sweep, bounds).number)
    print("asked", flush=True)
    time.sleep(600)
"""


def test_of_two_drivers_one_is_refused_until_the_other_is_gone(
    tmp_path: Path, sweep: SweepSpec
) -> None:
    """Neither a home nor a store in common: the database alone knows of both."""
    url, root = sweep.settings.places.ledger, Path(__file__).parents[3]
    assert url is not None
    other = Home(tmp_path / "b")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, url, str(tmp_path / "a")],
        stdout=subprocess.PIPE, text=True, cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "asked\n"
        with pytest.raises(LedgerError, match="is already being run from another home"):
            enter(other, sweep)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    until_free(other, sweep)
    ledger = open_ledger(other, sweep)
    (view,) = ledger.trials()
    assert (view.state, view.attempts) == ("running", 1)
    again = ledger.resume_trial(view.number, sweep, bounds)
    assert (again.assignment, again.attempt) == (dict(view.assignment), 1)
    ledger.tell_complete(view.number, 0.5)
    assert ledger.trial(0).state == "complete"


def test_a_driver_whose_connection_was_dropped_gets_an_error(
    home: Home, sweep: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setattr(access, "LOOK_S", 0.0)
    url = str(sweep.settings.places.ledger).replace("+psycopg", "")
    with sole_driver(home, sweep.name, sweep.settings.places.ledger) as confirm:
        confirm()
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND "
                "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        with pytest.raises(LedgerError, match="has dropped the connection"):
            confirm()
    enter(home, sweep)


def enter(home: Home, sweep: SweepSpec) -> None:
    with sole_driver(home, sweep.name, sweep.settings.places.ledger):
        pass


def until_free(home: Home, sweep: SweepSpec) -> None:
    """The server learns of a killed client when it next looks at its connection."""
    while True:
        try:
            return enter(home, sweep)
        except LedgerError:
            time.sleep(0.05)


def test_sweeps_of_other_names_and_databases_do_not_wait_for_each_other(
    tmp_path: Path, sweep: SweepSpec, sweep_from: ReadSweep
) -> None:
    named = sweep_from(TEXT, f"places.ledger={sweep.settings.places.ledger}", "name=another")
    with sole_driver(Home(tmp_path / "a"), sweep.name, sweep.settings.places.ledger):
        enter(Home(tmp_path / "b"), named)
        enter(Home(tmp_path / "c"), sweep_from(TEXT))


def test_a_wrong_password_is_refused_and_not_shown(
    home: Home, sweep: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-guess")
    with pytest.raises(LedgerError, match="the ledger cannot be opened") as caught:
        open_ledger(home, sweep)
    assert "wrong-guess" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_mlflow_keeps_its_runs_in_postgresql(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The backend of the recipes: MLflow's own store on the same driver."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient(tracking_uri=database)
    experiment = client.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))
    run_id = client.create_run(experiment).info.run_id
    client.log_metric(run_id, "m", 0.5)
    assert client.get_run(run_id).data.metrics == {"m": 0.5}
