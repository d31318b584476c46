"""Why an attempt failed, from its exception: one table of rules, read from top to bottom.

An exception rarely comes alone: Ray wraps what a worker raised, and cleaning up raises anew. So
a rule is asked about every exception that the one at hand wraps or arose from, and the first
rule with an answer counts. What no rule knows is a bug.

Failures that other trials would meet, too: a bug in several trials, a stage in two of them, a
full disk, data that cannot be scored.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from xlt_ray.config.retry_policy import CAUSES, OF_PROCESSES, Cause, RepeatedBug
from xlt_ray.errors import CHANGED, LedgerError, TrialFailure, XltError
from xlt_ray.redact import redacted
from xlt_ray.sweep.tasks import Report

LOG_LINES = 30


@dataclass(frozen=True)
class Failure:
    """``cause`` in one word, ``message`` in one line, the end of the traceback as ``log``."""

    cause: Cause
    message: str
    log: str
    node: str = ""
    """Id of the node whose device failed, as far as it is known."""

    @property
    def is_of_process(self) -> bool:
        """Whether a process is gone or useless, so that only another one can try again."""
        return self.cause in OF_PROCESSES


@dataclass(frozen=True)
class Rule:
    """An exception of one of these types, numbers, HTTP statuses or texts means this cause."""

    cause: Cause
    types: tuple[str, ...] = ()
    """Names of classes, of the exception or above it: naming imports no library."""
    texts: tuple[str, ...] = ()
    """Regular expressions, searched in :func:`_words` of the exception."""
    texts_of: str = ""
    """Name of the class whose texts are searched, or of one above it; any that has texts."""
    numbers: tuple[int, ...] = ()
    """Of an OSError."""
    statuses: tuple[int, ...] = ()
    """Of the answer of a web service."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(self.texts) or r"(?!)", re.DOTALL)

    def fits(self, error: BaseException) -> bool:
        names = {base.__name__ for base in type(error).__mro__}
        if not names.isdisjoint(self.types):
            return True
        if isinstance(error, OSError) and error.errno in self.numbers:
            return True
        if self.statuses and _status(error) in self.statuses:
            return True
        if self.texts_of and self.texts_of not in names:
            return False
        return self._pattern.search(_words(error)) is not None


_TEXTS_OF_NOTHING = (XltError, LookupError, NameError, AttributeError, ImportError)
"""Exceptions whose message names what their raiser had in hand: a label, a key, a folder."""


def _words(error: BaseException) -> str:
    """What an exception says of its cause, in lower case; nothing where its type says it all.

    The file of an OSError is no part of it: a folder may be called /mnt/preemptible.
    """
    if isinstance(error, _TEXTS_OF_NOTHING):
        return ""
    if isinstance(getattr(error, "cause", None), BaseException):
        # Ray's wrapping repeats the traceback of what is looked at by itself.
        return ""
    if isinstance(error, OSError) and error.filename is not None:
        return (error.strerror or "").lower()
    return str(error).lower()


