"""The points of curves in MLflow, each of them once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xlt_ray.tracking.content import legal_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

Point = tuple[str, int, float]
"""Metric, examples seen, value."""

BATCH = 1000
"""Metrics in one request; MLflow refuses more."""


class Points:
    """Logs points that are not there yet; asks MLflow once for each curve of a run."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._steps: dict[str, dict[str, set[int]]] = {}
        self._fresh: set[str] = set()

    def expect_none(self, run_id: str) -> None:
        """A run was made just now: nobody has to be asked for its points."""
        self._fresh.add(run_id)

    def forget(self, run_id: str) -> None:
        """Nothing more is expected of a run; whoever logs to it all the same has MLflow asked."""
        self._steps.pop(run_id, None)
        self._fresh.discard(run_id)

    def log(self, run_id: str, points: Sequence[Point], moment: int | None = None) -> None:
        """Log what is missing.

        Args:
            moment: when it was measured, in milliseconds since 1970; now by default. MLflow
                takes the same point at the same moment once, even if it is sent again because
                the answer to the first time was lost.
        """
        from mlflow.entities import Metric

        timestamp = int(time.time() * 1000) if moment is None else moment
        missing: list[Metric] = []
        for unspelled, step, value in points:
            name = legal_name(unspelled)
            there = self._known_steps(run_id, name)
            if step not in there:
                missing.append(Metric(name, float(value), timestamp, step))
                there.add(step)
        try:
            for start in range(0, len(missing), BATCH):
                self._client.log_batch(run_id, metrics=missing[start : start + BATCH])
        except BaseException:
            # What did not arrive is asked for again.
            for point in missing:
                self._steps[run_id].pop(point.key, None)
            self._fresh.discard(run_id)
            raise

    def _known_steps(self, run_id: str, name: str) -> set[int]:
        of_run = self._steps.setdefault(run_id, {})
        if name not in of_run:
            is_fresh = run_id in self._fresh
            history = [] if is_fresh else self._client.get_metric_history(run_id, name)
            of_run[name] = {point.step for point in history}
        return of_run[name]
