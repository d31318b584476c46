"""The file of items: read as it was written, the same bytes, refused if damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xlt_ray.errors import DamagedStage, StoreError
from xlt_ray.store import evaluation_items
from xlt_ray.store.evaluation_items import ITEMS, Items, item_ids, read_items, write_items
from xlt_ray.store.record import FileEntry, StageRecord
from xlt_ray.store.storage import file_digest
from xlt_ray.store.store import StageStore

KEY = "ab" * 32
IDS = item_ids(["test0", "test1", "é"])
ONE = np.ones(3)
EVALUATIONS = (
    Items("target", "xnli", "de", "test", IDS, {"accuracy": (np.array([1.0, 0, 1]), ONE)}),
    Items("target", "xnli", "sw", "test", IDS.copy(), {"macro_f1": (np.array([0.3, -2, 1]), ONE)}),
    Items("further", "pos", "sw", "test", IDS[:2],
          {"accuracy": (np.array([300.0, 7]), np.array([301.0, 9]))}),
    Items("further", "pos", "yo", "test", IDS[:0], {"accuracy": (np.zeros(0), np.zeros(0))}),
)  # fmt: skip


def kept(root: Path) -> tuple[StageStore, StageRecord]:
    folder = root / "stages" / KEY
    folder.mkdir(parents=True)
    write_items(EVALUATIONS, folder)
    files = {ITEMS: FileEntry(*file_digest(folder / ITEMS))}
    return StageStore(root), StageRecord(KEY, {"kind": "evaluate"}, "", files)


def test_items_are_read_as_they_were_written(tmp_path: Path) -> None:
    for read, written in zip(read_items(*kept(tmp_path)), EVALUATIONS, strict=True):
        for name in ("role", "task", "language", "split"):
            assert getattr(read, name) == getattr(written, name)
        assert read.ids.tolist() == written.ids.tolist()
        assert read.parts.keys() == written.parts.keys()
        for metric, (points, out_of) in read.parts.items():
            assert points == pytest.approx(written.parts[metric][0])
            assert out_of.tolist() == written.parts[metric][1].tolist()


def test_the_same_items_give_the_same_bytes_and_share_their_ids(tmp_path: Path) -> None:
    contents = []
    for turn in ("one", "other"):
        (tmp_path / turn).mkdir()
        write_items(EVALUATIONS, tmp_path / turn)
        contents.append((tmp_path / turn / ITEMS).read_bytes())
    assert contents[0] == contents[1]
    header = json.loads(contents[0][8 : 8 + int.from_bytes(contents[0][:8], "little")])
    assert sorted(name for name in header if name.startswith("ids")) == ["ids.0", "ids.1", "ids.2"]
    assert header["0.accuracy.points"]["dtype"] == "U8"


def test_a_thousand_right_or_wrong_items_take_nine_bytes_each(tmp_path: Path) -> None:
    ids = item_ids(map(str, range(1000)))
    parts = {"accuracy": ((ids % 2).astype(float), np.ones(1000))}
    write_items([Items("target", "xnli", "de", "test", ids, parts)], tmp_path)
    assert (tmp_path / ITEMS).stat().st_size < 9 * 1000 + 600


def test_an_old_stage_has_no_items(tmp_path: Path) -> None:
    assert read_items(StageStore(tmp_path), StageRecord(KEY, {}, "", {})) == ()


def test_damaged_items_are_reported(tmp_path: Path) -> None:
    store, record = kept(tmp_path)
    path = tmp_path / "stages" / KEY / ITEMS
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedStage, match=r"items\.safetensors.*altered"):
        read_items(store, record)
    path.unlink()
    with pytest.raises(DamagedStage, match="missing"):
        read_items(store, record)


def test_items_of_a_later_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_items, "VERSION", 2)
        store, record = kept(tmp_path)
        read_items(store, replace(record))
    with pytest.raises(StoreError, match="version 2"):
        read_items(store, record)
