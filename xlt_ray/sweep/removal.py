"""Removes a sweep: ledger, MLflow runs, files, and the stages that no other sweep needs.

The ledger goes last, so that the same command continues a removal that was interrupted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, changes_of, delete_ledger, load_ledger, may_change
from xlt_ray.store.gc import GcRoots, Inventory, StoreEntry, plan, remove
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.quota import Uses, gc_roots, is_shared
from xlt_ray.tracking import mend_database
from xlt_ray.tracking.delete_runs import TrackedSweep, find_tracked, remove_tracked


@dataclass(frozen=True)
class SweepRemoval:
    """Everything that is removed with one sweep."""

    name: str
    ledger: Ledger | None
    """None if it cannot be read; its stages are then not known and stay."""
    problem: str
    """Why it cannot be read; empty if it can."""
    store: StageStore
    tracking_uri: str | None
    files: tuple[Path, ...]
    """Files of the home: report, tracebacks, updates that were not sent to MLflow."""
    num_file_bytes: int
    """Size of these files and of the journal of the ledger."""
    tracked: TrackedSweep
    entries: tuple[StoreEntry, ...] = ()
    """Entries of the store that only this sweep needs."""
    kept_by_reason: tuple[tuple[str, int], ...] = ()
    """Why its other stages stay, and their bytes."""


def find_removal(home: Home, name: str, say: Callable[[str], object]) -> SweepRemoval:
    """Find what removing a sweep removes.

    Args:
        say: called with a message if the MLflow database was damaged and is made anew.

    Raises:
        LedgerError: there is no sweep of this name, or its database cannot be reached.
        TrackingOutage: its MLflow does not answer.
        TrackingError: a model was registered from it.
    """
    ledger, problem = _ledger(home, name)
    files = tuple(home.files_of(name))
    places = {} if ledger is None else ledger.sweep["places"]
    uri = places.get("tracking")
    removal = SweepRemoval(
        name=name,
        ledger=ledger,
        problem=problem,
        store=StageStore(places.get("store") or home.stages),
        tracking_uri=uri,
        files=files,
        num_file_bytes=sum(map(_num_bytes, (*files, home.ledger_journal(name)))),
        tracked=TrackedSweep("", is_permanent=False),
    )
    if ledger is not None and not _is_own(ledger, home):
        return removal
    identity = home.identity if ledger is None else ledger.identity or home.identity
    runs = [] if ledger is None else [view.mlflow_run_id for view in ledger.trials()]
    run_id = next(filter(None, runs), None)
    mend_database(home, uri, say)
    removal = replace(removal, tracked=find_tracked(home, name, uri, identity, run_id))
    return removal if ledger is None else _with_entries(removal, home)


def remove_sweep(home: Home, removal: SweepRemoval) -> tuple[StoreEntry, ...]:
    """Remove a sweep of which the caller is the only driver.

    Returns:
        Entries that stay after all, because a process is making their stages by now.
    """
    remove_tracked(home, removal.name, removal.tracking_uri, removal.tracked)
    left = tuple(entry for entry in removal.entries if not remove(removal.store, entry))
    for path in removal.files:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    delete_ledger(home, removal.name, removal.ledger)
    return left


def begins_anew(home: Home, sweep: SweepSpec) -> str:
    """Why a run of this sweep replaces the ledger of its name; empty if it does not.

    It replaces a ledger that has made nothing if keys have changed that a ledger cannot continue
    with, or any keys after failed trials.
    """
    if sweep.name not in home.sweeps():
        return ""
    try:
        ledger = load_ledger(home, sweep.name)
    except LedgerError:
        return ""
    changes = changes_of(ledger, sweep)
    failed = sum(view.state == "failed" for view in ledger.trials())
    is_refused = any(not may_change(change) or change.path == "places.ledger" for change in changes)
    if not changes or not (failed or is_refused) or not _is_own(ledger, home):
        return ""
    if _has_made_something(ledger, home):
        return ""
    changed = "; ".join(map(str, sorted(changes, key=may_change)[:3]))
    more = f"; and {len(changes) - 3} more" if len(changes) > 3 else ""
    return (
        f"{sweep.name}: its earlier start made nothing"
        + (f" ({failed} trials failed)" if failed else "")
        + f"; its ledger begins anew with {changed}{more}"
    )


def _has_made_something(ledger: Ledger, home: Home) -> bool:
    """Whether it has scores or a part of a stage, or may have them."""
    trials = ledger.trials()
    uses = [stage for view in trials for stage in view.stages]
    if any(view.state in ("complete", "pruned") or view.curve for view in trials) or not all(
        stage.reused for stage in uses
    ):
        return True
    keys = {key for view in trials for key in view.path}
    store = StageStore(ledger.sweep["places"]["store"] or home.stages)
    return any(
        entry.sweep == ledger.name or (entry.sort == "progress" and entry.key in keys)
        for entry in Inventory(store).look()
    )


def _ledger(home: Home, name: str) -> tuple[Ledger | None, str]:
    """The ledger, or why it cannot be read."""
    try:
        return load_ledger(home, name), ""
    except LedgerError as error:
        is_away = home.ledger_url(name).exists() and not isinstance(error.__cause__, KeyError)
        if name not in home.sweeps() or is_away:
            raise
        return None, str(error)


def _num_bytes(path: Path) -> int:
    return sum(file.lstat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def _is_own(ledger: Ledger, home: Home) -> bool:
    """Whether this home has made the ledger, not another one with the same database."""
    return ledger.identity in ("", home.identity)


def _with_entries(removal: SweepRemoval, home: Home) -> SweepRemoval:
    """With the entries that `xlt gc` would free without this ledger, and its scores."""
    entries = Inventory(removal.store).look()
    uses, unread = Uses(home).read()
    others = [use for use in uses if use.name != removal.name]
    shared = is_shared(home, removal.store)
    everything = gc_roots(uses, is_store_shared=shared)
    used = gc_roots(use for use in uses if use.name == removal.name).used
    roots = replace(
        gc_roots(others, is_store_shared=shared),
        removed=used,
        home_sweeps=everything.home_sweeps,
    )
    planned = plan(entries, GcRoots(unread=tuple(unread)) if unread else roots)
    kept = tuple(decision for decision in planned.kept if decision.entry.key in used)
    return replace(
        removal,
        entries=tuple(removal.entry for removal in planned.removals if removal.entry.key in used),
        kept_by_reason=tuple(replace(planned, kept=kept).kept_by_reason.items()),
    )
