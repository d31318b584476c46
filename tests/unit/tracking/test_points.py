"""What is written to a run: each point, tag and data set once."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xlt_ray.tracking.client import Point, TrackedRun


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
            info=SimpleNamespace(run_id="r", status="RUNNING", artifact_uri=""),
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
    run.log([Point("dev/f1", 10, 0.5), Point("dev/f1", 20, 0.6)])
    assert steps(server) == [10, 20]
