"""``xlt rm``: a sweep goes with all that only it needs, and nothing of another one does."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.command import Xlt
from tests.sample_results import commit
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import TrackingOutage
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, load_ledger, open_ledger
from xlt_ray.ledger.access import sole_driver
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import FileEntry
from xlt_ray.store.stage import Stage
from xlt_ray.store.storage import file_digest
from xlt_ray.store.store import StageStore
from xlt_ray.sweep import removal
from xlt_ray.tracking import LedgerSnapshot, Tracker

TEXT = """
data: {source: toy}
model: toy:2x64
target: {task: toy-nli, source_language: qaa, learning_rate: {choice: [1e-4, 1e-3]}}
search: {trials: 2, sampler: grid}
"""
STAGES = {
    name: Stage(kind, {"name": name}, {}, 0, None, f"{kind} {name}")  # type: ignore[arg-type]
    for name, kind in {
        "shared": "intermediate", "ours": "target", "theirs": "target", "our scores": "evaluate",
        "their scores": "evaluate", "both scores": "evaluate", "our progress": "target",
        "their progress": "target", "nobody": "target",
    }.items()
}  # fmt: skip
USES = {
    "small": ("shared", "ours", "our scores", "both scores", "our progress"),
    "other": ("shared", "theirs", "their scores", "both scores", "their progress"),
}


def commit_named(store: StageStore, name: str, sweep: str = "") -> None:
    stage = STAGES[name]
    made_by = {"sweep": sweep, "trial": 0} if sweep else {}
    commit(store, stage, made_by=made_by, weights=100_000 * (stage.kind != "evaluate"))


def save_progress(store: StageStore, name: str) -> None:
    key = STAGES[name].key
    lease = store.lease(key)
    assert isinstance(lease, Lease)
    with lease:
        folder = store.progress_folder(key, 5, lease.token)
        (folder / "model.safetensors").write_bytes(b"w" * 1000)
        files = {"model.safetensors": FileEntry(*file_digest(folder / "model.safetensors"))}
        store.put_progress(key, 5, folder, files, lease)
        store.publish_progress(key, 5, files, {"step": 5}, lease)


def show_in_mlflow(home: Home, ledger: Ledger, store: StageStore, uri: str | None = None) -> None:
    tracker = Tracker(home, ledger.name, uri, ledger.identity)
    snapshot = LedgerSnapshot.of(ledger)
    tracker.begin(snapshot, {})
    for number, run_id in tracker.project(snapshot, store).items():
        ledger.set_run_id(number, run_id)


def sweep_named(name: str, *overrides: str) -> SweepSpec:
    return sweep_of(parse_document(TEXT, "f.yaml", [f"name={name}", *overrides]))


def begin(home: Home, sweep: SweepSpec, uses: tuple[str, ...]) -> Ledger:
    """A ledger with a complete trial and one that failed."""
    ledger = open_ledger(home, sweep)
    for number in range(2):
        assert ledger.ask(sweep, lambda _: {}) is not None
        ledger.begin_attempt(number)
    stages = [STAGES[name] for name in uses[:4]]
    ledger.set_stages(0, [StageUse(stage.kind, stage.key, stage.label, False) for stage in stages])
    ledger.set_path(1, [STAGES[name].key for name in (*uses[:1], *uses[4:])])
    ledger.report(0, 10, 0.4)
    ledger.tell_complete(0, 0.5)
    ledger.tell_failed(1, "nan", "the loss is not a number")
    return ledger


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two sweeps that share a stage and a score, in ledger, store, and MLflow."""
    home = Home(tmp_path_factory.mktemp("made") / "home")
    store = StageStore(home.stages)
    for name in ("shared", "ours", "our scores", "both scores"):
        commit_named(store, name, "small")
    for name in ("theirs", "their scores"):
        commit_named(store, name, "other")
    commit_named(store, "nobody")
    save_progress(store, "our progress")
    save_progress(store, "their progress")
    for name, uses in USES.items():
        show_in_mlflow(home, begin(home, sweep_named(name), uses), store)
        home.reports(name).mkdir(parents=True)
        (home.reports(name) / "index.html").write_text("report")
    return home


@pytest.fixture
def store(made: Home, home: Home) -> StageStore:
    """The store of a home of the test's own, which has been moved since its sweeps ran."""
    shutil.copytree(made.root, home.root)
    return StageStore(home.stages)


def there(store: StageStore) -> set[str]:
    return {
        name
        for name, stage in STAGES.items()
        if stage in store or store.find_progress(stage.key) is not None
    }


def rows(home: Home) -> dict[str, int]:
    """Table of MLflow's database -> its rows."""
    with contextlib.closing(sqlite3.connect(home.tracking_file)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: database.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
            for (name,) in tables
        }


LEFT = {"shared", "theirs", "their scores", "both scores", "their progress", "nobody"}


def assert_removed(home: Home, store: StageStore) -> None:
    """Everything of ``small`` is gone, and nothing else is."""
    assert there(store) == LEFT
    assert home.sweeps() == ["other"]
    assert load_ledger(home, "other").trial(0).objective == 0.5
    names = {path.name for path in home.root.rglob("*") if not path.is_relative_to("stages")}
    assert not {name for name in names if name.startswith("small")} - {"small.json"}
    assert (home.reports("other") / "index.html").exists()
    tracker = Tracker(home, "other", None, home.identity)
    assert len(tracker.experiment.search("trial")) == 2
    assert rows(home)["experiments"] == 2, "MLflow's own default one, and that of other"


