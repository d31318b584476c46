"""Why an attempt failed, and whether another one is made.

The cause follows from the exception, or from the traceback of a process that hung. Ray wraps what a
worker raised, and cleaning up raises again, so each rule is compared with every exception that an
exception wraps or arose from. :class:`ProcessFailures` counts the failures of every trial, and
alone decides about retries. :class:`RepeatedFailures` finds those that other trials would repeat.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import re
import threading
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

from xlt_ray.config.retry_policy import CAUSES, OF_PROCESSES, Cause, Failures, RepeatedBug
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
           r"inline_container\.cc", r"pytorchstreamwriter failed writing", r"\(quotaexceeded\)"),
    numbers=(errno.ENOSPC, errno.EDQUOT),
)  # fmt: skip

RULES = (
    Rule(
        "oom",
        types=("OutOfMemoryError", "MemoryError"),
        texts=(r"out of memory", r"can(no|')t allocate memory", r"status_alloc_failed",
               r"std::bad_alloc", r"running low on memory", r"out_of_memory", r"not enough memory",
               r"shared memory limit", r"insufficient memory", r"host_allocation_failed"),
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
    Rule(
        "preempted",
        texts=(r"\b(exit code 143|exitcode: -15|signal: terminated|signal sigterm)\b",
               r"cancelled at .* due to (preemption|time limit|node failure)"),
    ),
    Rule("bug", types=("StageConflict", "RuntimeEnvSetupError")),
    Rule(
        "timeout",
        types=("GetTimeoutError",),
        texts=(r"timed out waiting \d+ms for", r"watchdog caught collective operation timeout",
               r"wait timeout after \d+ms, keys", r"timed out initializing process group"),
    ),
    # What CUDA says of the program rather than of the device.
    Rule(
        "bug",
        texts=(r"device-side assert", r"\b(cuda|hip) error: (invalid (configuration )?argument"
               r"|invalid device function|no kernel image|the provided ptx)",
               r"cu\w+_status_(invalid_value|not_supported|bad_param|arch_mismatch)"),
    ),
    Rule(
        "device",
        texts=(r"\b(cuda|hip) (driver )?(initialization |init |unknown )?(error|failure)",
               r"\b(cuda|hip)_error_", r"unspecified launch failure", r"illegal memory access",
               r"\b(no|not have a) (cuda|hip)(-capable)? (gpu|device)", r"no nvidia driver",
               r"cuda driver initialization failed", r"error from cudagetdevicecount",
               r"device handle for gpu", r"uncorrectable (ecc|nvlink)", r"fallen off the bus",
               r"\bxid\b", r"\bnvml\b", r"gpu is lost",
               r"cu\w+_status_(execution_failed|not_initialized|internal_error|mapping_error)"),
    ),
    Rule(
        "lost",
        types=("LeaseLost", "RayActorError", "WorkerCrashedError", "NodeDiedError",
               "ObjectLostError", "LocalRayletDiedError", "TaskPlacementGroupRemoved",
               "ActorPlacementGroupRemoved", "RpcError", "DistNetworkError",
               "DistStoreError", "DistBackendError", "BrokenProcessPool", "BrokenPipeError"),
        texts=(r"gloo/transport", r"connection closed by (remote )?peer", r"remote process exited",
               r"broken pipe", r"failed to (recv|send), ", r"connect\(\) timed out",
               r"failed to connect to all addresses", r"socket closed",
               r"\bnccl", r"timed out after \d+ seconds waiting for clients",
               r"client socket has (timed out|failed to connect)",
               r"server socket has failed to (listen|bind)", r"address already in use",
               r"eaddrinuse", r"(failed|unable) to connect to gcs",
               r"gcs (server )?(is )?(unavailable|dead)", r"rendezvous",
               r"failed to pass monitoredbarrier", r"died or was killed", r"segmentation fault",
               r"exit ?code ?:? ?(-9|137|-11|139)\b", r"dataloader worker .*(killed|exited)"),
        numbers=(errno.EADDRINUSE, errno.EPIPE),
    ),
    Rule(
        "tracking",
        types=("TrackingError", "MlflowException"),
    ),
    Rule(
        "storage",
        # Before `data`: a loader raises its errors if the hub does not answer.
        types=("LocalEntryNotFoundError", "HTTPException", "ConnectionError", "ConnectError",
               "ConnectTimeout", "ReadTimeout", "ReadTimeoutError", "TimeoutException",
               "TimeoutError", "NetworkError", "NewConnectionError", "ProtocolError",
               "ServerDisconnectedError", "FSTimeoutError", "EndpointConnectionError",
               "ServiceRequestError", "OperationalError"),
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
               "DatasetGenerationError", "DataFilesNotFoundError", "NonMatchingSplitsSizesError",
               "SafetensorError", "UnicodeDecodeError", "JSONDecodeError", "ParserError",
               "ArrowInvalid", "CastError", "UnpicklingError", "LZMAError",
               "BadGzipFile", "BadZipFile", "HFValidationError"),
        texts=(r"can't load (the )?(tokenizer|model|configuration)", r"gated repo",
               r"not a valid model identifier", r"does not appear to have a file named",
               r"builderconfig .* not found", r"unknown split \W", r"couldn't find cache for",
               r"error\(s\) in loading state_dict", r"compressed file ended",
               r"tokenizer class \S+ does not exist", r"instantiate the backend tokenizer",
               r"not recognize this architecture", r"unable to load weights",
               r"error no file named", r"pytorchstreamreader failed",
               r"field larger than field limit"),
    ),
    Rule(
        "nan",
        types=("FloatingPointError",),
        texts=(r"non-finite", r"returned nan values", r"loss scale already at minimum",
               r"(loss|gradients?|norm) (is|are|was|were|became) (nan|-?inf)\b",
               r"contain(s|ed)? (nan|inf|either `inf`)", r"invalid values:.*\bnan\b",
               r"found (nan|inf)"),
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


@contextlib.contextmanager
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

    >>> bug_signature("KeyError: 'x'", '  File "a.py", line 3, in load')
    "a.py:3 in load: KeyError: 'x'"
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


_WATCHED = "watched thread: "


class Watchdog:
    """A context manager: if its block takes longer than ``timeout`` seconds, this process writes
    the traceback of all threads for the driver, and ends. Use one per process, always in the same
    thread.

    The timer is Python's ``faulthandler``, a thread in C that does not need the interpreter lock,
    so it also ends a process that is stuck inside a library.
    """

    def __init__(self, file: Path, timeout: float) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._timeout = timeout
        self._stream = file.open("w", encoding="utf-8")

    def __enter__(self) -> Watchdog:
        if not self._stream.tell():
            self._stream.write(f"{_WATCHED}{threading.get_ident():#x}\n")
            self._stream.flush()
        faulthandler.dump_traceback_later(self._timeout, exit=True, file=self._stream)
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()

    def close(self) -> None:
        """Delete the file: nothing hung."""
        if not self._stream.closed:
            self._stream.close()
            self._file.unlink(missing_ok=True)


def hang_file(folder: Path, number: int, rank: int) -> Path:
    """The file that one worker of a trial writes."""
    return folder / f"trial-{number}.worker-{rank}.txt"


def read_hang_report(folder: Path, number: int) -> Failure | None:
    """The failure that a trial's workers wrote when they hung, or None; deletes their files.

    A worker that waits for another one hangs with it, so the log has the tracebacks of all.
    """
    logs: dict[str, str] = {}
    for file in sorted(folder.glob(f"trial-{number}.worker-*.txt")):
        # A shared folder may be slow or gone; the cause of the failure is then `lost`.
        with contextlib.suppress(OSError):
            logs[file.stem] = file.read_text(encoding="utf-8", errors="replace")
            file.unlink()
    threads = {name: _working_thread(text) for name, text in logs.items() if "Timeout" in text}
    if not threads:
        return None
    num_lines = LOG_LINES // len(threads)
    places = dict.fromkeys(_place(lines[-1]) for lines in threads.values())
    duration = re.search(r"\((\d+:\d+:\d+)", "\n".join(logs.values()))
    return Failure(
        cause="timeout",
        message=f"nothing happened for {duration[1] if duration else 'too long'}: "
        f"in {', '.join(places)}",
        log="\n".join(
            line
            for name, lines in threads.items()
            for line in (f"{name.partition('.')[2]} (most recent call last):", *lines[-num_lines:])
        ),
    )


def _working_thread(text: str) -> list[str]:
    """The traceback of the watched thread; innermost call last."""
    watched = re.search(rf"{_WATCHED}0x(\w+)", text)
    threads = dict(re.findall(r"hread 0x0*(\w+)[^\n]*\n((?: +File[^\n]*\n?)*)", text))
    lines = threads.get(watched[1] if watched else "", "").splitlines()
    return lines[::-1] or ["nowhere"]


def _place(frame: str) -> str:
    """A line of a traceback as function, file and line.

    >>> _place('  File "/a/b.py", line 5 in wait')
    'wait (b.py:5)'
    """
    match = re.search(r'File "(.+)", line (\d+) in (.+)', frame)
    return f"{match[3]} ({Path(match[1]).name}:{match[2]})" if match else frame.strip()


class ProcessFailures:
    """Failures of trials and nodes in one run of a sweep; the only counter of retries.

    Tune has one limit of failures for all causes, so it is configured to retry for ever, and the
    limits of each cause are enforced here.
    """

    def __init__(self, failures: Failures, hangs: Path) -> None:
        self._failures = failures
        self._hang_folder = hangs
        self._num_failures: defaultdict[int, Counter[str]] = defaultdict(Counter)
        """Number of a trial -> failures by cause, in all its processes."""
        self._num_lost: Counter[int] = Counter()
        self._last_failure: dict[int, Failure] = {}
        self._silent_s: dict[int, float] = {}
        self._device_failures: Counter[str] = Counter()
        """Node -> failures since a stage was last made there."""
        self.left_nodes: tuple[str, ...] = ()
        """Ids of nodes that get no further trials, in the order in which they were excluded."""
        self.write_error: Exception | None = None
        """The error that kept the end of a trial from being written; it ends the run."""

    def note_made(self, report: Report) -> None:
        """Clear the failures of the nodes on which a stage was made."""
        for node in report.nodes:
            self._device_failures.pop(node, None)

    def note_silence(self, number: int, seconds: float) -> None:
        """Note that the process of this trial is ended after ``seconds`` without a report."""
        self._silent_s[number] = seconds

    def on_failed_attempt(self, number: int, failed: Report) -> tuple[Report, float] | None:
        """Count a failure after which the process is usable: the report of a retry in it and the
        seconds before it, or None if no retry is left."""
        cause = cast("Cause", failed.cause)
        pause_s = self._pause_before_retry(number, cause)
        remedy = failed.remedy or (f"in {pause_s:.0f} s" if pause_s else "at once")
        is_too_small = self._failures.policy(cause).action == "shrink" and not failed.remedy
        if pause_s is None or is_too_small:
            return None
        return replace(failed, kind="retrying", remedy=remedy), pause_s

    def on_process_end(self, number: int, error: BaseException | None) -> Report | None:
        """Count the end of a trial's process; the report of it, or None if no retry is left.

        Args:
            error: the error of the process that Tune has, if it can be read.
        """
        failure = read_hang_report(self._hang_folder, number)
        silent_s = self._silent_s.pop(number, None)
        if failure is None and silent_s is not None:
            failure = Failure(
                "timeout", f"its process gave no sign of life for {silent_s:.0f} s", ""
            )
        if failure is None and error is not None:
            failure = classify(error)
        failure = failure or Failure("lost", "its process was lost", "")
        self._last_failure[number] = failure
        if failure.cause == "device" and failure.node:
            self._count_device(failure.node)
        self._num_lost[number] += 1
        if self._pause_before_retry(number, failure.cause) is None:
            return None
        return Report("lost", cause=failure.cause, message=failure.message, log=failure.log,
                      remedy="in another process")  # fmt: skip

    def _pause_before_retry(self, number: int, cause: Cause) -> float | None:
        """Count a failed attempt; seconds before the next one, or None if no retry is left."""
        policy, retries = self._failures.policy(cause), self._num_failures[number][cause]
        self._num_failures[number][cause] += 1
        return policy.pause(retries) if policy.allows(retries) else None

    def _count_device(self, node: str) -> None:
        self._device_failures[node] += 1
        limit = self._failures.leave_node_after
        if self._device_failures[node] >= limit and node not in self.left_nodes:
            self.left_nodes = (*self.left_nodes, node)

    def final_report(self, number: int) -> Report | None:
        """The report of a trial whose process failed for good; None if nothing is known."""
        failure = self._last_failure.get(number)
        if failure is None:
            return None
        lost = self._num_lost[number]
        message = failure.message + (f" (attempts in this run: {lost})" if lost > 1 else "")
        return Report("failed", cause=failure.cause, message=message, log=failure.log)


PERMANENT = ("nan", "data", "oom", "bug")
"""Causes for which a stage that failed in two trials would fail in every other one."""


class RepeatedFailures:
    """Counts bugs and failed stages over the trials of one run."""

    def __init__(self, rule: RepeatedBug) -> None:
        self._rule = rule
        self._num_ended = 0
        self._bugs: Counter[str] = Counter()
        self._failed_once: dict[str, int] = {}
        self.bug = ""
        """The bug that ended enough trials, by place and message; empty if there is none."""
        self.broken: dict[str, Report] = {}
        """Key of a stage that two trials failed to make -> the second failure."""

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
        message = f"failed in trials {first} and {number}: {failure.message}"
        self.broken[key] = replace(failure, message=message)
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
