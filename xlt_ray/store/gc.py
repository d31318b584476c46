"""Garbage collection of the stage store: what it holds, what may be removed, and removal.

:class:`Inventory` lists the entries of a store: committed stages, progress of unfinished stages,
damaged results, and leftovers of dead processes. :func:`plan` decides, without I/O, which of them
to remove, in the order of :class:`Priority`. :func:`remove` removes one under the lease of its
stage, so that no process makes or commits it meanwhile; a committed stage loses its record first,
so that readers see all of it or nothing.

Never removed are what a process is making, what an unfinished trial needs, scores, and the target
stages of best trials.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import groupby
from typing import Literal

from xlt_ray.errors import DamagedStage
from xlt_ray.store.lease import Holder, find_holder
from xlt_ray.store.record import StageRecord
from xlt_ray.store.storage import Extent
from xlt_ray.store.store import RECORD, StageStore

OPTIMIZER = "optimizer.safetensors"
"""Optimizer state, in progress and in a committed trunk."""

Sort = Literal["stage", "progress", "damaged", "leftover"]

_DEPTH = {"stages": 2, "progress": 2, "damaged": 2, "scratch": 3}
"""Folder of the store -> depth of its entries below the root."""
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoreEntry:
    """One entry of the store: what can be removed by itself."""

    sort: Sort
    place: str
    """Folder (or file) below the root of the store."""
    key: str
    """Of its stage; empty if the name does not say."""
    kind: str = ""
    """Kind of a committed stage."""
    label: str = ""
    parent: str | None = None
    """Key of the parent of a committed stage."""
    sweep: str = ""
    """Sweep that made a committed stage, by its record."""
    state_bytes: int = 0
    """Optimizer state; for progress all bytes."""
    other_bytes: int = 0
    used: float = 0.0
    """When it was committed or last written (seconds since 1970)."""
    holder: str = ""
    """The process that is making this stage now."""

    @property
    def num_bytes(self) -> int:
        return self.state_bytes + self.other_bytes


@dataclass(frozen=True)
class _Metadata:
    """Fields from the record of a committed stage; ``kind`` is None if it cannot be read."""

    extent: Extent
    kind: str | None = None
    label: str = ""
    parent: str | None = None
    sweep: str = ""
    made: float | None = None


class Inventory:
    """The entries of a store; a record is read again only when it has changed."""

    def __init__(self, store: StageStore) -> None:
        self.store = store
        self._metadata: dict[str, _Metadata] = {}

    def look(self) -> tuple[StoreEntry, ...]:
        """All entries now, without leases, ledgers and caches."""
        files_by_top = {top: self.store.storage.files(top) for top in _DEPTH}
        holders = _holders(self.store)
        return tuple(
            self._entry(top, place, files, files_by_top["stages"], holders)
            for top, extents in files_by_top.items()
            for place, files in _by_place(top, extents)
        )

    def stage(self, key: str) -> list[StoreEntry]:
        """The entry of a committed stage, or an empty list if it was freed."""
        place = f"stages/{key}"
        files = self.store.storage.files(place)
        return [self._entry("stages", place, files, {}, {})] if files else []

    def _entry(
        self,
        top: str,
        place: str,
        files: Mapping[str, Extent],
        stages: Mapping[str, Extent],
        holders: Mapping[str, str],
    ) -> StoreEntry:
        match = _KEY.match(place.rpartition("/")[2].lstrip("."))
        key = match[0] if match else ""
        total = sum(file.num_bytes for file in files.values())
        entry = StoreEntry(
            sort="leftover",
            place=place,
            key=key,
            other_bytes=total,
            used=max(file.written for file in files.values()),
            holder=holders.get(key, ""),
        )
        if top == "damaged":
            return replace(entry, sort="damaged", holder="")
        if top == "progress" and f"{key}/{RECORD}" not in stages:
            return replace(entry, sort="progress", state_bytes=total, other_bytes=0)
        if top != "stages" or RECORD not in files:
            return entry
        metadata = self._read(key, files[RECORD])
        if metadata.kind is None:
            return replace(entry, sort="damaged")
        state = files[OPTIMIZER].num_bytes if OPTIMIZER in files else 0
        return replace(
            entry,
            sort="stage",
            kind=metadata.kind,
            label=metadata.label,
            parent=metadata.parent,
            sweep=metadata.sweep,
            state_bytes=state,
            other_bytes=total - state,
            used=entry.used if metadata.made is None else metadata.made,
        )

    def _read(self, key: str, extent: Extent) -> _Metadata:
        metadata = self._metadata.get(key)
        if metadata is None or metadata.extent != extent:
            metadata = self._metadata[key] = _metadata_of(self.store, key, extent)
        return metadata


def _metadata_of(store: StageStore, key: str, extent: Extent) -> _Metadata:
    try:
        record = store.record(key)
    except DamagedStage:
        record = None
    if record is None:
        return _Metadata(extent)
    parent = record.payload["parent"]
    return _Metadata(
        extent=extent,
        kind=record.kind,
        label=record.label,
        parent=None if parent is None else str(parent),
        sweep=str(record.made_by.get("sweep", "")),
        made=_made(record),
    )


def remove(store: StageStore, entry: StoreEntry) -> int:
    """Remove an entry; returns the bytes that were freed.

    0 if a process is making its stage, or has committed it since it was listed.
    """
    if not entry.key or entry.place.startswith("damaged/"):
        # Another process may be removing it, too.
        with contextlib.suppress(FileNotFoundError):
            store.storage.remove(entry.place)
        return entry.num_bytes
    lease = store.lease(entry.key, purpose="frees disk space")
    if isinstance(lease, Holder):
        return 0
    with lease:
        if entry.place.startswith("stages/"):
            if entry.sort != "stage" and _is_sound(store, entry.key):
                return 0
            # Without its record it is not a result any more, even if the rest cannot be removed.
            store.storage.remove(f"{entry.place}/{RECORD}")
        store.storage.remove(entry.place)
        return entry.num_bytes


def _is_sound(store: StageStore, key: str) -> bool:
    """Whether a stage was committed after it had been listed as damaged or left over."""
    try:
        return store.record(key) is not None
    except DamagedStage:
        return False


def _holders(store: StageStore) -> dict[str, str]:
    """Stage key -> the living holder of its lease."""
    holders: dict[str, str] = {}
    for name in store.storage.names("leases"):
        match = _KEY.match(name)
        if match is None or name != f"{match[0]}.json":
            continue
        holder = find_holder(store.storage, f"leases/{name}")
        if holder is not None and holder.is_alive:
            holders[match[0]] = str(holder)
    return holders


def _by_place(top: str, extents: Mapping[str, Extent]) -> Iterator[tuple[str, dict[str, Extent]]]:
    """Place -> files of its entry, by their path inside it."""
    parts = sorted(tuple(path.split("/")) for path in extents)
    steps = _DEPTH[top] - 1
    for place, group in groupby(parts, key=lambda path: path[:steps]):
        files = {"/".join(path[steps:]): extents["/".join(path)] for path in group}
        yield "/".join((top, *place)), files


def _made(record: StageRecord) -> float | None:
    try:
        return datetime.datetime.fromisoformat(str(record.made_by["time"])).timestamp()
    except (KeyError, ValueError):
        return None


class Priority(IntEnum):
    """The order of removal; within a priority the oldest entry goes first.

    A *state* is an entry with optimizer state; a trunk is one, too: without its state nothing
    can continue it.
    """

    BROKEN = 0
    """Damaged results and leftovers."""
    UNUSED_STATE = 1
    """Of stages that no ledger names, and progress that no trial continues."""
    UNUSED = 2
    ENDED_STATE = 3
    """Of stages that only ended trials used."""
    ENDED_TARGET = 4
    ENDED_OTHER = 5
    SHARED_STATE = 6
    """Of stages that an unfinished sweep may come back to."""
    SHARED = 7
    """These stages, and those that several configurations used."""


@dataclass(frozen=True)
class GcRoots:
    """Keys of stages that are in use, by reason."""

    needed: frozenset[str] = frozenset()
    """On the path of an unfinished trial, or of use to a running sweep."""
    best: frozenset[str] = frozenset()
    """Target stages of the best trials."""
    returning: frozenset[str] = frozenset()
    """A sweep that is not finished may come back to them."""
    shared: frozenset[str] = frozenset()
    """Used by trials of several configurations."""
    used: frozenset[str] = frozenset()
    """On the path of any trial."""
    unknown: tuple[str, ...] = ()
    """Sweeps with unfinished trials whose ledgers, being old, do not hold their paths."""
    unread: tuple[str, ...] = ()
    """Why ledgers could not be read; what their sweeps need is unknown."""
    removed: frozenset[str] = frozenset()
    """Stages of a sweep that is being removed; its scores may go if no other sweep uses them."""
    home_sweeps: frozenset[str] | None = None
    """If other homes use this store: the only sweeps whose stages may be removed."""


@dataclass(frozen=True)
class Removal:
    """An entry to remove."""

    entry: StoreEntry
    why: str

    @property
    def num_bytes(self) -> int:
        return self.entry.num_bytes


@dataclass(frozen=True)
class Kept:
    """An entry that stays."""

    entry: StoreEntry
    why: str


@dataclass(frozen=True)
class RemovalPlan:
    """What to remove, in this order, and what stays."""

    removals: tuple[Removal, ...]
    kept: tuple[Kept, ...]
    used_bytes: int
    """Bytes in the store before anything is removed."""
    missing_bytes: int = 0
    """Bytes that do not fit below the quota even afterwards."""
    quota_bytes: int | None = None

    @property
    def freed_bytes(self) -> int:
        return sum(removal.num_bytes for removal in self.removals)

    @property
    def kept_by_reason(self) -> dict[str, int]:
        """Reason -> bytes that stay for it, the largest first."""
        bytes_by_reason: dict[str, int] = {}
        for kept in self.kept:
            bytes_by_reason[kept.why] = bytes_by_reason.get(kept.why, 0) + kept.entry.num_bytes
        return dict(sorted(bytes_by_reason.items(), key=lambda item: -item[1]))


def plan(
    entries: Iterable[StoreEntry],
    roots: GcRoots,
    *,
    quota_bytes: int | None = None,
    needed_bytes: int = 0,
    all_but_best: bool = False,
) -> RemovalPlan:
    """What to remove so that ``needed_bytes`` more fit below the quota.

    Args:
        quota_bytes: None to remove everything that no ledger names, whatever room there is.
        all_but_best: remove shared stages and those that a sweep may come back to as well, last.
            Without a quota, everything that may be removed is.
    """
    entries = tuple(entries)
    if all_but_best:
        last = Priority.SHARED
    else:
        last = Priority.UNUSED if quota_bytes is None else Priority.ENDED_OTHER
    removable = sorted(
        (
            (priority, entry)
            for entry in entries
            if (priority := _priority(entry, roots)) is not None and priority <= last
        ),
        key=lambda ranked: (ranked[0], ranked[1].used, ranked[1].place),
    )
    used_bytes = sum(entry.num_bytes for entry in entries)
    excess = None if quota_bytes is None else used_bytes + needed_bytes - quota_bytes
    removals: list[Removal] = []
    for _, entry in removable:
        if excess is not None:
            if excess <= 0:
                break
            excess -= entry.num_bytes
        removals.append(Removal(entry, _why_removable(entry, roots)))
    removed = {removal.entry.place for removal in removals}
    return RemovalPlan(
        removals=tuple(removals),
        kept=tuple(
            Kept(entry, _why_protected(entry, roots) or _why_removable(entry, roots))
            for entry in entries
            if entry.place not in removed
        ),
        used_bytes=used_bytes,
        missing_bytes=max(excess or 0, 0),
        quota_bytes=quota_bytes,
    )


def _priority(entry: StoreEntry, roots: GcRoots) -> Priority | None:
    """Priority of an entry; None if it is never removed."""
    if _why_protected(entry, roots):
        return None
    if entry.sort in ("damaged", "leftover"):
        return Priority.BROKEN
    is_state, key = entry.state_bytes > 0, entry.key
    if key in roots.best:
        return None
    if key in roots.returning:
        return Priority.SHARED_STATE if is_state else Priority.SHARED
    if key not in roots.used or entry.sort == "progress":
        return Priority.UNUSED_STATE if is_state else Priority.UNUSED
    if is_state:
        return Priority.ENDED_STATE
    if key in roots.shared:
        return Priority.SHARED
    return Priority.ENDED_TARGET if entry.kind == "target" else Priority.ENDED_OTHER


_UNUSED_REASONS = {
    "damaged": "damaged: does not match its record",
    "leftover": "left over by a process that died",
    "progress": "progress that no trial goes on from",
    "stage": "no trial of this home uses it",
}


def _why_protected(entry: StoreEntry, roots: GcRoots) -> str:
    """Why an entry is never removed; empty if it may be."""
    if entry.holder:
        return f"being made by {entry.holder}"
    if entry.sort in ("damaged", "leftover"):
        return ""
    if entry.kind == "evaluate" and entry.key not in roots.removed - roots.used:
        return "scores"
    if roots.unread:
        return f"a sweep may need it whose ledger cannot be read: {'; '.join(roots.unread)}"
    if entry.key in roots.needed:
        return "an unfinished trial needs it"
    if entry.key in roots.used:
        return ""
    if roots.unknown:
        return f"may be needed by an unfinished trial of {', '.join(roots.unknown)}"
    if roots.home_sweeps is not None and entry.sweep not in roots.home_sweeps:
        is_progress = entry.sort == "progress"
        return f"{'may be' if is_progress else 'was'} made for another home that uses this store"
    return ""


def _why_removable(entry: StoreEntry, roots: GcRoots) -> str:
    """Why an entry may be removed."""
    if entry.sort == "stage":
        for keys, why in (
            (roots.best, "target stage of a best trial"),
            (roots.returning, "an unfinished sweep may come back to it"),
            (roots.shared, "shared by several configurations"),
            (roots.used, "used by ended trials only"),
        ):
            if entry.key in keys:
                return why
    return _UNUSED_REASONS[entry.sort]
