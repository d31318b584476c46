"""Tune's trainable: one trial walks its path of stages and reports whatever happens.

The process is kept warm (``reuse_actors``): importing the training libraries takes seconds,
a further trial in the same process starts at once.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from ray import tune
from ray.exceptions import RayError
from ray.tune.result import DONE

from xlt_ray.stages.path import made
from xlt_ray.stages.record import Score
from xlt_ray.stages.stage import Stage
from xlt_ray.sweep import LOADED_S
from xlt_ray.sweep.failures import Failure, classify
from xlt_ray.sweep.fits import read_fits, remember_fit
from xlt_ray.sweep.order import Order, Report, StageReport, maker_of
from xlt_ray.sweep.workers import Crew, crew_for, runtime_of
from xlt_ray.training.events import Committed, Evaluated, Event, Ticked, Waiting

REPORT = "report"
QUIET_S = 2.0
"""A trial to which nothing worth a line happens says so this often, and can be stopped then."""


class TrialWalk(tune.Trainable):
    """``config["order"]`` is a :class:`~xlt_ray.sweep.order.SealedOrder`; results hold a Report."""

    def setup(self, config: dict[str, Any]) -> None:
        self._crew: Crew | None = None
        self._since = LOADED_S
        self._take(config["order"].open())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this warm process."""
        order: Order = new_config["order"].open()
        self._since = time.monotonic()
        self._leave()
        if self._order.resources != order.resources:
            self._crew = None
        self._take(order)
        return True

    def _take(self, order: Order) -> None:
        self._order = order
        self._has_begun = False
        self._is_walking = False
        self._scores: tuple[Score, ...] = ()
        self._last_seen = ("", 0, 0.0)
        self._left: list[Stage] = []
        self._tries: Counter[str] = Counter(order.tries)
        self._resumes = 0.0

    def step(self) -> dict[str, Any]:
        try:
            return self._step()
        except Exception as error:
            failure = classify(error)
            if failure.is_of_process:
                # Tune starts the trial anew, in another process.
                self._abandon()
                raise
        # The exception is gone by now, and with it the frames that hold tensors.
        self._abandon()
        remedy = self._remedy(failure)
        report = Report(
            "retrying" if remedy else "failed",
            stage=self._left[0].kind if self._left else "",
            cause=failure.cause,
            message=failure.message,
            log=failure.log,
            remedy=remedy,
        )
        return {REPORT: report, DONE: not remedy}

    def cleanup(self) -> None:
        """The sweep is stopped, or this process is not needed any more."""
        if self._is_walking and self._crew is not None:
            with contextlib.suppress(RayError):
                self._crew.keep()
        self._leave()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: progress is in the stage store, under the stage's key."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see :meth:`save_checkpoint`."""

    def _step(self) -> dict[str, Any]:
        if not self._has_begun:
            self._has_begun = True
            return {REPORT: Report("begun", occupied_s=time.monotonic() - self._since)}
        pause = self._resumes - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, QUIET_S))
            return {REPORT: Report("pausing")}
        self._crew = self._crew or crew_for(self._order)
        if not self._is_walking:
            self._left = list(made(self._order.path))
            self._order = replace(self._order, fits=self._known_fits())
            self._crew.begin(self._order)
            self._is_walking = True
        began = time.monotonic()
        while True:
            event = self._crew.advance()
            if event is None:
                self._leave()
                return {REPORT: Report("complete", scores=self._scores), DONE: True}
            is_quiet = isinstance(event, Waiting | Ticked)
            if not is_quiet or time.monotonic() - began > QUIET_S:
                return {REPORT: self._report(event)}

    def _report(self, event: Event) -> Report:
        if isinstance(event, Waiting):
            return Report("waiting", stage=event.stage.kind, holder=event.holder)
        if isinstance(event, Ticked):
            return Report(
                "ticked",
                stage=event.stage.kind,
                examples=event.examples,
                total_examples=event.stage.ends_at,
            )
        if isinstance(event, Evaluated):
            return Report(
                "evaluated",
                stage=event.stage.kind,
                examples=event.examples,
                total_examples=event.stage.ends_at,
                metrics=dict(event.metrics),
                by_language=dict(event.by_language),
                is_replay=event.is_replay,
                system=self._system(event),
            )
        assert isinstance(event, Committed)
        keys = [stage.key for stage in self._left]
        self._left = self._left[keys.index(event.stage.key) + 1 :]
        record = event.record
        if event.stage.kind == "evaluate":
            self._scores = record.scores
        return Report(
            "stage",
            stage=event.stage.kind,
            versions=record.made_by.get("versions", {}) if event.reused else {},
            nodes=() if event.reused or self._crew is None else self._crew.nodes(),
            finished_stage=StageReport(
                kind=event.stage.kind,
                key=event.stage.key,
                label=event.stage.label,
                reused=event.reused,
                examples=record.num_examples,
                seconds=record.seconds,
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

    def _remedy(self, failure: Failure) -> str:
        """Get ready to try again in this process; how, in a few words. Nothing: it is final."""
        cause = failure.cause
        policy = self._order.failures.policy(cause)
        tries = self._tries[cause]
        if not policy.allows(tries):
            return ""
        self._tries[cause] += 1
        if policy.action == "shrink":
            return self._shrink()
        pause = policy.pause(tries)
        self._resumes = time.monotonic() + pause
        return f"in {pause:.0f} s" if pause else "at once"

    def _shrink(self) -> str:
        """Half the sequences in a pass of the stage that did not fit, for later trials, too."""
        if not self._left:
            return ""
        order, settings = self._order, self._left[0].settings
        length = settings["max_length"]
        held = runtime_of(order).held(settings)
        if held == 1:
            return ""
        self._order = replace(order, fits={**order.fits, length: held // 2})
        runtime = runtime_of(self._order)
        # Where it cannot be written, this trial knows it all the same.
        with contextlib.suppress(OSError):
            remember_fit(
                Path(order.fits_file), order.trial.model.name, runtime.footing, length, held // 2
            )
        return f"with {runtime.held(settings)} instead of {held} sequences a pass"

    def _known_fits(self) -> dict[int, int]:
        """What this trial and others of the home learnt about its model."""
        order = self._order
        footing = runtime_of(order).footing
        known = read_fits(Path(order.fits_file), order.trial.model.name, footing)
        both = known.keys() | order.fits.keys()
        return {
            length: min(one[length] for one in (known, order.fits) if length in one)
            for length in both
        }

    def _abandon(self) -> None:
        """Give memory back after a failure; the next attempt gets another crew."""
        self._is_walking = False
        crew, self._crew = self._crew, None
        if crew is not None:
            with contextlib.suppress(RayError):
                crew.abandon()

    def _leave(self) -> None:
        """Release leases and memory; a crew that has died has neither."""
        self._is_walking = False
        if self._crew is not None:
            try:
                self._crew.end()
            except RayError:
                self._crew = None
