"""The report in a terminal says what the page says, in 80 columns."""

from __future__ import annotations

from pathlib import Path

from tests.unit.report.conftest import LANGUAGES, SWEEP, Finished
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger
from xlt_ray.report.tables import tables_of
from xlt_ray.report.text_report import report_text
from xlt_ray.store.store import StageStore


def test_scores_rule_and_gaps_are_there_in_80_columns(quick: Finished) -> None:
    snapshot = quick.snapshot()
    text = report_text(snapshot)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    (table,) = tables_of(snapshot)
    best = table.rows[0]
    assert "chosen by accuracy on the dev set of qaa" in text
    assert f"configuration {best.configuration} by language" in text
    for code in LANGUAGES:
        (line,) = (line for line in lines if f"({code})" in line and "chance" not in line)
        cell = best.cells.get(code)
        assert (f" {100 * cell.mean:.1f} ±" in line) if cell else line.endswith("missing")
        assert f" {table.evidence.sizes[code]} " in line
    assert "38 complete, 7 pruned, 2 failed, 1 " in text
    assert "6 more configurations" in text


def test_a_sweep_without_trials_has_a_text(tmp_path: Path) -> None:
    sweep, home = sweep_of(parse_document(SWEEP, "quick.yaml")), Home(tmp_path)
    empty = Finished(home, sweep, open_ledger(home, sweep), StageStore(home.stages))
    assert report_text(empty.snapshot()) == "quick\nno trials yet"
