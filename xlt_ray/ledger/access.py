"""Open, create, continue and delete ledgers, and admit one driver a sweep.

A lease in the home admits one driver. If several homes use one PostgreSQL database, an advisory
lock does, too; the database drops it with its connection, so a killed driver leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage

from xlt_ray.config.defaults import space_with_defaults
from xlt_ray.config.places import with_absolute_paths
from xlt_ray.config.sweep import SweepSpec, is_name, sweep_of
from xlt_ray.config.yaml import Overrides, parse_document
from xlt_ray.errors import LeaseLost, LedgerError, SweepHasDriver, nearest
from xlt_ray.home import Home
from xlt_ray.ledger.journal import Journal, mend
from xlt_ray.ledger.ledger import Ledger
from xlt_ray.ledger.made_with import MadeWith, begin
from xlt_ray.ledger.requests import set_by_hand
from xlt_ray.ledger.sampler import directions_of, quiet
from xlt_ray.store.canonical import differences
from xlt_ray.store.lease import Holder, find_holder, try_acquire
from xlt_ray.store.storage import Storage

PATIENCE_S = 5


def ask_database(url: str) -> str:
    """The kind of database at a ledger's URL.

    Raises:
        LedgerError: it does not answer within seconds, refuses access, or lacks its driver.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    # PostgreSQL has no limit by default; other drivers have theirs.
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(PATIENCE_S))
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            connection.execute(text("select 1"))
        engine.dispose()
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        raise LedgerError(f"the ledger's database cannot be reached ({_reason(error)})") from error
    return str(engine.dialect.name)


LOOK_S = 30.0
"""Seconds between two checks of the connection that holds the lock; proxies drop idle connections
much later."""


@contextmanager
def sole_driver(home: Home, name: str, ledger_url: str | None) -> Iterator[Callable[[], None]]:
    """Refuse a second driver of the same sweep while the first is alive.

    Yields a function that raises LedgerError if this driver has lost the sweep, because it was
    stopped or its home was away for so long that another driver took over. The call is free while
    the lease is renewed in time.
    """
    lease = try_acquire(Storage(home.root), home.driver_lease(name), purpose=f"sweep {name}")
    if isinstance(lease, Holder):
        raise SweepHasDriver(f"{name}: is already being run by {lease}; wait for it or stop it")
    with lease, sole_user(ledger_url, name) as confirm_user:

        def confirm() -> None:
            try:
                lease.confirm()
            except LeaseLost as error:
                raise LedgerError(
                    f"{name}: this driver stalled, or its home was unreachable, for so long that "
                    "another one has taken over the sweep, which continues there"
                ) from error
            confirm_user()

        yield confirm


@contextmanager
def sole_user(url: str | None, name: str) -> Iterator[Callable[[], None]]:
    """Hold the lock of a sweep's ledger in PostgreSQL; does nothing for other ledgers.

    Yields a function that raises LedgerError if the lock was lost with its connection.

    Raises:
        LedgerError: another driver holds the lock, or the database cannot be reached.
    """
    if url is None or not url.startswith("postgres"):
        yield lambda: None
        return
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    try:
        connection = create_engine(url, poolclass=NullPool).connect()
        is_ours = connection.scalar(text("SELECT pg_try_advisory_lock(:n)"), {"n": number})
        # The connection holds the lock; without the commit a transaction would stay open.
        connection.commit()
    except (SQLAlchemyError, ImportError) as error:
        raise LedgerError(f"{name}: the ledger cannot be opened ({_reason(error)})") from error
    with connection:
        if not is_ours:
            raise LedgerError(
                f"{name}: is already being run from another home with the same places.ledger; "
                "wait for it or stop it"
            )
        looked = time.monotonic()

        def confirm() -> None:
            nonlocal looked
            if time.monotonic() - looked < LOOK_S:
                return
            looked = time.monotonic()
            try:
                connection.execute(text("SELECT 1"))
                connection.commit()
            except SQLAlchemyError as error:
                raise LedgerError(
                    f"{name}: the ledger's database has dropped the connection that keeps other "
                    "drivers out, so this one ends; run the same command again"
                ) from error

        yield confirm


MAY_CHANGE = ("search.trials", "search.concurrent", "early_stop", "resources", "budget",
              "progress", "failures", "store", "places", "notify",
              "space.data.root", "space.data.texts", "space.data.cache",
              "space.data.revisions")  # fmt: skip
"""Keys that may change when a sweep is continued; ``resources.precision`` may not.

Places of data and weights may change, but not the data and weights themselves, which are noted as
facts (:mod:`xlt_ray.ledger.made_with`)."""


