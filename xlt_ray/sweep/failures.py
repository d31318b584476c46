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


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one that it arose from, says that a disk is full.

    PyTorch's archive writer reports a write that was cut short as a RuntimeError of its own.
    """
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(chain, RuntimeError) and "inline_container.cc" in str(chain):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


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
    if is_disk_full(error):
        return "disk", False
    if isinstance(error, OSError | StoreError):
        return "storage", False
    return "bug", False
