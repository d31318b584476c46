"""Leases: small files with holder, token and expiry, which a thread renews.

A lease is *alive* while it has not expired and its holder is not known to be dead. On the same
machine a holder counts as dead as soon as its process is gone, so ``kill -9`` causes no wait. The
token is compared before every commit: a process that lost its lease cannot commit. Users never have
to delete a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from xlt_ray import files
from xlt_ray.errors import LeaseLost
from xlt_ray.store.canonical import from_fields
from xlt_ray.store.storage import Storage

_PROC = Path("/proc")
TTL = 60.0
"""Seconds without renewal after which a holder on another machine counts as dead."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease."""

    machine: str
    pid: int
    started: float
    token: str
    expires: float
    purpose: str = ""

    @property
    def is_alive(self) -> bool:
        if self.machine == files.machine() and not _is_running(self.pid, self.started):
            return False
        return time.time() < self.expires

    def __str__(self) -> str:
        host = self.machine.partition("/")[0]
        return f"process {self.pid} on {host}" + (f" ({self.purpose})" if self.purpose else "")


class Lease:
    """A held lease; ``release`` or leaving ``with`` gives it back."""

    def __init__(self, storage: Storage, path: str, holder: Holder, ttl: float) -> None:
        self._storage = storage
        self._path = path
        self._holder = holder
        self._ttl = ttl
        self._expires = holder.expires
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name=f"lease {path}")
        self._thread.start()

    @property
    def token(self) -> str:
        return self._holder.token

    def check(self) -> None:
        """Raises LeaseLost unless this lease is still the one in the storage."""
        if not self._is_held():
            key = self._path.rpartition("/")[2].removesuffix(".json")
            raise LeaseLost("its lease passed to another process", key=key)

    def confirm(self) -> None:
        """As :meth:`check`, but reads the storage only if the lease has expired, which happens when
        this process was stopped or the storage was away."""
        if time.time() >= self._expires:
            self.check()

    def release(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        if self._is_held():
            self._storage.remove(self._path)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _is_held(self) -> bool:
        # A process that removes a stale lease moves the file for an instant.
        for _ in range(3):
            holder = find_holder(self._storage, self._path)
            if holder is not None:
                return holder.token == self._holder.token
            time.sleep(0.05)
        return False

    def _beat(self) -> None:
        while not self._ended.wait(self._ttl / 4):
            # No error of the storage (a full disk, a lost network) may end the thread, because the
            # next renewal may succeed.
            with contextlib.suppress(Exception):
                version = self._version()
                if not self._is_held():
                    self._expires = 0.0
                    return
                renewed = {**asdict(self._holder), "expires": time.time() + self._ttl}
                # Fails if another process has taken the lease over meanwhile.
                if self._storage.replace(self._path, version, json.dumps(renewed).encode()):
                    self._expires = float(renewed["expires"])

    def _version(self) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            return self._storage.version(self._path)
        return None


def find_holder(storage: Storage, path: str) -> Holder | None:
    """The holder of the lease at ``path``, alive or dead; None if there is no lease."""
    try:
        return from_fields(Holder, json.loads(storage.read(path)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError):
        # Corrupt lease file: treat it as expired.
        return Holder(machine="", pid=0, started=0.0, token="", expires=0.0)


def try_acquire(
    storage: Storage, path: str, *, purpose: str = "", ttl: float = TTL
) -> Lease | Holder:
    """The lease, or the living holder who has it."""
    holder = Holder(
        machine=files.machine(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        token=uuid.uuid4().hex,
        expires=time.time() + ttl,
        purpose=purpose,
    )
    content = json.dumps(asdict(holder)).encode()
    while True:
        if storage.create(path, content):
            # Some object stores let two writers create it: the one whose token is stored has it.
            current = find_holder(storage, path)
            if current is not None and current.token == holder.token:
                return Lease(storage, path, holder, ttl)
            continue
        try:
            # Before the content is read, so that nothing newer is replaced.
            version = storage.version(path)
        except FileNotFoundError:
            continue
        current = find_holder(storage, path)
        if current is None:
            continue
        if current.token == holder.token:
            # The first request had succeeded; only its answer was lost, and it was repeated.
            return Lease(storage, path, holder, ttl)
        if current.is_alive:
            return current
        if version is None:
            _clear(storage, path, current)
        elif storage.replace(path, version, content):
            return Lease(storage, path, holder, ttl)


@contextlib.contextmanager
def waiting_for(storage: Storage, path: str, *, poll: float = 0.1) -> Iterator[Lease]:
    """Hold the lease; wait while a living holder has it."""
    while isinstance(lease := try_acquire(storage, path), Holder):
        time.sleep(poll)
    with lease:
        yield lease


def _clear(storage: Storage, path: str, dead: Holder) -> None:
    """Remove a dead holder's lease, unless another process did so in between."""
    aside = f"{path}.stale-{uuid.uuid4().hex[:8]}"
    try:
        storage.move(path, aside)
    except FileNotFoundError:
        return
    moved = find_holder(storage, aside)
    if moved is not None and moved.token != dead.token:
        storage.create(path, storage.read(aside))
    storage.remove(aside)


def _started(pid: int) -> float:
    """Start of a process in seconds since the boot, which does not change when the clock is set."""
    if not (_PROC / "self").exists():
        # Other systems give the start by the clock. Without it, a process with the number of a dead
        # one is taken for that, but only until the lease expires.
        return 0.0
    try:
        # The second field, a name in brackets, can contain any character.
        fields = (_PROC / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _is_running(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        return abs(_started(pid) - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