def open_ledger(
    home: Home, sweep: SweepSpec, made_with: MadeWith | None = None, *, accept_changes: bool = False
) -> Ledger:
    """The ledger of a sweep; created if it does not exist.

    Args:
        made_with: data, weights and code of this start, compared with earlier ones if given.
        accept_changes: continue although they have changed.

    Raises:
        LedgerError: the storage cannot be reached, or the ledger belongs to another sweep of
            this name; the message names the keys, data, weights or code that differ.
    """
    name = sweep.name
    url = sweep.settings.places.ledger
    _refuse_other_place(home, name, url)
    home.ledgers.mkdir(parents=True, exist_ok=True)
    set_aside = mend(home.ledger_journal(name)) if url is None else None
    with _opening(home, name, url) as storage:
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=directions_of(sweep),
            load_if_exists=True,
        )
    if url is not None:
        # Readable by its owner only: it may contain a password.
        home.ledger_url(name).touch(mode=0o600)
        home.ledger_url(name).chmod(0o600)
        home.ledger_url(name).write_text(url, encoding="utf-8")
    ledger = Ledger(study, name, set_aside, driver_of(home, name))
    if not ledger.identity:
        # The home's identity, so that a new journal after a loss continues the same MLflow runs.
        ledger.note("identity", home.identity)
    if "sweep" in study.user_attrs:
        sweep = continued(sweep, ledger)
        _refuse_other(ledger, sweep)
    if made_with is not None:
        ledger.news = begin(ledger, made_with, accept_changes=accept_changes)
    note_sweep(ledger, sweep)
    return ledger


def note_sweep(ledger: Ledger, sweep: SweepSpec) -> None:
    """Keep the resolved sweep in its ledger."""
    ledger.note("sweep", _plain(sweep))


def continued(sweep: SweepSpec, ledger: Ledger) -> SweepSpec:
    """The sweep as its ledger continues it: with the settings that were changed by hand, and with
    the training seed of the ledger, unless the sweep sets ``search.training_seed``; the ledger may
    be older than that key."""
    sweep = set_by_hand(sweep, ledger.by_hand)
    if "training_seed" in sweep.settings.search.model_fields_set:
        return sweep
    return sweep.with_setting("search.training_seed", ledger.sweep["search"]["training_seed"])


def load_ledger(home: Home, name: str) -> Ledger:
    """The ledger of a sweep that exists, for reading.

    Raises:
        LedgerError: no sweep has this name (the message lists the existing ones), its ledger cannot
            be read, or its driver died before it wrote anything.
    """
    with _opening(home, name, ledger_url(home, name)) as storage:
        study = optuna.load_study(study_name=name, storage=storage)
    if "sweep" not in study.user_attrs:
        raise LedgerError(f"{name}: its ledger holds no sweep; run its sweep file again")
    return Ledger(study, name, driver=driver_of(home, name))


def driver_of(home: Home, name: str) -> str:
    """Token of the lease by which a living driver has a sweep of this home; empty without one."""
    holder = find_holder(Storage(home.root), home.driver_lease(name))
    return holder.token if holder is not None and holder.is_alive else ""


def ledger_url(home: Home, name: str) -> str | None:
    """The database of a ledger; None if it is a journal in the home.

    Raises:
        LedgerError: no sweep has this name; the message lists the existing ones.
    """
    if not is_name(name):
        known = ", ".join(home.sweeps()) or "none yet"
        raise LedgerError(f"{name!r} is not the name of a sweep; available: {known}")
    pointer = home.ledger_url(name)
    url = pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None
    if url is None and not home.ledger_journal(name).exists():
        _refuse_imported(home, name)
        sweeps = home.sweeps()
        hint = nearest(name, sweeps) if sweeps else "available: none yet"
        raise LedgerError(f"{home.root}: there is no sweep {name!r}; {hint}")
    return url


def delete_ledger(home: Home, name: str, ledger: Ledger | None) -> None:
    """Delete the ledger of a sweep.

    A study in a database is deleted only if this home created it (:attr:`Ledger.identity`).

    Args:
        ledger: None if it cannot be read or its study is deleted already.
    """
    url = ledger_url(home, name)
    if url is not None and ledger is not None and ledger.identity in ("", home.identity):
        with _opening(home, name, url) as storage:
            optuna.delete_study(study_name=name, storage=storage)
    for file in (home.ledger_url(name), home.ledger_journal(name)):
        file.unlink(missing_ok=True)


