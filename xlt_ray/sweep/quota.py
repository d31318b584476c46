"""Room on the disk for a sweep: its store stays below ``store.quota``, or the sweep says why not.

A trial is handed out when what the running ones will still write and what it will write fits
below the quota, after freeing what :mod:`xlt_ray.store.gc` allows. How much a stage takes
is learned from what the store has held of the same model; before anything of a model was
stored, the weights of its layers alone are known, and its first trial may overstep.

Which stages of a store the sweeps of a home still want: what may not be freed, and why.

The roots are all stages on the paths of all trials that are not finished. A ledger holds the path
of a trial from the moment when the trial is added to it, so what its trials will make, will reuse
from other sweeps, or have committed unnoticed is known without the facts of the sweep. Besides,
stages before the target are kept while a sweep may ask for further configurations that share them;
only where a real-valued range decides them is it clear that none will.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xlt_ray.config.facts import Facts
from xlt_ray.config.search_space import FloatRange, Space, distributions_in, grid, split_space
from xlt_ray.config.sweep import SEARCHABLE, SweepSpec, shown_bytes
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, TrialView, load_ledger
from xlt_ray.store.canonical import digest
from xlt_ray.store.gc import GcRoots, Inventory, RemovalPlan, StoreEntry, plan, remove
from xlt_ray.store.lease import find_holder
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import StagePath, dependencies, stages_to_run
from xlt_ray.store.storage import Storage, patient
from xlt_ray.store.store import StageStore

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
    real_parameters: frozenset[str] = frozenset()
    """Dotted paths of its real-valued ranges."""
    is_at_work: bool = False
    store: str = ""
    """Where it keeps its stages; empty where that is the home."""

    @property
    def open_configurations(self) -> frozenset[int]:
        """Configurations of which a trial is not finished, or not asked yet."""
        repeats: dict[int, set[int]] = {}
        for trial in self.trials:
            repeats.setdefault(trial.configuration, set()).add(trial.repeat)
        return frozenset(
            {trial.configuration for trial in self.trials if not trial.is_finished}
            | {number for number, there in repeats.items() if len(there) < self.seeds}
        )

    @property
    def is_unfinished(self) -> bool:
        asked = len({trial.configuration for trial in self.trials})
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
        real_parameters=frozenset(
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
            keys = {*view.path, *(stage.key for stage in view.stages)}
            for key in keys:
                users.setdefault(key, set()).add((use.name, view.configuration))
            if not view.is_finished or use.name in unknown:
                needed |= keys
            if view.number == use.best:
                best |= {stage.key for stage in view.stages if stage.kind in ("target", "few_shot")}
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
    needed = [stage.key for stage in stages[deepest:]]
    for stage in stages[deepest + 1 : deepest + 2]:
        needed[:0] = [
            dependency.key for dependency in dependencies(stage) if dependency.key not in needed
        ]
    return tuple(needed)


def _coming_back(use: SweepUse) -> Iterable[str]:
    """Keys of stages that trials which were not asked yet may share."""
    if not use.is_unfinished:
        return
    still_open = use.open_configurations
    for view in use.trials:
        for stage in view.stages:
            if stage.kind in ("few_shot", "evaluate"):
                continue
            # Trials that differ in their shots alone go on from one target stage.
            if stage.kind == "target" and not any(
                path.partition(".")[0] == "few_shot" for path in view.assignment
            ):
                continue
            sections = _DECIDED_BY.get(stage.kind, _BEFORE_TARGET)
            is_unique = any(
                path in use.real_parameters and path.partition(".")[0] in sections
                for path in view.assignment
            )
            if not is_unique or view.configuration in still_open:
                yield stage.key


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


SCORES_BYTES = 2**16
"""Of an evaluation record, before one was seen."""
GUESTS = "homes"
"""Folder of a store in which homes that lie elsewhere leave word that they use it."""
MOMENTS = 2
"""Floats that Adam keeps beside each weight."""
LOOK_S = 60.0
"""The store is listed again after so long, however much room there is: others may write to it."""
KEPT = ("select", "average")
"""Settings of a stage under which a training keeps weights besides its last ones."""


@dataclass
class StoreSizes:
    """How many bytes stages take, by model and kind: the most that was seen of each."""

    weights: dict[str, int]
    """Key of a given model -> bytes of its weights, at first as far as they are known."""
    stages: dict[tuple[str, str], int] = field(default_factory=dict)
    progress: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    """Key of a stage -> key of the model that its path starts from."""

    def learn(self, things: Iterable[StoreEntry], paths: Iterable[StagePath]) -> None:
        """Take over what is stored now, and which stages belong to which model."""
        for path in paths:
            self.models.update({stage.key: path[0].key for stage in path})
        parents = {thing.key: thing.parent for thing in things if thing.parent}
        for thing in things:
            model = self._model_of(thing.key, parents)
            if thing.sort == "stage":
                kind = (model, thing.kind)
                self.stages[kind] = max(self.stages.get(kind, 0), thing.num_bytes)
                if thing.kind != "evaluate":
                    self.weights[model] = max(self.weights.get(model, 0), thing.other_bytes)
            elif thing.sort == "progress" and not thing.holder:
                # Somebody who is at work may be writing another one beside it.
                self.progress[model] = max(self.progress.get(model, 0), thing.num_bytes)

    def of_stage(self, model: str, kind: str) -> int:
        """Bytes of a committed stage."""
        whole = self.weights.get(model, 0) * (1 + MOMENTS if kind == "trunk" else 1)
        return self.stages.get((model, kind), SCORES_BYTES if kind == "evaluate" else whole)

    def of_progress(self, model: str, training: Iterable[Stage]) -> int:
        """Bytes of the largest progress of these stages: weights, both moments, and the weights
        that are kept beside them."""
        kept = max(sum(name in stage.settings for name in KEPT) for stage in training)
        return max(self.progress.get(model, 0), self.weights.get(model, 0) * (1 + MOMENTS + kept))

    def _model_of(self, key: str, parents: Mapping[str, str]) -> str:
        while key not in self.models and key in parents:
            key = parents[key]
        return self.models.get(key, key)


def growth_of(paths: Sequence[StagePath], things: Sequence[StoreEntry], sizes: StoreSizes) -> int:
    """Bytes that trials on these paths will still write, at the moment when that is most.

    Progress is written anew before the old one is dropped, and a result while its progress is
    still there. What is there of a stage that is being made counts as written.
    """
    present = {thing.key for thing in things if thing.sort == "stage"}
    written: dict[str, int] = {}
    for thing in things:
        if thing.sort == "progress":
            written[thing.key] = thing.num_bytes
    results: dict[str, int] = {}
    growth = 0
    for path in paths:
        model, wanted = path[0].key, set(still_needed(path, present)) - present
        missing = [stage for stage in stages_to_run(path) if stage.key in wanted]
        results.update({one.key: sizes.of_stage(model, one.kind) for one in missing})
        training = [one for one in missing if one.is_training]
        if training:
            progress, last = sizes.of_progress(model, training), results[training[-1].key]
            there = max(written.get(one.key, 0) for one in training)
            growth += max(max(2 * progress - last, progress) - there, 0)
    return growth + sum(results.values())


@dataclass(frozen=True)
class DiskQuota:
    """Whether there is room, and what to say where there is none."""

    is_enough: bool
    message: str = ""


class QuotaManager:
    """Keeps the store of one sweep, which this process drives, below its quota.

    The store is listed where what was listed last, and was committed since, nears the quota. It
    waits for a store that cannot be reached, and ``say`` is told so.
    """

    def __init__(
        self,
        sweep: SweepSpec,
        facts: Facts,
        home: Home,
        ledger: Ledger,
        store: StageStore,
        say: Callable[[str], object],
    ) -> None:
        self.quota_bytes = sweep.settings.store.quota
        self._facts = facts
        self._home = home
        self._store = store
        self._inventory = Inventory(store)
        self._sizes = StoreSizes(weights={})
        self._uses = Uses(home, ledger)
        self._things: list[StoreEntry] = []
        self._looked: float | None = None
        self._make_room = patient(self._freed_for, say)
        self._count = patient(self._counted, say)
        patient(mark_use, say)(home, store)

    def on_report(self, key: str) -> None:
        """A stage was committed: it counts from now on, and its progress does no more."""
        if self.quota_bytes is not None:
            self._count(key)

    def look_again(self) -> None:
        """A trial has ended on its way, and left progress of unknown size."""
        self._looked = None

    def free_space(self, working: Sequence[StagePath]) -> DiskQuota:
        """Free what has to be freed so that these trials can be run to their end.

        Where even that is not enough, what the store holds is brought below the quota, as far
        as it can be, and no more than that is freed.

        Args:
            working: paths of the trials that run, and of one that is to be handed out.
        """
        if self.quota_bytes is None:
            return DiskQuota(is_enough=True)
        return self._make_room(self.quota_bytes, working)

    def _counted(self, key: str) -> None:
        others = [thing for thing in self._things if thing.key != key]
        there = self._inventory.stage(key)
        self._things = [*others, *there]
        self._sizes.learn(there, [])

    def _freed_for(self, quota_bytes: int, working: Sequence[StagePath]) -> DiskQuota:
        is_known = self._looked is not None and time.monotonic() - self._looked < LOOK_S
        self._learn([], working)
        growth = growth_of(working, self._things, self._sizes)
        if is_known and _used(self._things) + growth <= quota_bytes:
            return DiskQuota(is_enough=True)
        things = self._things = [*self._inventory.look()]
        self._looked = time.monotonic()
        self._learn(things, working)
        growth = growth_of(working, things, self._sizes)
        if _used(things) + growth <= quota_bytes:
            return DiskQuota(is_enough=True)
        claims = self._uses.claims(is_store_shared=is_shared(self._home, self._store))
        found = plan(things, claims, quota_bytes=quota_bytes, needed_bytes=growth)
        chosen = found
        if found.missing_bytes:
            chosen = plan(things, claims, quota_bytes=quota_bytes)
        gone = {
            removal.entry.place for removal in chosen.removals if remove(self._store, removal.entry)
        }
        self._things = [thing for thing in things if thing.place not in gone]
        left = _used(self._things)
        if left + growth <= quota_bytes:
            return DiskQuota(is_enough=True)
        return DiskQuota(False, _no_room(found, left, growth, str(self._store.storage.root)))

    def _learn(self, things: Sequence[StoreEntry], paths: Sequence[StagePath]) -> None:
        for path in paths:
            facts = self._facts.models[path[0].label]
            # Attention and feed-forward of a layer: 12 hidden^2 float32 weights.
            layers = 4 * 12 * facts.num_layers * facts.hidden_size**2
            self._sizes.weights.setdefault(path[0].key, layers)
        self._sizes.learn(things, paths)


def _used(things: Iterable[StoreEntry]) -> int:
    return sum(thing.num_bytes for thing in things)


def mark_use(home: Home, store: StageStore) -> None:
    """Leave word in a store outside of the home that its sweeps keep their stages there.

    It may lie in another home, which would take everything in it for its own.
    """
    if not _is_own(home, store):
        path = str(home.root.resolve())
        store.storage.write(f"{GUESTS}/{digest(path)}", path.encode())


def is_shared(home: Home, store: StageStore) -> bool:
    """Whether other homes may keep their stages in this store, too."""
    return not _is_own(home, store) or bool(store.storage.names(GUESTS))


def _is_own(home: Home, store: StageStore) -> bool:
    root = store.storage.local_root
    return root is not None and root.resolve() == home.root.resolve()


def stores_of(home: Home) -> list[tuple[StageStore, tuple[StoreEntry, ...], GcRoots]]:
    """Every store that the sweeps of a home use, the home's own first: what is there, and claims.

    Where a ledger cannot be read, all stages are claimed: what its sweep needs is not known.
    """
    known = Uses(home)
    uses, _ = known.read()
    places = dict.fromkeys([home.stages, *(use.store or home.stages for use in uses)])
    stores = [StageStore(place) for place in places]
    # Before what ledgers say by now: what a trial commits meanwhile is then not listed.
    things = [Inventory(store).look() for store in stores]
    claims = [known.claims(is_store_shared=is_shared(home, store)) for store in stores]
    return list(zip(stores, things, claims, strict=True))


def _no_room(found: RemovalPlan, left: int, growth: int, root: str) -> str:
    held = ", ".join(
        f"{shown_bytes(num_bytes)} ({why})"
        for why, num_bytes in list(found.kept_by_reason.items())[:4]
    )
    return (
        f"store.quota: {shown_bytes(found.quota_bytes or 0)} is too little: {root} holds "
        f"{shown_bytes(left)}, and the next trial needs about {shown_bytes(growth)} more; "
        f"what cannot be freed: {held or 'nothing'}; raise store.quota, "
        "or look at what `xlt gc --all-but-best` would free"
    )
