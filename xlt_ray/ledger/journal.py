"""The journal file of a ledger: every line has a checksum.

A line is one operation of Optuna as JSON, with ``crc32`` beside Optuna's own keys. Optuna ignores
the additional key, so any tool that opens an Optuna journal opens this one. A line without a
checksum was written by such a tool, and is accepted.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file

from xlt_ray.files import set_aside_damaged, sync
from xlt_ray.store.canonical import is_whole, with_checksum


class Journal(JournalFileBackend):
    """Optuna's journal file with checksums, under a lock that ends with its process."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            # Only its owner may read it, since places of a sweep may contain a password.
            file.touch(mode=0o600)
            # The file itself must outlast a loss of power, as its lines do.
            for folder in (file.parent, file.parent.parent):
                sync(folder)
        super().__init__(str(file), lock_obj=_FileLock(file))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write all operations, or none of them if the disk is full or Ctrl-C interrupts it.

        Raises:
            OSError: they could not be written; the file is as it was.
        """
        lines = [json.dumps(with_checksum(log), separators=(",", ":")) + "\n" for log in logs]
        with get_lock_file(self._lock), open(self._file_path, "ab", buffering=0) as stream:
            end = stream.seek(0, os.SEEK_END)
            try:
                _write_all(stream, "".join(lines).encode())
                os.fsync(stream.fileno())
            except BaseException:
                # The next operation would be appended to a half-written one.
                stream.truncate(end)
                os.fsync(stream.fileno())
                raise

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Raises ValueError if a line was altered."""
        for number, log in enumerate(super().read_logs(log_number_from), start=log_number_from):
            if not is_whole(log):
                raise ValueError(f"line {number + 1} of {self._file_path} was altered")
            yield log


def _write_all(stream: io.FileIO, content: bytes) -> None:
    while content:
        content = content[stream.write(content) :]


def mend(file: Path) -> Path | None:
    """Cut a journal before its first torn or altered line, if there is one.

    The lines before it are an earlier state of the ledger: later trials are asked again, in the
    same way, and find their stages in the store. If only the last line is incomplete, because a
    driver died, it is cut. Otherwise the damaged file is kept, and its new name is returned.
    """
    if not file.exists():
        return None
    with get_lock_file(_FileLock(file)):
        good, is_torn_only = _good_part(file)
        if good == file.stat().st_size:
            return None
        aside = None if is_torn_only else set_aside_damaged(file, copy=True)
        with file.open("r+b") as stream:
            stream.truncate(good)
            os.fsync(stream.fileno())
        return aside


def _good_part(file: Path) -> tuple[int, bool]:
    """Bytes before the first bad line, and whether that is just an incomplete last line."""
    good = 0
    with file.open("rb") as stream:
        for line in stream:
            try:
                log = json.loads(line)
            except ValueError:
                log = None
            is_complete = line.endswith(b"\n")
            if not is_complete or not isinstance(log, dict) or not is_whole(log):
                return good, not is_complete
            good += len(line)
    return good, False


class _FileLock(BaseJournalFileLock):
    """A lock that the kernel drops with its holder, so kill -9 leaves nothing behind."""

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_suffix(".lock")
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
