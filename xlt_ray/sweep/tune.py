"""Tune's two questions, put to the desk: which trial next, and go on or stop?

Trials of which nothing is heard any more: their processes are ended from outside.

A process that hangs ends itself (:mod:`xlt_ray.sweep.watchdog`). One that is frozen cannot: it was
stopped by a signal, or waits inside the kernel for a file system that is gone. Ray takes it for
alive, so the driver counts the seconds.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import cloudpickle
from ray.tune import Callback, PlacementGroupFactory
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from xlt_ray.sweep.missing_evaluations import MissingEvaluations
from xlt_ray.sweep.retry import ProcessFailures
from xlt_ray.sweep.scheduler import TrialScheduler
from xlt_ray.sweep.tasks import Report, pack
from xlt_ray.sweep.trainable import LONGEST_QUIET_S, QUIET, REPORT, quiet_for
from xlt_ray.sweep.workers import GRACE_S

STOP_S = LONGEST_QUIET_S + GRACE_S
"""How long a trial that is to stop may take."""


class SchedulerSearcher(Searcher):
    """Suggests what the desk hands out; tells it what became of a trial.

    Tune stages every trial that it was given, whatever its scheduler says, so a trial that
    should not start yet is held back here: ``suggest`` returns None and is asked again.
    """

    def __init__(
        self,
        desk: TrialScheduler | MissingEvaluations,
        losses: ProcessFailures,
        room: Callable[[], int],
    ) -> None:
        super().__init__()
        self._desk = desk
        self._losses = losses
        self._room = room
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._desk.num_running < self._room():
            order = self._desk.next_task()
            if order is not None:
                self._numbers[trial_id] = order.number
                return {"order": pack(order, self._losses.left_nodes)}
            if self._desk.is_done:
                return Searcher.FINISHED
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        number = self._numbers.pop(trial_id)
        report: Report | None = (
            self._losses.fate(number) if error or result is None else result.get(REPORT)
        )
        try:
            self._desk.finish(number, report)
        except Exception as error:
            # Tune takes it for the trial's own, and would run what has ended once more.
            self._losses.unwritten = error
            raise

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see :meth:`save`."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes its searcher and scheduler into a file that nobody reads, and a desk has
        # open files and threads.
        return {}


class LiveTrialScheduler(FIFOScheduler):
    """Runs trials in order; the desk hears every report and may stop a trial early.

    Tune starts a trial whose process was lost for ever again; here that has an end.
    """

    def __init__(
        self,
        desk: TrialScheduler | MissingEvaluations,
        losses: ProcessFailures,
        node_left: Callable[[], None] = lambda: None,
    ) -> None:
        """``node_left`` is called after a node was left."""
        super().__init__()
        self._desk = desk
        self._losses = losses
        self._node_left = node_left
        self._given_up: set[str] = set()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first that waits; asked at every event.

        FIFO's own goes through all trials that ever were, half of the controller's time after ten
        thousand of them. It looks for paused ones, too, and none is paused here.
        """
        waiting = (
            trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING
        )
        return min(waiting, key=lambda one: one.config["order"].number, default=None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["order"].number
        self._losses.on_report(number, result[REPORT])
        process = trial.temporary_state.ray_actor
        if self._desk.on_report(number, result[REPORT]):
            # Tune may keep the process for a later trial, and says nothing to it until then.
            process.leave.remote()
            return FIFOScheduler.STOP
        quiet_s = quiet_for(self._desk.num_running)
        if not 0.8 < quiet_s / result[QUIET] < 1.25:
            process.be_quiet.remote(quiet_s)
        return FIFOScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if self._losses.unwritten is not None:
            raise self._losses.unwritten
        number = trial.config["order"].number
        before = self._losses.left_nodes
        report = self._losses.note(number, _heard_of(trial))
        left_nodes = self._losses.left_nodes
        if report is None:
            self._given_up.add(trial.trial_id)
        else:
            order = self._losses.counted(trial.config["order"].open())
            trial.set_config({**trial.config, "order": pack(order, left_nodes)})
            if left_nodes:
                # What it asks for follows from its configuration.
                trial.create_placement_group_factory()
            self._desk.on_report(number, report)
        if left_nodes != before:
            self._node_left()

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result[REPORT].kind == "failed":
            # Its process may be at fault. Tune keeps one for trials that ask for the same, and
            # none asks for this.
            trial.placement_group_factory = PlacementGroupFactory(
                [{"CPU": 1}], name=f"of {trial.trial_id} alone"
            )

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        # At the end Tune kills what has not stopped after ten seconds. A trial stops between two
        # signs of life, and saves its progress then.
        tune_controller._tune_controller._actor_force_cleanup_timeout = STOP_S
        # Tune queues what it starts anew, as it does what is new.
        if trial.trial_id in self._given_up:
            tune_controller.stop_trial(trial)

    def __getstate__(self) -> dict[str, Any]:
        # As the searcher's.
        return {}


def _heard_of(trial: Any) -> BaseException | None:
    """What Tune heard last of a trial's process, or None where that cannot be read safely."""
    # Tune's own `get_pickled_error` looks where the file is copied to later.
    file = trial.pickled_error_file
    if file is None:
        return None
    unreadable = (OSError, pickle.UnpicklingError, AttributeError, ImportError, TypeError)
    # On a cluster the folders above it may be open to other users of the machine: a pickle of
    # theirs would run as this process, a link leads elsewhere, and a pipe waits for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with (
        contextlib.suppress(*unreadable),
        os.fdopen(os.open(file, flags), "rb") as stream,
    ):
        status = os.fstat(stream.fileno())
        is_ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if is_ours and stat.S_ISREG(status.st_mode):
            error: BaseException = cloudpickle.loads(stream.read())
            return error
    return None