def find_ledger(home: Home, sweep: SweepSpec) -> Ledger | None:
    """The ledger of a sweep, for reading; None if this home has not started it yet.

    Raises:
        LedgerError: as :func:`open_ledger` would.
    """
    _refuse_other_place(home, sweep.name, sweep.settings.places.ledger)
    if sweep.name not in home.sweeps() or _is_empty(home.ledger_journal(sweep.name)):
        return None
    ledger = load_ledger(home, sweep.name)
    _refuse_other(ledger, continued(sweep, ledger))
    return ledger


def _is_empty(journal: Path) -> bool:
    """Whether a journal was begun on a disk that was full: it has no study yet."""
    return journal.is_file() and journal.stat().st_size == 0


def sweep_of_ledger(ledger: Ledger, overrides: Overrides = ()) -> SweepSpec:
    """The sweep that a ledger keeps, with overrides applied."""
    tree = dict(ledger.sweep)
    tree |= tree.pop("space")
    text = json.dumps(tree, ensure_ascii=False)
    document = parse_document(text, f"ledger of {ledger.name}", overrides)
    return sweep_of(with_absolute_paths(document))


@contextmanager
def _opening(home: Home, name: str, url: str | None) -> Iterator[Any]:
    """The storage of a ledger; raises LedgerError if Optuna cannot reach or read it."""
    failures: tuple[type[Exception], ...] = (OSError, ImportError, ValueError, KeyError)
    if url is not None:
        from sqlalchemy.exc import SQLAlchemyError

        failures += (SQLAlchemyError,)
    with quiet():
        try:
            yield JournalStorage(Journal(home.ledger_journal(name))) if url is None else url
        except failures as error:
            remedy = "; its sweep file, run again, goes on from the part that is whole"
            raise LedgerError(
                f"{name}: the ledger cannot be opened ({_reason(error)})"
                + (remedy if url is None and isinstance(error, ValueError) else "")
            ) from error


def _reason(error: Exception) -> str:
    """The first line of an error."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return (text.splitlines() or [type(error).__name__])[0]


def _refuse_other_place(home: Home, name: str, url: str | None) -> None:
    """Refuse to move a ledger: trials of one sweep in two ledgers would never be compared."""
    _refuse_imported(home, name)
    if url is None and home.ledger_url(name).exists():
        raise LedgerError(
            f"{name}: its ledger is a database outside this home; give places.ledger as before"
        )
    if url is not None and home.ledger_journal(name).exists():
        raise LedgerError(
            f"{name}: its ledger is in this home; leave places.ledger out, "
            "or give this sweep another name"
        )


def _refuse_imported(home: Home, name: str) -> None:
    if name in home.imported_sweeps():
        raise LedgerError(
            f"{name}: was imported and can only be read; to train it here, give its sweep file "
            f"another name, or remove it (xlt rm {name})"
        )


def _plain(sweep: SweepSpec) -> dict[str, Any]:
    resolved: dict[str, Any] = json.loads(json.dumps(sweep.resolved()))
    return resolved


def _named(resolved: dict[str, Any]) -> dict[str, Any]:
    """A resolved sweep with all defaults, whose model is a block without a revision, unless these
    are searched."""
    model = resolved["space"].get("model")
    if isinstance(model, str):
        model = {"name": model}
    elif isinstance(model, dict) and not isinstance(model.get("revision"), dict):
        model = {key: value for key, value in model.items() if key != "revision"}
    return {**resolved, "space": space_with_defaults({**resolved["space"], "model": model})}


def _refuse_other(ledger: Ledger, sweep: SweepSpec) -> None:
    changed = [change for change in changes_of(ledger, sweep) if not may_change(change)]
    if changed:
        raise LedgerError(
            f"{ledger.name}: a sweep of this name exists and differs in "
            + "; ".join(map(str, changed[:10]))
            + "; rename this one (finished stages are still shared), "
            f"undo the change, or remove that sweep (xlt rm {ledger.name})"
        )


def changes_of(ledger: Ledger, sweep: SweepSpec) -> list[KeyChange]:
    """The keys in which a sweep differs from its ledger."""
    sweep = continued(sweep, ledger)
    return [
        KeyChange(path, before, after)
        for path, before, after in differences(_named(ledger.sweep), _named(_plain(sweep)))
    ]


def may_change(change: KeyChange) -> bool:
    """Whether a sweep may continue with this change."""
    return may_change_key(change.path)


def may_change_key(key: str) -> bool:
    """Whether a sweep may continue with another value of a key."""
    return key != "resources.precision" and key.startswith(MAY_CHANGE)


@dataclass(frozen=True)
class KeyChange:
    """A key of a sweep whose value is not what it was."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path}: {_short(self.before)} -> {_short(self.after)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