def _status(error: BaseException) -> int | None:
    """The HTTP status of an answer that an exception carries, if there is one."""
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None) or getattr(error, "status", None)
    return status if isinstance(status, int) else None


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
    Rule("bug", texts=(r"raised in its creation task",), texts_of="RayError"),
    Rule(
        "preempted",
        types=("NodePreemptedError",),
        # Of any node that is gone Ray says that "this can happen if the node was preempted".
        texts=(r"(?<!if the node was )preempt", r"\bsigterm\b", r"\bsignal 15\b",
               r"spot \w*\s?(interruption|termination)",
               r"(interruption|termination) notice"),
        texts_of="RayError",
    ),
    Rule("preempted", texts=(r"\b(exit code 143|exitcode: -15|signal: terminated)\b",)),
    Rule("bug", types=("StageConflict", "RuntimeEnvSetupError")),
    Rule(
        "timeout",
        types=("GetTimeoutError",),
        texts=(r"timed out waiting \d+ms for", r"watchdog caught collective operation timeout",
               r"wait timeout after \d+ms, keys"),
    ),
    Rule(
        "device",
        texts=(r"uncorrectable (ecc|nvlink)", r"unspecified launch failure", r"launch timed out",
               r"illegal memory access", r"busy or unavailable",
               r"no cuda gpus are available", r"system not yet initialized",
               r"hardware stack error", r"fallen off the bus", r"\bxid\b",
               r"cuda (driver )?(initialization|init) error", r"cuda driver error",
               r"cuda error: (unknown|initialization) error", r"driver shutting down",
               r"cuda unknown error", r"(cublas|cudnn|cusparse)_status_(execution_failed"
               r"|not_initialized|internal_error|mapping_error)", r"gpu is lost", r"nvml"),
    ),
    Rule(
        "lost",
        types=("LeaseLost", "RayActorError", "WorkerCrashedError", "NodeDiedError",
               "ObjectLostError", "LocalRayletDiedError", "TaskPlacementGroupRemoved",
               "ActorPlacementGroupRemoved", "RpcError", "DistNetworkError",
               "DistStoreError", "DistBackendError", "BrokenProcessPool", "BrokenPipeError"),
        texts=(r"gloo/transport", r"connection closed by (remote )?peer", r"remote process exited",
               r"\bnccl", r"timed out after \d+ seconds waiting for clients",
               r"client socket has (timed out|failed to connect)",
               r"server socket has failed to (listen|bind)", r"address already in use",
               r"eaddrinuse", r"failed to connect to gcs",
               r"gcs (server )?(is )?(unavailable|dead)", r"rendezvous",
               r"dataloader worker .*(killed|exited)"),
        numbers=(errno.EADDRINUSE, errno.EPIPE),
    ),
    Rule(
        "tracking",
        types=("TrackingError", "MlflowException"),
    ),
    Rule(
        "storage",
        # Before `data`, which is what a loader says of a hub that does not answer.
        types=("LocalEntryNotFoundError", "ConnectionError", "ConnectError", "ConnectTimeout",
               "ReadTimeout", "TimeoutException", "NetworkError", "TimeoutError",
               "NewConnectionError", "ProtocolError", "IncompleteRead", "FSTimeoutError",
               "EndpointConnectionError", "ServiceRequestError"),
        texts=(r"service unavailable", r"too many requests", r"bad gateway", r"gateway time-?out",
               r"internal server error", r"slow ?down", r"name resolution",
               r"name or service not known", r"getaddrinfo failed", r"stale file handle",
               r"connection (refused|reset|aborted|timed out|broken|error)",
               r"max retries exceeded", r"couldn't connect to", r"network is unreachable",
               r"no route to host", r"temporarily unavailable", r"transport endpoint"),
        numbers=(errno.ESTALE, errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENETUNREACH,
                 errno.ENETDOWN, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENOTCONN,
                 errno.EAGAIN, errno.EBUSY),
        statuses=(408, 425, 429, 500, 502, 503, 504),
    ),
    Rule(
        "data",
        types=("DataError", "ModelError", "HfHubHTTPError", "RepositoryNotFoundError",
               "RevisionNotFoundError", "EntryNotFoundError", "DatasetNotFoundError",
               "SafetensorError", "UnicodeDecodeError", "JSONDecodeError", "ParserError"),
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
               "AzureError", "GoogleAPIError", "HttpError", "HTTPError", "TransportError"),
    ),
)  # fmt: skip
"""The first rule that fits decides. Our own exceptions are known by their type alone, and so a
message that quotes a path, a label or a key decides nothing; what they arose from is looked at,
too, which is how a hub that does not answer differs from a model that is not there."""


