"""What the stage store holds on disk, thing by thing, and how a thing is taken off it.

A *thing* is what can be removed by itself: a committed stage, the progress of an unfinished
one, a result that was set aside as damaged, what a dead process left over. Nothing is removed
but under the lease of its stage, so that nobody makes or commits it meanwhile; a committed
stage loses its record first, so that readers see it whole or not at all. What to remove is
decided in :mod:`xlt_ray.store.gc`.

Which things of the store are freed, in which order, so that the rest fits below a quota.

Pure: what the store holds and who lays claim to it go in, a :class:`RemovalPlan` comes out. First
goes what is of use to nobody: damaged results and what dead processes left. Then what no ledger
names, then what only ended trials name; of each, states of optimizers before weights, and the
oldest first. A trunk goes whole with its state: nothing can go on from its weights alone. What is
being made, what an unfinished trial goes on from, scores, and the target stage of a best trial are
never freed; what several configurations share, or a sweep may come back to, only where that was
asked for.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from xlt_ray.errors import DamagedStage
from xlt_ray.store.lease import Holder, find_holder
from xlt_ray.store.record import StageRecord
from xlt_ray.store.storage import Extent
from xlt_ray.store.store import RECORD, StageStore

OPTIMIZER = "optimizer.safetensors"
"""State of the optimizer: in progress, and in a committed trunk, for whoever goes on from it."""

Sort = Literal["stage", "progress", "damaged", "leftover"]

_DEPTH = {"stages": 2, "progress": 2, "damaged": 2, "scratch": 3}
"""Folder of the store -> parts of a path that name one thing in it."""
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoreEntry:
    """One thing in the store, as large as its files are."""

    sort: Sort
    place: str
    """Folder (or file) below the root of the store."""
    key: str
    """Of the stage it belongs to; empty where its name does not tell."""
    kind: str = ""
    """Of a committed stage."""
    label: str = ""
    parent: str | None = None
    """Key of the stage that a committed one was made from."""
    sweep: str = ""
    """The sweep that made a committed stage, by its record."""
    state_bytes: int = 0
    """State of an optimizer; all of a progress."""
    other_bytes: int = 0
    used: float = 0.0
    """When it was committed, or last written (seconds since 1970)."""
    holder: str = ""
    """Who is making this stage now."""

    @property
    def num_bytes(self) -> int:
        return self.state_bytes + self.other_bytes


@dataclass(frozen=True)
class _Told:
    """What the record of a committed stage says; None of ``kind`` where it cannot be read."""

    extent: Extent
    kind: str | None = None
    label: str = ""
    parent: str | None = None
    sweep: str = ""
    made: float | None = None


class Inventory:
    """Everything that a store holds; a record is read once and again only when it changed."""

    def __init__(self, store: StageStore) -> None:
        self.store = store
        self._told: dict[str, _Told] = {}

    def look(self) -> tuple[StoreEntry, ...]:
        """What is there now, by place. Leases, ledgers and caches are not counted."""
        found = {top: self.store.storage.files(top) for top in _DEPTH}
        held = _holders(self.store)
        return tuple(
            self._thing(top, place, files, found["stages"], held)
            for top, extents in found.items()
            for place, files in _by_place(top, extents)
        )

    def stage(self, key: str) -> list[StoreEntry]:
        """What is there of one stage that was committed; nothing where it was freed since."""
        place = f"stages/{key}"
        files = self.store.storage.files(place)
        return [self._thing("stages", place, files, {}, {})] if files else []

    def _thing(
        self,
        top: str,
        place: str,
        files: Mapping[str, Extent],
        stages: Mapping[str, Extent],
        held: Mapping[str, str],
    ) -> StoreEntry:
        match = _KEY.match(place.rpartition("/")[2])
        key = match[0] if match else ""
        total = sum(file.num_bytes for file in files.values())
        thing = StoreEntry(
            sort="leftover",
            place=place,
            key=key,
            other_bytes=total,
            used=max(file.written for file in files.values()),
            holder=held.get(key, ""),
        )
        if top == "damaged":
            return replace(thing, sort="damaged", holder="")
        if top == "progress" and f"{key}/{RECORD}" not in stages:
            return replace(thing, sort="progress", state_bytes=total, other_bytes=0)
        if top != "stages" or RECORD not in files:
            return thing
        told = self._record(key, files[RECORD])
        if told.kind is None:
            return replace(thing, sort="damaged")
        state = files[OPTIMIZER].num_bytes if OPTIMIZER in files else 0
        return replace(
            thing,
            sort="stage",
            kind=told.kind,
            label=told.label,
            parent=told.parent,
            sweep=told.sweep,
            state_bytes=state,
            other_bytes=total - state,
            used=thing.used if told.made is None else told.made,
        )

    def _record(self, key: str, extent: Extent) -> _Told:
        told = self._told.get(key)
        if told is None or told.extent != extent:
            told = self._told[key] = self._read(key, extent)
        return told

    def _read(self, key: str, extent: Extent) -> _Told:
        try:
            record = self.store.record(key)
        except DamagedStage:
            record = None
        if record is None:
            return _Told(extent)
        parent = record.payload["parent"]
        return _Told(
            extent=extent,
            kind=record.kind,
            label=record.label,
            parent=None if parent is None else str(parent),
            sweep=str(record.made_by.get("sweep", "")),
            made=_made(record),
        )


def remove(store: StageStore, thing: StoreEntry) -> int:
    """Take a thing off the disk; returns the bytes that it took.

    0 where somebody is making its stage, or has changed what is there since it was listed.
    """
    if not thing.key or thing.place.startswith("damaged/"):
        # Somebody else may be clearing the same place.
        with contextlib.suppress(FileNotFoundError):
            store.storage.remove(thing.place)
        return thing.num_bytes
    lease = store.lease(thing.key, purpose="frees disk space")
    if isinstance(lease, Holder):
        return 0
    with lease:
        if thing.place.startswith("stages/"):
            if thing.sort != "stage" and _is_sound(store, thing.key):
                return 0
            # Without its record it is no result any more, however far the rest gets.
            store.storage.remove(f"{thing.place}/{RECORD}")
        store.storage.remove(thing.place)
        return thing.num_bytes


def _is_sound(store: StageStore, key: str) -> bool:
    """Whether a stage was committed after it had been listed as damaged or left over."""
    try:
        return store.record(key) is not None
    except DamagedStage:
        return False


def _holders(store: StageStore) -> dict[str, str]:
    """Stage key -> whoever holds a living lease on it."""
    found: dict[str, str] = {}
    for name in store.storage.names("leases"):
        match = _KEY.match(name)
        if match is None or name != f"{match[0]}.json":
            continue
        holder = find_holder(store.storage, f"leases/{name}")
        if holder is not None and holder.is_alive:
            found[match[0]] = str(holder)
    return found


def _by_place(top: str, extents: Mapping[str, Extent]) -> Iterator[tuple[str, dict[str, Extent]]]:
    """Place -> files of the thing there, by their path inside it."""
    parts = sorted(tuple(path.split("/")) for path in extents)
    steps = _DEPTH[top] - 1
    for place, group in groupby(parts, key=lambda one: one[:steps]):
        files = {"/".join(one[steps:]): extents["/".join(one)] for one in group}
        yield "/".join((top, *place)), files


def _made(record: StageRecord) -> float | None:
    try:
        return datetime.datetime.fromisoformat(str(record.made_by["time"])).timestamp()
    except (KeyError, ValueError):
        return None


BROKEN, STATE, WHOLE, ENDED_STATE, ENDED_TARGET, ENDED_OTHER, SHARED_STATE, SHARED = range(8)
"""The order of freeing."""


@dataclass(frozen=True)
class GcRoots:
    """Keys of stages, by why somebody wants them."""

    needed: frozenset[str] = frozenset()
    """On the path of an unfinished trial, or a running sweep may come back to them."""
    best: frozenset[str] = frozenset()
    """Target stages of the best trials."""
    returning: frozenset[str] = frozenset()
    """A sweep that is not finished may come back to them."""
    shared: frozenset[str] = frozenset()
    """Trials of several configurations used them."""
    used: frozenset[str] = frozenset()
    """On the path of some trial."""
    unknown: tuple[str, ...] = ()
    """Sweeps with unfinished trials whose paths are not in their ledgers, which are older."""
    unread: tuple[str, ...] = ()
    """Why ledgers could not be read: what their sweeps need, nobody knows."""
    removed: frozenset[str] = frozenset()
    """Stages of a sweep that is being removed: its scores may go, too, where nobody else names
    them."""
    home_sweeps: frozenset[str] | None = None
    """The only sweeps whose stages may be freed, where other homes use this store, too."""


@dataclass(frozen=True)
class Removal:
    """One thing to be freed."""

    thing: StoreEntry
    why: str

    @property
    def num_bytes(self) -> int:
        return self.thing.num_bytes


@dataclass(frozen=True)
class Kept:
    """One thing that stays."""

    thing: StoreEntry
    why: str


@dataclass(frozen=True)
class RemovalPlan:
    """What is to be freed, in this order, and what stays."""

    removals: tuple[Removal, ...]
    kept: tuple[Kept, ...]
    used_bytes: int
    """What the store holds before anything is freed."""
    missing_bytes: int = 0
    """What does not fit below the quota even then."""
    quota_bytes: int | None = None

    @property
    def freed_bytes(self) -> int:
        return sum(removal.num_bytes for removal in self.removals)

    @property
    def kept_by_reason(self) -> dict[str, int]:
        """Why things stay -> bytes, the largest first."""
        found: dict[str, int] = {}
        for one in self.kept:
            found[one.why] = found.get(one.why, 0) + one.thing.num_bytes
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def plan(
    things: Iterable[StoreEntry],
    claims: GcRoots,
    *,
    quota_bytes: int | None = None,
    needed_bytes: int = 0,
    all_but_best: bool = False,
) -> RemovalPlan:
    """What to free so that ``needed_bytes`` more fit below the quota.

    Args:
        quota_bytes: None to free whatever no ledger names, however much room there is.
        all_but_best: free what is shared and what a sweep may come back to as well, last.
            Without a quota, everything that may be freed at all is.
    """
    there = tuple(things)
    last = SHARED if all_but_best else WHOLE if quota_bytes is None else ENDED_OTHER
    ranked = [(_rank(one, claims), one) for one in there]
    offered = sorted(
        ((rank, one) for rank, one in ranked if rank is not None and rank <= last),
        key=lambda offer: (offer[0], offer[1].used, offer[1].place),
    )
    used = sum(one.num_bytes for one in there)
    excess = None if quota_bytes is None else used + needed_bytes - quota_bytes
    removals: list[Removal] = []
    for _, one in offered:
        if excess is not None:
            if excess <= 0:
                break
            excess -= one.num_bytes
        removals.append(Removal(one, _named(one, claims)))
    freed = {removal.thing.place for removal in removals}
    return RemovalPlan(
        removals=tuple(removals),
        kept=tuple(
            Kept(one, _protected(one, claims) or _named(one, claims))
            for one in there
            if one.place not in freed
        ),
        used_bytes=used,
        missing_bytes=max(excess or 0, 0),
        quota_bytes=quota_bytes,
    )


def _rank(thing: StoreEntry, claims: GcRoots) -> int | None:
    """Place of a thing in the order of freeing; None where it is never freed."""
    if _protected(thing, claims):
        return None
    if thing.sort in ("damaged", "leftover"):
        return BROKEN
    is_state, key = thing.state_bytes > 0, thing.key
    if key in claims.best:
        return None
    if key in claims.returning:
        return SHARED_STATE if is_state else SHARED
    if key not in claims.used or thing.sort == "progress":
        return STATE if is_state else WHOLE
    if is_state:
        return ENDED_STATE
    if key in claims.shared:
        return SHARED
    return ENDED_TARGET if thing.kind == "target" else ENDED_OTHER


_NOBODYS = {
    "damaged": "damaged: does not match its record",
    "leftover": "left over by a process that died",
    "progress": "progress that no trial goes on from",
    "stage": "no trial of this home uses it",
}


def _protected(thing: StoreEntry, claims: GcRoots) -> str:
    """Why a thing is never freed; empty where it may be."""
    if thing.holder:
        return f"being made by {thing.holder}"
    if thing.sort in ("damaged", "leftover"):
        return ""
    if thing.kind == "evaluate" and thing.key not in claims.removed - claims.used:
        return "scores"
    if claims.unread:
        return f"a sweep may need it whose ledger cannot be read: {'; '.join(claims.unread)}"
    if thing.key in claims.needed:
        return "an unfinished trial needs it"
    if thing.key in claims.used:
        return ""
    if claims.unknown:
        return f"may be needed by an unfinished trial of {', '.join(claims.unknown)}"
    if claims.home_sweeps is not None and thing.sweep not in claims.home_sweeps:
        is_progress = thing.sort == "progress"
        return f"{'may be' if is_progress else 'was'} made for another home that uses this store"
    return ""


def _named(thing: StoreEntry, claims: GcRoots) -> str:
    """Who names a thing that may be freed."""
    if thing.sort == "stage":
        for keys, why in (
            (claims.best, "target stage of a best trial"),
            (claims.returning, "an unfinished sweep may come back to it"),
            (claims.shared, "shared by several configurations"),
            (claims.used, "used by ended trials only"),
        ):
            if thing.key in keys:
                return why
    return _NOBODYS[thing.sort]
