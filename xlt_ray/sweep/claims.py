"""Which stages of a store the sweeps of a home still want: what may not be freed, and why.

The roots are all stages on the paths of all trials that are not finished. A ledger holds the path
of a trial from the moment when the trial is added to it, so what its trials will make, will reuse
from other sweeps, or have committed unnoticed is known without the facts of the sweep. Besides,
stages before the target are kept while a sweep may ask for further configurations that share them;
only where a real-valued range decides them is it clear that none will.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, TrialView, load_ledger
from xlt_ray.spec.distributions import FloatRange, distributions_in
from xlt_ray.spec.source import parse_document
from xlt_ray.spec.space import Space, grid, split_space
from xlt_ray.spec.sweep import SEARCHABLE
from xlt_ray.stages.freeing import GcRoots
from xlt_ray.stages.lease import find_holder
from xlt_ray.stages.path import StagePath, dependencies, stages_to_run
from xlt_ray.stages.storage import Storage

_BEFORE_TARGET = ("model", "align", "intermediate")
"""Sections of a sweep file that decide a stage before the target."""
_DECIDED_BY = {"align": ("model", "align"), "target": (*_BEFORE_TARGET, "target")}


@dataclass(frozen=True)
class SweepUse:
    """What one sweep has done with the store, and may still do."""

    name: str
    trials: tuple[TrialView, ...]
    num_configurations: int
    """How many it asks in all."""
    seeds: int = 1
    best: int | None = None
    """Number of the best trial of the best configuration."""
    real_knobs: frozenset[str] = frozenset()
    """Dotted paths of its real-valued ranges."""
    is_at_work: bool = False
    store: str = ""
    """Where it keeps its stages; empty where that is the home."""

    @property
    def open_configurations(self) -> frozenset[int]:
        """Configurations of which a trial is not finished, or not asked yet."""
        repeats: dict[int, set[int]] = {}
        for one in self.trials:
            repeats.setdefault(one.configuration, set()).add(one.repeat)
        return frozenset(
            {one.configuration for one in self.trials if not one.is_finished}
            | {number for number, there in repeats.items() if len(there) < self.seeds}
        )

    @property
    def is_unfinished(self) -> bool:
        asked = len({one.configuration for one in self.trials})
        return asked < self.num_configurations or bool(self.open_configurations)


def use_of(ledger: Ledger, *, is_at_work: bool) -> SweepUse:
    """What a ledger says of its sweep's use of the store."""
    search, best = ledger.sweep["search"], ledger.best()
    space = _space_of(ledger.sweep, ledger.name)
    return SweepUse(
        name=ledger.name,
        trials=tuple(ledger.trials()),
        num_configurations=_num_configurations(search, space),
        seeds=search["seeds"],
        best=None if best is None else best.trial.number,
        real_knobs=frozenset(
            path for path, node in distributions_in(space.tree) if isinstance(node, FloatRange)
        ),
        is_at_work=is_at_work,
        store=ledger.sweep["places"]["store"] or "",
    )


class Uses:
    """What all sweeps of a home use; a ledger is read again only where its journal has changed.

    Args:
        own: the ledger of the sweep that the caller drives.
    """

    def __init__(self, home: Home, own: Ledger | None = None) -> None:
        self._home = home
        self._own = own
        self._known: dict[str, tuple[object, SweepUse]] = {}

    def read(self) -> tuple[list[SweepUse], list[str]]:
        """Of every sweep whose ledger can be read, and why others cannot."""
        uses, unread = [], []
        for name in self._home.sweeps():
            try:
                uses.append(self._use(name))
            except LedgerError as error:
                unread.append(str(error))
        return uses, unread

    def claims(self, *, is_store_shared: bool) -> GcRoots:
        """Of one store, as :func:`gc_roots`; where a ledger cannot be read, on everything."""
        uses, unread = self.read()
        if unread:
            return GcRoots(unread=tuple(unread))
        own = "" if self._own is None else self._own.name
        return gc_roots(uses, own=own, is_store_shared=is_store_shared)

    def _use(self, name: str) -> SweepUse:
        at_work = is_at_work(self._home, name)
        if self._own is not None and name == self._own.name:
            return use_of(self._own, is_at_work=at_work)
        journal = self._home.ledger_journal(name)
        stamp: object = object()
        if journal.exists():
            status = journal.stat()
            stamp = (status.st_mtime_ns, status.st_size, at_work)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            use = use_of(load_ledger(self._home, name), is_at_work=at_work)
            known = self._known[name] = (stamp, use)
        return known[1]