def classify(error: BaseException) -> Failure:
    """The failure that an exception of a trial means."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    inner = _unwrapped(error)
    message = str(inner).strip().splitlines()
    return Failure(
        cause=cause_of(error),
        message=redacted(f"{type(inner).__name__}: {message[0] if message else 'no message'}"),
        log=redacted("\n".join(lines[-LOG_LINES:])),
        node=_node_of(error),
    )


@contextmanager
def naming(node: Callable[[], str]) -> Iterator[None]:
    """An exception that leaves this block names the node, for :attr:`Failure.node`."""
    try:
        yield
    except Exception as error:
        if own := node():
            error.add_note(_ON_NODE + own)
        raise


_ON_NODE = "on node "


def _node_of(error: BaseException) -> str:
    notes = (note for link in _links(error) for note in getattr(link, "__notes__", ()))
    return next((note.removeprefix(_ON_NODE) for note in notes if note.startswith(_ON_NODE)), "")


def cause_of(error: BaseException) -> Cause:
    """The cause in one word; what a :class:`TrialFailure` says itself counts first."""
    links = tuple(_links(error))
    told = (link.fields["cause"] for link in links if isinstance(link, TrialFailure))
    known: Cause | None = next((one for one in told if one in CAUSES), None)
    if known is not None:
        return known
    if any(getattr(link, "preempted", False) is True for link in links):
        # Ray heard from the autoscaler that the node was to go.
        return "preempted"
    return next((rule.cause for rule in RULES if any(map(rule.fits, links))), "bug")


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one that it arose from, says that a disk is full."""
    return any(DISK.fits(link) for link in _links(error))


def refusal_in(error: BaseException) -> LedgerError | None:
    """The ledger's no among an exception and those that it arose from, if there is one."""
    return next((link for link in _links(error) if isinstance(link, LedgerError)), None)


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


LASTING = ("nan", "data", "oom", "bug")
"""Causes of failure that every try at the same stage would meet again, once two trials have."""


@dataclass(frozen=True)
class BrokenStage:
    """A stage that two trials failed to make."""

    first: int
    second: int
    failure: Report
    """Of the second one."""

    def message(self, label: str) -> str:
        return f"{label} failed in trials {self.first} and {self.second}: {self.failure.message}"


class Repeated:
    """Counts how the trials of one run ended."""

    def __init__(self, rule: RepeatedBug) -> None:
        self._rule = rule
        self._num_ended = 0
        self._bugs: Counter[str] = Counter()
        self._failed_once: dict[str, int] = {}
        self.bug = ""
        """The bug that ended enough trials alike, by place and message, or nothing."""
        self.broken: dict[str, BrokenStage] = {}
        """By key."""

    def end(self, bug: str = "") -> None:
        """One more trial has ended: by this bug, or in some other way."""
        self._num_ended += 1
        if not bug:
            return
        self._bugs[bug] += 1
        if self._rule.is_met(self._bugs[bug], self._num_ended):
            self.bug = self.bug or bug

    def fail(self, key: str, number: int, failure: Report) -> bool:
        """A trial failed at a stage for a lasting cause; True where it is not the first one.

        The first one's node or process may have been at fault, so another trial tries the stage, in
        another process, as one in which a trial has failed takes no other.
        """
        first = self._failed_once.setdefault(key, number)
        if first == number or key in self.broken:
            return False
        self.broken[key] = BrokenStage(first, number, failure)
        return True


def reason_to_stop(number: int, failure: Report, sweep: str) -> str:
    """Why no further trial is to begin after this failure of trial ``number``, and what to do;
    nothing where others may fare better."""
    if failure.cause == "disk":
        return (
            f"a disk is full (trial {number}: {failure.message}); free some space, and the same "
            "command goes on"
        )
    if failure.cause == "data" and (failure.stage == "evaluate" or CHANGED in failure.message):
        # The next trial would meet them, too, and might be trained before.
        return (
            f"trial {number} cannot be made with the data as they are now ({failure.message}); "
            f"mend them, and `xlt resume {sweep} --failed` goes on with it, without training again "
            "what was trained, and with the other trials"
        )
    return ""
