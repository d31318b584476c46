"""Room on the disk for a sweep: its store stays below ``store.quota``, or the sweep says why not.

A trial is handed out when what the running ones will still write and what it will write fits
below the quota, after freeing what :mod:`xlt_ray.stages.freeing` allows. How much a stage takes
is learned from what the store has held of the same model; before anything of a model was
stored, the weights of its layers alone are known, and its first trial may overstep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xlt_ray.home import Home
from xlt_ray.ledger import Ledger
from xlt_ray.spec.facts import Facts
from xlt_ray.spec.sizes import shown_bytes
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.stages.canonical import digest
from xlt_ray.stages.disk import Inventory, StoreEntry, remove
from xlt_ray.stages.freeing import GcRoots, RemovalPlan, plan
from xlt_ray.stages.path import StagePath, stages_to_run
from xlt_ray.stages.patience import patient
from xlt_ray.stages.stage import Stage
from xlt_ray.stages.store import StageStore
from xlt_ray.sweep.claims import Uses, still_needed

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
        parents = {one.key: one.parent for one in things if one.parent}
        for one in things:
            model = self._model_of(one.key, parents)
            if one.sort == "stage":
                kind = (model, one.kind)
                self.stages[kind] = max(self.stages.get(kind, 0), one.num_bytes)
                if one.kind != "evaluate":
                    self.weights[model] = max(self.weights.get(model, 0), one.other_bytes)
            elif one.sort == "progress" and not one.holder:
                # Somebody who is at work may be writing another one beside it.
                self.progress[model] = max(self.progress.get(model, 0), one.num_bytes)

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
    present = {one.key for one in things if one.sort == "stage"}
    written: dict[str, int] = {}
    for one in things:
        if one.sort == "progress":
            written[one.key] = one.num_bytes
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
        others = [one for one in self._things if one.key != key]
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
        gone = {one.thing.place for one in chosen.removals if remove(self._store, one.thing)}
        self._things = [one for one in things if one.place not in gone]
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
    return sum(one.num_bytes for one in things)


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
    places = dict.fromkeys([home.stages, *(one.store or home.stages for one in uses)])
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