def is_at_work(home: Home, name: str) -> bool:
    """Whether a driver runs this sweep now."""
    holder = find_holder(Storage(home.root), home.driver_lease(name))
    return holder is not None and holder.is_alive


def gc_roots(
    uses: Iterable[SweepUse],
    *,
    own: str = "",
    is_store_shared: bool = False,
) -> GcRoots:
    """What all sweeps of a home claim of one store.

    Args:
        own: the sweep of the caller, who asks for nothing while he frees.
        is_store_shared: whether other homes may keep their stages in the same store.
    """
    needed: set[str] = set()
    best: set[str] = set()
    returning: set[str] = set()
    users: dict[str, set[tuple[str, int]]] = {}
    unknown: list[str] = []
    names: set[str] = set()
    for use in uses:
        names.add(use.name)
        coming_back = set(_coming_back(use))
        # A second driver asks whenever it likes: what it may come back to is needed now.
        (needed if use.is_at_work and use.name != own else returning).update(coming_back)
        if any(not view.path for view in use.trials if not view.is_finished):
            unknown.append(use.name)
        for view in use.trials:
            keys = {*view.path, *(one.key for one in view.stages)}
            for key in keys:
                users.setdefault(key, set()).add((use.name, view.configuration))
            if not view.is_finished or use.name in unknown:
                needed |= keys
            if view.number == use.best:
                best |= {one.key for one in view.stages if one.kind in ("target", "few_shot")}
    return GcRoots(
        needed=frozenset(needed),
        best=frozenset(best),
        returning=frozenset(returning),
        shared=frozenset(key for key, found in users.items() if len(found) > 1),
        used=frozenset(users),
        unknown=tuple(unknown),
        home_sweeps=frozenset(names) if is_store_shared else None,
    )


def still_needed(path: StagePath, present: Container[str]) -> tuple[str, ...]:
    """Keys of a path that its trial still needs: the deepest stage that is there, and the rest.

    What that one was made from is needed no more, but for the encoder below a trunk, and for the
    one before the target training where retrieval asks for it.
    """
    stages = stages_to_run(path)
    deepest = max((index for index, one in enumerate(stages) if one.key in present), default=0)
    needed = [one.key for one in stages[deepest:]]
    for stage in stages[deepest + 1 : deepest + 2]:
        needed[:0] = [one.key for one in dependencies(stage) if one.key not in needed]
    return tuple(needed)


def _coming_back(use: SweepUse) -> Iterable[str]:
    """Keys of stages that trials which were not asked yet may share."""
    if not use.is_unfinished:
        return
    still_open = use.open_configurations
    for view in use.trials:
        for one in view.stages:
            if one.kind in ("few_shot", "evaluate"):
                continue
            # Trials that differ in their shots alone go on from one target stage.
            if one.kind == "target" and not any(
                path.partition(".")[0] == "few_shot" for path in view.assignment
            ):
                continue
            sections = _DECIDED_BY.get(one.kind, _BEFORE_TARGET)
            is_unique = any(
                path in use.real_knobs and path.partition(".")[0] in sections
                for path in view.assignment
            )
            if not is_unique or view.configuration in still_open:
                yield one.key


def _space_of(sweep: Mapping[str, Any], name: str) -> Space:
    document = parse_document(json.dumps(sweep["space"], ensure_ascii=False), name)
    return split_space(document, ("data", *SEARCHABLE), fixed=("data",))


def _num_configurations(search: Mapping[str, Any], space: Space) -> int:
    trials = int(search["trials"])
    if search["sampler"] != "grid":
        return trials
    try:
        points = sum(1 for _ in itertools.islice(grid(space), trials))
    except SpecError:
        # Its ranges follow the model: how many points it has cannot be said here.
        return trials
    return min(trials, points + len(search["first"]))
