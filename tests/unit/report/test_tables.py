"""Tables: complete, source language first, and never a mean over different language sets."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.report.conftest import (
    NOWHERE_SCORED,
    ONCE_NOT_SCORED,
    SWEEP,
    Finished,
    csv_rows,
    finished,
)
from xlt_ray.config.sweep import selection_rule
from xlt_ray.errors import SpecError
from xlt_ray.home import Home
from xlt_ray.report.frames import SCORE_COLUMNS, Snapshot, scores_frame, typed
from xlt_ray.report.latex_tables import picks_csv, picks_tex, table_csv, table_tex
from xlt_ray.report.selection import (
    checkpoints,
    header,
    is_oracle,
    picks,
)
from xlt_ray.report.stats import summary
from xlt_ray.report.tables import (
    LanguageTable,
    groups_of,
    known_groupings,
    language_tables,
    read_groupings,
    seen_grouping,
    tables_of,
    without_members,
)

CODES = ("qaa", "qab", "qac", "qad")


def scores_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A frame of scores of which only these columns are known."""
    return typed(pd.DataFrame(rows).reindex(columns=SCORE_COLUMNS))


def table_of(run: Finished) -> LanguageTable:
    snapshot = run.snapshot()
    (table,) = tables_of(snapshot)
    return table


def test_source_language_comes_first_and_every_language_is_there(table: LanguageTable) -> None:
    assert table.languages == ("qaa", "qab", "qac", "qad", "qae", "qaf")


def test_one_row_a_configuration_with_its_number_of_seeds(
    quick: Finished, table: LanguageTable
) -> None:
    configurations = [row.configuration for row in table.rows]
    assert len(configurations) == len(set(configurations))
    complete = [trial for trial in quick.ledger.trials() if trial.state == "complete"]
    for row in table.rows:
        assert row.num_seeds == sum(trial.configuration == row.configuration for trial in complete)


def test_rows_are_ordered_by_the_objective_the_best_first(
    table: LanguageTable, snapshot: Snapshot
) -> None:
    assert snapshot.best_configuration == table.rows[0].configuration


def test_missing_cells_are_missing_and_have_no_mean(table: LanguageTable) -> None:
    rows = {row.configuration: row for row in table.rows}
    assert "qaf" not in rows[NOWHERE_SCORED].cells
    assert rows[NOWHERE_SCORED].mean is None
    assert rows[NOWHERE_SCORED].mean_without_source is None
    assert rows[ONCE_NOT_SCORED].cells["qae"].num_seeds == rows[ONCE_NOT_SCORED].num_seeds - 1
    assert table.has_missing


def test_selection_rule_says_how_the_best_was_chosen(quick: Finished, oracle: Finished) -> None:
    assert "dev set of qaa" in selection_rule(quick.ledger.sweep, "qaa")
    assert "the target languages" in selection_rule(oracle.ledger.sweep, "qaa")
    assert (is_oracle(quick.ledger.sweep), is_oracle(oracle.ledger.sweep)) == (False, True)


def test_latex_has_booktabs_and_every_language(quick: Finished, table: LanguageTable) -> None:
    text = table_tex(table, quick.ledger.sweep)
    for part in ("\\toprule", "\\midrule", "\\bottomrule", "qaf"):
        assert part in text


def test_csv_leaves_missing_cells_empty(quick: Finished, table: LanguageTable) -> None:
    lines = csv_rows(table_csv(table, quick.ledger.sweep))
    row = next(line for line in lines if line["configuration"] == str(NOWHERE_SCORED))
    assert row["qaf"] == ""
    assert row["qab"] != ""


def test_csv_has_the_interval_over_seeds_of_every_score(
    quick: Finished, table: LanguageTable
) -> None:
    lines = csv_rows(table_csv(table, quick.ledger.sweep))
    held = 0
    for line, row in zip(lines, table.rows, strict=True):
        for code in table.languages:
            values = [trial.scores[code] for trial in row.trials if code in trial.scores]
            interval = summary(values).interval if values else None
            if interval is None:
                assert (line[f"{code}_low"], line[f"{code}_high"]) == ("", "")
                continue
            held += 1
            interval_in_csv = float(line[f"{code}_low"]), float(line[f"{code}_high"])
            assert interval_in_csv == pytest.approx((interval.low, interval.high))
    assert held > 50


# -- completeness -------------------------------------------------------------------------


