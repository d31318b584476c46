"""Keeps the store of a sweep below ``store.quota``, and finds the stages that sweeps still need.

A trial starts when all that it and the running trials will write fits below the quota, after
:mod:`xlt_ray.store.gc` has removed what it may. The roots of garbage collection (:func:`gc_roots`)
are all stages on the paths of unfinished trials. Stages before the target are also kept while a
sweep may try further configurations that share them, unless a continuous range decides them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from xlt_ray.config.facts import Facts
from xlt_ray.config.search_space import FloatRange, distributions_in, grid, split_space
from xlt_ray.config.seed_race import seed_levels
from xlt_ray.config.sweep import SEARCHABLE, SweepSpec, shown_bytes
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, TrialView, load_ledger
from xlt_ray.ledger.merges import Merged, merges_of
from xlt_ray.store.canonical import digest
from xlt_ray.store.gc import GcRoots, Inventory, StoreEntry, plan, remove
from xlt_ray.store.lease import find_holder
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import StagePath, dependencies, stages_to_run
from xlt_ray.store.storage import Storage, patient
from xlt_ray.store.store import StageStore

_BEFORE_TARGET = ("model", "align", "intermediate")
"""Sections of a sweep file that decide the stages before the target."""
_DECIDED_BY = {"align": ("model", "align"), "target": (*_BEFORE_TARGET, "target")}


@dataclass(frozen=True)
class SweepUse:
    """The stages that one sweep uses and may still use."""

    name: str
    trials: tuple[TrialView, ...]
    num_configurations: int
    """Configurations that it tries in all."""
    seeds: int = 1
    """Trials that every configuration gets."""
    contenders: frozenset[int] = frozenset()
    """Configurations that may get more of them (:meth:`xlt_ray.ledger.Ledger.contenders`)."""
    best: int | None = None
    """Number of the best trial of the best configuration."""
    continuous_parameters: frozenset[str] = frozenset()
    """Dotted paths of its continuous ranges."""
    is_running: bool = False
    store: str = ""
    """Its stage store; empty for that of the home."""
    merges: tuple[Merged, ...] = ()
    """Networks that were merged from its trials."""

    @cached_property
    def open_configurations(self) -> frozenset[int]:
        """Configurations with a trial that is not finished or not asked yet."""
        repeats: dict[int, set[int]] = {}
        for trial in self.trials:
            repeats.setdefault(trial.configuration, set()).add(trial.repeat)
        return frozenset(
            {trial.configuration for trial in self.trials if not trial.is_finished}
            | {number for number, seen in repeats.items() if len(seen) < self.seeds}
            | self.contenders
        )

    @property
    def is_unfinished(self) -> bool:
        asked = len({trial.configuration for trial in self.trials})
        return asked < self.num_configurations or bool(self.open_configurations)

    def returning(self) -> Iterator[str]:
        """Keys of stages that trials which are not asked yet may share."""
        if not self.is_unfinished:
            return
        for view in self.trials:
            sections = {path: path.partition(".")[0] for path in view.assignment}
            for stage in view.stages:
                # Only trials with different shots share a target stage.
                if stage.kind in ("few_shot", "evaluate") or (
                    stage.kind == "target" and "few_shot" not in sections.values()
                ):
                    continue
                deciding = _DECIDED_BY.get(stage.kind, _BEFORE_TARGET)
                is_unique = any(
                    path in self.continuous_parameters and section in deciding
                    for path, section in sections.items()
                )
                if not is_unique or view.configuration in self.open_configurations:
                    yield stage.key


def use_of(ledger: Ledger, merges: Iterable[Merged] = (), *, is_running: bool) -> SweepUse:
    """The stages that a sweep uses, from its ledger."""
    search, best = ledger.sweep["search"], ledger.best()
    document = parse_document(json.dumps(ledger.sweep["space"], ensure_ascii=False), ledger.name)
    space = split_space(document, ("data", *SEARCHABLE), fixed=("data",))
    num_configurations = int(search["trials"])
    # In ranges that depend on the model, the number of points is not known here.
    with contextlib.suppress(SpecError):
        if search["sampler"] in ("grid", "brute"):
            points = sum(1 for _ in itertools.islice(grid(space), num_configurations))
            num_configurations = min(num_configurations, points + len(search["first"]))
    return SweepUse(
        name=ledger.name,
        trials=tuple(ledger.trials()),
        num_configurations=num_configurations,
        seeds=seed_levels(search["seeds"])[0],
        contenders=ledger.contenders(),
        best=None if best is None else best.trial.number,
        continuous_parameters=frozenset(
            path for path, node in distributions_in(space.tree) if isinstance(node, FloatRange)
        ),
        is_running=is_running,
        store=ledger.sweep["places"]["store"] or "",
        merges=tuple(merges),
    )


class Uses:
    """The stages that the sweeps of a home use; reads a ledger again only if it has changed.

    Args:
        own: the ledger of the sweep that the caller drives.
    """

    def __init__(self, home: Home, own: Ledger | None = None) -> None:
        self._home = home
        self._own = own
        self._known: dict[str, tuple[object, SweepUse]] = {}

    def read(self) -> tuple[list[SweepUse], list[str]]:
        """The use of every sweep whose ledger can be read, and why others cannot."""
        uses, unread = [], []
        for name in self._home.sweeps():
            try:
                uses.append(self._use(name))
            except LedgerError as error:
                unread.append(str(error))
        return uses, unread

    def roots(self, *, is_store_shared: bool) -> GcRoots:
        """See :func:`gc_roots`; if a ledger cannot be read, all stages are roots."""
        uses, unread = self.read()
        if unread:
            return GcRoots(unread=tuple(unread))
        own = "" if self._own is None else self._own.name
        return gc_roots(uses, own=own, is_store_shared=is_store_shared)

    def _use(self, name: str) -> SweepUse:
        has_driver, merges = is_running(self._home, name), merges_of(self._home, name)
        if self._own is not None and name == self._own.name:
            return use_of(self._own, merges, is_running=has_driver)
        journal = self._home.ledger_journal(name)
        version: object = object()
        if journal.exists():
            status = journal.stat()
            version = (status.st_mtime_ns, status.st_size, has_driver, *merges)
        if name not in self._known or self._known[name][0] != version:
            use = use_of(load_ledger(self._home, name), merges, is_running=has_driver)
            self._known[name] = (version, use)
        return self._known[name][1]


def is_running(home: Home, name: str) -> bool:
    """Whether a driver is running this sweep."""
    holder = find_holder(Storage(home.root), home.driver_lease(name))
    return holder is not None and holder.is_alive


def gc_roots(uses: Iterable[SweepUse], *, own: str = "", is_store_shared: bool = False) -> GcRoots:
    """The stages of one store that the sweeps of a home need.

    Args:
        own: the sweep of the caller, which asks for no trial meanwhile.
        is_store_shared: whether other homes may use the same store.
    """
    needed: set[str] = set()
    best: set[str] = set()
    returning: set[str] = set()
    users: dict[str, set[tuple[str, int]]] = {}
    unknown: list[str] = []
    names: set[str] = set()
    for use in uses:
        names.add(use.name)
        # Another driver may ask for a trial at any moment.
        (needed if use.is_running and use.name != own else returning).update(use.returning())
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
        for merged in use.merges:
            users.setdefault(merged.evaluation, set())
            users.setdefault(merged.merge, set())
            best.add(merged.merge)
    return GcRoots(
        needed=frozenset(needed),
        best=frozenset(best),
        returning=frozenset(returning),
        shared=frozenset(key for key, trials in users.items() if len(trials) > 1),
        used=frozenset(users),
        unknown=tuple(unknown),
        home_sweeps=frozenset(names) if is_store_shared else None,
    )


def still_needed(path: StagePath, present: Container[str]) -> tuple[str, ...]:
    """Keys of a path that its trial still needs: the deepest stage that is present, those after it,
    and stages that the next one depends on besides (see :func:`dependencies`)."""
    stages = stages_to_run(path)
    deepest = max((index for index, stage in enumerate(stages) if stage.key in present), default=0)
    needed = [stage.key for stage in stages[deepest:]]
    for stage in stages[deepest + 1 : deepest + 2]:
        needed[:0] = [
            dependency.key for dependency in dependencies(stage) if dependency.key not in needed
        ]
    return tuple(needed)


SCORES_BYTES = 2**16
"""Assumed size of an evaluation, before the first one."""
OTHER_HOMES = "homes"
"""Folder of a store with a file for every other home that uses it."""
MOMENTS = 2
"""Floats that Adam keeps for each weight."""
LIST_AGAIN_S = 60.0
"""Seconds after which the store is listed again, because other processes may write to it."""
EXTRA_WEIGHTS = ("select", "average")
"""Settings of a stage for which a training keeps further weights."""


@dataclass
class StoreSizes:
    """The largest size seen so far of stages and progress, by model and kind.

    Before there are any of a model, only the weights of its layers are known, and its first trial
    may exceed the quota.
    """

    weights: dict[str, int]
    """Key of a pretrained model -> bytes of its weights, at first of its layers only."""
    stages: dict[tuple[str, str], int] = field(default_factory=dict)
    progress: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    """Key of a stage -> key of the pretrained model of its path."""

    def learn(self, entries: Iterable[StoreEntry], paths: Iterable[StagePath]) -> None:
        """Update the sizes from the entries, and the models of stages from the paths."""
        for path in paths:
            self.models.update({stage.key: path[0].key for stage in path})
        parents = {entry.key: entry.parent for entry in entries if entry.parent}
        for entry in entries:
            model = self._model_of(entry.key, parents)
            if entry.sort == "stage":
                kind = (model, entry.kind)
                self.stages[kind] = max(self.stages.get(kind, 0), entry.num_bytes)
                if entry.kind != "evaluate":
                    self.weights[model] = max(self.weights.get(model, 0), entry.other_bytes)
            elif entry.sort == "progress" and not entry.holder:
                # Its process may be writing the next one, too.
                self.progress[model] = max(self.progress.get(model, 0), entry.num_bytes)

    def of_stage(self, model: str, kind: str) -> int:
        """Bytes of a committed stage."""
        whole = self.weights.get(model, 0) * (1 + MOMENTS if kind == "trunk" else 1)
        return self.stages.get((model, kind), SCORES_BYTES if kind == "evaluate" else whole)

    def of_progress(self, model: str, training: Iterable[Stage]) -> int:
        """Bytes of the largest progress of these stages: weights, both moments, further weights."""
        kept = max(sum(name in stage.settings for name in EXTRA_WEIGHTS) for stage in training)
        return max(self.progress.get(model, 0), self.weights.get(model, 0) * (1 + MOMENTS + kept))

    def _model_of(self, key: str, parents: Mapping[str, str]) -> str:
        while key not in self.models and key in parents:
            key = parents[key]
        return self.models.get(key, key)


def growth_of(paths: Sequence[StagePath], entries: Sequence[StoreEntry], sizes: StoreSizes) -> int:
    """Most bytes that trials on these paths will still add to the store.

    New progress is written before the old one is deleted, and a result while its progress still
    exists. The present progress of a stage counts as written.
    """
    present = {entry.key for entry in entries if entry.sort == "stage"}
    written: dict[str, int] = {}
    for entry in entries:
        if entry.sort == "progress":
            written[entry.key] = entry.num_bytes
    results: dict[str, int] = {}
    growth = 0
    for path in paths:
        model, wanted = path[0].key, set(still_needed(path, present)) - present
        missing = [stage for stage in stages_to_run(path) if stage.key in wanted]
        results.update({stage.key: sizes.of_stage(model, stage.kind) for stage in missing})
        training = [stage for stage in missing if stage.is_training]
        if training:
            progress, last = sizes.of_progress(model, training), results[training[-1].key]
            present_bytes = max(written.get(stage.key, 0) for stage in training)
            growth += max(max(2 * progress - last, progress) - present_bytes, 0)
    return growth + sum(results.values())


class QuotaManager:
    """Keeps the store of the sweep that this process drives below its quota.

    It lists the store only when the last list, and what was committed since, come close to the
    quota. It waits for a store that cannot be reached, and calls ``say`` with a message.
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
        self._entries: list[StoreEntry] = []
        self._listed_at_s: float | None = None
        self._free_space = patient(self._free_below, say)
        self._add_stage = patient(self._list_stage, say)
        patient(mark_use, say)(home, store)

    def on_report(self, key: str) -> None:
        """Count a stage that was committed, and no longer its progress."""
        if self.quota_bytes is not None:
            self._add_stage(key)

    def list_again(self) -> None:
        """List the store next time: a trial has ended and left progress of unknown size."""
        self._listed_at_s = None

    def free_space(self, paths: Sequence[StagePath]) -> str:
        """Free as much as trials on these paths need to run to their end; the message to the user
        if that is not possible, else empty.

        If it is not possible, frees only what exceeds the quota now.
        """
        return "" if self.quota_bytes is None else self._free_space(self.quota_bytes, paths)

    def _list_stage(self, key: str) -> None:
        committed = self._inventory.stage(key)
        self._entries = [entry for entry in self._entries if entry.key != key] + committed
        self._sizes.learn(committed, [])

    def _free_below(self, quota_bytes: int, paths: Sequence[StagePath]) -> str:
        """See :meth:`free_space`."""
        self._learn([], paths)
        growth = growth_of(paths, self._entries, self._sizes)
        is_known = (
            self._listed_at_s is not None and time.monotonic() - self._listed_at_s < LIST_AGAIN_S
        )
        if is_known and _used(self._entries) + growth <= quota_bytes:
            return ""
        entries = self._entries = [*self._inventory.look()]
        self._listed_at_s = time.monotonic()
        self._learn(entries, paths)
        growth = growth_of(paths, entries, self._sizes)
        if _used(entries) + growth <= quota_bytes:
            return ""
        roots = self._uses.roots(is_store_shared=is_shared(self._home, self._store))
        wanted = plan(entries, roots, quota_bytes=quota_bytes, needed_bytes=growth)
        chosen = plan(entries, roots, quota_bytes=quota_bytes) if wanted.missing_bytes else wanted
        removed = {entry.place for entry, _ in chosen.removals if remove(self._store, entry)}
        self._entries = [entry for entry in entries if entry.place not in removed]
        used = _used(self._entries)
        if used + growth <= quota_bytes:
            return ""
        kept = ", ".join(
            f"{shown_bytes(num_bytes)} ({why})"
            for why, num_bytes in list(wanted.kept_by_reason.items())[:4]
        )
        return (
            f"store.quota: {shown_bytes(quota_bytes)} is too little: {self._store.storage.root} "
            f"holds {shown_bytes(used)}, and the next trial needs about {shown_bytes(growth)} "
            f"more; what cannot be freed: {kept or 'nothing'}; raise store.quota, "
            "or look at what `xlt gc --all-but-best` would free"
        )

    def _learn(self, entries: Sequence[StoreEntry], paths: Sequence[StagePath]) -> None:
        models = {facts.weights: facts for facts in self._facts.models.values()}
        for path in paths:
            model, facts = path[0].settings, models[path[0].settings["weights"]]
            # Attention and feed-forward of a layer have 12 hidden^2 float32 weights.
            layers = 4 * 12 * model.get("layers", facts.num_layers) * facts.hidden_size**2
            self._sizes.weights.setdefault(path[0].key, layers)
        self._sizes.learn(entries, paths)


