"""What ends a sweep from outside: a signal, or the death of Ray.

Tune itself would wait for ever for a Ray that has died.
"""

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
"""So often, every so many seconds, this machine's Ray must be missing."""
SERVER_S = 40.0
"""So long the server of a cluster elsewhere may take to start again."""


@contextmanager
def stoppable(desk: TrialScheduler | MissingEvaluations) -> Iterator[None]:
    """SIGINT or SIGTERM ends Tune's loop after its trials saved their progress; a second one
    ends this process at once, and Ray's with it.

    Ray's own handler of SIGTERM would end the driver alone, so this comes after it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        desk.watcher.warned("stopping: progress is being saved; once more stops at once")
        # Tune listens to this one, as soon as its loop begins.
        signal.raise_signal(signal.SIGUSR1)

    handlers = {
        signal.SIGINT: stop,
        signal.SIGTERM: stop,
        signal.SIGUSR1: signal.default_int_handler,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    is_over = threading.Event()
    for watch in (_watch_node, _watch_server):
        threading.Thread(target=watch, args=(desk, is_over), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch_node(desk: TrialScheduler | MissingEvaluations, is_over: threading.Event) -> None:
    """End the sweep when this machine's part of Ray has died: Tune would wait for ever.

    The trials that ran there go on at the next start.
    """
    import ray
    from ray.exceptions import RayError

    own = ray.get_runtime_context().get_node_id()
    misses = 0
    while not is_over.wait(NODE_S):
        try:
            alive = any(node["Alive"] for node in ray.nodes() if node["NodeID"] == own)
        except (RayError, RuntimeError, ConnectionError):
            alive = False
        misses = 0 if alive else misses + 1
        if misses == NODE_MISSES:
            desk.stopped_by = "Ray on this machine has died"
            os.kill(os.getpid(), signal.SIGUSR1)
        elif misses > 2 * NODE_MISSES:
            # Tune's own end may wait for actors that nobody can reach.
            _end_at_once(desk, desk.stopped_by)


def _watch_server(desk: TrialScheduler | MissingEvaluations, is_over: threading.Event) -> None:
    """End the sweep when Ray's GCS server has died, before Ray ends this process after 60 s.

    No call of Ray's is used: each would wait for the server, as Tune does.
    """
    import ray

    server = ray.get_runtime_context().gcs_address
    patience_s = SERVER_S if os.environ.get("RAY_ADDRESS") else 2 * NODE_S
    answered_s = time.monotonic()
    while not is_over.wait(NODE_S):
        if is_listening(server):
            answered_s = time.monotonic()
        elif time.monotonic() - answered_s > patience_s:
            _end_at_once(desk, f"Ray has died: its GCS server, {server}, does not answer")


def _end_at_once(desk: TrialScheduler | MissingEvaluations, reason: str) -> NoReturn:
    desk.watcher.warned(f"{reason}; the same command goes on")
    end_own_ray()
    # A table in a terminal is drawn twice a second.
    time.sleep(1)
    os._exit(1)