def test_configurations_without_scores_have_a_row_too_and_come_last(table: LanguageTable) -> None:
    assert {row.configuration for row in table.rows} == set(range(16))
    empty = [row for row in table.rows if not row.trials]
    assert {row.configuration for row in empty} == {5, 11}
    assert [*table.rows[-2:]] == empty
    for row in empty:
        assert (row.objective, row.mean, row.gap, dict(row.cells)) == (None, None, None, {})
        assert row.states == {"pruned": 3}


def test_a_sweep_over_tasks_has_a_table_for_each_and_no_row_twice() -> None:
    trials = pd.DataFrame(
        [
            {"number": 0, "state": "complete", "configuration": 0, "repeat": 0, "seed": 0,
             "objective": 0.5, "target.task": "a"},
            {"number": 1, "state": "complete", "configuration": 1, "repeat": 0, "seed": 0,
             "objective": 0.5, "target.task": "b"},
            {"number": 2, "state": "failed", "configuration": 2, "repeat": 0, "seed": 0,
             "objective": None, "target.task": "b"},
        ]
    )  # fmt: skip
    scores = scores_of(
        [
            {"number": number, "task": task, "language": "qaa", "split": "test",
             "metric": "accuracy", "value": 0.5, "source_language": "qaa",
             "configuration": number, "seed": 0}
            for number, task in enumerate("ab")
        ]
    )  # fmt: skip
    sweep = {**SMALL_SWEEP, "space": {"target": {"source_language": "qaa"}}}
    tables = language_tables(trials, scores, sweep)
    assert [(table.task, [row.configuration for row in table.rows]) for table in tables] == [
        ("a", [0]), ("b", [1, 2]),
    ]  # fmt: skip


# -- means, groups, gaps ------------------------------------------------------------------

SMALL_SWEEP = {
    "objective": {"metric": "accuracy", "mode": "max", "languages": "source", "split": "dev"},
    "search": {"seeds": 3},
    "space": {"target": {"task": "t", "source_language": "qaa"}},
}
GROUPS = {"by hand": {"near": ["qaa", "qab"], "far": ["qac", "qad"], "elsewhere": ["fr"]}}


def table_from(values: Mapping[tuple[int, int, str], float]) -> LanguageTable:
    """A table from (configuration, repeat, language) -> score; what is not there is a hole."""
    places = sorted({(configuration, repeat) for configuration, repeat, _ in values})
    numbers = {place: number for number, place in enumerate(places)}
    trials = pd.DataFrame(
        [
            {"number": number, "state": "complete", "configuration": configuration,
             "repeat": repeat, "seed": repeat, "objective": 0.5, "model": "m"}
            for (configuration, repeat), number in numbers.items()
        ]
    )  # fmt: skip
    scores = scores_of(
        [
            {"number": numbers[configuration, repeat], "task": "t", "language": language,
             "split": "test", "metric": "accuracy", "value": value, "source_language": "qaa",
             "configuration": configuration, "seed": repeat}
            for (configuration, repeat, language), value in values.items()
        ]
    )  # fmt: skip
    (table,) = language_tables(trials, scores, SMALL_SWEEP, lambda _: GROUPS)
    return table


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from(CODES)),
        st.integers(0, 100).map(lambda percent: percent / 100),
        min_size=1,
    )
)
def test_every_mean_of_a_column_is_over_the_same_languages(
    values: dict[tuple[int, int, str], float],
) -> None:
    table = table_from(values)
    targets = [code for code in table.languages if code != "qaa"]
    has_source = "qaa" in table.languages
    columns = {group.title: group.languages for group in table.groups}
    for group in table.groups:
        assert set(group.languages) < set(targets)
    for row in table.rows:
        repeats = {r for c, r, _ in values if c == row.configuration}

        def mean(
            codes: Sequence[str],
            configuration: int = row.configuration,
            repeats: set[int] = repeats,
        ) -> float | None:
            asked = [(configuration, repeat, code) for repeat in repeats for code in codes]
            if not asked or any(code not in values for code in asked):
                return None
            return statistics.fmean(values[code] for code in asked)

        without = mean(targets) if has_source else None
        for found, expected in (
            (row.mean, mean(table.languages)),
            (row.mean_without_source, without),
            *((row.groups.get(title), mean(codes)) for title, codes in columns.items()),
        ):
            assert (found is None) == (expected is None)
            assert found is None or found.mean == pytest.approx(expected)
        if row.gap is not None:
            assert without is not None
            assert row.gap.mean == pytest.approx(mean(["qaa"]) - without)
        else:
            assert mean(table.languages) is None or not targets or not has_source


