"""Where ledgers are and how they are opened, continued, or refused."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger.book import Ledger
from xlt_ray.ledger.proposing import quiet
from xlt_ray.spec.source import parse_document
from xlt_ray.spec.sweep import SweepSpec, is_name, sweep_of
from xlt_ray.stages.canonical import differences

MAY_CHANGE = ("search.trials", "search.concurrent", "early_stop", "resources", "budget",
              "progress", "failures", "store", "places")  # fmt: skip
"""What may differ when a sweep is continued; ``resources.precision`` may not."""


def open_ledger(home: Home, sweep: SweepSpec) -> Ledger:
    """The ledger of a sweep, made where there is none.

    Raises:
        LedgerError: the storage cannot be reached, or the ledger belongs to another sweep of
            this name; the message names the fields that differ.
    """
    name = sweep.name
    url = sweep.settings.places.ledger
    _refuse_other_place(home, name, url)
    home.ledgers.mkdir(parents=True, exist_ok=True)
    mode = sweep.settings.objective.mode
    with quiet():
        try:
            study = optuna.create_study(
                study_name=name,
                storage=_storage(home, name, url, write=True),
                direction="maximize" if mode == "max" else "minimize",
                load_if_exists=True,
            )
        except _failures(url) as error:
            raise _unopened(name, error) from error
    if url is not None:
        _keep_url(home.ledger_url(name), url)
    ledger = Ledger(study, name)
    resolved = json.loads(json.dumps(sweep.resolved()))
    if "sweep" in study.user_attrs:
        _refuse_other(ledger, resolved)
    ledger.note("sweep", resolved)
    return ledger


def load_ledger(home: Home, name: str) -> Ledger:
    """The ledger of a sweep that exists, for reading.

    Raises:
        LedgerError: there is none of this name; the message says which there are. Or it cannot
            be read, or its driver died before it held anything.
    """
    if not is_name(name):
        raise LedgerError(f"{name!r} is no name of a sweep; there is: {_there(home)}")
    pointer = home.ledger_url(name)
    url = pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None
    if url is None and not home.ledger_journal(name).exists():
        raise LedgerError(f"{home.root}: there is no sweep {name!r}; there is: {_there(home)}")
    with quiet():
        try:
            study = optuna.load_study(
                study_name=name, storage=_storage(home, name, url, write=False)
            )
        except _failures(url) as error:
            raise _unopened(name, error) from error
    if "sweep" not in study.user_attrs:
        raise LedgerError(f"{name}: its ledger holds no sweep; run its sweep file again")
    return Ledger(study, name)


def _there(home: Home) -> str:
    return ", ".join(home.sweeps()) or "none yet"


def find_ledger(home: Home, sweep: SweepSpec) -> Ledger | None:
    """The ledger of a sweep as it is, for reading; None where this home has not started it yet.

    Raises:
        LedgerError: as :func:`open_ledger` would.
    """
    _refuse_other_place(home, sweep.name, sweep.settings.places.ledger)
    if sweep.name not in home.sweeps():
        return None
    ledger = load_ledger(home, sweep.name)
    _refuse_other(ledger, json.loads(json.dumps(sweep.resolved())))
    return ledger


def sweep_of_ledger(ledger: Ledger, overrides: Iterable[str] = ()) -> SweepSpec:
    """The sweep that a ledger keeps, with ``KEY=VALUE`` overrides applied."""
    resolved = ledger.sweep
    tree = {**{key: value for key, value in resolved.items() if key != "space"}}
    tree |= resolved["space"]
    text = json.dumps(tree, ensure_ascii=False)
    return sweep_of(parse_document(text, f"ledger of {ledger.name}", overrides))


def _keep_url(pointer: Path, url: str) -> None:
    """Write where a ledger lies, for the owner's eyes alone: the URL may carry a password."""
    descriptor = os.open(pointer, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(descriptor, 0o600)
        stream.write(url)


class _FileLock(BaseJournalFileLock):
    """A lock that the kernel drops with its holder, so that kill -9 leaves nothing behind."""

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_suffix(".lock")
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _storage(home: Home, name: str, url: str | None, *, write: bool) -> Any:
    if url is not None:
        return url
    journal = home.ledger_journal(name)
    if write:
        _drop_torn_line(journal)
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=_FileLock(journal)))


def _drop_torn_line(journal: Path) -> None:
    """Cut a last line that a dying driver left without its end; nobody has read it."""
    if not journal.exists():
        return
    lock = _FileLock(journal)
    lock.acquire()
    try:
        content = journal.read_bytes()
        if content and not content.endswith(b"\n"):
            with journal.open("r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _failures(url: str | None) -> tuple[type[Exception], ...]:
    """What Optuna raises where a storage cannot be reached or read."""
    known = (OSError, ImportError, ValueError, KeyError)
    if url is None:
        return known
    from sqlalchemy.exc import SQLAlchemyError

    return (*known, SQLAlchemyError)


def _unopened(name: str, error: Exception) -> LedgerError:
    reason = (str(error.args[0] if error.args else error).splitlines() or [""])[0]
    return LedgerError(f"{name}: the ledger cannot be opened ({reason})")


def _refuse_other_place(home: Home, name: str, url: str | None) -> None:
    """A ledger stays where it is: trials of one sweep in two ledgers would never be compared."""
    if url is None and home.ledger_url(name).exists():
        raise LedgerError(
            f"{name}: its ledger is a database outside this home; give places.ledger as before"
        )
    if url is not None and home.ledger_journal(name).exists():
        raise LedgerError(
            f"{name}: its ledger is in this home; leave places.ledger out, "
            "or give this sweep another name"
        )


def _refuse_other(ledger: Ledger, resolved: dict[str, Any]) -> None:
    changed = [
        f"{path}: {_short(before)} -> {_short(after)}"
        for path, before, after in differences(ledger.sweep, resolved)
        if path == "resources.precision" or not path.startswith(MAY_CHANGE)
    ]
    if changed:
        raise LedgerError(
            f"{ledger.name}: there is a sweep of this name already, and it differs in "
            + "; ".join(changed[:10])
            + "; give this one another name (finished stages are shared all the same), "
            "or undo the change"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
