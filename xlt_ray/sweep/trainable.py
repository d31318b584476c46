"""Tune's trainable: one trial walks its path of stages and reports whatever happens.

The process is kept warm (``reuse_actors``): importing the training libraries takes seconds,
a further trial in the same process starts at once.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayError
from ray.tune.result import DONE

from xlt_ray.errors import TrialFailure
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.sweep import LOADED_S
from xlt_ray.sweep.batch_limits import read_fits, remember_fit
from xlt_ray.sweep.failures import Failure, classify
from xlt_ray.sweep.tasks import Report, StageReport, TrialTask, maker_of
from xlt_ray.sweep.workers import WorkerGroup, runtime_of, workers_for
from xlt_ray.training.loop import Committed, Evaluated, Event, Ticked, Waiting

REPORT, QUIET = "report", "quiet_s"
"""Keys of a result: a Report, and the seconds between two signs of life of this trial."""
QUIET_S = 2.0
"""A trial to which nothing worth a line happens says so this often, where few run."""
LONGEST_QUIET_S = 30.0
SIGNS_PER_S = 20
"""Of all trials that run; each takes the driver some milliseconds."""


def quiet_for(num_running: int) -> float:
    """Seconds between two signs of life of a trial, where so many run.

    >>> [quiet_for(number) for number in (8, 100, 450, 1000)]
    [2.0, 5.0, 22.5, 30.0]
    """
    return min(max(QUIET_S, num_running / SIGNS_PER_S), LONGEST_QUIET_S)


class TrialWalk(tune.Trainable):
    """``config["order"]`` is a :class:`~xlt_ray.sweep.tasks.SealedOrder`.

    The trial trains in threads of its workers. A step only fetches what has happened since the last
    one, so a driver that is busy, or stopped, does not hold up the training.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._crew: WorkerGroup | None = None
        self._since = LOADED_S
        self._take(config["order"].open())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this warm process."""
        order: TrialTask = new_config["order"].open()
        self._since = time.monotonic()
        self._leave()
        if self._order.resources != order.resources:
            self._crew = None
        self._take(order)
        return True

    def _take(self, order: TrialTask) -> None:
        self._order = order
        self._quiet_s = QUIET_S
        self._has_begun = False
        self._is_walking = False
        self._num_fetched = 0
        self._scores: tuple[Score, ...] = ()
        self._left: list[Stage] = []
        self._tries: Counter[str] = Counter(order.tries)
        self._resumes = 0.0

    def step(self) -> dict[str, Any]:
        report = self._next_report()
        return {REPORT: report, QUIET: self._quiet_s, DONE: report.kind in ("complete", "failed")}

    def _next_report(self) -> Report:
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
        return Report(
            "retrying" if remedy else "failed",
            stage=self._at_work,
            cause=failure.cause,
            message=failure.message,
            log=failure.log,
            remedy=remedy,
        )

    def cleanup(self) -> None:
        """The sweep is stopped, or this process is not needed any more."""
        if self._is_walking and self._crew is not None:
            with contextlib.suppress(RayError):
                self._crew.keep()
        self._leave()

    def be_quiet(self, seconds: float) -> None:
        """The driver asks for signs of life so often."""
        self._quiet_s = seconds

    def leave(self) -> None:
        """The driver has stopped this trial early: nothing that it does from now on counts."""
        self._leave()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: progress is in the stage store, under the stage's key."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see :meth:`save_checkpoint`."""

    @property
    def _at_work(self) -> str:
        """Kind of the stage that is made now."""
        return self._left[0].kind if self._left else ""

    def _step(self) -> Report:
        if not self._has_begun:
            self._has_begun = True
            return Report("begun", occupied_s=time.monotonic() - self._since)
        pause = self._resumes - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, self._quiet_s))
            return Report("pausing")
        self._crew = self._crew or workers_for(self._order)
        if not self._is_walking:
            self._left = list(stages_to_run(self._order.path))
            self._order = replace(self._order, fits=self._known_fits())
            self._crew.begin(self._order)
            self._num_fetched = 0
            self._is_walking = True
        news = self._crew.fetch(self._num_fetched, self._quiet_s)
        if news is None:
            # Nothing yet, in a stage that is being prepared or evaluated.
            return Report("ticked", stage=self._at_work)
        self._num_fetched += not news.is_sign
        if news.event is None:
            self._leave()
            return Report("complete", scores=self._scores)
        return self._report(news.event, news.system)

    def _report(self, event: Event, system: Mapping[str, float]) -> Report:
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
                system=system,
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
        held = runtime_of(order).pass_size(settings)
        if held == 1:
            return ""
        self._order = replace(order, fits={**order.fits, length: held // 2})
        runtime = runtime_of(self._order)
        # Where it cannot be written, this trial knows it all the same.
        with contextlib.suppress(OSError):
            remember_fit(
                Path(order.fits_file),
                order.trial.model.name,
                runtime.memory_profile,
                length,
                held // 2,
            )
        return f"with {runtime.pass_size(settings)} instead of {held} sequences a pass"

    def _known_fits(self) -> dict[int, int]:
        """What this trial and others of the home learnt about its model."""
        order = self._order
        footing = runtime_of(order).memory_profile
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
        """Release leases and memory; a crew that has died, or does not answer, is given up."""
        if self._crew is not None:
            try:
                self._crew.end()
            except (RayError, TrialFailure):
                self._abandon()
        self._is_walking = False
