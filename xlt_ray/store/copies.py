"""Copies of what lies in a bucket, on a node's own disk: for all its processes, and bounded.

A copy that nobody asked for lately is deleted when another one arrives, and the oldest before
that, where all of them together take too much of the disk. Whoever asks reads at once, so a
copy that was asked for within :data:`READ_S` is let be, however full it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from xlt_ray.files import atomic_folder

KEEP_S = 3600.0
"""A copy that nobody asked for since goes."""
READ_S = 600.0
"""How long somebody may read what he asked for."""
DEAD_S = 24 * KEEP_S
"""What nobody moved on since has nobody who will."""
SHARE = 0.1
"""Of the whole disk, for all copies."""


class Copies:
    """The copies in one folder; the time of a copy's folder says when it was asked for.

    Args:
        left_by_the_dead: folders in which processes write what they move on at once: what lies
            there for a day has lost its process, and goes too.
    """

    def __init__(self, folder: Path, left_by_the_dead: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._left_by_the_dead = left_by_the_dead

    def get(self, name: str, fetch: Callable[[Path], None]) -> Path:
        """The copy of this name; where there is none, ``fetch`` writes one, whole or not at all.

        Another process may fetch the same at this moment: one of both stays.
        """
        copy = self.folder / name
        with self._alone():
            if copy.exists():
                os.utime(copy)
                return copy
        with atomic_folder(copy, may_exist=True) as aside:
            fetch(aside)
        with self._alone():
            os.utime(copy)
            self._free()
        return copy

    def _free(self) -> None:
        now, most = time.time(), SHARE * shutil.disk_usage(self.folder).total
        found = sorted((_extent(file), file) for file in self.folder.iterdir() if file.is_dir())
        total = sum(num_bytes for (_, num_bytes), _ in found)
        for (used, num_bytes), one in found:
            if now - used > (READ_S if total > most else KEEP_S):
                # Half of a copy must not pass for a copy.
                gone = one.with_name(f"freed-{uuid.uuid4().hex}")
                one.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
                total -= num_bytes
        for place in self._left_by_the_dead:
            for one in place.glob("*/"):
                # Whoever moves it on at this moment may be faster.
                with contextlib.suppress(FileNotFoundError):
                    if now - _extent(one)[0] > DEAD_S:
                        shutil.rmtree(one, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; a lock ends with its process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f"{self.folder.name}.lock").open("wb") as lock:
            # Where a file system has no locks, a reader may lose its copy, and asks again.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def working_folder() -> Path:
    """Of this process; where Tune moved it into a folder of its trial's own, the one before.

    Processes of one node share what they fetch.
    """
    before = Path(os.environ.get("TUNE_ORIG_WORKING_DIR") or Path.cwd())
    return before if os.access(before, os.W_OK) else Path.cwd()


def _extent(folder: Path) -> tuple[float, int]:
    """When a copy was last asked for or written (seconds since 1970), and its bytes."""
    used, num_bytes = folder.stat().st_mtime, 0
    for top, _, names in os.walk(folder):
        for name in names:
            # Another process may be fetching into it at this moment.
            with contextlib.suppress(FileNotFoundError):
                status = Path(top, name).stat()
                used, num_bytes = max(used, status.st_mtime), num_bytes + status.st_size
    return used, num_bytes
