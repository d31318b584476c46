"""Why an attempt failed, from its exception: one table of rules, read from top to bottom.

An exception rarely comes alone: Ray wraps what a worker raised, and cleaning up raises anew. So
a rule is asked about every exception that the one at hand wraps or arose from, and the first
rule with an answer counts. What no rule knows is a bug.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from xlt_ray.errors import LedgerError, TrialFailure
from xlt_ray.redact import redacted
from xlt_ray.spec.failures import CAUSES, OF_PROCESSES, Cause

LOG_LINES = 30


@dataclass(frozen=True)
class Failure:
    """``cause`` in one word, ``message`` in one line, the end of the traceback as ``log``."""

    cause: Cause
    message: str
    log: str

    @property
    def is_of_process(self) -> bool:
        """Whether a process is gone or useless, so that only another one can try again."""
        return self.cause in OF_PROCESSES


@dataclass(frozen=True)
class Rule:
    """An exception of one of these types, numbers or texts means this cause."""

    cause: Cause
    types: tuple[str, ...] = ()
    """Names of classes, of the exception or above it: naming imports no library."""
    texts: tuple[str, ...] = ()
    """Regular expressions, searched in the message in lower case."""
    numbers: tuple[int, ...] = ()
    """Of an OSError."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(self.texts) or r"(?!)", re.DOTALL)

    def fits(self, error: BaseException) -> bool:
        names = {one.__name__ for one in type(error).__mro__}
        if not names.isdisjoint(self.types):
            return True
        if isinstance(error, OSError) and error.errno in self.numbers:
            return True
        return self._pattern.search(str(error).lower()) is not None


DISK = Rule(
    "disk",
    types=("OutOfDiskError",),
    # PyTorch's archive writer reports a write that was cut short in its own words.
    texts=(r"no space left on device", r"disk quota exceeded", r"disk is full",
           r"inline_container\.cc"),
    numbers=(errno.ENOSPC, errno.EDQUOT),
)  # fmt: skip

RULES = (
    Rule(
        "oom",
        types=("OutOfMemoryError", "MemoryError"),
        texts=(r"out of memory", r"can(no|')t allocate memory", r"status_alloc_failed",
               r"std::bad_alloc", r"running low on memory"),
        numbers=(errno.ENOMEM,),
    ),
    DISK,
    Rule(
        "preempted",
        types=("NodePreemptedError",),
        # Of any node that is gone Ray says that "this can happen if the node was preempted".
        texts=(r"(?<!if the node was )preempt", r"\bsigterm\b", r"exit code 143\b",
               r"\bsignal 15\b", r"spot \w*\s?(interruption|termination)",
               r"(interruption|termination) notice"),
    ),
    Rule(
        "bug",
        types=("StageConflict", "RuntimeEnvSetupError"),
        texts=(r"raised in its creation task",),
    ),
    Rule(
        "timeout",
        types=("GetTimeoutError",),
        texts=(r"timed out waiting \d+ms for", r"watchdog caught collective operation timeout",
               r"wait timeout after \d+ms, keys"),
    ),
    Rule(
        "lost",
        types=("LeaseLost", "RayActorError", "WorkerCrashedError", "NodeDiedError",
               "ObjectLostError", "LocalRayletDiedError", "TaskPlacementGroupRemoved",
               "ActorPlacementGroupRemoved", "RpcError"),
        texts=(r"gloo/transport", r"connection closed by (remote )?peer", r"remote process exited",
               r"nccl.*(system|remote) ?error", r"dataloader worker .*(killed|exited)"),
    ),
    Rule(
        "tracking",
        types=("TrackingError", "MlflowException"),
    ),
    Rule(
        "data",
        types=("DataError", "ModelError", "RepositoryNotFoundError", "RevisionNotFoundError",
               "EntryNotFoundError", "DatasetNotFoundError", "SafetensorError",
               "UnicodeDecodeError"),
        texts=(r"can't load (the )?(tokenizer|model|configuration)",
               r"not a valid model identifier", r"does not appear to have a file named"),
    ),
    Rule(
        "nan",
        types=("FloatingPointError",),
        texts=(r"non-finite", r"returned nan values", r"loss scale already at minimum",
               r"(loss|gradients?|norm) (is|are|was|were|became) (nan|-?inf)\b",
               r"contains (nan|either `inf`)"),
    ),
    Rule(
        "storage",
        types=("OSError", "StoreError", "BotoCoreError", "ClientError", "ClientConnectionError",
               "AzureError", "GoogleAPIError", "HttpError", "HTTPError", "TransportError",
               "FSTimeoutError"),
        texts=(r"service unavailable", r"slow ?down", r"name resolution", r"stale file handle",
               r"connection (refused|reset|aborted|timed out)"),
    ),
)  # fmt: skip
"""The first rule that fits decides: what a message says weighs more than a general type."""


def classify(error: BaseException) -> Failure:
    """The failure that an exception of a trial means."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    inner = _unwrapped(error)
    message = str(inner).strip().splitlines()
    return Failure(
        cause=cause_of(error),
        message=redacted(f"{type(inner).__name__}: {message[0] if message else 'no message'}"),
        log=redacted("\n".join(lines[-LOG_LINES:])),
    )


def cause_of(error: BaseException) -> Cause:
    """The cause in one word; what a :class:`TrialFailure` says itself counts first."""
    links = tuple(_links(error))
    told = (one.fields["cause"] for one in links if isinstance(one, TrialFailure))
    known: Cause | None = next((one for one in told if one in CAUSES), None)
    if known is not None:
        return known
    if any(getattr(one, "preempted", False) is True for one in links):
        # Ray heard from the autoscaler that the node was to go.
        return "preempted"
    return next((rule.cause for rule in RULES if any(map(rule.fits, links))), "bug")


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one that it arose from, says that a disk is full."""
    return any(DISK.fits(one) for one in _links(error))


def refusal_in(error: BaseException) -> LedgerError | None:
    """The ledger's no among an exception and those that it arose from, if there is one."""
    return next((one for one in _links(error) if isinstance(one, LedgerError)), None)


def alike(message: str, log: str) -> str:
    """The same for two failures by one bug: the place in the code, if the log shows it, and the
    message.

    >>> alike("KeyError: 'x'", '  File "a.py", line 3, in load')
    'a.py:3 in load: KeyError: \\'x\\''
    """
    places = re.findall(r'^\s*File "(.+)", line (\d+), in (.+)$', log, re.MULTILINE)
    if not places:
        return message
    file, line, function = places[-1]
    return f"{file}:{line} in {function}: {message}"


def _links(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it wraps, what it was raised from, what was being handled."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # Ray's RayTaskError keeps what a worker raised as `cause`.
        wrapped = (getattr(one, "cause", None), *getattr(one, "exceptions", ()), one.__cause__,
                   None if one.__suppress_context__ else one.__context__)  # fmt: skip
        waiting += [inner for inner in wrapped if isinstance(inner, BaseException)]


def _unwrapped(error: BaseException) -> BaseException:
    """What a worker raised, without Ray's wrapping."""
    inner = getattr(error, "cause", None)
    return _unwrapped(inner) if isinstance(inner, BaseException) else error