def test_a_table_with_a_dash_says_that_something_is_missing() -> None:
    whole = {(0, repeat, code): 0.5 for repeat in (0, 1) for code in ("qaa", "qab")}
    assert not table_from(whole).has_missing
    once = {place: value for place, value in whole.items() if place != (0, 1, "qab")}
    assert set(table_from(once).rows[0].cells) == {"qaa", "qab"}
    assert table_from(once).has_missing
    for code in ("qaa", "qab"):
        alone = {place: value for place, value in whole.items() if place[2] == code}
        assert table_from(alone).has_missing


def scores_in(source: float, others: float) -> dict[str, float]:
    return {"qaa": source, "qab": others, "qac": others}


def test_a_gap_that_shrinks_because_the_source_fell_is_marked() -> None:
    kinds = {0: (0.8, 0.5), 1: (0.7, 0.5), 2: (0.7, 0.45), 3: (0.8, 0.6), 4: (0.7, 0.3)}
    table = table_from(
        {
            (configuration, 0, code): value
            for configuration, pair in kinds.items()
            for code, value in scores_in(*pair).items()
        }
    )
    assert table.reference is not None
    assert table.reference.configuration == 0
    marked = {row.configuration for row in table.rows if table.is_gap_of_source(row)}
    # 3 shrinks because the others rose; 4 does not shrink.
    assert marked == {1, 2}


def test_groups_are_of_families_scripts_resources_and_hold_no_source() -> None:
    groupings = known_groupings(("qaa", "qab", "qac", "qad", "qae", "qaf"))
    groups = groups_of(groupings, ("qaa", "qab", "qac", "qad", "qae", "qaf"), "qaa")
    by_title = {group.title: group.languages for group in groups}
    assert by_title["family: Toy Western"] == ("qab", "qac")
    assert by_title["script: Cyrl"] == ("qae", "qaf")
    assert by_title["resources: low"] == ("qaf",)
    assert all("qaa" not in languages for languages in by_title.values())


def test_seen_languages_come_from_cross_lingual_batches_or_from_a_list(snapshot: Snapshot) -> None:
    codes = ("qaa", "qab", "qac")
    assert seen_grouping(snapshot, codes) == {"seen": {"seen": ["qab", "qac"], "unseen": ["qaa"]}}
    assert seen_grouping(snapshot, codes, ["qac", "fr"]) == {
        "seen": {"seen": ["qac"], "unseen": ["qaa", "qab"]}
    }


def test_seen_languages_come_from_alignment_data(tmp_path: Path) -> None:
    align = "align: {choice: [null, {objective: tlm, languages: [qaa, qab], steps: 5}, " \
            "{objective: tlm, languages: [qaa, qab, qac], steps: 5}]}\ntarget:"  # fmt: skip
    text = SWEEP.replace("target:", align, 1).replace("seeds: 3", "seeds: 1")
    sweep = finished(Home(tmp_path), text.replace("ratio: {float: [0.0, 1.0]}", "ratio: 0.0"))
    snapshot = sweep.snapshot()
    assert seen_grouping(snapshot, ("qab", "qac", "qad")) == {
        "seen": {"seen": ["qab"], "seen by some": ["qac"], "unseen": ["qad"]}
    }


def test_seen_languages_come_from_intermediate_training(tmp_path: Path) -> None:
    block = "{task: toy-paraphrase, languages: [qaa, qab], size: 500}"
    text = re.sub(r"intermediate: .*", f"intermediate: {block}", SWEEP)
    text = text.replace("ratio: {float: [0.0, 1.0]}", "ratio: 0.0")
    sweep = finished(Home(tmp_path), text.replace("trials: 16, seeds: 3", "trials: 1, seeds: 1"))
    snapshot = sweep.snapshot()
    assert seen_grouping(snapshot, ("qab", "qac")) == {"seen": {"seen": ["qab"], "unseen": ["qac"]}}


def test_a_file_of_groups_is_read_as_sweep_files_are(tmp_path: Path) -> None:
    file = tmp_path / "nordic.yaml"
    file.write_text("near: [da, no]\nfar: [fi]\n")
    assert read_groupings(file) == {"nordic": {"near": ["da", "no"], "far": ["fi"]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [x]\nb: y\n", r"g.yaml:2: b: is not a list of languages; write GROUP"),
        ("a: [1]\n", r"g.yaml:1: a: is not a list"),
        ("a: []\n", r"g.yaml:1: a: is not a list"),
        ("- x\n", r"g.yaml:1: is not a mapping"),
        ("a: [x\n", r"g.yaml:\d: is not valid YAML"),
    ],
)
def test_a_file_of_groups_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "g.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=message) as refused:
        read_groupings(file)
    assert refused.value.exit_code == 2
    with pytest.raises(SpecError, match="cannot be read"):
        read_groupings(tmp_path / "nowhere.yaml")


