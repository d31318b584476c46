"""Every stage store keeps progress published, undamaged, and written only by its holder."""

from __future__ import annotations

import pytest

from tests.contracts.conftest import Results
from tests.contracts.test_store_contract import (
    OTHER,
    STAGE,
    committed,
    leased,
    take_over,
)
from xlt_ray.errors import LeaseLost
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import FileEntry
from xlt_ray.store.storage import file_digest
from xlt_ray.store.store import StageProgress, StageStore


def put(
    store: StageStore, step: int, lease: Lease, content: bytes = b"state"
) -> dict[str, FileEntry]:
    folder = store.progress_folder(STAGE.key, step, lease.token)
    (folder / "rank0").mkdir(exist_ok=True)
    files = {}
    for name in ("rank0/optimizer.safetensors", "network.safetensors"):
        (folder / name).write_bytes(content)
        files[name] = FileEntry(*file_digest(folder / name))
    store.put_progress(STAGE.key, step, folder, files, lease)
    return files


def publish(store: StageStore, step: int, lease: Lease) -> None:
    files = put(store, step, lease)
    store.publish_progress(STAGE.key, step, files, {"step": step, "loss": 0.5}, lease)


def progress_in(store: StageStore) -> StageProgress:
    progress = store.find_progress(STAGE.key)
    assert progress is not None
    return progress


def test_published_progress_is_found_and_fetched(store: StageStore) -> None:
    with leased(store) as lease:
        publish(store, 20, lease)
    progress = progress_in(store)
    assert (progress.step, progress.state) == (20, {"step": 20, "loss": 0.5})
    folder = store.fetch_progress(progress, "reader")
    assert (folder / "rank0" / "optimizer.safetensors").read_bytes() == b"state"
    assert store.find_progress(OTHER.key) is None


def test_the_latest_progress_replaces_the_earlier(store: StageStore) -> None:
    with leased(store) as lease:
        publish(store, 9, lease)
        publish(store, 20, lease)
    assert progress_in(store).step == 20
    assert store.storage.names(f"progress/{STAGE.key}") == ["20"]


def test_progress_that_was_not_published_is_ignored(store: StageStore) -> None:
    with leased(store) as lease:
        publish(store, 9, lease)
        put(store, 100, lease)
    assert progress_in(store).step == 9


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("network.safetensors", b"statE"),
        ("network.safetensors", b""),
        ("progress.json", b"{"),
        ("progress.json", b'{"step": 20, "files": {}, "state": {}, "sha256": "x"}'),
        ("progress.json", b"[]"),
        ("progress.json", b"\xff"),
    ],
)
def test_damaged_progress_is_set_aside_and_an_older_one_found(
    store: StageStore, name: str, content: bytes
) -> None:
    with leased(store) as lease:
        publish(store, 20, lease)
        files = put(store, 10, lease)
        store.publish_progress(STAGE.key, 10, files, {"step": 10}, lease)
    store.storage.write(f"progress/{STAGE.key}/20/{name}", content)
    assert progress_in(store).step == 10
    assert len(store.storage.names("damaged")) == 1


def test_progress_that_lacks_a_file_is_ignored(store: StageStore) -> None:
    with leased(store) as lease:
        publish(store, 20, lease)
    store.storage.remove(f"progress/{STAGE.key}/20/network.safetensors")
    assert store.find_progress(STAGE.key) is None


def test_a_process_that_lost_the_lease_publishes_no_progress(store: StageStore) -> None:
    with leased(store) as lease:
        files = put(store, 20, lease)
        take_over(store)
        with pytest.raises(LeaseLost):
            store.publish_progress(STAGE.key, 20, files, {}, lease)
    assert store.find_progress(STAGE.key) is None


def test_a_commit_drops_progress(store: StageStore, results: Results) -> None:
    with leased(store) as lease:
        publish(store, 20, lease)
    committed(store, results())
    assert store.find_progress(STAGE.key) is None
    assert store.storage.names("progress") == []


def test_progress_is_never_a_result(store: StageStore) -> None:
    with leased(store) as lease:
        publish(store, 20, lease)
    assert STAGE not in store
    assert len(store) == 0


def test_a_process_that_lost_the_lease_leaves_the_new_holders_progress(store: StageStore) -> None:
    late = leased(store)
    store.storage.remove(f"leases/{STAGE.key}.json")
    with leased(store) as lease:
        publish(store, 20, lease)
        with pytest.raises(LeaseLost):
            put(store, 20, late, b"other bits")
    late.release()
    assert progress_in(store).step == 20


def test_progress_is_fetched_anew_each_time(store: StageStore) -> None:
    with leased(store) as lease:
        publish(store, 20, lease)
    progress = progress_in(store)
    folders = {store.fetch_progress(progress, "0") for _ in range(2)}
    assert len(folders) == (1 if store.storage.local_root else 2)
    assert all((folder / "network.safetensors").read_bytes() == b"state" for folder in folders)
