"""A damaged MLflow database of a home is kept aside and made anew; a sound one is left alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Xlt
from tests.unit.cli.test_rm import USES, begin, commit_named, show_in_mlflow, sweep_named
from xlt_ray.home import Home
from xlt_ray.store.store import StageStore
from xlt_ray.tracking import Tracker, mend_database
from xlt_ray.tracking.client import is_damaged

PAGE = 4096
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "garbage": lambda _: os.urandom(50_000),
    "pages": lambda content: content[: 3 * PAGE] + b"\xff" * 2 * PAGE + content[5 * PAGE :],
    "text": lambda _: b"no database\n",
}


def damage(home: Home, kind: str = "garbage") -> None:
    home.tracking_file.write_bytes(DAMAGES[kind](home.tracking_file.read_bytes()))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with two sweeps in MLflow."""
    home = Home(tmp_path_factory.mktemp("tracked") / "home")
    store = StageStore(home.stages)
    for name in ("shared", "ours", "theirs"):
        commit_named(store, name)
    for name, uses in USES.items():
        show_in_mlflow(home, begin(home, sweep_named(name), uses), store)
    return home


@pytest.fixture
def home(tracked: Home, tmp_path: Path) -> Home:
    shutil.copytree(tracked.root, tmp_path / "home")
    return Home(tmp_path / "home")


def objectives(home: Home, name: str) -> list[float | None]:
    runs = Tracker(home, name, None, home.identity).experiment.search("trial")
    return sorted((run.metrics.get("objective") for run in runs), key=str)


def asides(home: Home) -> list[str]:
    return [path.name for path in home.tracking_file.parent.glob("*.damaged-*")]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_database_is_found(home: Home, kind: str) -> None:
    assert not is_damaged(home.tracking_file)
    damage(home, kind)
    assert is_damaged(home.tracking_file)


def test_it_is_kept_and_made_anew_with_all_sweeps(home: Home) -> None:
    damage(home)
    garbage = home.tracking_file.read_bytes()
    stale = Path(f"{home.tracking_file}-journal")
    stale.write_bytes(b"of the damaged one")
    lines: list[str] = []
    mend_database(home, None, lines.append)
    (line,) = lines
    (aside,) = asides(home)
    assert aside in line
    assert "\n" not in line
    assert (home.tracking_file.parent / aside).read_bytes() == garbage
    for name in USES:
        assert objectives(home, name) == [0.5, None]
    names = {path.name for path in home.tracking_file.parent.iterdir()}
    assert names == {"mlflow.db", "artifacts", aside}
    mend_database(home, None, lines.append)
    assert len(lines) == 1


def test_a_rebuild_that_was_broken_off_is_begun_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(home)

    def break_off(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr("xlt_ray.tracking.runs.Tracker.project", break_off)
        with pytest.raises(RuntimeError):
            mend_database(home, None, print)
    assert is_damaged(home.tracking_file)
    mend_database(home, None, print)
    assert objectives(home, "small") == [0.5, None]
    assert not [*home.tracking_file.parent.glob(".*")]


def test_a_locked_database_stays(home: Home) -> None:
    with contextlib.closing(sqlite3.connect(home.tracking_file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not is_damaged(home.tracking_file)
        mend_database(home, None, pytest.fail)
    assert not asides(home)


def test_a_database_of_a_newer_mlflow_stays(home: Home) -> None:
    with contextlib.closing(sqlite3.connect(home.tracking_file)) as newer, newer:
        newer.execute("UPDATE alembic_version SET version_num = 'of the future'")
        newer.execute("CREATE TABLE of_the_future (x)")
    mend_database(home, None, pytest.fail)
    assert not asides(home)


def test_a_place_that_the_sweep_file_names_stays(home: Home, tmp_path: Path) -> None:
    damage(home)
    mend_database(home, f"sqlite:///{tmp_path / 'other.db'}", pytest.fail)
    mend_database(home, "http://host:5000", pytest.fail)
    assert not asides(home)


def test_ui_makes_it_anew(home: Home, xlt: Xlt, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(home, "text")
    monkeypatch.setattr("xlt_ray.cli.show._serve", lambda *_: 0)
    answer = xlt("ui", "small")
    assert answer.code == 0, answer.err
    assert answer.err.count("\n") == 1
    assert "warning" in answer.err
    assert "is damaged" in answer.err
    assert objectives(home, "other") == [0.5, None]


def test_a_report_is_kept_in_a_database_that_was_damaged(home: Home, xlt: Xlt) -> None:
    damage(home, "truncated")
    answer = xlt("report", "small", "--log")
    assert answer.code == 0, answer.err
    assert "is damaged" in answer.err
    assert "kept: runs:/" in answer.out
