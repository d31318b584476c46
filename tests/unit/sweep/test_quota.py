"""The quota manager with real ledgers and a real store, and the roots of garbage collection."""

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
from xlt_ray.ledger import AskedTrial, Ledger, StageUse, State, TrialView, open_ledger
from xlt_ray.store import storage
from xlt_ray.store.gc import GcRoots, Inventory, StoreEntry
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
    SweepUse,
    gc_roots,
    growth_of,
    is_running,
    is_shared,
    still_needed,
    stores_of,
    use_of,
)
from xlt_ray.sweep.tasks import Planner, Report

WEIGHTS = 10**6


@dataclass
class QuotaSweep:
    """A sweep with ledger, store and quota manager."""

    sweep: SweepSpec
    facts: Facts
    home: Home
    scratch: Path

    def __post_init__(self) -> None:
        self.ledger: Ledger = open_ledger(self.home, self.sweep)
        self.store = StageStore(self.sweep.settings.places.store or self.home.stages)
        self.warnings: list[str] = []
        self.manager = self.new_manager()
        self._count = itertools.count()

    def new_manager(self) -> QuotaManager:
        """The manager of the next driver."""
        return QuotaManager(
            self.sweep, self.facts, self.home, self.ledger, self.store, self.warnings.append
        )

    def ask(self) -> tuple[AskedTrial, StagePath]:
        planner = Planner(self.sweep, self.facts)
        self.ledger.examples_of = planner.examples
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
            self.manager.on_report(stage.key)
        uses = [
            StageUse(stage.kind, stage.key, stage.label, False) for stage in stages_to_run(path)
        ]
        self.ledger.set_stages(asked_trial.number, uses)
        self.ledger.tell_complete(asked_trial.number, objective)

    def keys(self) -> set[str]:
        return {entry.key for entry in Inventory(self.store).look() if entry.sort == "stage"}


@pytest.fixture
def make(
    home: Home, sweep_from: ReadSweep, facts: Facts, tmp_path: Path
) -> Callable[..., QuotaSweep]:
    def build(*overrides: str, text: str = TEXT) -> QuotaSweep:
        sweep = sweep_from(text, *overrides)
        return QuotaSweep(sweep, facts, home, tmp_path / f"results {sweep.name}")

    return build


def keys(path: StagePath, *kinds: str) -> set[str]:
    return {stage.key for stage in path if stage.kind in kinds}


def test_without_a_quota_there_is_always_space(make: Callable[..., QuotaSweep]) -> None:
    sweep = make()
    _, path = sweep.ask()
    assert not sweep.manager.free_space([path])


def test_nothing_is_freed_while_everything_fits(make: Callable[..., QuotaSweep]) -> None:
    sweep = make("store.quota=20MB")
    asked_trial, path = sweep.ask()
    sweep.walk(asked_trial, path, 0.5)
    before = sweep.keys()
    _, further = sweep.ask()
    room = sweep.manager.free_space([further])
    assert room == ""
    assert sweep.keys() == before


def test_targets_of_ended_trials_are_freed_and_the_best_stays(
    make: Callable[..., QuotaSweep],
) -> None:
    # Two intermediate stages, the best target, and a training: 2 x progress (the best weights so
    # far among it) and the result.
    sweep = make("store.quota=12.2MB")
    paths = []
    for objective in (0.5, 0.9, 0.7):
        asked_trial, path = sweep.ask()
        room = sweep.manager.free_space([path])
        assert not room
        sweep.walk(asked_trial, path, objective)
        paths.append(path)
    _, last = sweep.ask()
    assert not sweep.manager.free_space([last])
    first, best, third = paths
    assert sweep.keys() >= keys(best, "intermediate", "target", "evaluate")
    assert not sweep.keys() & keys(first, "target")
    for path in paths:
        assert sweep.keys() >= keys(path, "intermediate", "evaluate")
    assert sweep.keys() >= keys(third, "target"), "the oldest goes first, and no more"


def test_without_enough_space_the_message_names_the_reasons_and_nothing_is_freed(
    make: Callable[..., QuotaSweep],
) -> None:
    sweep = make("store.quota=5MB")
    asked_trial, path = sweep.ask()
    sweep.walk(asked_trial, path, 0.5)
    asked_trial, further = sweep.ask()
    sweep.walk(asked_trial, further, 0.4)
    before = sweep.keys()
    _, last = sweep.ask()
    room = sweep.manager.free_space([last])
    assert room
    assert sweep.keys() == before
    for part in ("store.quota: 5 MB is too little", str(sweep.home.root), "target stage of a best",
                 "an unfinished", "raise store.quota", "xlt gc --all-but-best"):  # fmt: skip
        assert part in room


