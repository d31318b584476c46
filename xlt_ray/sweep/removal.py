"""A sweep that is removed: ledger, MLflow runs, files, and what in the store only it needs.

The ledger goes last. A removal that was broken off is repeated by the same command: what is gone
already is passed over.
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
    """Everything that goes with one sweep."""

    name: str
    ledger: Ledger | None
    """None where it cannot be read: then its stages are not known, and stay."""
    problem: str
    """Why it cannot be read; empty where it can."""
    store: StageStore
    things: tuple[StoreEntry, ...]
    """What is in the store for this sweep alone."""
    kept_by_reason: tuple[tuple[str, int], ...]
    """Why others of its stages stay, and their bytes."""
    tracked: TrackedSweep
    tracking_uri: str | None
    files: tuple[Path, ...]
    """In the home: report, tracebacks, what was not sent to MLflow."""
    num_file_bytes: int
    """Of these files and of the ledger's journal, where it has one."""


def find_removal(home: Home, name: str, say: Callable[[str], object]) -> SweepRemoval:
    """What removing a sweep would remove.

    Args:
        say: told in a line where MLflow's database was damaged, and is made anew.

    Raises:
        LedgerError: there is none of this name, or its database cannot be reached.
        TrackingOutage: its MLflow does not answer.
        TrackingError: a model was registered from it.
    """
    ledger, problem = _ledger(home, name)
    files = tuple(home.files_of(name))
    places = {} if ledger is None else ledger.sweep["places"]
    uri = places.get("tracking")
    found = SweepRemoval(
        name=name,
        ledger=ledger,
        problem=problem,
        store=StageStore(places.get("store") or home.stages),
        things=(),
        kept_by_reason=(),
        tracked=TrackedSweep("", is_permanent=False),
        tracking_uri=uri,
        files=files,
        num_file_bytes=sum(map(_num_bytes, (*files, home.ledger_journal(name)))),
    )
    if ledger is not None and not _is_own(ledger, home):
        return found
    identity = home.identity if ledger is None else ledger.identity or home.identity
    runs = [] if ledger is None else [view.mlflow_run_id for view in ledger.trials()]
    run_id = next(filter(None, runs), None)
    mend_database(home, uri, say)
    found = replace(found, tracked=find_tracked(home, name, uri, identity, run_id))
    return found if ledger is None else _with_things(found, home)


def remove_sweep(home: Home, found: SweepRemoval) -> tuple[StoreEntry, ...]:
    """Remove it; whoever calls this is the sweep's sole driver.

    Returns:
        Things of the store that stay after all: somebody is making their stages by now.
    """
    remove_tracked(home, found.name, found.tracking_uri, found.tracked)
    left = tuple(thing for thing in found.things if not remove(found.store, thing))
    for path in found.files:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    delete_ledger(home, found.name, found.ledger)
    return left


def begins_anew(home: Home, sweep: SweepSpec) -> str:
    """Why a run of this sweep begins a new ledger, though there is one of its name.

    It does so where that one has made nothing, and the sweep's keys have changed: those that a
    ledger cannot go on with, or others after all trials that ended had failed. Empty where the
    ledger goes on, or the sweep is new or refused.
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
    told = "; ".join(map(str, sorted(changes, key=may_change)[:3]))
    more = f"; and {len(changes) - 3} more" if len(changes) > 3 else ""
    return (
        f"{sweep.name}: its earlier start made nothing"
        + (f" ({failed} trials failed)" if failed else "")
        + f"; its ledger begins anew with {told}{more}"
    )


def _has_made_something(ledger: Ledger, home: Home) -> bool:
    """Whether it has scores, a stage or a part of one, or may have that."""
    trials = ledger.trials()
    uses = [stage for view in trials for stage in view.stages]
    if any(view.state in ("complete", "pruned") or view.curve for view in trials) or not all(
        stage.reused for stage in uses
    ):
        return True
    paths = {key for view in trials for key in view.path}
    store = StageStore(ledger.sweep["places"]["store"] or home.stages)
    return any(
        thing.sweep == ledger.name or (thing.sort == "progress" and thing.key in paths)
        for thing in Inventory(store).look()
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
    """Whether this home has made a ledger, and not another one that uses the same database."""
    return ledger.identity in ("", home.identity)


def _with_things(found: SweepRemoval, home: Home) -> SweepRemoval:
    """With what `xlt gc` would free if this ledger were not there, and its scores."""
    things = Inventory(found.store).look()
    uses, unread = Uses(home).read()
    others = [use for use in uses if use.name != found.name]
    used = {
        key
        for use in uses
        if use.name == found.name
        for view in use.trials
        for key in (*view.path, *(stage.key for stage in view.stages))
    }
    shared = is_shared(home, found.store)
    claims = replace(
        gc_roots(others, is_store_shared=shared),
        removed=frozenset(used),
        home_sweeps=frozenset(use.name for use in uses) if shared else None,
    )
    planned = plan(things, GcRoots(unread=tuple(unread)) if unread else claims)
    kept = tuple(one for one in planned.kept if one.entry.key in used)
    return replace(
        found,
        things=tuple(removal.entry for removal in planned.removals if removal.entry.key in used),
        kept_by_reason=tuple(replace(planned, kept=kept).kept_by_reason.items()),
    )
