"""What is evaluated besides stands in tables of its own and moves no other number."""

from __future__ import annotations

import statistics
from pathlib import Path

import pandas as pd
import pytest

import tests.unit.report.conftest as fixtures
from tests.unit.report.conftest import Finished, csv_rows, finished, sized
from xlt_ray.home import Home
from xlt_ray.report.additional_tasks import (
    additional_csv,
    additional_frame,
    additional_tables,
    averaged_scores,
)
from xlt_ray.report.frames import scores_frame, trials_frame
from xlt_ray.report.latex_tables import picks_csv
from xlt_ray.report.selection import picks
from xlt_ray.report.tables import language_tables, tables_of
from xlt_ray.store.record import Score

SMALL = sized(3, 2)
ASKED = SMALL + "evaluate: {pairs: [[qaa, qab], [qab, qaa], [qab, qab]], also: [toy-paraphrase]}\n"
PAIRS = {"qaa:qab": 0.1, "qab:qaa": 0.2, "qab:qab": 0.9}
FURTHER = {"qaa": 0.01, "qac": 0.03}
AVERAGE = {"qaa": 0.91, "qab": 0.81, "qac": 0.83}


def besides() -> tuple[Score, ...]:
    """Scores that would pull down every mean that they entered."""
    return tuple(
        Score(task, language, split, metric, value, 50, role, dropped)  # type: ignore[arg-type]
        for role, task, split, values, dropped in (
            ("pairs", "toy-nli-pairs", "test", PAIRS, 3),
            ("further", "toy-paraphrase", "test", FURTHER, 0),
            ("average", "toy-nli-average", "test", AVERAGE, 0),
            ("average", "toy-nli-average", "dev", {"qaa": 0.95}, 0),
        )
        for language, value in values.items()
        for metric in ("accuracy", "macro_f1")
    )


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finished:
    plain = fixtures.scores_of
    monkeypatch.setattr(fixtures, "scores_of", lambda *given: (*plain(*given), *besides()))
    return finished(Home(tmp_path / "asked"), ASKED)


def test_no_number_of_the_main_tables_knows_of_it(asked: Finished, tmp_path: Path) -> None:
    plain = finished(Home(tmp_path / "plain"), SMALL)
    first, second = (found.snapshot() for found in (plain, asked))
    pd.testing.assert_frame_equal(scores_frame(first), scores_frame(second))
    tables = [tables_of(each) for each in (first, second)]
    assert tables[0] == tables[1]
    assert len(tables[1]) == 1


def test_a_plain_sweep_has_none_of_it(small: Finished) -> None:
    frame = additional_frame(small.snapshot())
    assert frame.empty
    assert additional_tables(frame, small.ledger.sweep) == []


def test_every_further_score_is_reported_with_its_data_and_what_was_dropped(
    asked: Finished,
) -> None:
    frame = additional_frame(asked.snapshot())
    complete = sum(trial.state == "complete" for trial in asked.ledger.trials())
    assert len(frame) == complete * len(besides())
    pair = frame[(frame["language"] == "qab:qaa") & (frame["metric"] == "accuracy")].iloc[0]
    assert (pair["role"], pair["task"], pair["num_dropped"]) == ("pairs", "toy-nli-pairs", 3)
    assert pair["data"] == "toy-nliqab toy-nliqaa"
    further = frame[frame["role"] == "further"].iloc[0]
    assert (further["data"], further["task_version"]) == ("toy-paraphraseqaa", 1)


def test_means_are_over_one_task_or_over_pairs_alone(asked: Finished) -> None:
    tables = additional_tables(additional_frame(asked.snapshot()), asked.ledger.sweep)
    assert [(table.role, table.metric, table.is_headline) for table in tables] == [
        ("average", "accuracy", True),
        ("average", "macro_f1", False),
        ("pairs", "accuracy", True),
        ("pairs", "macro_f1", False),
        ("further", "accuracy", True),
        ("further", "macro_f1", False),
    ]
    averaged, _, pairs, _, further, _ = tables
    for row in averaged.rows:
        means = {name: cell.mean for name, cell in row.means.items() if cell}
        assert means == {
            "mean": pytest.approx(statistics.fmean(AVERAGE.values())),
            "mean_without_source": pytest.approx(0.82),
        }
    for row in pairs.rows:
        means = {name: cell.mean for name, cell in row.means.items() if cell}
        assert means["mean"] == pytest.approx(statistics.fmean(PAIRS.values()))
        assert means["mean_of_two_languages"] == pytest.approx(0.15)
    for row in further.rows:
        assert [cell.mean for cell in row.means.values() if cell] == [pytest.approx(0.02)]
    assert (
        additional_csv(pairs)
        .splitlines()[0]
        .startswith("configuration,supervision,num_seeds,mean,")
    )


def test_a_mean_that_lacks_a_language_in_a_seed_is_missing(asked: Finished) -> None:
    frame = additional_frame(asked.snapshot())
    number = frame["number"].min()
    hole = (frame["number"] == number) & (frame["language"] == "qac")
    table = additional_tables(frame[~hole], asked.ledger.sweep)[4]
    assert table.rows[0].means == {"mean": None}
    assert all(row.means["mean"] for row in table.rows[1:])


def test_the_four_rules_stand_side_by_side_with_averaged_weights_among_them(
    asked: Finished,
) -> None:
    snapshot = asked.snapshot()
    trials, scores = trials_frame(snapshot), scores_frame(snapshot)
    means = averaged_scores(additional_frame(snapshot))
    (table,) = language_tables(trials, scores, snapshot.sweep)
    (averaged,) = language_tables(trials, means, snapshot.sweep)
    picked = picks(table, scores, snapshot.sweep, averaged, means)
    assert [(pick.is_averaged, pick.is_oracle) for pick in picked] == [
        (False, False),
        (False, False),
        (True, False),
        (False, True),
        (False, True),
    ]
    average = picked[2]
    assert average.value == pytest.approx(0.95), "by the dev score of the averaged weights"
    assert average.row is not None
    assert {code: cell.mean for code, cell in average.row.cells.items()} == pytest.approx(AVERAGE)
    lines = csv_rows(picks_csv(picked, table))
    assert float(lines[2]["source"]) == pytest.approx(0.91)
    # What is missing is there, with its reason.
    assert (lines[3]["configuration"], lines[3]["source"]) == ("", "")
    assert "evaluate.dev" in lines[3]["missing"]


def test_the_page_shows_it_apart(asked: Finished) -> None:
    page = asked.report()
    text = page.read_text(encoding="utf-8")
    assert "Evaluated besides" in text
    assert 'data-t="toy-nli-qaa-languages-average"' in text, "a pick leads to its own scores"
    assert text.count("toy-nli-pairs-qaa-accuracy-further.csv") == 1
    files = {file.name for file in (page.parent / "tables").iterdir()}
    assert {"further.csv", "toy-paraphrase-qaa-macro_f1-further.csv"} <= files
    assert "toy-paraphrase-qaa-languages.csv" not in files


def test_the_page_shows_of_tatoeba_the_direction_that_is_published(asked: Finished) -> None:
    frame = additional_frame(asked.snapshot())
    further = frame[frame["role"] == "further"]
    as_tatoeba = pd.concat(
        further[further["metric"] == "accuracy"].assign(task="tatoeba", metric=metric)
        for metric in ("accuracy", "accuracy_into_pivot", "accuracy_from_pivot")
    )
    tables = additional_tables(as_tatoeba, asked.ledger.sweep)
    assert [table.metric for table in tables if table.is_headline] == ["accuracy_from_pivot"]
