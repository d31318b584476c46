"""Folders of the cache: made once, whole or not at all, and made again when they are damaged.

What is cached follows from what its key names, so nothing is ever lost with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from xlt_ray.data.sampling import digest_of
from xlt_ray.files import atomic_folder, atomic_write, set_aside_damaged

_DIGESTS = "digests.json"
_CHECK_VERSION = 2
"""Raised when readers find faults that they did not find before."""


def cached(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, whole: as it is there, or made by ``make(aside)`` and renamed.

    Files are compared with their digests when a process opens them first. A folder that does not
    hold what was written is set aside as ``NAME.damaged-TIME``. Two processes may make the same
    at once; the first rename stands, as both hold the same.
    """
    if folder.exists() and not _is_whole(folder, folder.stat().st_ino):
        # Somebody else may have noticed, too.
        with contextlib.suppress(FileNotFoundError):
            set_aside_damaged(folder)
    if not folder.exists():
        with atomic_folder(folder, may_exist=True) as aside:
            make(aside)
            (aside / _DIGESTS).write_text(json.dumps(_digests(aside)))
    return folder


@lru_cache(maxsize=4096)
def _is_whole(folder: Path, _inode: int) -> bool:
    """Read once a process for every folder, which its inode tells from one made anew."""
    try:
        known = json.loads((folder / _DIGESTS).read_text())
    except (OSError, ValueError):
        return False
    return bool(known == _digests(folder))


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != _DIGESTS:
            with file.open("rb") as stream:
                name = file.relative_to(folder).as_posix()
                found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


class Verdicts:
    """What was found out about files without a fault, by digests, so that it is found out once."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "checks"

    def of(self, find: Callable[[], Any], *parts: str | int) -> Any:
        """``find()``, as JSON holds it, or what it gave for the same ``parts`` before."""
        file = self._folder / f"{digest_of('check', _CHECK_VERSION, *parts)}.json"
        with contextlib.suppress(OSError, ValueError):
            return json.loads(file.read_text(encoding="utf-8"))
        verdict = find()
        # A home that cannot be written costs time alone.
        with contextlib.suppress(OSError):
            atomic_write(file, json.dumps(verdict))
        return verdict
