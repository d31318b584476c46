"""Files and folders that appear whole or not at all, and outlast a loss of power.

Everything is written under a hidden name beside its target, synced, and renamed. A process that
is killed meanwhile leaves the hidden name behind, which says who was writing, so that
:func:`remove_leftovers` can tell it from what a living process writes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LONGEST_WRITE_S = 86400.0
"""A process on another machine that has not touched a hidden file for so long counts as dead."""
_ASIDE = re.compile(r"\..+\.xlt-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")
_DAMAGED = re.compile(r"\.damaged-\d{8}T\d{6}(-[0-9a-f]{6})?")


def sync(path: Path) -> None:
    """Make the content of a file, or the entries of a folder, outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and its parents durably; does nothing if the folder exists."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


@contextlib.contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """A hidden path to write to; it replaces ``file`` at the end, and is deleted after an error."""
    make_folder(file.parent)
    aside = hidden_name(file)
    try:
        yield aside
        sync(aside)
        os.replace(aside, file)
        sync(file.parent)
    finally:
        aside.unlink(missing_ok=True)


def atomic_write(file: Path, content: bytes | str) -> None:
    """Replace a file as a whole; text is written as UTF-8."""
    with atomic_file(file) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def atomic_create(file: Path, content: bytes | str) -> bool:
    """Write a new file as a whole; returns False, and writes nothing, if it exists."""
    make_folder(file.parent)
    aside = hidden_name(file)
    try:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        sync(aside)
        os.link(aside, file)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    sync(file.parent)
    return True


def move_file(file: Path, target: Path) -> None:
    """Move a file durably, also from another file system, where ``target`` appears whole."""
    make_folder(target.parent)
    sync(file)
    try:
        os.rename(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_file(target) as aside:
            shutil.copyfile(file, aside)
        file.unlink()
    else:
        sync(target.parent)


@contextlib.contextmanager
def atomic_folder(folder: Path, *, may_exist: bool = False) -> Iterator[Path]:
    """A new hidden folder; it is renamed to ``folder`` at the end, and deleted after an error.

    Hidden files and folders that dead processes left beside it are deleted first.

    Args:
        may_exist: another process may make the same folder meanwhile: the first one stays.

    Raises:
        OSError: it cannot be written, or ``folder`` exists and is not empty.
    """
    make_folder(folder.parent)
    remove_leftovers(folder.parent)
    aside = hidden_name(folder)
    aside.mkdir()
    try:
        yield aside
        for path in (*aside.rglob("*"), aside):
            sync(path)
        try:
            os.rename(aside, folder)
        except OSError:
            if not (may_exist and folder.is_dir()):
                raise
        sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def set_aside_damaged(path: Path, *, copy: bool = False) -> Path:
    """Rename a damaged file or folder to ``NAME.damaged-TIME``; returns the new path.

    Args:
        copy: keep the file, and copy it to the new name.
    """
    aside = damaged_name(path)
    if copy:
        shutil.copy2(path, aside)
        sync(aside)
    else:
        os.rename(path, aside)
    sync(path.parent)
    return aside


def damaged_name(path: Path) -> Path:
    """A name that is free now, by which the damaged content of ``path`` is kept."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    return aside.with_name(f"{aside.name}-{uuid.uuid4().hex[:6]}") if aside.exists() else aside


def damaged_copies(path: Path) -> list[Path]:
    """Everything that :func:`set_aside_damaged` has set aside for this path, sorted."""
    return sorted(
        copy
        for copy in path.parent.glob(f"{path.name}.damaged-*")
        if _DAMAGED.fullmatch(copy.name.removeprefix(path.name))
    )


def hidden_name(path: Path) -> Path:
    """A new hidden name beside ``path``, which says which process writes there."""
    writer = f"{_machine_digits()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.name}.xlt-{writer}")


def remove_leftovers(folder: Path) -> None:
    """Delete hidden files and folders in ``folder`` whose writers are dead."""
    for path in folder.glob(".*.xlt-*"):
        writer = _ASIDE.fullmatch(path.name)
        # Its writer may rename it at this moment, and it may belong to another user.
        with contextlib.suppress(OSError):
            if writer is None or _is_writing(path, writer[1], int(writer[2])):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_writing(path: Path, machine_digits: str, pid: int) -> bool:
    if machine_digits == _machine_digits():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True
    return time.time() - path.stat().st_mtime < LONGEST_WRITE_S


@cache
def machine() -> str:
    """This machine since its last start, and this container: where a process number is unique."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip() if boot.exists() else ""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{boot_id}/{namespace}"


@cache
def _machine_digits() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]
