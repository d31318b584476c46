"""Relative paths are those of the folder in which a sweep is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlt_ray.config.search_space import Choice
from xlt_ray.config.sweep import load_sweep, sweep_of
from xlt_ray.config.yaml import parse_document

SWEEP = """
name: t
data: {source: files, root: my data}
model: {choice: [./small, large, org/model, {name: ../other}, /given/model]}
target: {task: pos, source_language: en}
search: {trials: 1}
places: {store: s3://bucket/xlt, ledger: "sqlite:///own.db"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the shell is: with blanks and letters outside ASCII, as people have them."""
    folder = tmp_path / "mein Ördner"
    (folder / "large").mkdir(parents=True)
    (folder / "t.yaml").write_text(SWEEP, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def test_every_relative_path_becomes_absolute_and_all_else_stays(folder: Path) -> None:
    sweep = load_sweep("t.yaml")
    assert sweep.space.tree["data"]["root"] == str(folder / "my data")
    models = sweep.space.tree["model"]
    assert isinstance(models, Choice)
    assert list(models.options) == [
        str(folder / "small"),
        str(folder / "large"),
        "org/model",
        {"name": str(folder.parent / "other")},
        "/given/model",
    ]
    assert sweep.settings.places.store == "s3://bucket/xlt"
    assert sweep.settings.places.ledger == f"sqlite:///{folder}/own.db"


def test_overrides_are_relative_to_the_same_folder(folder: Path) -> None:
    sweep = load_sweep(
        "t.yaml",
        ["data.root=~/corpora", "model=large", "places.store=stages", "places.ledger=null"],
    )
    assert sweep.space.tree["data"]["root"] == str(Path("~/corpora").expanduser())
    assert sweep.space.tree["model"] == str(folder / "large")
    assert sweep.settings.places.store == str(folder / "stages")
    assert sweep.settings.places.ledger is None


@pytest.mark.usefixtures("folder")
def test_what_is_written_is_kept_where_it_is_sent_elsewhere() -> None:
    sweep = sweep_of(parse_document(SWEEP, "t.yaml"))
    assert sweep.space.tree["data"]["root"] == "my data"
