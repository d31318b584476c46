"""Garbage collection of a stage store, for ``store.quota``, ``xlt gc`` and ``xlt rm``.

:class:`Inventory` lists the entries of a store: committed stages, progress of unfinished ones,
damaged results, and leftovers of dead processes. :func:`plan` is pure: it decides which entries to
remove, in which order, given what the sweeps of a home still need (:class:`GcRoots`, from
:mod:`xlt_ray.sweep.quota`). :func:`remove` deletes one entry under the lease of its stage, so that
no process makes or commits the stage meanwhile, and deletes the record of a committed stage first,
so that readers see the stage whole or not at all.

Entries that no ledger names go first, then those of ended trials only; in both groups optimizer
states before weights, and the oldest first. A trunk goes whole, because no training can continue
from its weights alone. Scores, the target stages of best trials, stages that are being made, and
stages that an unfinished trial needs are never removed. Stages that several configurations share,
or that an unfinished sweep may need again, go only with ``all_but_best``.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import groupby
from typing import Any, Literal, NamedTuple

from xlt_ray.errors import DamagedStage
from xlt_ray.store.lease import Holder, find_holder
from xlt_ray.store.stage import is_adapter
from xlt_ray.store.storage import Extent
from xlt_ray.store.store import RECORD, StageStore

OPTIMIZER = "optimizer.safetensors"
"""Optimizer state, in progress and in a committed trunk."""

Sort = Literal["stage", "progress", "damaged", "leftover"]

_DEPTH = {"stages": 2, "progress": 2, "damaged": 2, "scratch": 3}
"""Folder of the store -> number of parts in the path of an entry."""
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoreEntry:
    """What can be removed by itself, with the size of its files."""

    sort: Sort
    place: str
    """Folder (or file) below the root of the store."""
    key: str
    """Key of its stage; empty if its name does not have one."""
    kind: str = ""
    """Kind of a committed stage."""
    label: str = ""
    parent: str | None = None
    """Key of the parent of a committed stage."""
    is_adapter: bool = False
    """Whether a committed stage needs the encoder below it."""
    sweep: str = ""
    """The sweep that made a committed stage, from its record."""
    state_bytes: int = 0
    """Optimizer state; all of a progress."""
    other_bytes: int = 0
    used: float = 0.0
    """When it was committed or last written (seconds since 1970)."""
    holder: str = ""
    """The process that is making this stage now."""

    @property
    def num_bytes(self) -> int:
        return self.state_bytes + self.other_bytes


class Inventory:
    """Lists a store; reads a record again only if it has changed."""

    def __init__(self, store: StageStore) -> None:
        self.store = store
        self._known: dict[str, tuple[Extent, dict[str, Any] | None]] = {}
        """Key -> fields of the entry from its record, None if that cannot be read."""

    def look(self) -> tuple[StoreEntry, ...]:
        """All entries, by place, without leases, ledgers and caches."""
        extents = {top: self.store.storage.files(top) for top in _DEPTH}
        holders = _holders(self.store)
        return tuple(
            self._entry(top, place, files, extents["stages"], holders)
            for top in extents
            for place, files in _by_place(top, extents[top])
        )

    def stage(self, key: str) -> list[StoreEntry]:
        """The entry of one committed stage; empty if it was removed since."""
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
        num_bytes = sum(file.num_bytes for file in files.values())
        entry = StoreEntry(
            sort="leftover",
            place=place,
            key=key,
            other_bytes=num_bytes,
            used=max(file.written for file in files.values()),
            holder=holders.get(key, ""),
        )
        if top == "damaged":
            return replace(entry, sort="damaged", holder="")
        if top == "progress" and f"{key}/{RECORD}" not in stages:
            return replace(entry, sort="progress", state_bytes=num_bytes, other_bytes=0)
        if top != "stages" or RECORD not in files:
            return entry
        extent, fields = self._known.get(key, (None, None))
        if extent != files[RECORD]:
            fields = self._read(key)
            self._known[key] = (files[RECORD], fields)
        if fields is None:
            return replace(entry, sort="damaged")
        state_bytes = files[OPTIMIZER].num_bytes if OPTIMIZER in files else 0
        other_bytes = num_bytes - state_bytes
        return replace(entry, state_bytes=state_bytes, other_bytes=other_bytes, **fields)

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            record = self.store.record(key)
        except DamagedStage:
            return None
        if record is None:
            return None
        parent = record.payload["parent"]
        fields: dict[str, Any] = {
            "sort": "stage",
            "kind": record.kind,
            "label": record.label,
            "parent": None if parent is None else str(parent),
            "is_adapter": is_adapter(record.payload),
            "sweep": str(record.made_by.get("sweep", "")),
        }
        with contextlib.suppress(KeyError, ValueError):
            made = datetime.datetime.fromisoformat(str(record.made_by["time"]))
            fields["used"] = made.timestamp()
        return fields


def remove(store: StageStore, entry: StoreEntry) -> int:
    """Delete an entry; returns its size.

    Returns 0 if a process is making the stage, or has committed it since the entry was listed.
    """
    if not entry.key or entry.place.startswith("damaged/"):
        # Another process may be deleting the same place.
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
            # Without its record it does not count as a result, even if the rest cannot be deleted.
            store.storage.remove(f"{entry.place}/{RECORD}")
        store.storage.remove(entry.place)
        return entry.num_bytes


def _is_sound(store: StageStore, key: str) -> bool:
    try:
        return store.record(key) is not None
    except DamagedStage:
        return False


def _holders(store: StageStore) -> dict[str, str]:
    """Stage key -> the holder of a living lease on it."""
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
    """Place of an entry -> its files, by their path inside it."""
    paths = sorted(tuple(path.split("/")) for path in extents)
    depth = _DEPTH[top] - 1
    for place, group in groupby(paths, key=lambda path: path[:depth]):
        files = {"/".join(path[depth:]): extents["/".join(path)] for path in group}
        yield "/".join((top, *place)), files


class Priority(IntEnum):
    """The order of removal; :func:`plan` says up to which one it goes."""

    BROKEN = 0
    STATE = 1
    WHOLE = 2
    ENDED_STATE = 3
    ENDED_TARGET = 4
    ENDED_OTHER = 5
    SHARED_STATE = 6
    SHARED = 7


@dataclass(frozen=True)
class GcRoots:
    """Keys of the stages that sweeps need, by reason."""

    needed: frozenset[str] = frozenset()
    """On the path of an unfinished trial, or a running sweep may need them again."""
    best: frozenset[str] = frozenset()
    """Target stages of the best trials."""
    returning: frozenset[str] = frozenset()
    """An unfinished sweep may need them again."""
    shared: frozenset[str] = frozenset()
    """Trials of several configurations use them."""
    used: frozenset[str] = frozenset()
    """On the path of any trial."""
    unknown: tuple[str, ...] = ()
    """Sweeps with unfinished trials whose ledgers are too old to have paths."""
    unread: tuple[str, ...] = ()
    """Why ledgers could not be read: the needs of their sweeps are not known."""
    removed: frozenset[str] = frozenset()
    """Stages of a sweep that is being removed: its scores may go, too, if no other sweep uses
    them."""
    home_sweeps: frozenset[str] | None = None
    """In a store that other homes use, too: the only sweeps whose stages may be removed."""


class Decision(NamedTuple):
    """An entry, and why it is removed or kept."""

    entry: StoreEntry
    reason: str


@dataclass(frozen=True)
class RemovalPlan:
    """What to remove, in this order, and what to keep."""

    removals: tuple[Decision, ...]
    kept: tuple[Decision, ...]
    used_bytes: int
    """Size of the store before the removal."""
    missing_bytes: int = 0
    """By how much the quota is exceeded even after it."""
    quota_bytes: int | None = None

    @property
    def freed_bytes(self) -> int:
        return sum(removal.entry.num_bytes for removal in self.removals)

    @property
    def kept_by_reason(self) -> dict[str, int]:
        """Reason -> bytes, the largest first."""
        sizes: Counter[str] = Counter()
        for kept in self.kept:
            sizes[kept.reason] += kept.entry.num_bytes
        return dict(sizes.most_common())


def plan(
    entries: Iterable[StoreEntry],
    roots: GcRoots,
    *,
    quota_bytes: int | None = None,
    needed_bytes: int = 0,
    all_but_best: bool = False,
) -> RemovalPlan:
    """Choose what to remove so that ``needed_bytes`` more fit below the quota.

    Args:
        quota_bytes: None removes all entries that no ledger names.
        all_but_best: also remove, last, what is shared and what a sweep may need again. Without a
            quota, everything that may be removed is.
    """
    entries = tuple(entries)
    roots = replace(roots, best=roots.best | _below_adapters(roots.best, entries))
    judged = [(entry, *_judge(entry, roots)) for entry in entries]
    if all_but_best:
        last = Priority.SHARED
    else:
        last = Priority.WHOLE if quota_bytes is None else Priority.ENDED_OTHER
    candidates = sorted(
        (priority, entry.used, entry.place, Decision(entry, reason))
        for entry, priority, reason in judged
        if priority is not None and priority <= last
    )
    used_bytes = sum(entry.num_bytes for entry, *_ in judged)
    excess = None if quota_bytes is None else used_bytes + needed_bytes - quota_bytes
    removals: list[Decision] = []
    for *_, removal in candidates:
        if excess is not None:
            if excess <= 0:
                break
            excess -= removal.entry.num_bytes
        removals.append(removal)
    freed = {removal.entry.place for removal in removals}
    return RemovalPlan(
        removals=tuple(removals),
        kept=tuple(
            Decision(entry, reason) for entry, _, reason in judged if entry.place not in freed
        ),
        used_bytes=used_bytes,
        missing_bytes=max(excess or 0, 0),
        quota_bytes=quota_bytes,
    )


_UNUSED = {
    "damaged": "damaged: does not match its record",
    "leftover": "left over by a process that died",
    "progress": "progress that no trial goes on from",
    "stage": "no trial of this home uses it",
}


def _below_adapters(keys: Iterable[str], entries: Iterable[StoreEntry]) -> set[str]:
    """Keys of the stages that hold the encoders of those adapters that are among ``keys``."""
    stages = {entry.key: entry for entry in entries if entry.sort == "stage"}
    below: set[str] = set()
    for key in keys:
        stage = stages.get(key)
        while stage is not None and (stage.is_adapter or (below and stage.kind == "trunk")):
            stage = stages.get(stage.parent or "")
            below |= {stage.key} if stage is not None else set()
    return below


def _judge(entry: StoreEntry, roots: GcRoots) -> tuple[Priority | None, str]:
    """Place of an entry in the order of removal, None if it is never removed; and the reason."""
    protection = _protection(entry, roots)
    if protection:
        return None, protection
    if entry.sort in ("damaged", "leftover"):
        return Priority.BROKEN, _UNUSED[entry.sort]
    key, has_state = entry.key, entry.state_bytes > 0
    if key in roots.best:
        if entry.kind == "merge":
            return None, "merged network of a sweep"
        is_below = entry.kind not in ("target", "few_shot")
        return None, f"{'below the ' if is_below else ''}target stage of a best trial"
    if key in roots.returning:
        with_state, whole = Priority.SHARED_STATE, Priority.SHARED
        reason = "an unfinished sweep may come back to it"
    elif key not in roots.used or entry.sort == "progress":
        with_state, whole = Priority.STATE, Priority.WHOLE
        reason = _UNUSED[entry.sort]
    elif key in roots.shared:
        with_state, whole = Priority.ENDED_STATE, Priority.SHARED
        reason = "shared by several configurations"
    else:
        whole = Priority.ENDED_TARGET if entry.kind == "target" else Priority.ENDED_OTHER
        with_state, reason = Priority.ENDED_STATE, "used by ended trials only"
    return with_state if has_state else whole, reason


def _protection(entry: StoreEntry, roots: GcRoots) -> str:
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
