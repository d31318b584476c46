"""Points of curves: each once, and no memory of runs that have ended."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from xlt_ray.tracking.points import Points
from xlt_ray.tracking.snapshots import Point


class Server:
    """As much of MLflow's client as points need; counts what it is asked."""

    def __init__(self) -> None:
        self.histories: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self.num_asked = 0

    def get_metric_history(self, run_id: str, name: str) -> list[Any]:
        self.num_asked += 1
        return self.histories[run_id, name]

    def log_batch(self, run_id: str, metrics: list[Any]) -> None:
        for metric in metrics:
            self.histories[run_id, metric.key].append(metric)


def test_a_run_that_was_forgotten_is_asked_for_again_and_nothing_is_doubled() -> None:
    server = Server()
    points = Points(server)  # type: ignore[arg-type]
    points.expect_none("r")
    points.log("r", [Point("dev/f1", 10, 0.5), Point("dev/f1", 20, 0.6)])
    assert server.num_asked == 0
    points.forget("r")
    points.log("r", [Point("dev/f1", 20, 0.6), Point("dev/f1", 30, 0.7)])
    assert server.num_asked == 1
    assert [history.step for history in server.histories["r", "dev/f1"]] == [10, 20, 30]


def test_nothing_is_kept_of_a_run_that_has_ended() -> None:
    points = Points(Server())  # type: ignore[arg-type]
    for number in range(3):
        points.expect_none(f"run {number}")
        points.log(f"run {number}", [Point("dev/f1", 10, 0.5)])
        points.forget(f"run {number}")
    assert not points._steps
    assert not points._fresh
