"""The way to Ray: the cluster of ``RAY_ADDRESS``, or one that is started on this machine."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from xlt_ray.errors import ClusterError, ClusterOutage

_SPANS_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


START_TRIES = 3
"""Starts of Ray on this machine: on a busy one its processes may miss Ray's own limit of 30 s."""


def connect(warn: Callable[[str], None] = lambda _: None) -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine.

    Args:
        warn: hears that a start is tried again.

    Raises:
        ClusterError: there is no cluster at RAY_ADDRESS, or it does not let us in.
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
    """Ray that is first imported in here listens on loopback alone, its processes do, too.

    The switch is Ray's own for systems on which its clusters do not span machines. It is put back,
    because ``ray start`` refuses to work below it.
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
        raise ClusterError(
            f"RAY_ADDRESS={address}: is the address of a dashboard; xlt submit --address takes it, "
            "RAY_ADDRESS is auto or HOST:6379",
            asked={},
            available={},
        )
    _refuse_silent(address)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        is_refused = isinstance(error, AuthenticationError) or "AuthenticationError" in reason
        problem, remedy = (
            (
                "the cluster requires a token and rejected this one",
                "set RAY_AUTH_MODE=token and copy the head's ~/.ray/auth_token to this machine",
            )
            if is_refused
            else (
                "no Ray cluster can be reached",
                "start one with `ray start --head`, or unset RAY_ADDRESS to use this machine",
            )
        )
        raise ClusterError(
            f"RAY_ADDRESS={address}: {problem}; {remedy}", asked={}, available={}
        ) from error


def _start(warn: Callable[[str], None]) -> None:
    """Start Ray on this machine, below a folder that its user alone can enter."""
    import ray

    if ray.is_initialized():
        return
    folder = _private_folder()
    for attempt in range(1, START_TRIES + 1):
        try:
            ray.init(
                # Otherwise Ray joins what somebody else has started on this machine.
                address="local",
                num_cpus=len(os.sched_getaffinity(0)),
                include_dashboard=False,
                # Trials exchange small reports only; weights go through the store.
                object_store_memory=100 * 2**20,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=str(folder),
            )
        # Ray raises a bare Exception where its processes do not answer in time.
        except Exception as error:
            _end_processes_below(folder)
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
    """A new folder for Ray's sessions, for this user alone, removed when this process ends.

    Ray's own default, /tmp/ray, can be written by everybody. The path is short, because those of
    sockets below it may have 107 characters.
    """
    parent = os.environ.get("RAY_TMPDIR") or "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="xlt-ray-", dir=parent))
    _own_folders.append(folder)

    def remove() -> None:
        import ray

        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


_own_folders: list[Path] = []


def end_own_ray() -> None:
    """End the Ray that this process has started, without asking it: it does not answer.

    For a process that ends, too: all that it has started is ended.
    """
    for folder in _own_folders:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _end_processes_below(folder: Path) -> None:
    """End what an attempt to start Ray has left running."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in part for part in process.cmdline()):
                process.kill()


def _close_token_file() -> None:
    """Take the token that Ray wrote for this user away from others."""
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


def _refuse_silent(address: str) -> None:
    """Raise ClusterError at once where nothing listens: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    error = _why_silent(address)
    if error is not None:
        raise ClusterError(
            f"RAY_ADDRESS={address}: there is no answer ({error}); start a cluster with "
            "`ray start --head`, or unset RAY_ADDRESS to use this machine",
            asked={},
            available={},
        ) from error