def test_groups_without_a_scored_language_are_named() -> None:
    groupings = {"mine": {"near": ["da", "sv"], "far": ["fi"], "empty": []}}
    empty, far = sorted(without_members(groupings, ("da", "de")))
    assert empty == "mine: empty: has no languages, so no table has this group"
    assert far.startswith("mine: far: no target language that is scored is one of fi, ")


# -- selection ----------------------------------------------------------------------------


def test_rules_stand_side_by_side_and_pick_what_they_say(
    table: LanguageTable, snapshot: Snapshot
) -> None:
    picked = picks(table, scores_frame(snapshot), snapshot.sweep)
    assert [pick.is_oracle for pick in picked] == [False, False, False, True, True]
    assert [pick.row is None for pick in picked] == [False, False, True, True, False]
    assert "target.average" in picked[2].missing
    assert picked[0].row is not None
    assert picked[0].row.configuration == snapshot.best_configuration
    means = {
        row.configuration: row.mean_without_source.mean
        for row in table.rows
        if row.mean_without_source and row.num_seeds == 3
    }
    assert picked[-1].row is not None
    assert picked[-1].row.configuration == max(
        means, key=lambda configuration: means[configuration]
    )
    assert picked[-1].value == max(means.values())


def test_an_oracle_sweep_shows_what_the_source_language_would_have_picked(
    oracle: Finished,
) -> None:
    snapshot = oracle.snapshot()
    picked = picks(table_of(oracle), scores_frame(snapshot), snapshot.sweep)
    assert picked[0].is_oracle
    assert any("dev qaa, checkpoint that" in pick.rule and not pick.is_oracle for pick in picked)


def test_last_and_best_checkpoint_are_distinguished(
    table: LanguageTable, snapshot: Snapshot
) -> None:
    found = {
        checkpoint.configuration: checkpoint
        for checkpoint in checkpoints(table, scores_frame(snapshot))
    }
    whole = found[0]
    # Of three seeds, one has its best checkpoint before the last.
    assert (whole.last.num_seeds, whole.num_last_is_best) == (3, 2)
    assert whole.best.mean == pytest.approx(whole.last.mean + 0.01 / 3, abs=1e-4)


def test_the_rule_stands_in_every_table(quick: Finished, oracle: Finished) -> None:
    for found, rule in ((quick, "dev set of qaa"), (oracle, "ORACLE SELECTION")):
        table, sweep = table_of(found), found.ledger.sweep
        assert rule in table_tex(table, sweep)
        lines = csv_rows(table_csv(table, sweep))
        assert all(rule in line["selection"] for line in lines)
        rules = picks(table, scores_frame(found.snapshot()), sweep)
        assert "oracle" in picks_csv(rules, table)
        assert "not zero-shot" in picks_tex(rules, table)


def test_after_a_race_more_seeds_rank_first_and_every_table_says_so(tmp_path: Path) -> None:
    race = "trials: 5, seeds: {race: {most: 4, keep: 2}}"
    sweep = finished(Home(tmp_path), SWEEP.replace("trials: 16, seeds: 3", race))
    snapshot = sweep.snapshot()
    (table,) = tables_of(snapshot)
    assert [row.num_seeds for row in table.rows] == [4, 4, 2, 1, 1]
    assert [row.configuration for row in table.rows] == snapshot.ranking
    rules = picks(table, scores_frame(snapshot), snapshot.sweep)
    assert {rule.row.num_seeds for rule in rules if rule.row} == {4}
    best = sweep.ledger.best()
    assert best is not None
    assert best.configuration == table.rows[0].configuration
    assert "those with more rank before those with fewer" in header(snapshot.sweep, "qaa")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({}, "best on the dev set of qaa."),
        ({"select": "last"}, "of the last checkpoint."),
        ({"select": {"choice": ["last", "best"]}}, "(target.select)."),
        ({"choice": [{"select": "last"}, {"choice": [{"select": "last"}]}]}, "last checkpoint."),
        ({"choice": [{"select": "last"}, {}]}, "(target.select)."),
    ],
)
def test_every_table_says_which_checkpoint_is_scored(
    quick: Finished, target: dict[str, Any], expected: str
) -> None:
    sweep = quick.ledger.sweep
    changed = {**sweep, "space": {**sweep["space"], "target": target}}
    assert expected in header(changed, "qaa")
