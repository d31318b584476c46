"""Entries of a store are listed by size and removed whole, in a folder and an object store."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_store_contract import leased
from xlt_ray.errors import DamagedStage
from xlt_ray.store.gc import OPTIMIZER, Inventory, StoreEntry, remove
from xlt_ray.store.record import FileEntry, StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.storage import file_digest
from xlt_ray.store.store import RECORD, StageStore

PARENT = Stage("intermediate", {"epochs": 1}, {}, 0, None, "intermediate nli 10", 10)
TRUNK = Stage("trunk", {"steps": 1}, {}, 0, PARENT, "trunk nli 10", 10)
OTHER = Stage("target", {"epochs": 2}, {}, 0, PARENT, "target nli 10", 20)
WEIGHTS, MOMENTS = b"weights", b"both moments of them"
MADE = {"sweep": "size", "trial": 3, "time": "2026-01-02T03:04:05+00:00"}


@pytest.fixture
def commit(store: StageStore, tmp_path: Path) -> Callable[..., StageRecord]:
    """``commit(stage, **files)`` with weights, unless told otherwise."""

    def commit(stage: Stage, **content: Any) -> StageRecord:
        files = content.pop("files", {"encoder/model.safetensors": WEIGHTS})
        folder = tmp_path / "result"
        for name, bits in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(bits)
        folder.mkdir(exist_ok=True)
        record = StageRecord(
            stage.key, stage.payload, stage.label, files={}, made_by=MADE, **content
        )
        with leased(store, stage) as lease:
            return store.commit(stage, folder, record, lease)

    return commit


Commit = Callable[..., StageRecord]
TRUNK_FILES = {"encoder/model.safetensors": WEIGHTS, OPTIMIZER: MOMENTS}


def save(store: StageStore, stage: Stage, step: int = 1) -> None:
    """Progress of an unfinished stage, whose maker is gone."""
    with leased(store, stage) as lease:
        folder = store.progress_folder(stage.key, step, lease.token)
        (folder / "weights.safetensors").write_bytes(WEIGHTS)
        files = {"weights.safetensors": FileEntry(*file_digest(folder / "weights.safetensors"))}
        store.put_progress(stage.key, step, folder, files, lease)
        store.publish_progress(stage.key, step, files, {"step": step}, lease)


def held(store: StageStore) -> dict[str, StoreEntry]:
    return {entry.place: entry for entry in Inventory(store).look()}


def size(store: StageStore, place: str) -> int:
    return sum(file.num_bytes for file in store.storage.files(place).values())


def test_an_empty_store_holds_nothing(store: StageStore) -> None:
    assert Inventory(store).look() == ()
    assert store.storage.files("stages") == {}


def test_files_are_listed_with_size_and_time(store: StageStore) -> None:
    before = time.time()
    store.storage.write("a/b/c.txt", b"12")
    store.storage.write("a/d.txt", b"345")
    extents = store.storage.files("a")
    sizes = {name: extent.num_bytes for name, extent in extents.items()}
    assert sizes == {"b/c.txt": 2, "d.txt": 3}
    assert all(before - 5 < extent.written < time.time() + 5 for extent in extents.values())


def test_a_committed_stage_is_listed_with_what_its_record_says(
    store: StageStore, commit: Commit
) -> None:
    commit(PARENT)
    commit(TRUNK, files=TRUNK_FILES)
    place = f"stages/{TRUNK.key}"
    trunk = held(store)[place]
    assert (trunk.sort, trunk.key, trunk.kind, trunk.label) == (
        "stage", TRUNK.key, "trunk", "trunk nli 10",
    )  # fmt: skip
    assert (trunk.parent, trunk.sweep, trunk.holder) == (PARENT.key, "size", "")
    assert trunk.state_bytes == len(MOMENTS)
    assert trunk.num_bytes == size(store, place)
    assert trunk.used == 1767323045.0
    assert held(store)[f"stages/{PARENT.key}"].state_bytes == 0


def test_progress_is_state_and_belongs_to_its_maker_while_the_lease_is_alive(
    store: StageStore,
) -> None:
    save(store, OTHER)
    place = f"progress/{OTHER.key}"
    entry = held(store)[place]
    assert (entry.sort, entry.key, entry.other_bytes) == ("progress", OTHER.key, 0)
    assert entry.state_bytes == size(store, place) > len(WEIGHTS)
    assert not entry.holder
    with leased(store, OTHER):
        assert held(store)[place].holder.startswith("process ")
        assert remove(store, entry) == 0
    assert store.find_progress(OTHER.key) is not None
    assert remove(store, entry) == entry.num_bytes
    assert held(store) == {}


def test_leftovers_of_dead_processes_are_listed(store: StageStore, commit: Commit) -> None:
    commit(PARENT)
    store.storage.write(f"stages/{OTHER.key}/config.json", b"{}")
    store.storage.write(f"progress/{PARENT.key}/1/weights.safetensors", WEIGHTS)
    store.storage.write(f"scratch/results/{OTHER.key}-123/a", b"a")
    store.storage.write(f"scratch/progress/{OTHER.key}-1-token/b", b"b")
    store.storage.write("damaged/progress-0123456789-1-1/c", b"c")
    sorts = {place: entry.sort for place, entry in held(store).items()}
    assert sorts.pop(f"stages/{PARENT.key}") == "stage"
    assert sorts.pop("damaged/progress-0123456789-1-1") == "damaged"
    assert set(sorts.values()) == {"leftover"}
    assert len(sorts) == 4
    with leased(store, OTHER):
        busy = {entry.place for entry in Inventory(store).look() if entry.holder}
        assert busy == {place for place, entry in held(store).items() if entry.key == OTHER.key}
        for entry in held(store).values():
            if entry.sort == "leftover" and entry.key == OTHER.key:
                assert remove(store, entry) == 0
    for entry in held(store).values():
        if entry.sort != "stage":
            assert remove(store, entry) == entry.num_bytes
    assert set(held(store)) == {f"stages/{PARENT.key}"}
    assert store.verify(PARENT.key) is not None


def test_a_result_that_was_set_aside_is_listed_and_can_be_removed(
    store: StageStore, commit: Commit
) -> None:
    commit(PARENT)
    place = store.set_aside(PARENT.key)
    entry = held(store)[place]
    assert (entry.sort, entry.key) == ("damaged", PARENT.key)
    assert remove(store, entry) == entry.num_bytes > 0
    assert remove(store, entry) == entry.num_bytes, "gone already is as good"
    assert held(store) == {}


def test_a_stage_whose_record_cannot_be_read_is_damaged(store: StageStore, commit: Commit) -> None:
    commit(PARENT)
    store.storage.write(f"stages/{PARENT.key}/{RECORD}", b"{}")
    (entry,) = Inventory(store).look()
    assert entry.sort == "damaged"
    store.set_aside(PARENT.key)
    commit(PARENT)
    assert remove(store, entry) == 0, "it was made again meanwhile"
    assert store.verify(PARENT.key) is not None


def test_a_result_that_was_committed_meanwhile_is_not_a_leftover(
    store: StageStore, commit: Commit
) -> None:
    store.storage.write(f"stages/{PARENT.key}/half", b"half")
    (entry,) = Inventory(store).look()
    commit(PARENT)
    assert remove(store, entry) == 0
    assert store.verify(PARENT.key) is not None


def test_a_removed_stage_is_gone_and_can_be_made_again(store: StageStore, commit: Commit) -> None:
    first = commit(PARENT)
    (entry,) = Inventory(store).look()
    assert remove(store, entry) == entry.num_bytes
    assert PARENT not in store
    assert size(store, "stages") == 0
    assert commit(PARENT).files == first.files


def test_a_crash_in_the_middle_of_a_removal_leaves_no_half_result(
    store: StageStore, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(PARENT)
    (entry,) = Inventory(store).look()
    real = store.storage.remove

    def dying(path: str) -> None:
        if path == entry.place:
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr(store.storage, "remove", dying)
    with pytest.raises(KeyboardInterrupt):
        remove(store, entry)
    monkeypatch.undo()
    assert PARENT not in store
    assert store.find_undamaged(PARENT) is None
    (rest,) = Inventory(store).look()
    assert rest.sort == "leftover"
    assert remove(store, rest) == rest.num_bytes


def test_a_record_is_read_once(
    store: StageStore, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(PARENT)
    inventory = Inventory(store)
    first = inventory.look()

    def refused(_: str) -> StageRecord:
        raise DamagedStage("is read again", key=PARENT.key)

    monkeypatch.setattr(store, "record", refused)
    assert inventory.look() == first
