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
    """Id of the node whose device failed, if it is known."""

    @property
    def is_of_process(self) -> bool:
        """Whether the process is gone or unusable, so that only another one can retry."""
        return self.cause in OF_PROCESSES


@dataclass(frozen=True)
class Rule:
    """Gives exceptions of these types, numbers, HTTP statuses or texts a cause."""

    cause: Cause
    types: tuple[str, ...] = ()
    """Names of classes of the exception and its bases; names need no import."""
    texts: tuple[str, ...] = ()
    """Regular expressions, searched in :func:`_searchable_text` of the exception."""
    texts_of: str = ""
    """Search the texts only in exceptions of this class; empty: in all."""
    numbers: tuple[int, ...] = ()
    """Error numbers of an OSError."""
    statuses: tuple[int, ...] = ()
    """HTTP statuses of the response of a web service."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(self.texts) or r"(?!)", re.DOTALL)

    def matches(self, error: BaseException) -> bool:
        names = {base.__name__ for base in type(error).__mro__}
        if not names.isdisjoint(self.types):
            return True
        if isinstance(error, OSError) and error.errno in self.numbers:
            return True
        if self.statuses and _status(error) in self.statuses:
            return True
        if self.texts_of and self.texts_of not in names:
            return False
        return self._pattern.search(_searchable_text(error)) is not None


_TEXTS_OF_NOTHING = (XltError, LookupError, NameError, AttributeError, ImportError)
"""Exceptions whose messages quote a label, a key or a folder, and say nothing about the cause."""


def _searchable_text(error: BaseException) -> str:
    """The message of an exception in lower case; empty if only its type counts.

    It leaves out the file of an OSError: a folder may be called /mnt/preemptible.
    """
    if isinstance(error, _TEXTS_OF_NOTHING):
        return ""
    if isinstance(getattr(error, "cause", None), BaseException):
        # The message of Ray's wrapper repeats the wrapped exception, which is searched by itself.
        return ""
    if isinstance(error, OSError) and error.filename is not None:
        return (error.strerror or "").lower()
    return str(error).lower()


def _status(error: BaseException) -> int | None:
    """The HTTP status of the response that an exception carries, if it has one."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "status", None)
    return status if isinstance(status, int) else None


