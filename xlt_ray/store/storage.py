"""Files below one root, on a local disk or in any fsspec file system.

The store rests on two promises: :meth:`Storage.write` replaces a small file as a whole or not at
all, and :meth:`Storage.create` lets exactly one of several writers create a file. On a local disk
both are durable; on an object store each is one conditional write, and so is
:meth:`Storage.replace` where the store supports it.

A file system's own exceptions (botocore, aiohttp) are raised as ConnectionError, so callers only
need to know OSError.

Anyone may have written a file of a store. So a key must be 64 hex digits, a file of a stage must
lie below the folder of its stage, and nothing pickled is read, since that would run code.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import hashlib
import itertools
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

import fsspec

from xlt_ray import files
from xlt_ray.errors import SpecError, StoreError, XltError

_KEY = re.compile(r"[0-9a-f]{64}")
_PICKLED = (
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".joblib",
    ".npy",
    ".npz",
    ".msgpack",
)


def is_key(text: str) -> bool:
    """Whether this is the key of a stage.

    >>> is_key("ab" * 32), is_key("../x")
    (True, False)
    """
    return _KEY.fullmatch(text) is not None


def leads_out(path: str) -> bool:
    """Whether a path is anything but a plain path below its start.

    >>> [leads_out(path) for path in ("a/b.json", "../a", "/etc/passwd", "a//b", "a/./b", "")]
    [False, True, True, True, True, True]
    """
    parts = path.split("/")
    return any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)


def fault_of_file(name: str) -> str:
    """What is wrong with the name of a stage's file; empty if nothing is.

    >>> fault_of_file("encoder/model.safetensors"), fault_of_file("encoder/pytorch_model.bin")
    ('', 'is pickled, and nothing pickled is read')
    """
    if leads_out(name):
        return "leads out of its folder"
    if PurePosixPath(name).suffix.lower() in _PICKLED:
        return "is pickled, and nothing pickled is read"
    return ""


PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, *itertools.repeat(60.0, 60))
"""Pauses between two attempts; an hour in total."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def patient(
    call: Callable[_Arguments, _Result],
    say: Callable[[str], object],
    *,
    pause: Callable[[float], object] = time.sleep,
) -> Callable[_Arguments, _Result]:
    """``call``, repeated after growing pauses while it raises OSError.

    ``say`` gets one line when the waiting begins. After :data:`PAUSES_S` the error is raised; that
    of a full disk at once, because waiting does not empty it.
    """

    @functools.wraps(call)
    def repeated(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        for tries, pause_s in enumerate(PAUSES_S):
            try:
                return call(*arguments, **named)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if not tries:
                    say(f"the stage store cannot be reached ({error}); waiting until it can be")
            pause(pause_s)
        return call(*arguments, **named)

    return repeated


def _reaching(method: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The method, raising OSError for every failure to reach the storage."""

    @functools.wraps(method)
    def reach(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        try:
            return method(*arguments, **named)
        except (OSError, XltError):
            raise
        except Exception as error:
            if type(error).__module__ == "builtins":
                # A bug, not a failure of the storage.
                raise
            raise ConnectionError(f"{type(error).__name__}: {error}") from error

    return reach


@dataclass(frozen=True)
class Extent:
    """How large a stored file is, and when it was written (seconds since 1970)."""

    num_bytes: int
    written: float


class Storage:
    """Paths are relative to the root, with ``/``; one that leads out of it is a StoreError.

    Raises:
        SpecError: ``root`` is a URL of a kind that is not known, or whose package is missing.
    """

    def __init__(self, root: str | Path) -> None:
        try:
            # Other processes write, too: keep no listings.
            self.fs, self.root = fsspec.core.url_to_fs(str(root), use_listings_cache=False)
        except (ImportError, ValueError) as error:
            scheme = str(root).partition("://")[0]
            raise SpecError(
                f"cannot be used as file storage ({error})",
                key=f"{scheme}://",
                remedy="s3:// needs pip install 'xlt-ray[s3]', gs:// needs pip install gcsfs",
            ) from None
        self.local_root = Path(self.root) if "file" in _protocols(self.fs) else None

    def __repr__(self) -> str:
        return f"Storage({self.root!r})"

    def full(self, path: str) -> str:
        if path and leads_out(path):
            raise StoreError("leads out of the store", key="", place=path)
        return f"{self.root}/{path}"

    def local(self, path: str) -> Path | None:
        """The path on this machine's disk, or None if the root is elsewhere."""
        self.full(path)
        return None if self.local_root is None else self.local_root / path

    @_reaching
    def read(self, path: str) -> bytes:
        """Content of a file; FileNotFoundError if it does not exist."""
        if (file := self.local(path)) is not None:
            return file.read_bytes()
        self.fs.invalidate_cache()
        content: bytes = self.fs.cat_file(self.full(path))
        return content

    @_reaching
    def write(self, path: str, content: bytes) -> None:
        """Replace a file as a whole."""
        if (file := self.local(path)) is not None:
            files.atomic_write(file, content)
        else:
            self.fs.pipe_file(self.full(path), content)

    @_reaching
    def create(self, path: str, content: bytes) -> bool:
        """Write a new file; False if it exists already."""
        if (file := self.local(path)) is not None:
            return files.atomic_create(file, content)
        try:
            self.fs.pipe_file(self.full(path), content, mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or _is_unmet(error):
                return False
            raise
        return True

    def is_exclusive(self) -> bool:
        """Whether :meth:`create` really refuses a second writer; tried with a probe file."""
        path = f"leases/probe-{uuid.uuid4().hex}"
        try:
            return self.create(path, b"1") and not self.create(path, b"2")
        finally:
            self.remove(path)

    @_reaching
    def version(self, path: str) -> str | None:
        """Version of a file's present content for :meth:`replace`; None if the storage has none.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        if "s3" not in _protocols(self.fs):
            return None
        self.fs.invalidate_cache()
        return str(self.fs.info(self.full(path))["ETag"])

    @_reaching
    def replace(self, path: str, version: str | None, content: bytes) -> bool:
        """As :meth:`write`; False, and nothing is written, if the file has another version by now.

        A version of None matches any.
        """
        if version is None:
            self.write(path, content)
            return True
        try:
            self.fs.pipe_file(self.full(path), content, IfMatch=version)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or _is_unmet(error):
                return False
            raise
        return True

    @_reaching
    def exists(self, path: str) -> bool:
        if (file := self.local(path)) is not None:
            return file.exists()
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self.full(path)))

    @_reaching
    def names(self, path: str) -> list[str]:
        """Names in a folder, sorted; empty if it does not exist."""
        if (folder := self.local(path)) is not None:
            return sorted(os.listdir(folder)) if folder.is_dir() else []
        self.fs.invalidate_cache()
        try:
            entries = self.fs.ls(self.full(path), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    @_reaching
    def files(self, path: str) -> dict[str, Extent]:
        """Every file below a folder, by relative path; empty if the folder does not exist."""
        extents: dict[str, Extent] = {}
        if (top := self.local(path)) is not None:
            for file in (Path(folder, name) for folder, _, names in os.walk(top) for name in names):
                # Other processes may be moving files.
                with contextlib.suppress(FileNotFoundError):
                    status = file.lstat()
                    inner = file.relative_to(top).as_posix()
                    extents[inner] = Extent(status.st_size, status.st_mtime)
            return extents
        self.fs.invalidate_cache()
        top_name = self.full(path).rstrip("/") + "/"
        for name, entry in self.fs.find(top_name, detail=True).items():
            inner = str(name).partition(top_name.lstrip("/"))[2]
            extents[inner] = Extent(int(entry["size"] or 0), _written(entry))
        return extents

    @_reaching
    def move(self, path: str, to: str) -> None:
        """Rename a file or folder below the root; FileNotFoundError if it does not exist."""
        source, target = self.local(path), self.local(to)
        if source is not None and target is not None:
            files.make_folder(target.parent)
            os.rename(source, target)
            files.sync(target.parent)
            return
        top = self.full(path)
        # An object store cannot rename: copy every file, then delete it.
        names: list[str] = self.fs.find(top)
        if not names:
            raise FileNotFoundError(top)
        for name in names:
            self.fs.cp_file(name, self.full(to) + name.lstrip("/")[len(top.lstrip("/")) :])
        self.fs.rm(names)

    @_reaching
    def remove(self, path: str) -> None:
        """Delete a file or folder, if it exists."""
        if (target := self.local(path)) is not None:
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
            return
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.full(path), recursive=True)

    @_reaching
    def take(self, local_file: Path, path: str) -> None:
        """Move a file of this machine into the storage, durable before it has its name."""
        if (file := self.local(path)) is not None:
            files.move_file(local_file, file)
            return
        self.fs.put_file(str(local_file), self.full(path))
        local_file.unlink()

    @_reaching
    def fetch(self, path: str, names: Iterable[str], folder: Path) -> None:
        """Copy these files of a stored folder into a local one, and no others."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(self.full(f"{path}/{name}"), str(folder / name))

    @_reaching
    def file_digest(self, path: str) -> tuple[int, str]:
        """Size in bytes and SHA-256 of a stored file."""
        with self.fs.open(self.full(path), "rb") as stream:
            return _digest_of(stream)

    def has_whole_header(self, path: str) -> bool:
        """Whether a local safetensors file has the length that its header says; True for others."""
        file = self.local(path)
        if file is None or file.suffix != ".safetensors":
            return True
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="numpy"):
                return True
        except SafetensorError:
            return False


def file_digest(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a local file."""
    with path.open("rb") as stream:
        return _digest_of(stream)


def _digest_of(stream: Any) -> tuple[int, str]:
    state, size = hashlib.sha256(), 0
    while chunk := stream.read(1 << 20):
        state.update(chunk)
        size += len(chunk)
    return size, state.hexdigest()


def _protocols(fs: Any) -> tuple[str, ...]:
    protocol = fs.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _is_unmet(error: OSError) -> bool:
    """Whether a conditional write was refused; servers use several codes for it."""
    response = getattr(error.__cause__, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    return code in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def _written(entry: dict[str, Any]) -> float:
    """When an entry of a listing was written; each file system names it differently."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        when = entry.get(name)
        if isinstance(when, str):
            when = datetime.datetime.fromisoformat(when)
        if isinstance(when, datetime.datetime):
            return when.timestamp()
        if isinstance(when, int | float):
            return float(when)
    return 0.0