def test_a_store_above_the_quota_is_brought_below_it(
    make: Callable[..., QuotaSweep],
) -> None:
    sweep = make("store.quota=5MB")
    for objective in (0.5, 0.9, 0.7, 0.6):
        asked_trial, path = sweep.ask()
        sweep.walk(asked_trial, path, objective)
    sweep.manager.quota_bytes = 4 * WEIGHTS + 200_000
    assert not sweep.manager.free_space([])
    assert sum(entry.num_bytes for entry in Inventory(sweep.store).look()) <= 4_200_000


def test_a_waiting_trial_keeps_its_stages(
    make: Callable[..., QuotaSweep],
) -> None:
    sweep = make("store.quota=1kB")
    _, path = sweep.ask()
    sweep.commit(path[1])
    assert sweep.manager.free_space([])
    assert path[1] in sweep.store
    sweep.ledger.tell_failed(0, "bug", "x")
    assert not sweep.manager.free_space([])
    assert path[1] not in sweep.store


def test_another_ledger_that_cannot_be_read_protects_everything(
    make: Callable[..., QuotaSweep], home: Home
) -> None:
    sweep = make("store.quota=1kB")
    _, path = sweep.ask()
    sweep.commit(path[1])
    home.ledger_journal("broken").write_text("")
    sweep.ledger.tell_failed(0, "bug", "x")
    room = sweep.manager.free_space([])
    assert room
    assert path[1] in sweep.store
    assert "a sweep may need it whose ledger cannot be read: broken: " in room
    assert "an unfinished trial needs it" not in room
    home.ledger_journal("broken").unlink()
    assert not sweep.manager.free_space([])


def test_another_sweep_keeps_what_it_needs(make: Callable[..., QuotaSweep]) -> None:
    other = make("name=other", "search={trials: 1}")
    asked_trial, path = other.ask()
    other.commit(path[1])
    sweep = make("store.quota=1kB")
    assert sweep.manager.free_space([])
    assert path[1] in sweep.store
    other.ledger.tell_failed(asked_trial.number, "bug", "x")
    assert not sweep.manager.free_space([]), "its ledger was read again"
    assert path[1] not in sweep.store


def test_progress_of_ended_trials_is_freed_although_another_sweep_is_unfinished(
    make: Callable[..., QuotaSweep],
) -> None:
    make("name=other", "search.training_seed=1").ask()
    sweep = make("store.quota=1kB")
    _, path = sweep.ask()
    place = f"progress/{path[1].key}"
    sweep.store.storage.write(f"{place}/1/weights.safetensors", b"w" * WEIGHTS)
    assert sweep.manager.free_space([])
    sweep.ledger.tell_failed(0, "bug", "x")
    assert not sweep.new_manager().free_space([])
    assert not sweep.store.storage.exists(place)


