"""The promises of every stage store, in a local folder and in an object store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.conftest import FILES, Results
from xlt_ray.errors import DamagedStage, LeaseLost, StageConflict
from xlt_ray.store.canonical import digest
from xlt_ray.store.gc import Inventory
from xlt_ray.store.lease import Holder, Lease
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import RECORD, StageStore

STAGE = Stage("target", {"epochs": 1}, {"train": "digest"}, 0, None, "target nli 10", 10)
OTHER = Stage("target", {"epochs": 2}, {"train": "digest"}, 0, None, "target nli 10", 20)
RUNTIME = {"workers": 1, "device": "cpu"}


def record_of(stage: Stage, **content: Any) -> StageRecord:
    fields = {"runtime": RUNTIME, "num_examples": stage.num_examples, **content}
    return StageRecord(stage.key, stage.payload, stage.label, files={}, **fields)


def leased(store: StageStore, stage: Stage = STAGE) -> Lease:
    lease = store.lease(stage.key)
    assert isinstance(lease, Lease)
    return lease


def committed(store: StageStore, folder: Path, stage: Stage = STAGE, **content: Any) -> StageRecord:
    with leased(store, stage) as lease:
        return store.commit(stage, folder, record_of(stage, **content), lease)


def contents(store: StageStore, stage: Stage = STAGE) -> dict[str, bytes]:
    folder = store.folder(stage.key)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD
    }


def test_an_empty_store_has_nothing(store: StageStore) -> None:
    assert STAGE not in store
    assert (len(store), list(store)) == (0, [])
    assert store.record(STAGE.key) is None
    assert store.verify(STAGE.key) is None
    assert store.find_undamaged(STAGE) is None
    assert store.find_progress(STAGE.key) is None
    with pytest.raises(KeyError, match="target nli 10"):
        store[STAGE]


def test_a_committed_stage_is_found(store: StageStore, results: Results) -> None:
    scores = (Score("nli", "no", "test", "accuracy", 1 / 3, 7),)
    made = committed(store, results(), scores=scores, history=({"step": 1},))
    assert STAGE in store
    assert store[STAGE] == store.verify(STAGE.key) == store.find_undamaged(STAGE) == made
    assert made.scores == scores
    assert set(made.files) == set(FILES)
    assert contents(store) == FILES
    assert (len(store), list(store)) == (1, [STAGE.key])
    assert OTHER not in store


def test_a_second_store_on_the_same_place_sees_it(store: StageStore, results: Results) -> None:
    committed(store, results())
    root = store.storage.local_root or store.storage.fs.unstrip_protocol(store.storage.root)
    assert STAGE in StageStore(root, scratch=store.scratch)


def test_stages_do_not_mix(store: StageStore, results: Results) -> None:
    committed(store, results())
    committed(store, results(**{"config.json": b"other"}), OTHER)
    assert contents(store)["config.json"] == b"{}"
    assert contents(store, OTHER)["config.json"] == b"other"
    assert sorted(store) == sorted([STAGE.key, OTHER.key])


def test_a_result_without_files_is_a_result(store: StageStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    committed(store, tmp_path / "empty")
    assert store.verify(STAGE.key) is not None


@pytest.mark.parametrize(
    ("method", "survived"), [("take", 0), ("take", 1), ("take", 2), ("create", 0)]
)
def test_a_crash_in_the_middle_of_a_commit_commits_nothing(
    store: StageStore,
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    survived: int,
) -> None:
    real = getattr(store.storage, method)
    calls: list[int] = []

    def dying(*arguments: Any) -> None:
        if method == "create" and not arguments[0].endswith(RECORD):
            return real(*arguments)
        if len(calls) == survived:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments)

    with leased(store) as lease:
        monkeypatch.setattr(store.storage, method, dying)
        with pytest.raises(KeyboardInterrupt):
            store.commit(STAGE, results(), record_of(STAGE), lease)
        monkeypatch.setattr(store.storage, method, real)
    assert STAGE not in store
    assert len(store) == 0
    assert store.find_undamaged(STAGE) is None
    # What the first attempt left behind is no part of the next one's result.
    folder = results(**{"config.json": b"another"})
    (folder / "head.safetensors").unlink()
    committed(store, folder)
    assert store.verify(STAGE.key) is not None
    assert contents(store) == {
        "encoder/model.safetensors": b"weights", "config.json": b"another",
    }  # fmt: skip


def test_a_result_stands_although_its_progress_could_not_be_dropped(
    store: StageStore, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(_: str) -> None:
        raise KeyboardInterrupt

    with leased(store) as lease:
        monkeypatch.setattr(store, "drop_progress", dying)
        with pytest.raises(KeyboardInterrupt):
            store.commit(STAGE, results(), record_of(STAGE), lease)
    assert store.verify(STAGE.key) is not None


def stored(name: str) -> str:
    return f"stages/{STAGE.key}/{name}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda store: store.storage.write(stored("config.json"), b"[]"),
        lambda store: store.storage.write(stored("encoder/model.safetensors"), b"weight"),
        lambda store: store.storage.remove(stored("head.safetensors")),
        lambda store: store.storage.write(stored(RECORD), b""),
        lambda store: store.storage.write(stored(RECORD), b"\xff\xfe"),
        lambda store: store.storage.write(stored(RECORD), b'{"key": "x"}'),
        lambda store: store.storage.write(stored(RECORD), b"[]"),
    ],
    ids=["altered", "cut", "missing", "empty record", "no text", "foreign record", "list"],
)
def test_a_damaged_result_is_set_aside_and_made_again(
    store: StageStore, results: Results, damage: Callable[[StageStore], None]
) -> None:
    committed(store, results())
    damage(store)
    with pytest.raises(DamagedStage):
        store.verify(STAGE.key)
    assert store.find_undamaged(STAGE) is None
    assert STAGE not in store
    assert len(store.storage.names("damaged")) == 1
    committed(store, results())
    assert store.find_undamaged(STAGE) is not None


def altered(store: StageStore, change: Callable[[dict[str, Any]], None]) -> None:
    tree = json.loads(store.storage.read(stored(RECORD)))
    change(tree)
    store.storage.write(stored(RECORD), json.dumps(tree).encode())


def test_a_record_that_was_edited_is_refused(store: StageStore, results: Results) -> None:
    committed(store, results(), scores=(Score("nli", "no", "test", "accuracy", 0.5, 7),))
    altered(store, lambda tree: tree["scores"][0].update(value=0.9))
    with pytest.raises(DamagedStage, match="altered"):
        store.record(STAGE.key)


def test_a_record_under_another_key_is_refused(store: StageStore, results: Results) -> None:
    committed(store, results())
    content = store.storage.read(stored(RECORD))
    store.storage.write(f"stages/{OTHER.key}/{RECORD}", content)
    with pytest.raises(DamagedStage, match="another stage"):
        store.record(OTHER.key)
    with pytest.raises(DamagedStage):
        store[OTHER]


def test_damage_that_another_process_set_aside_is_gone(
    store: StageStore, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(store, results())
    store.storage.remove(stored("config.json"))
    real = store.verify

    def met_by_two(key: str) -> StageRecord | None:
        try:
            return real(key)
        except DamagedStage:
            store.set_aside(key)
            raise

    monkeypatch.setattr(store, "verify", met_by_two)
    assert store.find_undamaged(STAGE) is None


def test_an_equal_second_commit_is_dropped(store: StageStore, results: Results) -> None:
    first = committed(store, results(), seconds=1.0)
    folder = results()
    second = committed(store, folder, seconds=2.0)
    assert second == first
    assert store[STAGE].seconds == 1.0
    assert not folder.exists()


@pytest.mark.parametrize(
    ("files", "value"), [({"head.safetensors": b"H"}, 0.5), ({}, 0.6)], ids=["bits", "scores"]
)
def test_another_result_under_an_equal_runtime_is_a_conflict(
    store: StageStore, results: Results, files: dict[str, bytes], value: float
) -> None:
    score = Score("nli", "no", "test", "accuracy", 0.5, 7)
    first = committed(store, results(), scores=(score,))
    with pytest.raises(StageConflict, match="different bits"):
        committed(store, results(**files), scores=(replace(score, value=value),))
    assert store.verify(STAGE.key) == first


def test_the_first_commit_stands_under_another_runtime(store: StageStore, results: Results) -> None:
    first = committed(store, results())
    second = committed(
        store, results(**{"head.safetensors": b"H"}), runtime={**RUNTIME, "workers": 2}
    )
    assert second == first
    assert contents(store) == FILES


def take_over(store: StageStore) -> None:
    thief = Holder("another/machine", 1, 0.0, "thief", time.time() + 60)
    store.storage.write(f"leases/{STAGE.key}.json", json.dumps(asdict(thief)).encode())


def test_a_process_that_lost_the_lease_does_not_commit(store: StageStore, results: Results) -> None:
    with leased(store) as lease:
        take_over(store)
        with pytest.raises(LeaseLost):
            store.commit(STAGE, results(), record_of(STAGE), lease)
    assert STAGE not in store


def test_a_process_that_loses_the_lease_while_committing_does_not_commit(
    store: StageStore, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.storage.take

    def slow(local_file: Path, path: str) -> None:
        real(local_file, path)
        take_over(store)

    with leased(store) as lease:
        monkeypatch.setattr(store.storage, "take", slow)
        with pytest.raises(LeaseLost):
            store.commit(STAGE, results(), record_of(STAGE), lease)
    assert STAGE not in store


def test_a_leased_stage_has_one_maker(store: StageStore) -> None:
    with leased(store):
        assert isinstance(store.lease(STAGE.key), Holder)
    leased(store).release()


def test_a_commit_whose_answer_was_lost_stands(
    store: StageStore, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is sent again, and the second one finds the record of the first."""
    real = store.storage.create

    def without_answer(path: str, content: bytes) -> bool:
        return real(path, content) and not path.endswith(RECORD)

    monkeypatch.setattr(store.storage, "create", without_answer)
    folder = results()
    with leased(store) as lease:
        made = store.commit(STAGE, folder, record_of(STAGE), lease)
    assert store.verify(STAGE.key) == made
    assert not folder.exists()


