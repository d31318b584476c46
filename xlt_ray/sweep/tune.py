"""The adapters between Ray Tune and the scheduler: searcher, trial scheduler, heartbeat monitor."""

from __future__ import annotations

import contextlib
import os
import pickle
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from ray import cloudpickle
from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import Callback, PlacementGroupFactory
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from xlt_ray.sweep.failures import ProcessFailures
from xlt_ray.sweep.missing_evaluations import MissingEvaluations
from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import Report, pack
from xlt_ray.sweep.trainable import INTERVAL, MAX_REPORT_INTERVAL_S, REPORT, report_interval
from xlt_ray.sweep.workers import GRACE_S

STOP_S = MAX_REPORT_INTERVAL_S + GRACE_S
"""Seconds that a trial gets to save its progress and stop."""


def let_trials_outlive_memory_kills() -> None:
    """Let Tune take a process that Ray's memory monitor killed for one that died.

    Ray 2.60 raises OutOfMemoryError for it, which is no RayActorError, and Tune ends the whole run
    at an exception of another type.
    """
    actor_manager.RayActorError = (RayActorError, OutOfMemoryError)


class SchedulerSearcher(Searcher):
    """Gives Tune the tasks of the scheduler, and the scheduler the results of trials.

    Tune stages every trial that it gets, so a trial that may not start yet is held back here:
    ``suggest`` returns None, and Tune calls it again.
    """

    def __init__(
        self,
        scheduler: TrialScheduler | MissingEvaluations,
        process_failures: ProcessFailures,
        concurrency: Callable[[], int],
    ) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._process_failures = process_failures
        self._concurrency = concurrency
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._scheduler.num_running < self._concurrency():
            task = self._scheduler.next_task()
            if task is not None:
                self._numbers[trial_id] = task.number
                return {"task": pack(task, self._process_failures.left_nodes)}
            if self._scheduler.is_done:
                return Searcher.FINISHED
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self._numbers.pop(trial_id)
        report: Report | None = (
            self._process_failures.final_report(number)
            if error or result is None
            else result.get(REPORT)
        )
        try:
            self._scheduler.finish(number, report)
        except Exception as error:
            # Tune takes it for an error of the trial and would run the trial again.
            self._process_failures.write_error = error
            raise

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the ledger has the state."""

    def restore(self, checkpoint_path: str) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes its searcher into a file that is never read; a scheduler has open files and
        # threads.
        return {}


class LiveTrialScheduler(FIFOScheduler):
    """Runs trials in order, passes reports to the scheduler, and ends trials early or after
    failures: Tune itself restarts a trial whose process was lost without a limit."""

    def __init__(
        self,
        scheduler: TrialScheduler | MissingEvaluations,
        process_failures: ProcessFailures,
        node_left: Callable[[], None] = lambda: None,
    ) -> None:
        """``node_left`` is called after a node was excluded."""
        super().__init__()
        self._scheduler = scheduler
        self._process_failures = process_failures
        self._node_left = node_left
        self._given_up: set[str] = set()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The waiting trial with the lowest number. Tune calls this at every event.

        The method of ``FIFOScheduler`` walks over all trials, finished ones included: half of the
        controller's time after ten thousand of them.
        """
        waiting = (
            trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING
        )
        return min(waiting, key=lambda trial: trial.config["task"].number, default=None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number, report = trial.config["task"].number, result[REPORT]
        process = trial.temporary_state.ray_actor
        if report.kind == "failed":
            retry = self._process_failures.on_failed_attempt(number, report)
            if retry is None:
                return FIFOScheduler.STOP
            report, pause_s = retry
            if pause_s:
                process.pause.remote(pause_s)
        self._process_failures.note_made(report)
        if self._scheduler.on_report(number, report):
            # Tune may keep the process for a later trial and does not call it until then.
            keeps_progress = self._scheduler.keeps_progress(number)
            (process.end_with_progress if keeps_progress else process.end_early).remote()
            return FIFOScheduler.STOP
        interval_s = report_interval(self._scheduler.num_running)
        if not 0.8 < interval_s / result[INTERVAL] < 1.25:
            process.set_report_interval.remote(interval_s)
        return FIFOScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if self._process_failures.write_error is not None:
            raise self._process_failures.write_error
        number = trial.config["task"].number
        before = self._process_failures.left_nodes
        report = self._process_failures.on_process_end(number, _read_error(trial))
        left_nodes = self._process_failures.left_nodes
        if report is None:
            self._given_up.add(trial.trial_id)
        else:
            if left_nodes:
                task = replace(trial.config["task"], left_nodes=left_nodes)
                trial.set_config({**trial.config, "task": task})
                # The bundles follow from the configuration.
                trial.create_placement_group_factory()
            self._scheduler.on_report(number, report)
        if left_nodes != before:
            self._node_left()

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result[REPORT].kind == "failed":
            # Its process may be at fault. Tune reuses a process only for trials with the same
            # resources, and no trial requests these.
            trial.placement_group_factory = PlacementGroupFactory(
                [{"CPU": 1}], name=f"of {trial.trial_id} alone"
            )

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        # At the end Tune kills actors that have not stopped after ten seconds. A trial stops
        # between two reports and then saves its progress.
        tune_controller._tune_controller._actor_force_cleanup_timeout = STOP_S
        # Tune also adds the trials that it restarts.
        if trial.trial_id in self._given_up:
            tune_controller.stop_trial(trial)

    def __getstate__(self) -> dict[str, Any]:
        # See SchedulerSearcher.
        return {}


def _read_error(trial: Any) -> BaseException | None:
    """The last error of a trial's process; None if it cannot be read safely."""
    # `Trial.get_pickled_error` reads a copy that Tune makes later.
    file = trial.pickled_error_file
    if file is None:
        return None
    read_errors = (OSError, pickle.UnpicklingError, AttributeError, ImportError, TypeError)
    # Other users of the machine may be able to write to the folders above it: their pickle would
    # run as this process, a link leads elsewhere, and a pipe blocks for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with (
        contextlib.suppress(*read_errors),
        os.fdopen(os.open(file, flags), "rb") as stream,
    ):
        status = os.fstat(stream.fileno())
        is_ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if is_ours and stat.S_ISREG(status.st_mode):
            error: BaseException = cloudpickle.loads(stream.read())
            return error
    return None