def test_it_removes_what_only_this_sweep_needs(home: Home, store: StageStore, xlt: Xlt) -> None:
    before = rows(home)
    result = xlt("rm", "small", "--yes")
    assert (result.code, result.err) == (0, "")
    for shown in ("2 trials", "3 stages, 103 kB", "3 runs", "101 kB stay for other sweeps"):
        assert shown in result.out, result.out
    assert_removed(home, store)
    after = rows(home)
    for table in ("runs", "metrics", "params", "tags"):
        assert 0 < after[table] == before[table] / 2, table
    assert not (home.artifacts / "small").exists()
    assert (home.artifacts / "other").exists()
    assert xlt("rm", "small").code == 2


def test_it_asks_first(
    home: Home, store: StageStore, xlt: Xlt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    before = rows(home)
    result = xlt("rm", "small")
    assert "remove small? [y/N]" in result.out
    assert result.code == 1
    assert "3 stages" in result.out
    assert there(store) == set(STAGES)
    assert home.sweeps() == ["other", "small"]
    assert rows(home) == before


def test_a_sweep_whose_driver_is_alive_is_refused(home: Home, store: StageStore, xlt: Xlt) -> None:
    with sole_driver(home, "small", None):
        result = xlt("rm", "small", "--yes")
    assert result.code == 2
    assert "is already being run" in result.err
    assert there(store) == set(STAGES)


@pytest.mark.usefixtures("store")
def test_an_unknown_name_gets_the_nearest_one(xlt: Xlt) -> None:
    result = xlt("rm", "smal", "--yes")
    assert result.code == 2
    assert "there is no sweep 'smal'; did you mean small?" in result.err


@pytest.mark.parametrize(
    ("step", "is_done"),
    [("remove_tracked", False), ("remove_tracked", True), ("remove", False), ("remove", True),
     ("delete_ledger", False)],
)  # fmt: skip
def test_a_removal_that_was_broken_off_is_repeated(
    home: Home,
    store: StageStore,
    xlt: Xlt,
    step: str,
    is_done: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = getattr(removal, step)

    def break_off(*arguments: Any) -> None:
        if is_done:
            own(*arguments)
        raise RuntimeError

    monkeypatch.setattr(removal, step, break_off)
    with pytest.raises(RuntimeError):
        xlt("rm", "small", "--yes")
    monkeypatch.setattr(removal, step, own)
    assert xlt("rm", "small", "--yes").code == 0
    assert_removed(home, store)


def test_a_sweep_whose_ledger_cannot_be_read_goes_and_its_stages_stay(
    home: Home, store: StageStore, xlt: Xlt
) -> None:
    home.ledger_journal("small").write_text("no journal\n")
    result = xlt("rm", "small", "--yes")
    assert result.code == 0, result.err
    assert "stages: unknown" in result.out
    assert home.sweeps() == ["other"]
    assert there(store) == set(STAGES)
    assert rows(home)["experiments"] == 2


def test_where_another_ledger_cannot_be_read_all_stages_stay(
    home: Home, store: StageStore, xlt: Xlt
) -> None:
    home.ledger_journal("other").write_text("no journal\n")
    result = xlt("rm", "small", "--yes")
    assert result.code == 0, result.err
    assert "a sweep may need it whose ledger cannot be read" in result.out
    assert home.sweeps() == ["other"]
    assert there(store) == set(STAGES)


def test_nothing_goes_while_mlflow_does_not_answer(
    home: Home, store: StageStore, xlt: Xlt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise TrackingOutage("does not answer", uri="http://host:5000")

    monkeypatch.setattr(removal, "find_tracked", away)
    result = xlt("rm", "small", "--yes")
    assert (result.code, "does not answer" in result.err) == (1, True)
    assert there(store) == set(STAGES)
    assert home.sweeps() == ["other", "small"]


@pytest.mark.usefixtures("store")
def test_a_sweep_with_a_registered_model_is_kept(home: Home, xlt: Xlt) -> None:
    from xlt_ray.tracking import ModelRegistry

    folder = home.root / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    registry = ModelRegistry(home, "small", None, home.identity)
    assert registry.register("best", registry.keep(folder, "model/trial-000"), {}, "") == 1
    result = xlt("rm", "small", "--yes")
    assert result.code == 2
    assert "models:/best/1" in result.err
    assert home.sweeps() == ["other", "small"]


def test_of_two_homes_in_one_mlflow_one_loses_its_runs(
    home: Home, xlt: Xlt, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'common.db'}"
    sweep = sweep_named("small", f"places.tracking={uri}")
    homes = [home, Home(tmp_path / "elsewhere")]
    ledgers = [begin(home, sweep, ()) for home in homes]
    for place, ledger in zip(homes, ledgers, strict=True):
        show_in_mlflow(place, ledger, StageStore(place.stages), uri)

    def num_runs(place: Home) -> int:
        return len(Tracker(place, "small", uri, place.identity).experiment.search("trial"))

    assert [num_runs(home) for home in homes] == [2, 2]
    assert xlt("rm", "small", "--yes").code == 0
    assert num_runs(homes[1]) == 2
    assert home.sweeps() == []
    assert num_runs(home) == 0, "a new experiment of this name brings nothing back"
    again = begin(home, sweep, ())
    show_in_mlflow(home, again, StageStore(home.stages), uri)
    assert [num_runs(home) for home in homes] == [2, 2]
