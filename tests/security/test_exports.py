"""An exported model may come from anybody: its folder is read as data or refused in a line."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command import Xlt
from tests.security.test_stages import Trap
from tests.unit.modeling.test_export import exported
from xlt_ray.config.export_metadata import FILE
from xlt_ray.config.trial import Model
from xlt_ray.data.task import task_named
from xlt_ray.errors import ModelError, SpecError
from xlt_ray.modeling.exported_network import HEAD, load_exported

TASK = "toy-nli"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a pair classifier with a task that can be read again."""
    _, folder, _ = exported(
        Model(name="toy:2x32"), "pair", {"method": "none"}, tmp_path_factory.mktemp("export")
    )
    task = task_named(TASK).model_dump(mode="json")
    change(folder, task=TASK, tasks={TASK: task}, labels=task["labels"])
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model"))


def change(folder: Path, **fields: Any) -> None:
    """Write other things into its ``xlt.json``."""
    tree = json.loads((folder / FILE).read_text(encoding="utf-8"))
    (folder / FILE).write_text(json.dumps({**tree, **fields}), encoding="utf-8")


def lines(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.tsv"
    file.write_text("one\ttwo\n")
    return file


def test_a_sound_export_answers(xlt: Xlt, folder: Path, tmp_path: Path) -> None:
    assert xlt("predict", folder, lines(tmp_path)).code == 0


@pytest.mark.parametrize("name", ["model.safetensors", HEAD])
def test_a_pickle_under_the_name_of_weights_is_not_opened(
    xlt: Xlt, folder: Path, tmp_path: Path, name: str
) -> None:
    mark = tmp_path / "mark"
    (folder / name).write_bytes(pickle.dumps(Trap(mark)))
    result = xlt("predict", folder, lines(tmp_path))
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert not mark.exists()


def test_pickled_weights_in_place_of_safetensors_are_not_opened(
    folder: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.bin", "network.bin", "network.pt"):
        (folder / name).write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_exported(folder)
    assert not mark.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_an_export_brings_is_not_run(folder: Path, tmp_path: Path, file: str) -> None:
    mark = tmp_path / "mark"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    tree = json.loads((folder / file).read_text())
    classes = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
    tree |= {"auto_map": classes, "model_type": "evil", "tokenizer_class": "Evil"}
    (folder / file).write_text(json.dumps(tree))
    if file == "config.json":
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_exported(folder)
    else:
        # For a tokenizer transformers takes a class of its own instead.
        load_exported(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"fusion": {}},
        {"fusion": {"method": "os.system"}},
        {"fusion": {"method": ["none"]}},
        {"fusion": {"method": "dlfa", "layer": -1}},
        {"fusion": {"method": "dlfa", "layer": 99}},
        {"kind": "retrieval"},
        {"kind": "../../x"},
        {"labels": ["a"]},
        {"tasks": {}},
        {"tasks": {TASK: {"name": "../../x"}}},
        {"tasks": {TASK: {"__class__": "os"}}},
        {"task": "../../etc/passwd"},
        {"max_length": 0},
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_description_that_does_not_fit_is_bad_input(
    xlt: Xlt, folder: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    change(folder, **fields)
    result = xlt("predict", folder, lines(tmp_path))
    assert result.code == 2
    assert result.err.startswith("xlt: ")
    assert "Traceback" not in result.err


@pytest.mark.parametrize("text", [b"", b"[]", b"\x80\x04\x95", b"[" * 100_000, b'{"format": 1}'])
def test_what_is_no_description_is_bad_input(folder: Path, text: bytes) -> None:
    (folder / FILE).write_bytes(text)
    with pytest.raises((ModelError, SpecError), match=FILE):
        load_exported(folder)
