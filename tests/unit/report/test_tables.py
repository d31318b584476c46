"""Tables: complete, source language first, and never a mean over different language sets."""

from __future__ import annotations

import statistics

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.report.conftest import NOWHERE_SCORED, ONCE_NOT_SCORED, Finished
from xlt_ray.report.frames import knobs_of, scores_frame, trials_frame
from xlt_ray.report.tables import (
    LanguageTable,
    best_configuration,
    is_oracle,
    language_tables,
    selection_rule,
    table_csv,
    table_tex,
)

CODES = ("qaa", "qab", "qac", "qad")


def table_of(found: Finished) -> LanguageTable:
    trials, scores = trials_frame(found.ledger), scores_frame(found.ledger, found.store)
    (table,) = language_tables(trials, scores, knobs_of(found.ledger.trials()), found.ledger.sweep)
    return table


def test_source_language_comes_first_and_every_language_is_there(quick: Finished) -> None:
    assert table_of(quick).languages == ("qaa", "qab", "qac", "qad", "qae", "qaf")


def test_one_row_a_configuration_with_its_number_of_seeds(quick: Finished) -> None:
    table = table_of(quick)
    configurations = [row.configuration for row in table.rows]
    assert len(configurations) == len(set(configurations))
    complete = [one for one in quick.ledger.trials() if one.state == "complete"]
    for row in table.rows:
        assert row.num_seeds == sum(one.configuration == row.configuration for one in complete)


def test_rows_are_ordered_by_the_objective_the_best_first(quick: Finished) -> None:
    table = table_of(quick)
    trials = trials_frame(quick.ledger)
    assert best_configuration(trials, quick.ledger.sweep) == table.rows[0].configuration


def test_missing_cells_are_missing_and_have_no_mean(quick: Finished) -> None:
    rows = {row.configuration: row for row in table_of(quick).rows}
    assert "qaf" not in rows[NOWHERE_SCORED].cells
    assert rows[NOWHERE_SCORED].mean is None
    assert rows[NOWHERE_SCORED].mean_without_source is None
    assert rows[ONCE_NOT_SCORED].cells["qae"].num_seeds == rows[ONCE_NOT_SCORED].num_seeds - 1
    assert table_of(quick).has_missing


def test_means_with_and_without_the_source_language_are_right(quick: Finished) -> None:
    table = table_of(quick)
    for row in table.rows:
        if row.mean is None or row.mean_without_source is None:
            continue
        whole = [row.cells[one].mean for one in table.languages]
        if len({cell.num_seeds for cell in row.cells.values()}) == 1:
            assert row.mean.mean == pytest.approx(statistics.fmean(whole))
            assert row.mean_without_source.mean == pytest.approx(statistics.fmean(whole[1:]))


@given(
    st.lists(st.sets(st.sampled_from(CODES), min_size=1), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_a_mean_is_over_all_languages_or_there_is_none(holes: list[set[str]], seeds: int) -> None:
    rows, trials = [], []
    for configuration, languages in enumerate(holes):
        for repeat in range(seeds + 1):
            number = len(trials)
            trials.append(
                {"number": number, "state": "complete", "configuration": configuration,
                 "repeat": repeat, "objective": 0.5, "model": "m"}
            )  # fmt: skip
            rows += [
                {"number": number, "task": "t", "language": one, "split": "test",
                 "metric": "accuracy", "value": CODES.index(one) / 10, "num_examples": 9,
                 "source_language": "qaa", "configuration": configuration, "repeat": repeat}
                for one in languages
            ]  # fmt: skip
    everywhere = set().union(*holes)
    sweep = {
        "objective": {"metric": "accuracy", "mode": "max", "languages": "source", "split": "dev"},
        "search": {"seeds": seeds + 1},
        "space": {},
    }
    for table in language_tables(pd.DataFrame(trials), pd.DataFrame(rows), ["model"], sweep):
        assert set(table.languages) == everywhere
        for row in table.rows:
            there = holes[row.configuration]
            if row.mean is not None:
                assert there >= set(table.languages)
            if row.mean_without_source is not None:
                assert there >= set(table.languages) - {"qaa"}


def test_selection_rule_says_how_the_best_was_chosen(quick: Finished, oracle: Finished) -> None:
    assert "dev set of qaa" in selection_rule(quick.ledger.sweep, "qaa")
    assert "the target languages" in selection_rule(oracle.ledger.sweep, "qaa")
    assert (is_oracle(quick.ledger.sweep), is_oracle(oracle.ledger.sweep)) == (False, True)


def test_latex_has_booktabs_and_every_language(quick: Finished) -> None:
    text = table_tex(table_of(quick), quick.ledger.sweep)
    for part in ("\\toprule", "\\midrule", "\\bottomrule", "qaf"):
        assert part in text


def test_csv_leaves_missing_cells_empty(quick: Finished) -> None:
    lines = table_csv(table_of(quick)).splitlines()
    header = lines[0].split(",")
    row = next(line.split(",") for line in lines[1:] if line.startswith(f"{NOWHERE_SCORED},"))
    assert row[header.index("qaf")] == ""
    assert row[header.index("qab")] != ""
