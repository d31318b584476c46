"""Tune's trainable: runs the path of a trial and reports what happens.

Tune reuses the process for later trials (``reuse_actors``), because importing the training
libraries takes seconds.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

from ray import tune
from ray.exceptions import RayError
from ray.tune.result import DONE

from xlt_ray.errors import TrialFailure
from xlt_ray.ledger import StageUse
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.sweep import LOADED_S
from xlt_ray.sweep.batch_limits import SmallerPass, smaller_pass, with_batch_limits
from xlt_ray.sweep.capacity import draining_nodes
from xlt_ray.sweep.failures import Failure, classify
from xlt_ray.sweep.tasks import Report, TrialTask, maker_of
from xlt_ray.sweep.workers import RayWorkers, Worker, workers_for
from xlt_ray.training.events import Committed, Evaluated, Event, Ticked, Waiting

REPORT, INTERVAL = "report", "quiet_s"
"""Keys of a result: a Report, and the seconds between two heartbeats of this trial."""
REPORT_INTERVAL_S = 2.0
"""Seconds between two heartbeats of a trial while few trials run."""
MAX_REPORT_INTERVAL_S = 30.0
REPORTS_PER_S = 20
"""Heartbeats of all trials; each takes the driver some milliseconds."""


def report_interval(num_running: int) -> float:
    """Seconds between two heartbeats of a trial while ``num_running`` trials run.

    >>> [report_interval(number) for number in (8, 100, 450, 1000)]
    [2.0, 5.0, 22.5, 30.0]
    """
    return min(max(REPORT_INTERVAL_S, num_running / REPORTS_PER_S), MAX_REPORT_INTERVAL_S)


class TrialWalk(tune.Trainable):
    """``config["task"]`` is a :class:`~xlt_ray.sweep.tasks.PackedTask`. A step only fetches the
    next update of the workers."""

    def setup(self, config: dict[str, Any]) -> None:
        self._workers: Worker | RayWorkers | None = None
        self._occupied_since_s = LOADED_S
        self._reset(config["task"].open())

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in this process."""
        task: TrialTask = new_config["task"].open()
        self._occupied_since_s = time.monotonic()
        self._end_walk()
        if self._task.resources != task.resources:
            self._workers = None
        self._reset(task)
        return True

    def _reset(self, task: TrialTask) -> None:
        self._task = task
        self._interval_s = REPORT_INTERVAL_S
        self._has_begun = False
        self._is_walking = False
        self._num_fetched = 0
        self._scores: tuple[Score, ...] = ()
        self._remaining: list[Stage] = []
        self._smaller_pass: SmallerPass | None = None
        """With which a stage that ran out of memory is tried again."""
        self._resume_at_s = 0.0

    def step(self) -> dict[str, Any]:
        report = self._next_report()
        return {
            REPORT: report,
            INTERVAL: self._interval_s,
            DONE: report.kind == "complete",
        }

    def _next_report(self) -> Report:
        try:
            return self._step()
        except Exception as error:
            failure = classify(error)
            if failure.is_of_process:
                # Tune restarts the trial in another process.
                self._abandon()
                raise
        # By now the exception is gone, and with it the frames that hold tensors.
        self._abandon()
        # The driver ends the trial, or lets the next step begin another attempt.
        return Report(
            "failed",
            stage=self._current_kind,
            cause=failure.cause,
            message=failure.message,
            log=failure.log,
            remedy=self._choose_smaller_pass(failure),
        )

    def pause(self, seconds: float) -> None:
        """Wait so long before the next attempt."""
        self._resume_at_s = time.monotonic() + seconds

    def cleanup(self) -> None:
        """The sweep is stopped, or this process is not needed any more."""
        if self._is_walking and self._workers is not None:
            with contextlib.suppress(RayError):
                self._workers.keep()
        self._end_walk()

    def set_report_interval(self, seconds: float) -> None:
        self._interval_s = seconds

    def end_early(self) -> None:
        """End the walk: the driver has stopped this trial early."""
        self._end_walk()

    def end_with_progress(self) -> None:
        """Save progress and end the walk: this trial continues later, or was stopped by hand."""
        self.cleanup()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves nothing: progress is in the stage store, under the key of the stage."""

    def load_checkpoint(self, checkpoint: Any) -> None: ...

    @property
    def _current_kind(self) -> str:
        """Kind of the stage that is being made."""
        return self._remaining[0].kind if self._remaining else ""

    def _step(self) -> Report:
        if not self._has_begun:
            self._has_begun = True
            return Report("begun", occupied_s=time.monotonic() - self._occupied_since_s)
        pause = self._resume_at_s - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, self._interval_s))
            return Report("pausing")
        self._workers = self._workers or workers_for(self._task)
        if not self._is_walking:
            self._remaining = list(stages_to_run(self._task.path))
            self._task = with_batch_limits(self._task, self._smaller_pass)
            self._workers.begin(self._task)
            self._num_fetched = 0
            self._is_walking = True
        if not draining_nodes().isdisjoint(self._workers.nodes()):
            # Nothing is lost if the progress of this very step is saved before the node ends.
            self._workers.keep()
            raise TrialFailure("its node is being taken away", cause="preempted")
        update = self._workers.fetch(self._num_fetched, self._interval_s)
        if update is None:
            # A stage is being prepared or evaluated.
            return Report("ticked", stage=self._current_kind)
        self._num_fetched += not update.is_heartbeat
        if update.event is None:
            self._end_walk()
            return Report("complete", scores=self._scores)
        return self._report(update.event)

    def _report(self, event: Event) -> Report:
        if isinstance(event, Waiting):
            return Report("waiting", stage=event.stage.kind, holder=event.holder)
        if isinstance(event, Ticked | Evaluated):
            ticked = Report("ticked", event.stage.kind, event.examples, event.stage.ends_at)
            if isinstance(event, Ticked):
                return ticked
            return replace(
                ticked,
                kind="evaluated",
                metrics=dict(event.metrics),
                by_language=dict(event.by_language),
                is_replay=event.is_replay,
                system=dict(event.system),
                time_ms=event.time_ms,
            )
        assert isinstance(event, Committed)
        keys = [stage.key for stage in self._remaining]
        self._remaining = self._remaining[keys.index(event.stage.key) + 1 :]
        record = event.record
        if event.stage.kind == "evaluate":
            self._scores = record.scores
        return Report(
            "stage",
            stage=event.stage.kind,
            versions=record.made_by.get("versions", {}) if event.reused else {},
            nodes=() if event.reused or self._workers is None else self._workers.nodes(),
            finished_stage=StageUse(
                kind=event.stage.kind,
                key=event.stage.key,
                label=event.stage.label,
                reused=event.reused,
                examples=record.num_examples,
                seconds=record.seconds,
                made_by=maker_of(record),
            ),
        )

    def _choose_smaller_pass(self, failure: Failure) -> str:
        """Choose a smaller pass for the next attempt of a stage that did not fit into memory; the
        change in words, empty if there is none."""
        shrinks = self._task.failures.policy(failure.cause).action == "shrink"
        stage = self._remaining[0] if shrinks and self._remaining else None
        self._smaller_pass = None if stage is None else smaller_pass(self._task, stage)
        return "" if self._smaller_pass is None else self._smaller_pass.words

    def _abandon(self) -> None:
        """Release memory after a failure; the next attempt gets new workers."""
        self._is_walking = False
        workers, self._workers = self._workers, None
        if workers is not None:
            with contextlib.suppress(RayError):
                workers.abandon()

    def _end_walk(self) -> None:
        """Release leases and memory; abandon workers that died or do not answer."""
        if self._workers is not None:
            try:
                self._workers.end()
            except (RayError, TrialFailure):
                self._abandon()
        self._is_walking = False
