"""A damaged stage is missing in the report of its sweep, and its command is named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.report.conftest import Finished
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.page import write_report
from xlt_ray.report.provenance import exportable, lost_weights, target_use
from xlt_ray.store.evaluation_items import ITEMS
from xlt_ray.store.stage import short
from xlt_ray.store.store import StageStore


@pytest.fixture(scope="module")
def damaged(
    quick: Finished, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Finished, list[int]]:
    """``quick`` with an evaluation that is gone and one whose record is cut short."""
    root = tmp_path_factory.mktemp("damaged") / "stages"
    assert quick.store.storage.local_root is not None
    shutil.copytree(quick.store.storage.local_root, root)
    store = StageStore(root)
    views = [trial for trial in quick.ledger.trials() if trial.state == "complete"][:2]
    first, second = (view.evaluation_key for view in views)
    assert first is not None
    assert second is not None
    shutil.rmtree(store.folder(first))
    cut_short(store, second)
    return replace(quick, store=store), [view.number for view in views]


def cut_short(store: StageStore, key: str) -> None:
    record = store.folder(key) / "record.json"
    record.write_bytes(record.read_bytes()[:60])


def test_a_report_names_what_is_lost_and_its_command(
    damaged: tuple[Finished, list[int]], tmp_path: Path
) -> None:
    found, numbers = damaged
    warnings: list[str] = []
    page = write_report(Home(tmp_path), found.ledger, found.store, warn=warnings.append)
    (line,) = warnings
    assert f"trials {numbers[0]}, {numbers[1]} is gone or damaged" in line
    assert "xlt resume quick" in line
    assert line in page.read_text(encoding="utf-8")
    scores = (page.parent / "tables" / "scores.csv").read_text(encoding="utf-8")
    scored = {row.split(",")[0] for row in scores.splitlines()[1:] if ",evaluate," in row}
    assert not scored & {str(number) for number in numbers}
    assert scored


def test_a_whole_report_warns_of_nothing(snapshot: Snapshot) -> None:
    assert snapshot.unscored == []
    assert lost_weights(snapshot) == ""


def test_best_weights_and_items_that_are_damaged_are_named_with_their_command(
    quick: Finished, tmp_path: Path
) -> None:
    assert quick.store.storage.local_root is not None
    shutil.copytree(quick.store.storage.local_root, tmp_path / "stages")
    store = StageStore(tmp_path / "stages")
    best = quick.ledger.best()
    assert best is not None
    target = target_use(best.trial)
    assert target is not None
    cut_short(store, target.key)
    key = best.trial.evaluation_key
    assert key is not None
    items = store.folder(key) / ITEMS
    items.write_bytes(items.read_bytes()[:-1] + b"x")
    warnings: list[str] = []
    write_report(Home(tmp_path), quick.ledger, store, warn=warnings.append)
    weights, scores = warnings
    assert f"the weights of trial {best.trial.number}, the best one, are gone or damaged" in weights
    assert short(key) in scores
    assert ITEMS in scores
    for line in warnings:
        assert "xlt resume quick --verify" in line


def test_a_target_stage_that_is_damaged_names_the_command_that_makes_it(
    damaged: tuple[Finished, list[int]],
) -> None:
    found, numbers = damaged
    view = found.ledger.trial(numbers[0])
    target = target_use(view)
    assert target is not None
    cut_short(found.store, target.key)
    with pytest.raises(LedgerError, match=f"xlt stage quick --trial {view.number} --until target"):
        exportable(found.snapshot(), view)
