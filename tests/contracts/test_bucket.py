"""Where an object store promises less than a disk: no renaming, late listings, races."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.contracts.conftest import FILES, Results
from tests.contracts.test_store_contract import (
    OTHER,
    RUNTIME,
    STAGE,
    contents,
    leased,
    record_of,
)
from tests.threads import at_once
from xlt_ray.errors import DamagedStage, LeaseLost, SpecError, StoreError
from xlt_ray.store.lease import Holder, Lease, find_holder, try_acquire
from xlt_ray.store.storage import Storage
from xlt_ray.store.store import RECORD, StageStore

PATH = "leases/x.json"


def s3() -> Any:
    """Amazon's own client: what it writes, nobody's cache has heard of."""
    import boto3

    return boto3.client("s3")


@pytest.fixture
def place(bucket: str, tmp_path: Path) -> str:
    return f"{bucket}/{tmp_path.name}"


@pytest.fixture
def storage(place: str) -> Storage:
    return Storage(place)


@pytest.fixture
def store(place: str, tmp_path: Path) -> StageStore:
    return StageStore(place, scratch=tmp_path / "scratch")


def test_only_one_of_several_writers_creates_a_file(storage: Storage) -> None:
    for attempt in range(3):
        writers = [
            lambda content=content, attempt=attempt: storage.create(f"a/{attempt}", content)
            for content in (b"0", b"1", b"2", b"3", b"4", b"5")
        ]
        wins = at_once(*writers)
        assert sorted(wins) == [False] * 5 + [True]
        assert storage.read(f"a/{attempt}") == str(wins.index(True)).encode()


def test_a_bucket_with_conditional_writes_is_exclusive(storage: Storage) -> None:
    assert storage.is_exclusive()
    assert storage.names("leases") == []


class CarelessFileSystem(MemoryFileSystem):
    """An object store that ignores conditions, as some do."""

    protocol = "careless"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value, mode="overwrite")


def register_careless() -> None:
    """From here on, ``careless://`` is such a store."""
    fsspec.register_implementation("careless", CarelessFileSystem, clobber=True)


def test_a_store_that_ignores_conditions_is_detected() -> None:
    register_careless()
    assert not Storage("careless://x").is_exclusive()
    assert Storage("memory://x").is_exclusive()


def test_a_version_is_replaced_once(storage: Storage) -> None:
    storage.write(PATH, b"old")
    version = storage.version(PATH)
    assert version is not None
    wins = at_once(*[
        lambda content=content: storage.replace(PATH, version, content)
        for content in (b"0", b"1", b"2", b"3")
    ])  # fmt: skip
    assert sorted(wins) == [False, False, False, True]
    assert storage.read(PATH) == str(wins.index(True)).encode()


def test_a_deleted_file_is_not_replaced(storage: Storage) -> None:
    storage.write(PATH, b"old")
    version = storage.version(PATH)
    storage.remove(PATH)
    assert not storage.replace(PATH, version, b"new")
    assert not storage.exists(PATH)
    with pytest.raises(FileNotFoundError):
        storage.version(PATH)


def put(storage: Storage, expires: float, token: str = "foreign") -> None:
    holder = Holder("another/boot/pid", 1, 0.0, token, expires)
    storage.write(PATH, json.dumps(asdict(holder)).encode())


