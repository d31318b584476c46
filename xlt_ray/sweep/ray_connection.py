"""Joins the Ray cluster of ``RAY_ADDRESS`` or starts one on this machine, and ends a sweep after a
signal or when Ray has died, for which Tune would wait for ever."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psutil

from xlt_ray.errors import ClusterError, ClusterOutage

if TYPE_CHECKING:
    from xlt_ray.sweep.missing_evaluations import MissingEvaluations
    from xlt_ray.sweep.scheduler import TrialScheduler

_SPANS_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
START_TRIES = 3
"""Attempts to start Ray on this machine: if it is busy, processes may miss Ray's limit of 30 s."""
NODE_S = 5.0
NODE_MISSES = 3
"""Ray on this machine is dead after this many failed checks, one every ``NODE_S`` seconds."""
SERVER_S = 40.0
"""Seconds that the GCS server of another cluster may take to restart."""


def connect(warn: Callable[[str], None] = lambda _: None) -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine.

    Args:
        warn: called with a message before another attempt to start Ray.

    Raises:
        ClusterError: there is no cluster at RAY_ADDRESS, or it rejects this process.
        ClusterOutage: Ray does not start on this machine.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if os.environ.get("RAY_ADDRESS"):
        _join(os.environ["RAY_ADDRESS"])
    else:
        with _on_loopback():
            _start(warn)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """If Ray is first imported in this block, it and its processes listen only on loopback.

    The variable is Ray's, for systems without clusters of several machines. It is restored, because
    ``ray start`` refuses to work with it.
    """
    was_set = _SPANS_MACHINES in os.environ
    os.environ.setdefault(_SPANS_MACHINES, "0")
    try:
        yield
    finally:
        if not was_set:
            del os.environ[_SPANS_MACHINES]


def _join(address: str) -> None:
    import ray
    from ray.exceptions import AuthenticationError

    if ray.is_initialized():
        return
    if address.startswith(("http://", "https://")):
        raise _error(
            f"RAY_ADDRESS={address}: is the address of a dashboard; xlt submit --address takes it, "
            "RAY_ADDRESS is auto or HOST:6379"
        )
    host, _, port = address.rpartition(":")
    # Ray itself tries for minutes.
    if host and port.isdigit() and (silence := _why_silent(address)) is not None:
        raise _error(
            f"RAY_ADDRESS={address}: there is no answer ({silence}); start a cluster with "
            "`ray start --head`, or unset RAY_ADDRESS to use this machine"
        ) from silence
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        is_refused = isinstance(error, AuthenticationError) or "AuthenticationError" in reason
        if is_refused:
            raise _error(
                f"RAY_ADDRESS={address}: the cluster requires a token and rejected this one; set "
                "RAY_AUTH_MODE=token and copy the head's ~/.ray/auth_token to this machine"
            ) from error
        raise _error(
            f"RAY_ADDRESS={address}: no Ray cluster can be reached; start one with "
            "`ray start --head`, or unset RAY_ADDRESS to use this machine"
        ) from error


def _error(problem: str) -> ClusterError:
    return ClusterError(problem, asked={}, available={})


def _start(warn: Callable[[str], None]) -> None:
    """Start Ray on this machine, with a folder that only its user can enter."""
    import ray

    if ray.is_initialized():
        return
    folder = _private_folder()
    for attempt in range(1, START_TRIES + 1):
        try:
            ray.init(
                # Otherwise Ray joins a cluster that another user has started on this machine.
                address="local",
                num_cpus=len(os.sched_getaffinity(0)),
                include_dashboard=False,
                # Trials exchange small reports only; weights go through the store.
                object_store_memory=100 * 2**20,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=str(folder),
            )
        # Ray raises a bare Exception if its processes do not answer in time.
        except Exception as error:
            _kill_children(str(folder))
            ray.shutdown()
            if attempt == START_TRIES:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ClusterOutage(
                    f"Ray did not start on this machine in {START_TRIES} attempts ({reason}); "
                    "if the machine is busy, run the same command later",
                    asked={},
                    available={},
                ) from error
            warn(
                f"Ray did not start ({type(error).__name__}; is this machine busy?): "
                f"attempt {attempt + 1} of {START_TRIES}"
            )
        else:
            break
    _close_token_file()


def _private_folder() -> Path:
    """A new folder for Ray's sessions, only for this user, removed when this process ends.

    Every user can write to Ray's default, /tmp/ray. The path is short, because those of sockets in
    it may have 107 characters.
    """
    folder = Path(tempfile.mkdtemp(prefix="xlt-ray-", dir=os.environ.get("RAY_TMPDIR") or "/tmp"))
    _own_folders.append(folder)

    def remove() -> None:
        import ray

        # Ray asks its processes one by one to end, and waits a second for the autoscaler's monitor
        # before it kills it.
        _kill_children(str(folder), "monitor.py")
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


_own_folders: list[Path] = []


def end_own_ray() -> None:
    """Kill the Ray that this process has started and that does not answer; call it only before the
    end of this process, as it kills all its children."""
    for folder in _own_folders:
        _kill_children()
        shutil.rmtree(folder, ignore_errors=True)


def _kill_children(*parts: str) -> None:
    """Kill the processes that this one has started and that have all of these parts in their
    command."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if all(part in command for part in parts):
                process.kill()


def _close_token_file() -> None:
    """Make the token that Ray wrote for this user unreadable for others."""
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with contextlib.suppress(OSError):
        if file.stat().st_uid == os.geteuid() and file.stat().st_mode & 0o077:
            file.chmod(0o600)


def is_listening(address: str) -> bool:
    """Whether something accepts connections at ``host:port``."""
    return _why_silent(address) is None


def _why_silent(address: str) -> OSError | None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        return error
    return None


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
