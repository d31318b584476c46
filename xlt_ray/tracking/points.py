"""The points of curves in MLflow, each of them once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from xlt_ray.tracking.content import legal_name
from xlt_ray.tracking.snapshots import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 1000
"""Metrics in one request; MLflow refuses more."""


class Points:
    """Logs points that are not there yet; asks MLflow once for each curve of a run."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._steps: dict[str, dict[str, set[int]]] = {}
        self._fresh: set[str] = set()

    def expect_none(self, run_id: str) -> None:
        """A run was made just now: it has no points that MLflow would have to be asked for."""
        self._fresh.add(run_id)

    def forget(self, run_id: str) -> None:
        """No more points of a run are expected; if some come, MLflow is asked what it has."""
        self._steps.pop(run_id, None)
        self._fresh.discard(run_id)

    def log(self, run_id: str, points: Iterable[Point]) -> None:
        """Log the points whose step is missing in their curve.

        MLflow stores one point with one moment once, even if it is sent again because the answer
        to the first request was lost. A point without a moment counts as measured now.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        missing: list[Metric] = []
        for point in points:
            name = legal_name(point.name)
            known = self._known_steps(run_id, name)
            if point.step not in known:
                moment = now if point.time_ms is None else point.time_ms
                missing.append(Metric(name, float(point.value), moment, point.step))
                known.add(point.step)
        try:
            for start in range(0, len(missing), BATCH):
                self._client.log_batch(run_id, metrics=missing[start : start + BATCH])
        except BaseException:
            # What did not arrive is asked for again.
            for metric in missing:
                self._steps[run_id].pop(metric.key, None)
            self._fresh.discard(run_id)
            raise

    def _known_steps(self, run_id: str, name: str) -> set[int]:
        of_run = self._steps.setdefault(run_id, {})
        if name not in of_run:
            is_fresh = run_id in self._fresh
            history = [] if is_fresh else self._client.get_metric_history(run_id, name)
            of_run[name] = {point.step for point in history}
        return of_run[name]