def test_the_store_is_listed_only_when_the_known_stages_come_close_to_the_quota(
    make: Callable[..., QuotaSweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make("store.quota=40MB")
    looks: list[float] = []
    look = Inventory.look

    def counted(self: Inventory) -> tuple[StoreEntry, ...]:
        looks.append(0.0)
        return look(self)

    monkeypatch.setattr(Inventory, "look", counted)
    for _ in range(2):
        asked_trial, path = sweep.ask()
        for stage in stages_to_run(path):
            assert not sweep.manager.free_space([path])
            if stage not in sweep.store:
                sweep.commit(stage)
            sweep.manager.on_report(stage.key)
        sweep.walk(asked_trial, path, 0.5)
        assert not sweep.manager.free_space([])
    assert len(looks) == 1
    written = sum(entry.num_bytes for entry in look(Inventory(sweep.store)))
    sweep.manager.quota_bytes = written
    assert not sweep.manager.free_space([])
    assert len(looks) == 1, "the known stages are all"
    sweep.manager.quota_bytes = written - 1
    assert not sweep.manager.free_space([])
    assert len(looks) == 2
    sweep.manager.list_again()
    assert not sweep.manager.free_space([])
    assert len(looks) == 3
    monkeypatch.setattr(quota, "LIST_AGAIN_S", 0.0)
    assert not sweep.manager.free_space([])
    assert len(looks) == 4


def test_a_leased_stage_stays(make: Callable[..., QuotaSweep]) -> None:
    sweep = make("store.quota=1kB")
    _, path = sweep.ask()
    sweep.commit(path[1])
    sweep.ledger.tell_failed(0, "bug", "x")
    lease = sweep.store.lease(path[1].key)
    assert isinstance(lease, Lease)
    with lease:
        room = sweep.manager.free_space([])
        assert room
        assert "being made by process" in room
    assert path[1] in sweep.store


def test_every_store_of_a_home_is_listed_with_its_roots(
    make: Callable[..., QuotaSweep], home: Home, tmp_path: Path
) -> None:
    make()
    elsewhere = make("name=other", f"places.store={tmp_path / 'elsewhere'}")
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
    """A function that cannot reach the store ``left`` times."""

    real: Callable[[str], Any]
    left: int

    def __call__(self, path: str) -> Any:
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("no answer")
        return self.real(path)


def test_a_manager_waits_for_a_store_that_cannot_be_reached(
    make: Callable[..., QuotaSweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PAUSES_S", (0.0,) * 5)
    sweep = make("store.quota=20MB")
    _, path = sweep.ask()
    monkeypatch.setattr(sweep.store.storage, "files", Outage(sweep.store.storage.files, 3))
    assert not sweep.manager.free_space([path])
    (warning,) = sweep.warnings
    assert "cannot be reached (no answer)" in warning


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
    make: Callable[..., QuotaSweep], sweep_from: ReadSweep, facts: Facts, home: Home, tmp_path: Path
) -> None:
    """Its ``places.store`` names this home's folder."""
    guest = QuotaSweep(
        sweep_from(TEXT, "name=guest", f"places.store={home.root}"),
        facts, Home(tmp_path / "guest"), tmp_path / "results of the guest",
    )  # fmt: skip
    _, path = guest.ask()
    guest.commit(path[1])
    guest.store.storage.write(f"progress/{path[2].key}/1/weights.safetensors", b"w" * WEIGHTS)
    sweep = make("store.quota=1kB")
    room = sweep.manager.free_space([])
    assert room
    assert path[1] in sweep.store
    for part in ("was made for another home", "may be made for another home"):
        assert part in room
    ((_, _, roots),) = stores_of(home)
    assert roots.home_sweeps == {"t"}
    (_, (shared, _, _)) = stores_of(guest.home)
    assert is_shared(guest.home, shared)


def test_a_home_alone_in_its_store_frees_whatever_its_ledgers_do_not_name(
    make: Callable[..., QuotaSweep], home: Home
) -> None:
    gone = make("name=gone")
    _, path = gone.ask()
    gone.commit(path[1])
    home.ledger_journal("gone").unlink()
    sweep = make("store.quota=1kB", f"places.store={home.root}/../{home.root.name}")
    assert sweep.store.storage.names(OTHER_HOMES) == [], "the same folder, in other words"
    assert not sweep.manager.free_space([])
    assert path[1] not in sweep.store


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


# -- roots of garbage collection ---

SEARCH = """
name: t
data: {source: toy}
model: toy:2x64
intermediate: {task: pairs, size: {choice: [100, 200]}}
target: {task: nli, source_language: qaa, learning_rate: {float: [1e-4, 1e-3]}}
search: {trials: 4, seeds: 2, sampler: random}
"""


def view(
    number: int,
    state: State,
    *keys: str,
    configuration: int | None = None,
    repeat: int = 0,
    parameters: tuple[str, ...] = (),
    path: tuple[str, ...] = (),
) -> TrialView:
    """A trial that has noted stages: ``i1`` is an intermediate one, ``t1`` a target, ..."""
    names = ("align", "trunk", "intermediate", "target", "few_shot", "evaluate")
    kinds = dict(zip("akitfe", names, strict=True))
    return TrialView(
        number=number, state=state, assignment=dict.fromkeys(parameters, 0.1),
        configuration=number if configuration is None else configuration, repeat=repeat,
        seed=repeat, objective=None, curve=(), attempts=1, cause=None, message="", log="",
        stages=tuple(StageUse(kinds[key[0]], key, key, False) for key in keys),
        mlflow_run_id=None, retry_of=None, started=None, ended=None, path=path or keys,
    )  # fmt: skip


def roots_of(*trials: TrialView, num: int = 0, own: str = "", **more: object) -> GcRoots:
    """Roots of one sweep with these trials; it is finished without ``num``."""
    use = SweepUse("s", trials, num or len(trials), **more)  # type: ignore[arg-type]
    return gc_roots([use], own=own)


def test_a_finished_sweep_needs_its_best_target_and_shared_stages() -> None:
    roots = roots_of(
        view(0, "complete", "i1", "t1", "e1"), view(1, "complete", "i1", "t2", "e2"),
        view(2, "pruned", "i2"), best=1,
    )  # fmt: skip
    assert roots.best == {"t2"}
    assert roots.shared == {"i1"}
    assert roots.used == {"i1", "i2", "t1", "t2", "e1", "e2"}
    assert not roots.needed
    assert not roots.returning
    assert not roots.unknown


def test_repeats_of_one_configuration_are_not_shared() -> None:
    repeats = (
        view(0, "complete", "i1", "t1", configuration=0),
        view(1, "complete", "i1", "t2", configuration=0, repeat=1),
    )
    assert not roots_of(*repeats, num=1, seeds=2).shared


def test_two_sweeps_share() -> None:
    uses = [SweepUse(name, (view(0, "complete", "i1"),), 1) for name in ("a", "b")]
    assert gc_roots(uses).shared == {"i1"}


@pytest.mark.parametrize("own", ["", "s"])
@pytest.mark.parametrize("state", ["waiting", "running"])
def test_an_unfinished_trial_needs_its_whole_path(state: State, own: str) -> None:
    roots = roots_of(
        view(0, state, "i1", path=("i1", "t1", "e1")), view(1, "complete", "i2", "t2"), own=own
    )
    assert roots.needed == {"i1", "t1", "e1"}
    assert not roots.unknown


def test_a_stage_of_another_sweep_is_needed_by_the_path_that_reuses_it() -> None:
    maker = SweepUse("maker", (view(0, "complete", "i1", "t1"),), 1)
    user = SweepUse("user", (view(0, "waiting", path=("i1", "t2", "e2")),), 1)
    assert gc_roots([maker, user]).needed == {"i1", "t2", "e2"}


def test_the_path_of_a_failed_trial_is_used_and_not_needed() -> None:
    roots = roots_of(view(0, "failed", "i1", path=("i1", "t1", "e1")))
    assert roots.used == {"i1", "t1", "e1"}
    assert not roots.needed


def test_a_sweep_whose_ledger_has_no_paths_needs_all_its_stages() -> None:
    """It was written by an earlier version."""
    roots = roots_of(view(0, "failed", "i1", "t1"), replace(view(1, "running"), path=()))
    assert roots.needed == {"i1", "t1"}
    assert roots.unknown == ("s",)


@pytest.mark.parametrize(
    ("parameters", "returning"),
    [
        ((), {"a1", "i1", "k1"}),
        (("target.learning_rate",), {"a1", "i1", "k1"}),
        (("intermediate.learning_rate",), {"a1"}),
        (("align.mask",), set()),
    ],
)
def test_a_sweep_may_return_to_stages_that_no_continuous_range_decides(
    parameters: tuple[str, ...], returning: set[str]
) -> None:
    trial = view(0, "complete", "a1", "k1", "i1", "t1", "e1", parameters=parameters)
    assert (
        roots_of(trial, num=2, continuous_parameters=frozenset(parameters)).returning == returning
    )
    assert not roots_of(trial, num=1, continuous_parameters=frozenset(parameters)).returning


def test_trials_that_differ_in_their_shots_return_to_their_target_stage() -> None:
    trials = [
        view(
            number, "complete", "t1", f"f{number}", f"e{number}", parameters=("few_shot.language",)
        )
        for number in range(2)
    ]
    assert roots_of(*trials, num=3).returning == {"t1"}
    roots = roots_of(*trials, num=2, best=1)
    assert not roots.returning
    assert roots.best == {"t1", "f1"}


def test_a_repeat_that_was_not_asked_yet_returns_whatever_decides() -> None:
    continuous = frozenset({"intermediate.learning_rate"})
    trial = view(0, "complete", "i1", "t1", parameters=tuple(continuous))
    assert roots_of(trial, num=1, seeds=2, continuous_parameters=continuous).returning == {"i1"}


def test_what_another_driver_may_return_to_is_needed_now() -> None:
    trial = view(0, "complete", "i1", "t1")
    assert roots_of(trial, num=2, is_running=True).needed == {"i1"}
    roots = roots_of(trial, num=2, is_running=True, own="s")
    assert (roots.needed, roots.returning) == (set(), {"i1"})


def test_a_path_needs_its_deepest_stage_and_what_follows() -> None:
    model = Stage("model", {}, {}, 0, None, "model")
    align = Stage("align", {}, {}, 0, model, "align")
    target = Stage("target", {}, {}, 0, align, "target")
    scores = Stage("evaluate", {}, {}, 0, target, "evaluate")
    path = (model, align, target, scores)
    keys = [align.key, target.key, scores.key]
    assert still_needed(path, ()) == tuple(keys)
    assert still_needed(path, {align.key}) == tuple(keys)
    assert still_needed(path, {align.key, target.key}) == tuple(keys[1:])
    assert still_needed(path, set(keys)) == (scores.key,)
    trunk = Stage("trunk", {}, {}, 0, align, "trunk")
    decay = Stage("intermediate", {}, {}, 0, trunk, "decay")
    ladder = (model, align, trunk, decay)
    assert still_needed(ladder, {trunk.key}) == (align.key, trunk.key, decay.key)
    assert still_needed(ladder, {trunk.key, decay.key}) == (decay.key,)
    bare = Stage("trunk", {}, {}, 0, model, "trunk")
    last = Stage("intermediate", {}, {}, 0, bare, "decay")
    assert still_needed((model, bare, last), {bare.key}) == (bare.key, last.key)
    asks = {"retrieval_encoder": "before"}
    before = Stage("evaluate", asks, {}, 0, target, "evaluate")
    asking = (model, align, target, before)
    assert still_needed(asking, {align.key, target.key}) == (align.key, target.key, before.key)
    assert still_needed(asking, {stage.key for stage in asking[1:]}) == (before.key,)


@pytest.mark.parametrize(("shared", "names"), [(True, {"s"}), (False, None)])
def test_a_shared_store_has_the_names_of_the_sweeps(shared: bool, names: set[str] | None) -> None:
    assert gc_roots([SweepUse("s", (), 1)], is_store_shared=shared).home_sweeps == names


def test_all_that_may_win_a_race_of_seeds_is_open_until_the_race_ends(
    home: Home, sweep_from: ReadSweep
) -> None:
    sweep = sweep_from(SEARCH, "search={trials: 4, seeds: {race: {most: 2, keep: 2}}}")
    ledger = open_ledger(home, sweep)

    def opened() -> frozenset[int]:
        return use_of(ledger, is_running=False).open_configurations

    for number in range(4):
        assert ledger.ask(sweep, lambda _: {}) is not None
        ledger.tell_complete(number, number / 4) if number else ledger.tell_failed(0, "oom", "")
    assert opened() == {1, 2, 3}
    for number in (4, 5):
        assert ledger.ask(sweep, lambda _: {}) is not None
        ledger.tell_complete(number, 0.5)
    assert opened() == frozenset()


def test_the_use_of_a_sweep_is_read_from_its_ledger(home: Home, sweep_from: ReadSweep) -> None:
    sweep = sweep_from(SEARCH)
    ledger = open_ledger(home, sweep)
    assert use_of(ledger, is_running=False).is_unfinished
    for number in range(8):
        assert ledger.ask(sweep, lambda _: {}) is not None
        ledger.set_stages(number, [StageUse("target", f"t{number}", "target", False)])
        assert use_of(ledger, is_running=False).is_unfinished
        ledger.tell_complete(number, number / 10)
    use = use_of(ledger, is_running=is_running(home, "t"))
    assert not use.is_unfinished
    assert not use.is_running
    assert (use.num_configurations, use.seeds, use.best) == (4, 2, 7)
    assert use.continuous_parameters == {"target.learning_rate"}
    assert gc_roots([use]).best == {"t7"}


@pytest.mark.parametrize(
    ("layer", "num"), [("{choice: [0, 1]}", 4), ("{int: [0, num_layers - 1]}", 9)]
)
def test_a_grid_ends_where_its_points_end(
    home: Home, sweep_from: ReadSweep, layer: str, num: int
) -> None:
    sweep = sweep_from(
        SEARCH, "search={trials: 9, sampler: grid}", "target.learning_rate=1e-4",
        f"target.fusion={{method: dlfa, layer: {layer}}}",
    )  # fmt: skip
    assert use_of(open_ledger(home, sweep), is_running=False).num_configurations == num
