"""A bounded cache of a bucket on a node's disk, for all processes of the node.

When a copy arrives, copies that were not used lately are deleted, and the oldest ones earlier if
all copies together take too much of the disk. A copy that was used within :data:`READ_S` stays,
because a process may be reading it.
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
"""A copy is deleted when it was not used for this time."""
READ_S = 600.0
"""For this time a process may read a copy that it got."""
DEAD_S = 24 * KEEP_S
"""A working folder without changes for this time belongs to a dead process."""
SHARE = 0.1
"""Share of the disk for all copies."""


class Copies:
    """The copies in one folder; the modification time of a copy says when it was last used.

    Args:
        working_folders: folders of processes' working files, which are deleted after a day.
    """

    def __init__(self, folder: Path, working_folders: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._working_folders = working_folders

    def get(self, name: str, fetch: Callable[[Path], None]) -> Path:
        """The copy of this name; ``fetch`` writes it if it does not exist.

        If two processes fetch the same at once, the first copy stays.
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
        copies = sorted((_extent(file), file) for file in self.folder.iterdir() if file.is_dir())
        total = sum(num_bytes for (_, num_bytes), _ in copies)
        for (used, num_bytes), copy in copies:
            if now - used > (READ_S if total > most else KEEP_S):
                # A partly deleted copy must not be found under its name.
                gone = copy.with_name(f"freed-{uuid.uuid4().hex}")
                copy.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
                total -= num_bytes
        for place in self._working_folders:
            for folder in place.glob("*/"):
                # Its process may move it at this moment.
                with contextlib.suppress(FileNotFoundError):
                    if now - _extent(folder)[0] > DEAD_S:
                        shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; a lock ends with its process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f"{self.folder.name}.lock").open("wb") as lock:
            # On a file system without locks a reader may lose its copy, and asks again.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def working_folder() -> Path:
    """This process's working folder; if Tune moved it into a trial's folder, the one before.

    So processes of one node share what they fetch.
    """
    before = Path(os.environ.get("TUNE_ORIG_WORKING_DIR") or Path.cwd())
    return before if os.access(before, os.W_OK) else Path.cwd()


def _extent(folder: Path) -> tuple[float, int]:
    """When a copy was last used or written (seconds since 1970), and its bytes."""
    used, num_bytes = folder.stat().st_mtime, 0
    for top, _, names in os.walk(folder):
        for name in names:
            # Another process may be fetching into it at this moment.
            with contextlib.suppress(FileNotFoundError):
                status = Path(top, name).stat()
                used, num_bytes = max(used, status.st_mtime), num_bytes + status.st_size
    return used, num_bytes
