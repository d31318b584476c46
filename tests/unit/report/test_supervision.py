"""Translated hybrid batches are translate-train wherever a result stands, row by row."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import tests.unit.report.conftest as fixtures
from tests.unit.report.conftest import LANGUAGES, Finished, csv_rows, finished
from xlt_ray.config.facts import LexiconFacts
from xlt_ray.data.task import task_named
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView
from xlt_ray.report import xtreme
from xlt_ray.report.card import model_card
from xlt_ray.report.comparison import candidate_of, compare, comparison_json
from xlt_ray.report.figures.questions import ratio_figure
from xlt_ray.report.frames import Snapshot, trials_frame
from xlt_ray.report.latex_tables import groups_tex, table_csv, table_tex
from xlt_ray.report.provenance import export_metadata
from xlt_ray.report.tables import LanguageTable, tables_of
from xlt_ray.report.xtreme import BenchmarkTask, xtreme_frame

SWEEP = """
name: mixed
data: {source: toy}
model: toy:2x64
target:
  task: toy-nli
  source_language: qaa
  size: 800
  max_length: 32
  hybrid: {languages: [qab, qac], ratio: {choice: [0.0, 0.25, 0.5]}}
objective: {metric: accuracy}
search: {sampler: grid, trials: 3, seeds: 2}
"""
SHOWN = "translate-train (qab, qac)"
RATIO = "target.hybrid.ratio"


def complete(run: Finished, view: TrialView) -> None:
    run.ledger.begin_attempt(view.number)
    fixtures.walk(run, view)
    run.ledger.tell_complete(view.number, 0.5 + view.assignment[RATIO] / 10)  # type: ignore[operator]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One zero-shot configuration, and two that saw labels on text of two of the languages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixtures, "end", complete)
        return finished(Home(tmp_path_factory.mktemp("mixed")), SWEEP)


@pytest.fixture(scope="module")
def snapshot(mixed: Finished) -> Snapshot:
    return mixed.snapshot()


@pytest.fixture(scope="module")
def table(snapshot: Snapshot) -> LanguageTable:
    (table,) = tables_of(snapshot)
    return table


def expected(ratio: object) -> str:
    return SHOWN if float(str(ratio)) > 0 else "zero-shot"


def test_every_trial_and_row_says_which_labels_it_learned_from(
    snapshot: Snapshot, table: LanguageTable
) -> None:
    frame = trials_frame(snapshot)
    assert list(frame["supervision"]) == [expected(ratio) for ratio in frame[RATIO]]
    assert {row.parameters[RATIO]: row.supervision for row in table.rows} == {
        0.0: "zero-shot", 0.25: SHOWN, 0.5: SHOWN,
    }  # fmt: skip


def test_code_switched_batches_are_zero_shot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixtures, "end", complete)
    words = replace(fixtures.facts(), lexicon={"qaa": LexiconFacts(("qab", "qac"), "words")})
    monkeypatch.setattr(fixtures, "facts", lambda: words)
    text = SWEEP.replace("hybrid: {", "hybrid: {text: switched, ")
    sweep = finished(Home(tmp_path), text)
    frame = trials_frame(sweep.snapshot())
    assert set(frame["supervision"]) == {"zero-shot"}
    page = sweep.report().read_text()
    assert "translate-train" not in page.lower()


def test_tables_mark_the_rows_that_are_not_zero_shot(mixed: Finished, table: LanguageTable) -> None:
    sweep = mixed.ledger.sweep
    lines = csv_rows(table_csv(table, sweep))
    assert [line["supervision"] for line in lines] == [expected(line[RATIO]) for line in lines]
    marked = {str(row.configuration) for row in table.rows if row.supervision == SHOWN}
    for text in (table_tex(table, sweep), groups_tex(table, sweep)):
        assert "TRANSLATE-TRAIN, not zero-shot" in text
        assert set(re.findall(r"^(\d+)\$\^\{\\ddagger\}\$", text, re.M)) == marked
    assert all("TRANSLATE-TRAIN" in line["selection"] for line in lines)


def test_a_curve_over_the_ratio_does_not_join_the_two(table: LanguageTable) -> None:
    figure = ratio_figure(table, RATIO)
    assert figure is not None
    rows = csv_rows(figure.csv)
    assert {row["supervision"] for row in rows} == {"zero-shot", SHOWN}
    assert all(row["supervision"] == expected(row[RATIO]) for row in rows)
    assert "translate-train" in figure.caption
    other = replace(table, rows=tuple(replace(row, supervision="zero-shot") for row in table.rows))
    plain = ratio_figure(other, RATIO)
    assert plain is not None
    assert "translate-train" not in plain.caption
    assert plain.svg != figure.svg, "lines and marks differ, not the caption alone"


def test_the_page_says_so_beside_the_best_and_in_every_caption(mixed: Finished) -> None:
    page = mixed.report()
    text = page.read_text()
    best = text[text.index('id="best"') : text.index('id="questions"')]
    assert SHOWN in best
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.S)
    assert captions
    curves = [
        caption
        for caption in captions
        if "timeline" not in caption and "hours" not in caption.lower()
    ]
    assert sum("TRANSLATE-TRAIN" in caption for caption in captions) >= len(curves) - 1
    rows = re.findall(r'<tr data-c="(\d+)".*?</tr>', text, re.S)
    assert rows
    marked = re.findall(
        r'<a href="#configuration-(\d+)">\d+</a><span class="warn" title="(.*?)">', text
    )
    assert {label for _, label in marked} == {SHOWN}
    zero_shot = {
        str(trial.configuration) for trial in mixed.ledger.trials() if not trial.assignment[RATIO]
    }
    assert zero_shot.isdisjoint(number for number, _ in marked)
    picks = pd.read_csv(page.parent / "tables" / "toy-nli-qaa-languages-selection.csv")
    assert set(picks["supervision"].dropna()) <= {SHOWN, "zero-shot"}
    assert SHOWN in set(picks["supervision"])


def test_a_comparison_of_the_two_says_what_it_compares(snapshot: Snapshot) -> None:
    by_ratio = {view.assignment[RATIO]: view.configuration for view in snapshot.trials}
    zero, quarter, half = (candidate_of(snapshot, by_ratio[ratio]) for ratio in (0.0, 0.25, 0.5))
    (comparison,) = compare([zero, half])
    assert any("TRANSLATE-TRAIN" in note and "qab, qac" in note for note in comparison.notes)
    assert any(note.startswith("one side is zero-shot") for note in comparison.notes)
    contenders = comparison_json([comparison])["contenders"]
    assert [candidate["supervision"] for candidate in contenders] == [
        "zero-shot", SHOWN,
    ]  # fmt: skip
    (alike,) = compare([quarter, half])
    assert not any(note.startswith("one side is zero-shot") for note in alike.notes)


def test_a_model_card_calls_it_translate_train(snapshot: Snapshot) -> None:
    cards = {}
    for view in snapshot.trials:
        metadata = export_metadata(
            snapshot, view, is_named=True,
            describe_task=lambda name: task_named(name).model_dump(mode="json"),
        )  # fmt: skip
        cards[view.assignment[RATIO]] = model_card(metadata)
    assert "tags: [xlt-ray, zero-shot, cross-lingual]" in cards[0.0]
    assert "zero-shot cross-lingual transfer" in cards[0.0]
    assert "tags: [xlt-ray, translate-train, cross-lingual]" in cards[0.5]
    assert "TRANSLATE-TRAIN" in cards[0.5]
    assert "zero-shot cross-lingual transfer" not in cards[0.5]
    assert SHOWN in cards[0.5]


def test_a_trial_that_was_not_evaluated_is_known_by_its_target_stage(snapshot: Snapshot) -> None:
    records = {key: record for key, record in snapshot.records.items() if record.kind != "evaluate"}
    found = replace(snapshot, records=records)
    supervision = {view.assignment[RATIO]: found.supervision(view) for view in found.trials}
    assert supervision == {0.0: "", 0.25: SHOWN, 0.5: SHOWN}


def test_xtreme_keeps_the_two_in_rows_of_their_own(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = BenchmarkTask("toy-nli", "structured", ("accuracy",), LANGUAGES)
    others = {name: task for name, task in xtreme.TASKS.items() if task.group != "structured"}
    monkeypatch.setattr(xtreme, "TASKS", {**others, "toy-nli": task})
    frame = xtreme_frame([snapshot])
    assert len(frame) == 2 * 2
    for supervision, ratios in (("zero-shot", {0.0}), ("translate-train", {0.25, 0.5})):
        part = frame[frame["supervision"] == supervision]
        assert len(part) == 2
        best = {
            view.seed: xtreme._test_scores(snapshot, view)["accuracy"]
            for view in snapshot.trials
            if view.assignment[RATIO] == max(ratios)
        }
        means = {seed: sum(trial.values()) / len(LANGUAGES) for seed, trial in best.items()}
        assert dict(zip(part["seed"], part["toy-nli"], strict=True)) == pytest.approx(means)
