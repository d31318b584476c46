"""The keeper of a sweep's store: real ledgers, a real store, weights of a few bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sweep.conftest import TEXT, Driver, ReadSweep
from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import AskedTrial, Ledger, StageUse, open_ledger
from xlt_ray.store import storage
from xlt_ray.store.gc import Inventory, StoreEntry
from xlt_ray.store.lease import Lease, try_acquire
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import StagePath, path_of, stages_to_run
from xlt_ray.store.storage import Storage
from xlt_ray.store.store import StageStore
from xlt_ray.sweep import quota
from xlt_ray.sweep.quota import (
    OTHER_HOMES,
    SCORES_BYTES,
    QuotaManager,
    StoreSizes,
    growth_of,
    is_shared,
    stores_of,
)
from xlt_ray.sweep.tasks import Planner, Report

WEIGHTS = 10**6


@dataclass
class World:
    """A sweep with ledger, store and keeper; trials are walked by hand."""

    sweep: SweepSpec
    facts: Facts
    home: Home
    scratch: Path

    def __post_init__(self) -> None:
        self.ledger: Ledger = open_ledger(self.home, self.sweep)
        self.store = StageStore(self.sweep.settings.places.store or self.home.stages)
        self.said: list[str] = []
        self.keeper = self.keep()
        self._count = itertools.count()

    def keep(self) -> QuotaManager:
        """A keeper as the next driver has one."""
        return QuotaManager(
            self.sweep, self.facts, self.home, self.ledger, self.store, self.said.append
        )

    def ask(self) -> tuple[AskedTrial, StagePath]:
        planner = Planner(self.sweep, self.facts)
        self.ledger.keys_of = planner.keys
        asked_trial = self.ledger.ask(self.sweep, planner.facts.model_bounds)
        assert asked_trial is not None
        trial = self.sweep.trial_of(asked_trial.assignment, lambda _: {})
        return asked_trial, path_of(trial, self.facts, seed=asked_trial.seed, shared_seed=0)

    def commit(self, stage: Stage) -> None:
        folder = self.scratch / str(next(self._count))
        folder.mkdir(parents=True)
        if stage.is_training:
            (folder / "model.safetensors").write_bytes(b"w" * WEIGHTS)
        lease = self.store.lease(stage.key)
        assert isinstance(lease, Lease)
        record = StageRecord(
            stage.key, stage.payload, stage.label, {}, made_by={"sweep": self.sweep.name}
        )
        with lease:
            self.store.commit(stage, folder, record, lease)

    def walk(self, asked_trial: AskedTrial, path: StagePath, objective: float) -> None:
        """Make what is missing, note it, tell the trial complete."""
        for stage in stages_to_run(path):
            if stage not in self.store:
                self.commit(stage)
            self.keeper.on_report(stage.key)
        uses = [
            StageUse(stage.kind, stage.key, stage.label, False) for stage in stages_to_run(path)
        ]
        self.ledger.set_stages(asked_trial.number, uses)
        self.ledger.tell_complete(asked_trial.number, objective)

    def there(self) -> set[str]:
        return {one.key for one in Inventory(self.store).look() if one.sort == "stage"}


@pytest.fixture
def world(home: Home, sweep_from: ReadSweep, facts: Facts, tmp_path: Path) -> Callable[..., World]:
    def build(*overrides: str, text: str = TEXT) -> World:
        sweep = sweep_from(text, *overrides)
        return World(sweep, facts, home, tmp_path / f"results {sweep.name}")

    return build


def keys(path: StagePath, *kinds: str) -> set[str]:
    return {stage.key for stage in path if stage.kind in kinds}


def test_without_a_quota_there_is_always_room(world: Callable[..., World]) -> None:
    one = world()
    _, path = one.ask()
    assert not one.keeper.free_space([path])


def test_what_fits_is_let_be(world: Callable[..., World]) -> None:
    one = world("store.quota=20MB")
    asked_trial, path = one.ask()
    one.walk(asked_trial, path, 0.5)
    before = one.there()
    _, further = one.ask()
    room = one.keeper.free_space([further])
    assert room == ""
    assert one.there() == before


def test_targets_of_ended_trials_make_room_and_the_best_stays(
    world: Callable[..., World],
) -> None:
    # Two intermediate stages, the best target, and a training: 2 x progress (the best weights so
    # far among it) and the result.
    one = world("store.quota=12.2MB")
    paths = []
    for objective in (0.5, 0.9, 0.7):
        asked_trial, path = one.ask()
        room = one.keeper.free_space([path])
        assert not room
        one.walk(asked_trial, path, objective)
        paths.append(path)
    _, last = one.ask()
    assert not one.keeper.free_space([last])
    first, best, third = paths
    assert one.there() >= keys(best, "intermediate", "target", "evaluate")
    assert not one.there() & keys(first, "target")
    for path in paths:
        assert one.there() >= keys(path, "intermediate", "evaluate")
    assert one.there() >= keys(third, "target"), "the oldest goes first, and no more"


def test_where_no_room_can_be_made_it_says_what_holds_it_and_frees_no_more_than_it_must(
    world: Callable[..., World],
) -> None:
    one = world("store.quota=5MB")
    asked_trial, path = one.ask()
    one.walk(asked_trial, path, 0.5)
    asked_trial, further = one.ask()
    one.walk(asked_trial, further, 0.4)
    before = one.there()
    _, last = one.ask()
    room = one.keeper.free_space([last])
    assert room
    assert one.there() == before
    for said in ("store.quota: 5 MB is too little", str(one.home.root), "target stage of a best",
                 "an unfinished", "raise store.quota", "xlt gc --all-but-best"):  # fmt: skip
        assert said in room


def test_a_store_that_is_too_large_already_is_brought_below_the_quota(
    world: Callable[..., World],
) -> None:
    one = world("store.quota=5MB")
    for objective in (0.5, 0.9, 0.7, 0.6):
        asked_trial, path = one.ask()
        one.walk(asked_trial, path, objective)
    one.keeper.quota_bytes = 4 * WEIGHTS + 200_000
    assert not one.keeper.free_space([])
    assert sum(entry.num_bytes for entry in Inventory(one.store).look()) <= 4_200_000


def test_a_trial_that_is_held_back_keeps_what_it_goes_on_from(
    world: Callable[..., World],
) -> None:
    one = world("store.quota=1kB")
    _, path = one.ask()
    one.commit(path[1])
    assert one.keeper.free_space([])
    assert path[1] in one.store
    one.ledger.tell_failed(0, "bug", "x")
    assert not one.keeper.free_space([])
    assert path[1] not in one.store


def test_another_ledger_that_cannot_be_read_protects_everything(
    world: Callable[..., World], home: Home
) -> None:
    one = world("store.quota=1kB")
    _, path = one.ask()
    one.commit(path[1])
    home.ledger_journal("broken").write_text("")
    one.ledger.tell_failed(0, "bug", "x")
    room = one.keeper.free_space([])
    assert room
    assert path[1] in one.store
    assert "a sweep may need it whose ledger cannot be read: broken: " in room
    assert "an unfinished trial needs it" not in room
    home.ledger_journal("broken").unlink()
    assert not one.keeper.free_space([])


def test_another_sweep_keeps_what_it_needs(world: Callable[..., World]) -> None:
    other = world("name=other", "search={trials: 1}")
    asked_trial, path = other.ask()
    other.commit(path[1])
    one = world("store.quota=1kB")
    assert one.keeper.free_space([])
    assert path[1] in one.store
    other.ledger.tell_failed(asked_trial.number, "bug", "x")
    assert not one.keeper.free_space([]), "its ledger was read again"
    assert path[1] not in one.store


def test_progress_of_ended_trials_goes_although_another_sweep_is_unfinished(
    world: Callable[..., World],
) -> None:
    world("name=other", "search.training_seed=1").ask()
    one = world("store.quota=1kB")
    _, path = one.ask()
    place = f"progress/{path[1].key}"
    one.store.storage.write(f"{place}/1/weights.safetensors", b"w" * WEIGHTS)
    assert one.keeper.free_space([])
    one.ledger.tell_failed(0, "bug", "x")
    assert not one.keep().free_space([])
    assert not one.store.storage.exists(place)


def test_the_store_is_listed_only_where_what_was_heard_of_nears_the_quota(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world("store.quota=40MB")
    looks: list[float] = []
    look = Inventory.look

    def counted(self: Inventory) -> tuple[StoreEntry, ...]:
        looks.append(0.0)
        return look(self)

    monkeypatch.setattr(Inventory, "look", counted)
    for _ in range(2):
        asked_trial, path = one.ask()
        for stage in stages_to_run(path):
            assert not one.keeper.free_space([path])
            if stage not in one.store:
                one.commit(stage)
            one.keeper.on_report(stage.key)
        one.walk(asked_trial, path, 0.5)
        assert not one.keeper.free_space([])
    assert len(looks) == 1
    written = sum(entry.num_bytes for entry in look(Inventory(one.store)))
    one.keeper.quota_bytes = written
    assert not one.keeper.free_space([])
    assert len(looks) == 1, "what was heard of is what is there"
    one.keeper.quota_bytes = written - 1
    assert not one.keeper.free_space([])
    assert len(looks) == 2
    one.keeper.list_again()
    assert not one.keeper.free_space([])
    assert len(looks) == 3
    monkeypatch.setattr(quota, "LIST_AGAIN_S", 0.0)
    assert not one.keeper.free_space([])
    assert len(looks) == 4


def test_what_somebody_begins_to_make_is_let_be(world: Callable[..., World]) -> None:
    one = world("store.quota=1kB")
    _, path = one.ask()
    one.commit(path[1])
    one.ledger.tell_failed(0, "bug", "x")
    lease = one.store.lease(path[1].key)
    assert isinstance(lease, Lease)
    with lease:
        room = one.keeper.free_space([])
        assert room
        assert "being made by process" in room
    assert path[1] in one.store


def test_every_store_of_a_home_is_listed_with_its_claims(
    world: Callable[..., World], home: Home, tmp_path: Path
) -> None:
    world()
    elsewhere = world("name=other", f"places.store={tmp_path / 'elsewhere'}")
    _, path = elsewhere.ask()
    lease = try_acquire(Storage(home.root), home.driver_lease("other"))
    assert isinstance(lease, Lease)
    with lease:
        (own, _, first), (shared, _, second) = stores_of(home)
    assert own.storage.local_root == home.root
    assert shared.storage.local_root == tmp_path / "elsewhere"
    assert first.home_sweeps is None
    assert second.home_sweeps == {"t", "other"}
    assert first.needed == {stage.key for stage in stages_to_run(path)}


@dataclass
class Outage:
    """What cannot be reached so many times."""

    real: Callable[[str], Any]
    left: int

    def __call__(self, path: str) -> Any:
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("nobody listens")
        return self.real(path)


def test_a_keeper_waits_for_a_store_that_cannot_be_reached(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PAUSES_S", (0.0,) * 5)
    one = world("store.quota=20MB")
    _, path = one.ask()
    monkeypatch.setattr(one.store.storage, "files", Outage(one.store.storage.files, 3))
    assert not one.keeper.free_space([path])
    (said,) = one.said
    assert "cannot be reached (nobody listens)" in said


def test_a_driver_waits_for_a_store_that_cannot_be_reached(
    sweep_from: ReadSweep, facts: Facts, home: Home, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(storage, "PAUSES_S", (0.0,) * 5)
    driver = Driver(sweep_from(TEXT), facts, home, tmp_path / "results")
    monkeypatch.setattr(driver.store.storage, "exists", Outage(driver.store.storage.exists, 3))
    task = driver.next()
    driver.begin(task)
    stage = task.path[1]
    driver.commit(stage)
    monkeypatch.setattr(driver.store.storage, "exists", Outage(driver.store.storage.exists, 3))
    done = StageUse(stage.kind, stage.key, stage.label, False, stage.num_examples, 2.0)
    assert not driver.scheduler.on_report(
        task.number, Report("stage", stage.kind, finished_stage=done)
    )
    monkeypatch.undo()
    driver.make(task, "target", "evaluate")
    assert len(driver.reporter.warnings) == 2, "once in each outage"


def test_what_another_home_keeps_in_this_one_is_not_freed(
    world: Callable[..., World], sweep_from: ReadSweep, facts: Facts, home: Home, tmp_path: Path
) -> None:
    """Its ``places.store`` names this home's folder."""
    guest = World(
        sweep_from(TEXT, "name=guest", f"places.store={home.root}"),
        facts, Home(tmp_path / "guest"), tmp_path / "results of the guest",
    )  # fmt: skip
    _, path = guest.ask()
    guest.commit(path[1])
    guest.store.storage.write(f"progress/{path[2].key}/1/weights.safetensors", b"w" * WEIGHTS)
    one = world("store.quota=1kB")
    room = one.keeper.free_space([])
    assert room
    assert path[1] in one.store
    for said in ("was made for another home", "may be made for another home"):
        assert said in room
    ((_, _, roots),) = stores_of(home)
    assert roots.home_sweeps == {"t"}
    (_, (shared, _, _)) = stores_of(guest.home)
    assert is_shared(guest.home, shared)