ABSENCE_S = 10.0
"""The driver checks several times a second; after a longer gap its heartbeats are out of date."""


class Heartbeat(NamedTuple):
    """The last report of a trial: its time, and the process and node that sent it."""

    at_s: float
    node_ip: str
    pid: int


class HeartbeatMonitor(Callback):
    """Ends the process of a trial that has sent no report for too long.

    A process that hangs ends itself (:class:`~xlt_ray.sweep.failures.Watchdog`). A frozen one
    cannot: a signal has stopped it, or it waits in the kernel for a file system that is gone. To
    Ray it is alive.
    The limit is ``hang_after`` and twice ``GRACE_S``: one to end itself, one to end its workers.
    """

    def __init__(
        self,
        hang_after: float,
        process_failures: ProcessFailures,
        end: Callable[[str, int], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience_s = hang_after + 2 * GRACE_S
        self._process_failures = process_failures
        self._end = end
        self._now = now
        self._heartbeats: dict[int, Heartbeat] = {}
        self._checked_s = now()

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["task"].number
        self._heartbeats[number] = Heartbeat(self._now(), result["node_ip"], result["pid"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._heartbeats.pop(trial.config["task"].number, None)

    # After an error the process is gone, and the next one may wait for a node for hours.
    on_trial_error = on_trial_recover = on_trial_complete

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        now, checked_s = self._now(), self._checked_s
        self._checked_s = now
        if now - checked_s > ABSENCE_S:
            # Reports of the meantime have not been read yet.
            self._heartbeats = {
                number: heartbeat._replace(at_s=heartbeat.at_s + now - checked_s)
                for number, heartbeat in self._heartbeats.items()
            }
        for number, heartbeat in list(self._heartbeats.items()):
            if now - heartbeat.at_s > self._patience_s:
                del self._heartbeats[number]
                self._process_failures.note_silence(number, now - heartbeat.at_s)
                self._end(heartbeat.node_ip, heartbeat.pid)

    def __getstate__(self) -> dict[str, Any]:
        # See SchedulerSearcher.
        return {}


def end_process(node_ip: str, pid: int) -> None:
    """Send SIGKILL to a Ray worker on a node of this cluster, without waiting for the result.

    Does nothing if the node is gone: Ray reports the end of its processes.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for node in ray.nodes():
        if node["Alive"] and node["NodeManagerAddress"] == node_ip:
            on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ray.remote(_kill).options(num_cpus=0, scheduling_strategy=on_node).remote(pid)


def _kill(pid: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        # With several nodes of a cluster on one machine this may run twice, and another process may
        # have the number by then.
        if any(part.startswith("ray::") for part in process.cmdline()):
            process.kill()