def _used(entries: Iterable[StoreEntry]) -> int:
    return sum(entry.num_bytes for entry in entries)


def mark_use(home: Home, store: StageStore) -> None:
    """Register this home in a store outside of it.

    The store may be in another home, which would otherwise take all stages for its own.
    """
    if not _is_own(home, store):
        path = str(home.root.resolve())
        store.storage.write(f"{OTHER_HOMES}/{digest(path)}", path.encode())


def is_shared(home: Home, store: StageStore) -> bool:
    """Whether other homes may use this store, too."""
    return not _is_own(home, store) or bool(store.storage.names(OTHER_HOMES))


def _is_own(home: Home, store: StageStore) -> bool:
    root = store.storage.local_root
    return root is not None and root.resolve() == home.root.resolve()


def stores_of(home: Home) -> list[tuple[StageStore, tuple[StoreEntry, ...], GcRoots]]:
    """Every store that the sweeps of a home use, that of the home first: entries and roots."""
    known = Uses(home)
    uses, _ = known.read()
    places = dict.fromkeys([home.stages, *(use.store or home.stages for use in uses)])
    stores = [StageStore(place) for place in places]
    # List before reading the ledgers, so that a stage that is committed meanwhile is not listed.
    entries = [Inventory(store).look() for store in stores]
    roots = [known.roots(is_store_shared=is_shared(home, store)) for store in stores]
    return list(zip(stores, entries, roots, strict=True))
