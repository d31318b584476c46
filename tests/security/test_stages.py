"""What lies in a store may be anybody's: it is read as data or not at all."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.test_store_contract import STAGE, committed, leased, record_of
from xlt_ray.errors import DamagedStage, ModelError, StoreError
from xlt_ray.modeling.encoder import load_saved
from xlt_ray.store.canonical import digest
from xlt_ray.store.gc import Inventory, remove
from xlt_ray.store.record import FileEntry
from xlt_ray.store.stage import Stage
from xlt_ray.store.storage import Storage, file_digest
from xlt_ray.store.store import RECORD, StageStore


class Trap:
    """What leaves a mark where somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    return StageStore(tmp_path / "store")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    file = tmp_path / "outside.json"
    file.write_text("mine")
    return file


def result(tmp_path: Path, **files: bytes) -> Path:
    folder = tmp_path / "result"
    for name, content in (files or {"head.safetensors": b"h"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def forge(store: StageStore, change: Callable[[dict[str, Any]], None], key: str = "") -> None:
    """Write a record as its writer would seal it: the seal is no signature."""
    tree = record_of(STAGE).to_json()
    change(tree)
    place = f"stages/{key or STAGE.key}/{RECORD}"
    store.storage.write(place, json.dumps({**tree, "sha256": digest(tree)}).encode())


PATHS = ["../x", "a/../../x", "/etc/passwd", "", ".", "..", "a//b", "a/./b", "a\\..\\b", "a\0b"]


@pytest.mark.parametrize("path", [path for path in PATHS if path])
@pytest.mark.parametrize("root", ["folder", "memory"])
def test_no_path_leads_out_of_a_storage(tmp_path: Path, root: str, path: str) -> None:
    storage = Storage(tmp_path / "store" if root == "folder" else f"memory://{tmp_path.name}")
    local = tmp_path / "local"
    local.write_text("x")
    for call in (
        lambda: storage.read(path), lambda: storage.write(path, b""),
        lambda: storage.create(path, b""), lambda: storage.exists(path),
        lambda: storage.names(path), lambda: storage.files(path), lambda: storage.remove(path),
        lambda: storage.move(path, "a"), lambda: storage.move("a", path),
        lambda: storage.take(local, path), lambda: storage.file_digest(path),
        lambda: storage.replace(path, None, b""),
    ):  # fmt: skip
        with pytest.raises(StoreError, match="leads out of the store"):
            call()
    assert local.exists()


@pytest.mark.parametrize("name", PATHS)
def test_a_file_name_that_leads_out_of_its_stage_is_damage(
    store: StageStore, outside: Path, name: str
) -> None:
    entry = FileEntry(*file_digest(outside))
    forge(store, lambda tree: tree["files"].update({name: vars(entry)}))
    with pytest.raises(DamagedStage, match="leads out of its folder"):
        store.verify(STAGE.key)
    assert store.find_undamaged(STAGE) is None
    assert outside.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "encoder/weights.pt", "optimizer.PTH", "x.pkl", "a.ckpt"]
)
def test_a_pickle_in_a_stage_is_damage(store: StageStore, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps(Trap(mark))
    store.storage.write(f"stages/{STAGE.key}/{name}", content)
    entry = {"num_bytes": len(content), "sha256": "0" * 64}
    forge(store, lambda tree: tree["files"].update({name: entry}))
    with pytest.raises(DamagedStage, match="is pickled, and nothing pickled is read"):
        store.verify(STAGE.key)
    assert not mark.exists()


def test_pickled_weights_beside_a_configuration_are_not_read(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1,
              "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 10}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark)))
    torch.save({"trap": Trap(mark)}, folder / "model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_saved(folder)
    # Under the name that is expected, too.
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_saved(folder)
    assert not mark.exists()


def test_code_beside_a_stage_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(ModelError):
        load_saved(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(key="f" * 64),
        lambda tree: tree["payload"].update(seed=1),
        lambda tree: tree["payload"]["settings"].update(epochs=7),
        lambda tree: tree.update(payload={}),
    ],
    ids=["key", "seed", "settings", "payload"],
)
def test_a_record_that_is_not_its_keys_is_damage_though_it_is_sealed(
    store: StageStore, change: Callable[[dict[str, Any]], None]
) -> None:
    forge(store, change)
    with pytest.raises(DamagedStage, match="belongs to another stage"):
        store.record(STAGE.key)


@pytest.mark.parametrize("key", ["../../outside", "..", "", "x" * 64, "A" * 64, "a" * 63])
def test_what_is_no_key_has_no_record(store: StageStore, key: str) -> None:
    assert store.record(key) is None
    assert store.verify(key) is None


TRUNK = Stage("trunk", {"steps": 20}, {}, 0, None, "trunk", 20)
SHORTER = Stage("trunk", {"steps": 10}, {}, 0, None, "trunk", 10)


@pytest.mark.parametrize("hint", [b"../../victim", b"\xff\xfe", b"", STAGE.key.encode()])
def test_a_hint_to_anything_but_the_trunk_itself_is_not_followed(
    store: StageStore, tmp_path: Path, hint: bytes
) -> None:
    committed(store, result(tmp_path))
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / RECORD).write_text("{}")
    store.storage.write(f"ladders/{TRUNK.ladder}/10", hint)
    assert store.find_shorter(TRUNK) is None
    assert victim.exists()
    assert STAGE in store


def test_a_hint_to_the_trunk_itself_is_followed(store: StageStore, tmp_path: Path) -> None:
    committed(store, result(tmp_path), SHORTER)
    assert store.find_shorter(TRUNK) == (SHORTER.key, 10)


@pytest.mark.parametrize("name", [*PATHS, "optimizer.pt"])
def test_progress_that_names_foreign_or_pickled_files_is_not_taken_up(
    store: StageStore, outside: Path, name: str
) -> None:
    marker = {"step": 5, "files": {name: list(file_digest(outside))}, "state": {}}
    content = json.dumps({**marker, "sha256": digest(marker)}).encode()
    store.storage.write(f"progress/{STAGE.key}/5/progress.json", content)
    assert store.find_progress(STAGE.key) is None
    assert outside.read_text() == "mine"


def test_freeing_follows_no_link_out_of_the_store(
    store: StageStore, tmp_path: Path, outside: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    committed(store, result(tmp_path))
    local = store.storage.local(f"stages/{STAGE.key}")
    assert local is not None
    (local / "link").symlink_to(precious)
    (local / "file-link").symlink_to(outside)
    for thing in Inventory(store).look():
        remove(store, thing)
    assert (precious / "file").read_text() == "mine"
    assert outside.read_text() == "mine"
    assert not local.exists()


def test_a_lease_of_any_content_locks_nobody_out(store: StageStore) -> None:
    for content in (b"[]", b'{"expires": "never"}', b"\x80\x04", b'{"machine": {}}'):
        store.storage.write(f"leases/{STAGE.key}.json", content)
        leased(store).release()
