"""Ends a sweep after a signal or the death of Ray, for which Tune would wait for ever."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from xlt_ray.sweep.missing_evaluations import MissingEvaluations
from xlt_ray.sweep.ray_connection import end_own_ray, is_listening
from xlt_ray.sweep.scheduler import TrialScheduler

NODE_S = 5.0
NODE_MISSES = 3
"""Ray on this machine is dead after this many failed checks, one every ``NODE_S`` seconds."""
SERVER_S = 40.0
"""Seconds that the GCS server of another cluster may take to restart."""


@contextmanager
def stoppable(scheduler: TrialScheduler | MissingEvaluations) -> Iterator[None]:
    """In this block, SIGINT or SIGTERM ends Tune's loop after the trials have saved their progress;
    a second one ends this process and Ray at once.

    Enter it after Ray has set its handler of SIGTERM, which would end the driver only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        scheduler.reporter.warned("stopping after saving progress; repeat to stop at once")
        # Tune handles this signal as soon as its loop begins.
        signal.raise_signal(signal.SIGUSR1)

    handlers = {
        signal.SIGINT: stop,
        signal.SIGTERM: stop,
        signal.SIGUSR1: signal.default_int_handler,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    is_over = threading.Event()
    for monitor in (_watch_node, _watch_server):
        threading.Thread(target=monitor, args=(scheduler, is_over), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch_node(scheduler: TrialScheduler | MissingEvaluations, is_over: threading.Event) -> None:
    """End the sweep when Ray on this machine has died; its trials continue in the next run."""
    import ray
    from ray.exceptions import RayError

    node_id = ray.get_runtime_context().get_node_id()
    misses = 0
    while not is_over.wait(NODE_S):
        try:
            alive = any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id)
        except (RayError, RuntimeError, ConnectionError):
            alive = False
        misses = 0 if alive else misses + 1
        if misses == NODE_MISSES:
            scheduler.stopped_by = "Ray on this machine has died"
            os.kill(os.getpid(), signal.SIGUSR1)
        elif misses > 2 * NODE_MISSES:
            # Tune may wait for actors that cannot be reached.
            _end_at_once(scheduler, scheduler.stopped_by)


def _watch_server(scheduler: TrialScheduler | MissingEvaluations, is_over: threading.Event) -> None:
    """End the sweep when Ray's GCS server has died, before Ray ends this process after 60 s.

    It calls no method of Ray, because each would wait for the server.
    """
    import ray

    server = ray.get_runtime_context().gcs_address
    patience_s = SERVER_S if os.environ.get("RAY_ADDRESS") else 2 * NODE_S
    answered_s = time.monotonic()
    while not is_over.wait(NODE_S):
        if is_listening(server):
            answered_s = time.monotonic()
        elif time.monotonic() - answered_s > patience_s:
            _end_at_once(scheduler, f"Ray has died: its GCS server, {server}, does not answer")


def _end_at_once(scheduler: TrialScheduler | MissingEvaluations, reason: str) -> NoReturn:
    scheduler.reporter.warned(f"{reason}; the same command goes on")
    end_own_ray()
    # The progress table in a terminal is drawn twice a second.
    time.sleep(1)
    os._exit(1)
