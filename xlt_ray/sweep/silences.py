"""Trials of which nothing is heard any more: their processes are ended from outside.

A process that hangs ends itself (:mod:`xlt_ray.sweep.hangs`). One that is frozen cannot: it was
stopped by a signal, or waits inside the kernel for a file system that is gone. Ray takes it for
alive, so the driver counts the seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.tune import Callback

from xlt_ray.sweep.losses import ProcessFailures
from xlt_ray.sweep.workers import GRACE_S

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