@pytest.mark.parametrize("place", ["drop_progress", "storage.create"])
def test_a_trunk_is_found_wherever_its_commit_was_cut_off(
    store: StageStore, results: Results, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    small, large = (Stage("trunk", {"steps": n}, {}, 0, None, "trunk") for n in (10, 20))
    owner, name = (store.storage, "create") if "." in place else (store, place)
    real = getattr(owner, name)

    def dying(path: str, *content: bytes) -> object:
        if name == "create" and RECORD not in path:
            return real(path, *content)
        raise KeyboardInterrupt

    with leased(store, small) as lease:
        monkeypatch.setattr(owner, name, dying)
        with pytest.raises(KeyboardInterrupt):
            store.commit(small, results(), record_of(small), lease)
        monkeypatch.undo()
    assert store.find_shorter(large) == ((small.key, 10) if small in store else None)
    if small not in store:
        committed(store, results(), small)
    assert store.find_shorter(large) == (small.key, 10)


def test_a_record_is_found_without_reading_its_files(store: StageStore, results: Results) -> None:
    made = committed(store, results())
    store.storage.remove(stored("head.safetensors"))
    assert store.find_recorded(STAGE) == made
    assert store.find_recorded(OTHER) is None
    store.storage.write(stored(RECORD), b"{}")
    assert store.find_recorded(STAGE) is None
    assert len(store.storage.names("damaged")) == 1


# -- fetching -----------------------------------------------------------------------------


def test_an_interrupted_fetch_leaves_no_copy(
    tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StageStore(f"memory://{tmp_path.name}", scratch=tmp_path / "scratch")
    committed(store, results())

    def broken_off(_: str, __: object, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(store.storage, "fetch", broken_off)
    with pytest.raises(KeyboardInterrupt):
        store.folder(STAGE.key)
    monkeypatch.undo()
    assert contents(store) == FILES
    store.storage.remove("")


def test_processes_that_tune_moved_fetch_into_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune gives every trial a working folder of its own; copies there would be made n times."""
    for name in ("trial-1", "before"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "trial-1")
    assert StageStore("memory://x").scratch == tmp_path / "trial-1" / "xlt-scratch"
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(tmp_path / "before"))
    assert StageStore("memory://x").scratch == tmp_path / "before" / "xlt-scratch"
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(tmp_path / "gone"))
    assert StageStore("memory://x").scratch == tmp_path / "trial-1" / "xlt-scratch"


def test_a_result_of_a_newer_version_is_found_and_not_set_aside(
    store: StageStore, results: Callable[..., Path]
) -> None:
    record = committed(store, results())
    tree = {**record.to_json(), "format": 3}
    sealed = {**tree, "sha256": digest(tree)}
    store.storage.write(f"stages/{STAGE.key}/{RECORD}", json.dumps(sealed).encode())
    assert store.find_undamaged(STAGE) == record
    assert store.storage.names("damaged") == []
    assert not any(thing.sort == "damaged" for thing in Inventory(store).look())


def test_a_living_lease_of_a_newer_version_is_respected(store: StageStore) -> None:
    with leased(store):
        (path,) = (f"leases/{name}" for name in store.storage.names("leases"))
        holder = json.loads(store.storage.read(path))
        store.storage.write(path, json.dumps({**holder, "node": "a"}).encode())
        other = store.lease(STAGE.key)
        assert isinstance(other, Holder)
        assert other.is_alive