def test_a_home_alone_in_its_store_frees_whatever_its_ledgers_do_not_name(
    world: Callable[..., World], home: Home
) -> None:
    gone = world("name=gone")
    _, path = gone.ask()
    gone.commit(path[1])
    home.ledger_journal("gone").unlink()
    one = world("store.quota=1kB", f"places.store={home.root}/../{home.root.name}")
    assert one.store.storage.names(OTHER_HOMES) == [], "the same folder, in other words"
    assert not one.keeper.free_space([])
    assert path[1] not in one.store


def test_growth_counts_what_is_missing_once_and_what_is_written_not_again() -> None:
    model = Stage("model", {}, {}, 0, None, "model")
    shared = Stage("intermediate", {}, {}, 0, model, "i")
    paths = [
        (model, shared, target, Stage("evaluate", {}, {}, 0, target, "e"))
        for target in (Stage("target", {"n": n}, {}, 0, shared, "t") for n in range(2))
    ]
    sizes = StoreSizes(weights={model.key: 10})
    sizes.learn([], paths)
    scores = 2 * SCORES_BYTES
    # A result is written beside its progress, progress beside the one before it.
    assert growth_of(paths[:1], [], sizes) == 10 + 60 + SCORES_BYTES
    assert growth_of(paths, [], sizes) == 10 + 2 * 60 + scores
    there = StoreEntry("stage", "s", shared.key, "intermediate", other_bytes=10)
    assert growth_of(paths, [there], sizes) == 2 * 60 + scores
    begun = StoreEntry("progress", "p", paths[0][2].key, state_bytes=30)
    assert growth_of(paths, [there, begun], sizes) == 2 * 60 - 30 + scores
    done = StoreEntry("stage", "e", paths[0][3].key, "evaluate", other_bytes=3)
    assert growth_of(paths[:1], [done], sizes) == 0
    larger = replace(there, other_bytes=20)
    sizes.learn([larger, replace(begun, state_bytes=70)], [])
    assert growth_of(paths[:1], [larger], sizes) == 2 * 70 + SCORES_BYTES


def test_growth_counts_the_weights_that_a_training_keeps_beside_its_last_ones() -> None:
    model = Stage("model", {}, {}, 0, None, "model")
    settings = {"select": {"checkpoint": "best", "metric": "f1"}, "average": 3}
    for kept in ((), ("select",), ("select", "average")):
        own = {name: settings[name] for name in kept}
        path = (model, Stage("target", own, {}, 0, model, "t"))
        sizes = StoreSizes(weights={model.key: 10})
        sizes.learn([], [path])
        assert growth_of([path], [], sizes) == 2 * 10 * (3 + len(kept))


def test_a_trunk_is_expected_with_its_optimizer_state() -> None:
    sizes = StoreSizes(weights={"m": 10})
    assert [sizes.of_stage("m", kind) for kind in ("trunk", "target")] == [30, 10]
    trunk = StoreEntry("stage", "s", "k", "trunk", parent="m", state_bytes=22, other_bytes=11)
    sizes.learn([trunk], [])
    assert [sizes.of_stage("m", kind) for kind in ("trunk", "target")] == [33, 11]
    assert sizes.of_stage("another", "target") == 0
