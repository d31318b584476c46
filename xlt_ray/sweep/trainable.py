"""Tune's trainable: one trial walks its path of stages and reports whatever happens.

The process is kept warm (``reuse_actors``): importing the training libraries takes seconds,
a further trial in the same process starts at once.
"""

from __future__ import annotations

import time
from typing import Any

import psutil
from ray import tune
from ray.exceptions import RayError
from ray.tune.result import DONE

from xlt_ray.stages.record import Score
from xlt_ray.sweep.failures import classify
from xlt_ray.sweep.order import Order, Report, StageReport, maker_of
from xlt_ray.sweep.workers import Crew, crew_for
from xlt_ray.training.events import Committed, Evaluated, Event, Waiting

REPORT = "report"
WAIT_REPORT_S = 5.0
"""A trial that waits for somebody else's stage says so this often."""


class TrialWalk(tune.Trainable):
    """``config["order"]`` is the :class:`~xlt_ray.sweep.order.Order`; results hold a Report."""

    def setup(self, config: dict[str, Any]) -> None:
        self._crew: Crew | None = None
        self._order: Order = config["order"]
        self._has_begun = False
        self._is_walking = False
        self._scores: tuple[Score, ...] = ()
        self._last_seen = ("", 0, 0.0)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this warm process."""
        order: Order = new_config["order"]
        self._leave()
        if self._order.resources != order.resources:
            self._crew = None
        self._order = order
        self._has_begun = False
        self._scores = ()
        return True

    def step(self) -> dict[str, Any]:
        try:
            return self._step()
        except Exception as error:
            failure = classify(error)
            self._leave()
            if failure.is_transient:
                # Tune starts the trial anew, in another process.
                raise
            report = Report("failed", cause=failure.cause, message=failure.message, log=failure.log)
            return {REPORT: report, DONE: True}

    def cleanup(self) -> None:
        self._leave()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: progress is in the stage store, under the stage's key."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see :meth:`save_checkpoint`."""

    def _step(self) -> dict[str, Any]:
        if not self._has_begun:
            self._has_begun = True
            return {REPORT: Report("begun")}
        self._crew = self._crew or crew_for(self._order)
        if not self._is_walking:
            self._crew.begin(self._order)
            self._is_walking = True
        began = time.monotonic()
        while True:
            event = self._crew.advance()
            if event is None:
                self._leave()
                return {REPORT: Report("complete", scores=self._scores), DONE: True}
            if not isinstance(event, Waiting) or time.monotonic() - began > WAIT_REPORT_S:
                return {REPORT: self._report(event)}

    def _report(self, event: Event) -> Report:
        if isinstance(event, Waiting):
            return Report("waiting", stage=event.stage.kind, holder=event.holder)
        if isinstance(event, Evaluated):
            return Report(
                "evaluated",
                stage=event.stage.kind,
                examples=event.examples,
                total_examples=event.stage.ends_at,
                metrics=dict(event.metrics),
                is_replay=event.is_replay,
                system=self._system(event),
            )
        assert isinstance(event, Committed)
        record = event.record
        if event.stage.kind == "evaluate":
            self._scores = record.scores
        return Report(
            "stage",
            stage=event.stage.kind,
            finished_stage=StageReport(
                kind=event.stage.kind,
                key=event.stage.key,
                label=event.stage.label,
                reused=event.reused,
                examples=0 if event.reused else record.num_examples,
                seconds=0.0 if event.reused else record.seconds,
                made_by=maker_of(record),
            ),
        )

    def _system(self, event: Evaluated) -> dict[str, float]:
        """What is cheap to know about this process; nothing for what happened before it."""
        if event.is_replay:
            return {}
        now = time.monotonic()
        stage, examples, then = self._last_seen
        rate = (event.examples - examples) / (now - then) if stage == event.stage.key else None
        self._last_seen = (event.stage.key, event.examples, now)
        memory = psutil.Process().memory_info().rss / 2**30
        return {"memory_gib": memory, **({"examples_per_s": rate} if rate else {})}

    def _leave(self) -> None:
        """Release leases and memory; a crew that has died has neither."""
        self._is_walking = False
        if self._crew is not None:
            try:
                self._crew.end()
            except RayError:
                self._crew = None