def test_a_late_renewal_leaves_the_new_holders_lease(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = try_acquire(storage, PATH, ttl=0.8)
    assert isinstance(lease, Lease)
    real, has_passed = storage.replace, threading.Event()

    def stalled(path: str, version: str | None, content: bytes) -> bool:
        # Between its look and its write the holder stood still, and its lease passed on.
        put(storage, expires=time.time() + 60, token="new holder")
        replaced = real(path, version, content)
        has_passed.set()
        return replaced

    monkeypatch.setattr(storage, "replace", stalled)
    assert has_passed.wait(10)
    monkeypatch.undo()
    holder = find_holder(storage, PATH)
    assert holder is not None
    assert holder.token == "new holder"
    with pytest.raises(LeaseLost):
        lease.check()
    lease.release()


def test_two_commits_of_a_key_make_one_valid_result(
    place: str, tmp_path: Path, results: Results
) -> None:
    """Both hold a lease of their own mind: the first one's was taken over behind its back."""
    stores = [StageStore(place, scratch=tmp_path / name) for name in "ab"]
    folders = [results() for _ in "ab"]
    first = leased(stores[0])
    stores[0].storage.remove(f"leases/{STAGE.key}.json")
    second = leased(stores[1])
    done = at_once(
        lambda: stores[0].commit(STAGE, folders[0], record_of(STAGE), first),
        lambda: stores[1].commit(STAGE, folders[1], record_of(STAGE), second),
    )
    assert isinstance(done[0], LeaseLost)
    assert stores[0].verify(STAGE.key) == done[1]
    assert contents(stores[0]) == FILES
    first.release()
    second.release()


def test_a_process_late_by_one_request_does_not_overwrite_the_record(
    store: StageStore, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = leased(store)
    store.storage.remove(f"leases/{STAGE.key}.json")
    real = store.storage.create

    def overtaken(path: str, content: bytes) -> bool:
        if path.endswith(RECORD):
            monkeypatch.setattr(store.storage, "create", real)
            with leased(store) as lease:
                made = record_of(STAGE, runtime={**RUNTIME, "workers": 2})
                store.commit(STAGE, results(), made, lease)
        return real(path, content)

    monkeypatch.setattr(store.storage, "create", overtaken)
    monkeypatch.setattr(late, "check", lambda: None)
    with pytest.raises(LeaseLost, match="another process committed it"):
        store.commit(STAGE, results(), record_of(STAGE), late)
    assert store[STAGE].runtime == {**RUNTIME, "workers": 2}
    assert store.verify(STAGE.key) is not None
    late.release()


def test_writes_of_other_machines_are_seen_at_once(storage: Storage) -> None:
    storage.write("a/1", b"1")
    assert storage.names("a") == ["1"]
    bucket, _, root = str(storage.root).partition("/")
    s3().put_object(Bucket=bucket, Key=f"{root}/a/2", Body=b"22")
    assert storage.names("a") == ["1", "2"]
    assert storage.files("a")["2"].num_bytes == 2
    storage.move("a", "b")
    assert storage.names("b") == ["1", "2"]
    assert storage.names("a") == []


def test_only_files_of_the_record_are_fetched(
    store: StageStore, results: Results, tmp_path: Path
) -> None:
    with leased(store) as lease:
        store.commit(STAGE, results(), record_of(STAGE), lease)
    bucket, _, root = str(store.storage.root).partition("/")
    for name in ("../../../../escaped", "pytorch_model.bin", "modeling_evil.py"):
        s3().put_object(Bucket=bucket, Key=f"{root}/stages/{STAGE.key}/{name}", Body=b"evil")
    folder = store.folder(STAGE.key)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == set(FILES)
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_copy_of_an_earlier_result_is_not_taken_for_the_present_one(
    store: StageStore, results: Results
) -> None:
    with leased(store) as lease:
        store.commit(STAGE, results(), record_of(STAGE), lease)
    assert contents(store) == FILES
    store.set_aside(STAGE.key)
    other = {"head.safetensors": b"made under another runtime"}
    with leased(store) as lease:
        store.commit(STAGE, results(**other), record_of(STAGE, runtime={"workers": 2}), lease)
    assert contents(store) == {**FILES, **other}


def test_a_file_that_changes_while_it_is_fetched_is_damage(
    store: StageStore, results: Results
) -> None:
    with leased(store) as lease:
        store.commit(STAGE, results(), record_of(STAGE), lease)
    store.storage.write(f"stages/{STAGE.key}/head.safetensors", b"something else")
    with pytest.raises(DamagedStage, match="altered or cut short"):
        store.folder(STAGE.key)
    assert not any((store.scratch / "fetched").iterdir())


def test_a_parent_is_read_once_for_all_trials_of_a_node(
    place: str, tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [StageStore(place, scratch=tmp_path / "node") for _ in range(3)]
    with leased(trials[0]) as lease:
        made = trials[0].commit(STAGE, results(), record_of(STAGE), lease)
    read: list[str] = []
    for store in trials:
        storage = store.storage
        monkeypatch.setattr(storage, "file_digest", read.append)
        fetch = storage.fetch

        def counted(path: str, *rest: Any, fetch: Callable[..., None] = fetch) -> None:
            read.append(path)
            fetch(path, *rest)

        monkeypatch.setattr(storage, "fetch", counted)
        assert store.find_undamaged(STAGE) == made
        assert contents(store) == FILES
    assert read == [f"stages/{STAGE.key}"]


def test_an_absent_stage_has_no_folder(store: StageStore) -> None:
    with pytest.raises(StoreError, match="is not in the store"):
        store.folder(OTHER.key)


@pytest.mark.parametrize("root", ["nosuch://bucket/x", "gs://bucket/x"])
def test_an_unusable_kind_of_storage_is_refused(root: str) -> None:
    with pytest.raises(SpecError, match="cannot be used as file storage") as caught:
        Storage(root)
    assert caught.value.exit_code == 2
