"""What the stage store holds on disk, thing by thing, and how a thing is taken off it.

A *thing* is what can be removed by itself: a committed stage, the progress of an unfinished
one, a result that was set aside as damaged, what a dead process left over. Nothing is removed
but under the lease of its stage, so that nobody makes or commits it meanwhile; a committed
stage loses its record first, so that readers see it whole or not at all. What to remove is
decided in :mod:`xlt_ray.stages.freeing`.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from xlt_ray.errors import DamagedStage
from xlt_ray.stages.lease import Holder, find_holder
from xlt_ray.stages.record import StageRecord
from xlt_ray.stages.storage import Extent
from xlt_ray.stages.store import RECORD, StageStore

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
        total = sum(one.num_bytes for one in files.values())
        thing = StoreEntry(
            sort="leftover",
            place=place,
            key=key,
            other_bytes=total,
            used=max(one.written for one in files.values()),
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
