"""Every exception that xlt-ray raises on purpose.

::

    XltError
      SpecError          a sweep file (or an override) is wrong          exit 2
      DataError          a task, language, split or folder is wrong      exit 2
        DataErrors       several faults of one file
        ForbiddenLabels  labels that a trial may not read
      ModelError         a model folder or name is wrong                 exit 2
      LedgerError        the ledger cannot be opened or continued        exit 2
        SweepHasDriver   another process drives the sweep now            exit 2
      ClusterError       a trial needs more than the cluster has         exit 2
        ClusterOutage    Ray does not start now, but may later           exit 1
      TrackingError      the MLflow server or database cannot be used    exit 2
        TrackingOutage   it does not answer now, but may later           exit 1
      StoreError         a stage in the store cannot be used
        DamagedStage     a result that does not match its record
        StageConflict    the same key and runtime, other bits
        LeaseLost        another process makes this stage now
      TrialFailure       one attempt at a trial failed                   exit 1

A message reads *where: what is wrong; what to do.* Ray carries exceptions between
processes, so all of them can be pickled with their fields. Passwords in URLs are
removed from every message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from xlt_ray.redact import redacted


class XltError(Exception):
    """Root of the tree; ``exit_code`` is what the command line ends with."""

    exit_code = 1

    def __init__(self, message: str, **fields: Any) -> None:
        message = redacted(message)
        super().__init__(message)
        self.message = message
        self.fields = fields
        for name, value in fields.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.fields))

    def __str__(self) -> str:
        return self.message


def _rebuild(kind: type[XltError], message: str, fields: dict[str, Any]) -> XltError:
    error = kind.__new__(kind)
    XltError.__init__(error, message, **fields)
    return error


class SpecError(XltError):
    """A key of a sweep file is wrong: ``file``, ``line``, ``key``, ``problem``, ``remedy``."""

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str = "",
        line: int | None = None,
        key: str = "",
        remedy: str = "",
    ) -> None:
        place = file + (f":{line}" if file and line else "")
        where = ": ".join(part for part in (place, key) if part)
        message = f"{where}: {problem}" if where else problem
        if remedy:
            message += f"; {remedy}"
        super().__init__(message, file=file, line=line, key=key, problem=problem, remedy=remedy)


class SpecErrors(SpecError):
    """Several problems found at once: ``problems`` is a tuple of :class:`SpecError`."""

    problems: tuple[SpecError, ...]

    def __init__(self, problems: Iterable[SpecError]) -> None:
        problems = tuple(problems)
        XltError.__init__(self, "\n".join(map(str, problems)), problems=problems)


class DataError(XltError):
    """Data is wrong: ``problem``, with ``task``, ``language``, ``split`` where they are known.

    ``file`` and ``line`` are those of a faulty file, which ``problem`` begins with.
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        task: str = "",
        language: str = "",
        split: str = "",
        remedy: str = "",
        file: str = "",
        line: int | None = None,
    ) -> None:
        where = "/".join(part for part in (task, language, split) if part)
        message = f"{where}: {problem}" if where else problem
        if remedy:
            message += f"; {remedy}"
        super().__init__(
            message,
            problem=problem,
            task=task,
            language=language,
            split=split,
            remedy=remedy,
            file=file,
            line=line,
        )


CHANGED = "not as when the sweep was started"
"""The problem of files that have changed since then."""


class DataErrors(DataError):
    """Faults of one file: ``problems`` is a tuple of :class:`DataError`."""

    problems: tuple[DataError, ...]

    def __init__(self, problems: Iterable[DataError]) -> None:
        problems = tuple(problems)
        message = "\n".join(map(str, problems))
        XltError.__init__(self, message, **problems[0].fields | {"problems": problems})


class ForbiddenLabels(DataError):
    """Training or selection would read labels that zero-shot transfer may not see."""


class ModelError(XltError):
    """A model that cannot be found or read: ``model``, ``problem``, ``remedy``."""

    exit_code = 2

    def __init__(self, problem: str, *, model: str, remedy: str = "") -> None:
        message = f"{model}: {problem}" + (f"; {remedy}" if remedy else "")
        super().__init__(message, problem=problem, model=model, remedy=remedy)


class LedgerError(XltError):
    """A ledger that cannot be opened, or that this sweep file cannot continue."""

    exit_code = 2


class SweepHasDriver(LedgerError):
    """Another process drives the sweep now."""


class ClusterError(XltError):
    """``asked`` resources that the cluster never has (``available``)."""

    exit_code = 2


class ClusterOutage(ClusterError):
    """Ray does not start on this machine now; the same command may work later."""

    exit_code = 1


class TrackingError(XltError):
    """MLflow at ``uri`` refuses a request; the ledger still has everything."""

    exit_code = 2

    def __init__(self, problem: str, *, uri: str) -> None:
        super().__init__(f"{uri}: {problem}", problem=problem, uri=uri)


class TrackingOutage(TrackingError):
    """MLflow at ``uri`` does not answer now; the request may be repeated."""

    exit_code = 1


class StoreError(XltError):
    """A stage in the store cannot be used: ``key`` and ``place``."""

    def __init__(self, problem: str, *, key: str, place: str = "") -> None:
        where = f"stage {key[:10]}" + (f" ({place})" if place else "")
        super().__init__(f"{where}: {problem}", problem=problem, key=key, place=place)


class DamagedStage(StoreError):
    """A committed result whose files do not match its record."""


class StageConflict(StoreError):
    """Two results for one key under equal numeric runtime whose bits differ."""


class LeaseLost(StoreError):
    """The lease passed to another process; the former holder must not commit."""


class TrialFailure(XltError):
    """One attempt at a trial failed: ``cause`` (one word), ``attempt``, ``advice``."""

    def __init__(self, problem: str, *, cause: str, attempt: int = 1, advice: str = "") -> None:
        message = f"{cause}: {problem}" + (f"; {advice}" if advice else "")
        super().__init__(message, problem=problem, cause=cause, attempt=attempt, advice=advice)


def nearest(name: str, known: Iterable[str], *, limit: int = 20) -> str:
    """The remedy for an unknown ``name``: a close match, or else the known names.

    >>> nearest("learning_rte", ["learning_rate", "epochs"])
    'did you mean learning_rate?'
    >>> nearest("zzz", ["b", "a"])
    'available: a, b'
    >>> nearest("XNLI", ["mnli", "xnli"])
    'did you mean xnli?'
    """
    choices = sorted(known)
    lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6) or [
        lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    ]
    if close:
        return f"did you mean {close[0]}?"
    shown = ", ".join(choices[:limit]) + (", ..." if len(choices) > limit else "")
    return f"available: {shown}" if choices else "none is available"
