"""After a sweep that made nothing, any key may be changed under the same name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, find_ledger, load_ledger, open_ledger
from xlt_ray.store.lease import Lease
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.removal import begins_anew, find_removal, remove_sweep
from xlt_ray.tracking import LedgerSnapshot, Tracker

TEXT = """
name: small
data: {source: toy}
model: toy:2x64
target: {task: toy-nli, source_language: qaa, learning_rate: {choice: [1e-4, 1e-3]}}
search: {trials: 2, sampler: grid}
"""
OTHER_KEY, FREE_KEY = "target.epochs=7", "search.concurrent=3"
STAGE = Stage("target", {"name": "ours"}, {}, 0, None, "target ours")

ReadSweep = Callable[..., SweepSpec]


@pytest.fixture
def ledger(home: Home, sweep_from: ReadSweep) -> Ledger:
    """One trial has failed at once, and one was asked."""
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    for number in range(2):
        assert ledger.ask(sweep, lambda _: {}) is not None
        ledger.begin_attempt(number)
        ledger.set_path(number, [STAGE.key])
    ledger.tell_failed(0, "data", "there is no such file")
    return ledger


def begin_anew(home: Home, name: str = "small") -> None:
    remove_sweep(home, replace(find_removal(home, name, print), entries=()))


@pytest.mark.parametrize("change", [OTHER_KEY, FREE_KEY, "objective.mode=min"])
@pytest.mark.usefixtures("ledger")
def test_a_sweep_that_made_nothing_begins_anew_with_any_key(
    home: Home, sweep_from: ReadSweep, change: str
) -> None:
    changed = sweep_from(TEXT, change)
    reason = begins_anew(home, changed)
    assert reason.startswith("small: its earlier start made nothing (1 trials failed)")
    assert change.partition("=")[0] in reason
    assert "\n" not in reason
    begin_anew(home)
    assert find_ledger(home, changed) is None
    assert open_ledger(home, changed).trials() == []
    assert begins_anew(home, changed) == ""


@pytest.mark.usefixtures("ledger")
def test_a_ledger_may_move_to_a_database(home: Home, sweep_from: ReadSweep, tmp_path: Path) -> None:
    changed = sweep_from(TEXT, f"places.ledger=sqlite:///{tmp_path / 'ledger.db'}")
    assert "places.ledger" in begins_anew(home, changed)
    begin_anew(home)
    assert open_ledger(home, changed).trials() == []
    assert home.ledger_url("small").exists()
    back = begins_anew(home, sweep_from(TEXT))
    assert "places.ledger" in back
    begin_anew(home)
    assert open_ledger(home, sweep_from(TEXT)).trials() == []


def test_its_runs_in_mlflow_are_removed(home: Home, sweep_from: ReadSweep, ledger: Ledger) -> None:
    tracker = Tracker(home, "small", None, ledger.identity)
    tracker.begin(LedgerSnapshot.of(ledger), {})
    tracker.find_or_make(ledger.trial(0))
    begin_anew(home)
    open_ledger(home, sweep_from(TEXT, OTHER_KEY))
    for kind in ("sweep", "trial"):
        assert Tracker(home, "small", None, home.identity).experiment.search(kind) == []


@pytest.mark.usefixtures("ledger")
def test_without_a_change_it_continues(home: Home, sweep_from: ReadSweep) -> None:
    assert begins_anew(home, sweep_from(TEXT)) == ""
    assert begins_anew(home, sweep_from(TEXT, "name=new")) == ""


def test_a_free_key_continues_if_nothing_has_failed(home: Home, sweep_from: ReadSweep) -> None:
    open_ledger(home, sweep_from(TEXT))
    assert begins_anew(home, sweep_from(TEXT, FREE_KEY)) == ""
    assert begins_anew(home, sweep_from(TEXT, OTHER_KEY)) != ""


def note_stage(ledger: Ledger, *, reused: bool = False) -> None:
    ledger.set_stages(1, [StageUse("target", STAGE.key, STAGE.label, reused)])


def score(ledger: Ledger) -> None:
    ledger.report(1, 10, 0.5)


def complete(ledger: Ledger) -> None:
    ledger.tell_complete(1, 0.5)


@pytest.mark.parametrize("make", [note_stage, score, complete])
def test_a_sweep_that_made_something_does_not(
    home: Home, sweep_from: ReadSweep, ledger: Ledger, make: Callable[[Ledger], None]
) -> None:
    make(ledger)
    for change in (OTHER_KEY, FREE_KEY):
        assert begins_anew(home, sweep_from(TEXT, change)) == ""


@pytest.mark.usefixtures("ledger")
def test_progress_of_a_stage_counts_as_made(home: Home, sweep_from: ReadSweep) -> None:
    store = StageStore(home.stages)
    lease = store.lease(STAGE.key)
    assert isinstance(lease, Lease)
    with lease:
        store.publish_progress(STAGE.key, 5, {}, {"step": 5}, lease)
    assert begins_anew(home, sweep_from(TEXT, OTHER_KEY)) == ""


def test_a_reused_stage_does_not_count_as_made(
    home: Home, sweep_from: ReadSweep, ledger: Ledger
) -> None:
    note_stage(ledger, reused=True)
    assert begins_anew(home, sweep_from(TEXT, OTHER_KEY)) != ""


def test_a_ledger_of_another_home_stays(home: Home, sweep_from: ReadSweep, tmp_path: Path) -> None:
    url = f"places.ledger=sqlite:///{tmp_path / 'ledger.db'}"
    open_ledger(Home(tmp_path / "elsewhere"), sweep_from(TEXT, url))
    open_ledger(home, sweep_from(TEXT, url))
    assert begins_anew(home, sweep_from(TEXT, url, OTHER_KEY)) == ""
    assert find_removal(home, "small", print).entries == ()
    begin_anew(home)
    assert home.sweeps() == []
    assert load_ledger(Home(tmp_path / "elsewhere"), "small").trials() == []
