"""Why an attempt failed, from its exception, and whether trying again can help."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass

from xlt_ray.errors import DataError, LeaseLost, ModelError, StoreError, TrialFailure

LOG_LINES = 30


@dataclass(frozen=True)
class Failure:
    """``cause`` in one word, ``message`` in one line, the end of the traceback as ``log``."""

    cause: str
    message: str
    log: str
    is_transient: bool
    """Whether the same attempt elsewhere or later may succeed."""


def classify(error: BaseException) -> Failure:
    """The failure that an exception of a trial means."""
    cause, transient = _cause(error)
    lines = "".join(traceback.format_exception(error)).splitlines()
    message = str(error).strip().splitlines()
    return Failure(
        cause=cause,
        message=f"{type(error).__name__}: {message[0] if message else 'no message'}",
        log="\n".join(lines[-LOG_LINES:]),
        is_transient=transient,
    )


def _cause(error: BaseException) -> tuple[str, bool]:
    name = type(error).__name__
    text = str(error).lower()
    if isinstance(error, TrialFailure):
        return str(error.fields["cause"]), False
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "out of memory" in text:
        return "oom", False
    if name in ("RayActorError", "ActorDiedError", "ActorUnavailableError", "WorkerCrashedError"):
        return "lost", True
    if isinstance(error, LeaseLost):
        return "lost", True
    if isinstance(error, DataError | ModelError):
        return "data", False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk", False
    if isinstance(error, OSError | StoreError):
        return "storage", False
    return "bug", False
