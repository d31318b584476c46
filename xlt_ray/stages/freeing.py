"""Which things of the store are freed, in which order, so that the rest fits below a quota.

Pure: what the store holds and who lays claim to it go in, a :class:`RemovalPlan` comes out. First
goes what is of use to nobody: damaged results and what dead processes left. Then what no ledger
names, then what only ended trials name; of each, states of optimizers before weights, and the
oldest first. A trunk goes whole with its state: nothing can go on from its weights alone. What is
being made, what an unfinished trial goes on from, scores, and the target stage of a best trial are
never freed; what several configurations share, or a sweep may come back to, only where that was
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xlt_ray.stages.disk import StoreEntry

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
        return sum(one.num_bytes for one in self.removals)

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
    freed = {one.thing.place for one in removals}
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