ABSENCE_S = 10.0
"""The driver looks several times a second; if it was away for so long, so were its ears."""


@dataclass(frozen=True)
class Heartbeat:
    """The last that was heard of a trial: when, and from which process of which node."""

    at_s: float
    node_ip: str
    pid: int


class HeartbeatMonitor(Callback):
    """Ends the process of a trial that said nothing for ``hang_after`` seconds and two graces:
    it had the first one to end itself, and its workers had the second."""

    def __init__(
        self,
        hang_after: float,
        losses: ProcessFailures,
        end: Callable[[str, int], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience_s = hang_after + 2 * GRACE_S
        self._losses = losses
        self._end = end
        self._now = now
        self._signs: dict[int, Heartbeat] = {}
        self._looked_s = now()

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["order"].number
        self._signs[number] = Heartbeat(self._now(), result["node_ip"], result["pid"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._signs.pop(trial.config["order"].number, None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._signs.pop(trial.config["order"].number, None)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        # Its process is gone, and the next one may wait for a node for hours.
        self._signs.pop(trial.config["order"].number, None)

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        now, looked_s = self._now(), self._looked_s
        self._looked_s = now
        if now - looked_s > ABSENCE_S:
            # What was said meanwhile is still to be heard.
            self._signs = {
                number: Heartbeat(one.at_s + now - looked_s, one.node_ip, one.pid)
                for number, one in self._signs.items()
            }
        for number, sign in list(self._signs.items()):
            if now - sign.at_s > self._patience_s:
                del self._signs[number]
                self._losses.expect_silent(number, now - sign.at_s)
                self._end(sign.node_ip, sign.pid)

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes its callbacks into a file that nobody reads.
        return {}


def end_process(node_ip: str, pid: int) -> None:
    """SIGKILL to a worker of Ray on a node of this cluster; not waited for.

    A node that is gone takes its processes with it, and Ray tells the driver.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for node in ray.nodes():
        if node["Alive"] and node["NodeManagerAddress"] == node_ip:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ray.remote(_kill).options(num_cpus=0, scheduling_strategy=there).remote(pid)


def _kill(pid: int) -> None:
    import contextlib

    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        # On a machine with several nodes of one cluster this may be asked twice, and the number
        # may have gone to somebody else.
        if any(part.startswith("ray::") for part in process.cmdline()):
            process.kill()