DISK = Rule(
    "disk",
    types=("OutOfDiskError",),
    # PyTorch's archive writer reports an incomplete write in its own words.
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
        # Of every lost node Ray says that "this can happen if the node was preempted".
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
        # Before `data`: a loader raises its errors if the hub does not answer.
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
"""The first rule that matches decides. Our own exceptions match by type only, as their messages
quote paths, labels and keys. The exceptions that they were raised from are matched, too, which
distinguishes a hub that does not answer from a model that does not exist."""


def classify(error: BaseException) -> Failure:
    """Give an exception of a trial a cause."""
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
def noting_node(node: Callable[[], str]) -> Iterator[None]:
    """Add the id of the node to an exception that leaves this block, for :attr:`Failure.node`."""
    try:
        yield
    except Exception as error:
        if node_id := node():
            error.add_note(_ON_NODE + node_id)
        raise


_ON_NODE = "on node "


def _node_of(error: BaseException) -> str:
    notes = (note for link in _links(error) for note in getattr(link, "__notes__", ()))
    return next((note.removeprefix(_ON_NODE) for note in notes if note.startswith(_ON_NODE)), "")


def cause_of(error: BaseException) -> Cause:
    """The cause of an exception; the one that a :class:`TrialFailure` names has precedence."""
    links = tuple(_links(error))
    named = (link.fields["cause"] for link in links if isinstance(link, TrialFailure))
    cause: Cause | None = next((cause for cause in named if cause in CAUSES), None)
    if cause is not None:
        return cause
    if any(getattr(link, "preempted", False) is True for link in links):
        # The autoscaler had told Ray that it takes the node away.
        return "preempted"
    return next((rule.cause for rule in RULES if any(map(rule.matches, links))), "bug")


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, means a full disk."""
    return any(DISK.matches(link) for link in _links(error))


def find_ledger_error(error: BaseException) -> LedgerError | None:
    """The LedgerError among an exception and those that it was raised from, or None."""
    return next((link for link in _links(error) if isinstance(link, LedgerError)), None)


def bug_signature(message: str, log: str) -> str:
    """Identifies a bug by its place in the code, if the log has it, and its message.

    >>> alike("KeyError: 'x'", '  File "a.py", line 3, in load')
    'a.py:3 in load: KeyError: \\'x\\''
    """
    places = re.findall(r'^\s*File "(.+)", line (\d+), in (.+)$', log, re.MULTILINE)
    if not places:
        return message
    file, line, function = places[-1]
    return f"{file}:{line} in {function}: {message}"


def _links(error: BaseException) -> Iterator[BaseException]:
    """An exception, those it wraps, the one it was raised from, and the one being handled."""
    waiting, seen = [error], set[int]()
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        # Ray's RayTaskError keeps what a worker raised as `cause`.
        wrapped = (getattr(link, "cause", None), *getattr(link, "exceptions", ()), link.__cause__,
                   None if link.__suppress_context__ else link.__context__)  # fmt: skip
        waiting += [inner for inner in wrapped if isinstance(inner, BaseException)]


def _unwrapped(error: BaseException) -> BaseException:
    """What a worker raised, without Ray's wrapping."""
    inner = getattr(error, "cause", None)
    return _unwrapped(inner) if isinstance(inner, BaseException) else error


PERMANENT = ("nan", "data", "oom", "bug")
"""Causes for which a stage that failed in two trials would fail in every other one."""


@dataclass(frozen=True)
class BrokenStage:
    """A stage that two trials failed to make."""

    first: int
    second: int
    failure: Report
    """The failure of the second trial."""

    def message(self, label: str) -> str:
        return f"{label} failed in trials {self.first} and {self.second}: {self.failure.message}"


class RepeatedFailures:
    """Counts bugs and failed stages over the trials of one run."""

    def __init__(self, rule: RepeatedBug) -> None:
        self._rule = rule
        self._num_ended = 0
        self._bugs: Counter[str] = Counter()
        self._failed_once: dict[str, int] = {}
        self.bug = ""
        """The bug that ended enough trials, by place and message; empty if there is none."""
        self.broken: dict[str, BrokenStage] = {}
        """By key."""

    def end(self, bug: str = "") -> None:
        """Count the end of a trial, by this bug or in another way."""
        self._num_ended += 1
        if not bug:
            return
        self._bugs[bug] += 1
        if self._rule.is_met(self._bugs[bug], self._num_ended):
            self.bug = self.bug or bug

    def fail(self, key: str, number: int, failure: Report) -> bool:
        """Count a trial that failed at a stage for a permanent cause; True if it is the second one.

        After the first failure another trial tries the stage in another process, because the fault
        may have been in the process or node.
        """
        first = self._failed_once.setdefault(key, number)
        if first == number or key in self.broken:
            return False
        self.broken[key] = BrokenStage(first, number, failure)
        return True


def reason_to_stop(number: int, failure: Report, sweep: str) -> str:
    """Why no further trial may start after this failure of trial ``number``, and what to do;
    empty if other trials may succeed."""
    if failure.cause == "disk":
        return (
            f"a disk is full (trial {number}: {failure.message}); free some space, and the same "
            "command goes on"
        )
    if failure.cause == "data" and (failure.stage == "evaluate" or CHANGED in failure.message):
        # The next trial would fail in the same way, perhaps after its training.
        return (
            f"trial {number} cannot be made with the data as they are now ({failure.message}); "
            f"mend them, and `xlt resume {sweep} --failed` goes on with it, without training again "
            "what was trained, and with the other trials"
        )
    return ""
