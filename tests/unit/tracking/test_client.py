"""The connection to MLflow: its switches, its errors, and each point of a run once."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.home import Home
from xlt_ray.tracking.client import (
    Point,
    TrackedRun,
    connect,
    set_environment,
    tracking_errors,
    ui_command,
)


class Server:
    """As much of MLflow's client as points need; counts what it is asked."""

    def __init__(self) -> None:
        self.histories: dict[str, list[Any]] = defaultdict(list)
        self.num_asked = 0
        self.is_out = False

    def get_metric_history(self, run_id: str, name: str) -> list[Any]:
        self.num_asked += 1
        return self.histories[name]

    def log_batch(self, run_id: str, metrics: list[Any]) -> None:
        for metric in metrics:
            self.histories[metric.key].append(metric)
        if self.is_out:
            raise ConnectionError("the answer is lost")

    def run(self) -> TrackedRun:
        """The run as MLflow gives it now."""
        metrics = {name: history[-1].value for name, history in self.histories.items()}
        run = SimpleNamespace(
            info=SimpleNamespace(run_id="r", status="RUNNING", end_time=None, artifact_uri=""),
            data=SimpleNamespace(tags={}, params={}, metrics=metrics),
            inputs=None,
        )
        return TrackedRun(cast(Any, self), cast(Any, run))


def steps(server: Server) -> list[int]:
    return [point.step for point in server.histories["dev/f1"]]


def test_mlflow_is_asked_once_for_each_curve_that_a_run_has() -> None:
    server = Server()
    server.run().log([Point("dev/f1", 10, 0.5), Point("dev/f1", 20, 0.6)])
    assert server.num_asked == 0
    run = server.run()
    for _ in range(2):
        run.log([Point("dev/f1", 20, 0.6), Point("dev/f1", 30, 0.7), Point("dev/new", 10, 0.5)])
    assert server.num_asked == 1
    assert steps(server) == [10, 20, 30]


def test_points_that_may_have_arrived_are_not_doubled() -> None:
    server = Server()
    run = server.run()
    server.is_out = True
    with pytest.raises(ConnectionError):
        run.log([Point("dev/f1", 10, 0.5)])
    server.is_out = False
    server.run().log([Point("dev/f1", 10, 0.5), Point("dev/f1", 20, 0.6)])
    assert steps(server) == [10, 20]


def test_a_refusal_is_an_answer_and_an_outage_is_not(home: Home) -> None:
    answers: list[str] = []
    client = connect(home, None, lambda: answers.append("database"))
    client.search_experiments()
    with pytest.raises(TrackingError):
        client.get_run("unknown")
    assert len(answers) == 2
    client = connect(home, "http://127.0.0.1:9", lambda: answers.append("server"))
    with pytest.raises(TrackingOutage):
        client.search_experiments()
    assert "server" not in answers


def test_errors_of_a_proxy_are_an_outage_and_those_of_mlflow_are_not() -> None:
    from mlflow.exceptions import MlflowException, RestException
    from requests import HTTPError, Response

    def kind_of(error: Exception, uri: str) -> type[BaseException]:
        with pytest.raises(TrackingError) as raised, tracking_errors(uri):
            raise error
        return raised.type

    def answered(status: int) -> HTTPError:
        response = Response()
        response.status_code = status
        return HTTPError("no", response=response)

    server, database = "http://mlflow:5000", "sqlite:///mlflow.db"
    wrong = {"error_code": "INVALID_PARAMETER_VALUE", "message": "too long"}
    assert kind_of(RestException(wrong), server) is TrackingError
    assert kind_of(MlflowException("too long", error_code=1000), database) is TrackingError
    assert kind_of(MlflowException("<html>", error_code=1000), server) is TrackingOutage
    for code in ("TEMPORARILY_UNAVAILABLE", "PERMISSION_DENIED", "INTERNAL_ERROR", "404x"):
        assert kind_of(RestException({"error_code": code}), server) is TrackingOutage
    assert kind_of(answered(503), server) is TrackingOutage
    assert kind_of(answered(500), server) is TrackingError, "a store of artifacts is missing"
    assert kind_of(PermissionError("/srv/artifacts"), server) is TrackingError
    assert kind_of(ConnectionResetError("reset"), server) is TrackingOutage
    assert kind_of(sqlite3.OperationalError("database is locked"), database) is TrackingOutage


def test_a_server_is_asked_once_for_seconds_only_and_telemetry_is_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow.environment_variables import (
        MLFLOW_HTTP_REQUEST_MAX_RETRIES,
        MLFLOW_HTTP_REQUEST_TIMEOUT,
    )

    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    set_environment()
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 0
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() <= 10
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_ui_is_for_this_machine_alone(home: Home) -> None:
    command = ui_command(home, port=5123)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5123"
    assert home.tracking_uri in command
    with pytest.raises(TrackingError, match="open it in a browser"):
        ui_command(home, "https://ada:s3cret@mlflow.example")
