"""The page: one file that works offline, says everything, and is the same for the same inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.report.conftest import SWEEP, Finished, describe, other_home
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger
from xlt_ray.report.page import write_report
from xlt_ray.spec.source import parse_document
from xlt_ray.spec.sweep import sweep_of
from xlt_ray.stages.store import StageStore


def written(found: Finished, root: Path) -> Path:
    there = other_home(found, root)
    return write_report(there.home, there.ledger, there.store, describe_language=describe)


@pytest.fixture(scope="module")
def page(quick: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(quick, tmp_path_factory.mktemp("page"))


def test_same_inputs_give_the_same_bytes(quick: Finished, page: Path, tmp_path: Path) -> None:
    again = written(quick, tmp_path)
    files = sorted(one.relative_to(page.parent) for one in page.parent.rglob("*") if one.is_file())
    assert len(files) > 10
    for file in files:
        assert (page.parent / file).read_bytes() == (again.parent / file).read_bytes(), file


def test_page_works_without_a_network(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "@import" not in text


def test_page_says_rule_states_and_causes(page: Path) -> None:
    text = page.read_text()
    for part in ("dev set of", "pruned", "failed", "running", "memory", "Aranic", "Fozhi"):
        assert part in text, part


def test_what_comes_from_trials_is_escaped(page: Path) -> None:
    text = page.read_text()
    assert "full <8 GiB>" not in text
    assert "full &lt;8 GiB&gt;" in text


def test_every_searched_knob_has_a_figure_with_its_rows(page: Path) -> None:
    for knob in ("model", "intermediate.size", "target.fusion.layer", "target.hybrid.ratio"):
        stem = page.parent / "figures" / f"toy-nli-qaa-{knob}"
        for ending in (".svg", ".png", ".csv"):
            assert Path(f"{stem}{ending}").stat().st_size > 50


def test_oracle_selection_is_marked(oracle: Finished, tmp_path: Path) -> None:
    assert "oracle" in written(oracle, tmp_path).read_text().lower()


def test_sweep_without_a_complete_trial_has_a_page(tmp_path: Path) -> None:
    sweep = sweep_of(parse_document(SWEEP, "quick.yaml"))
    home = Home(tmp_path)
    page = write_report(home, open_ledger(home, sweep), StageStore(home.stages))
    assert "quick" in page.read_text()


def test_sweep_in_which_nothing_was_shared_has_a_page(tmp_path: Path) -> None:
    from tests.unit.report.conftest import finished

    text = SWEEP.replace("trials: 16, seeds: 3", "trials: 1, seeds: 1")
    alone = finished(Home(tmp_path), text)
    assert written(alone, tmp_path / "out").exists()


def test_blocks_are_shown_by_what_they_are(tmp_path: Path) -> None:
    from tests.unit.report.conftest import finished

    text = SWEEP.replace("trials: 16, seeds: 3", "trials: 4, seeds: 1").replace(
        "fusion: {method: dlfa, layer: {int: [0, num_layers - 1]}}",
        "fusion: {choice: [{method: none}, {method: dlfa, layer: {int: [0, num_layers - 1]}}]}",
    )
    page = written(finished(Home(tmp_path), text), tmp_path / "out").read_text()
    for method in ("none", "dlfa"):
        assert re.search(rf"<td[^>]*>{method}</td>", page)
    assert '>{"method' not in page.partition("The resolved sweep")[0]
