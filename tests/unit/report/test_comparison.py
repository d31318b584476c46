"""Comparisons: like with like, paired by seed, corrected, and honest about what is missing."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.equal_systems import candidate, stage
from tests.unit.report.conftest import NOWHERE_SCORED, SWEEP, finished, sized
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger
from xlt_ray.report.comparison import Comparison, candidate_of, compare, comparison_json
from xlt_ray.report.frames import Snapshot, read_snapshot
from xlt_ray.store.store import StageStore

CODES = ("qaa", "qab", "qac")


def noisy(mean: float, num_seeds: int, seed: int, codes: tuple[str, ...] = CODES) -> dict:
    draw = random.Random(seed)
    return {seed: {code: draw.gauss(mean, 0.01) for code in codes} for seed in range(num_seeds)}


def by_language(comparison: Comparison) -> dict[str, object]:
    return {line.languages[0]: line for line in comparison.lines if line.kind == "language"}


def test_a_clear_difference_over_enough_seeds_gets_stars() -> None:
    (comparison,) = compare([candidate("a", noisy(0.5, 10, 1)), candidate("b", noisy(0.7, 10, 2))])
    assert all(line.is_significant for line in comparison.lines)
    for line in comparison.lines:
        assert line.paired is not None
        assert line.paired.interval is not None
        assert line.paired.interval.low < 0.2 < line.paired.interval.high or (
            line.paired.difference == pytest.approx(0.2, abs=0.02)
        )
    (back,) = compare([candidate("b", noisy(0.7, 10, 2)), candidate("a", noisy(0.5, 10, 1))])
    for line, mirrored in zip(comparison.lines, back.lines, strict=True):
        assert line.paired is not None
        assert mirrored.paired is not None
        assert mirrored.paired.difference == pytest.approx(-line.paired.difference)


@pytest.mark.parametrize("num_seeds", [1, 3, 5])
def test_below_six_seeds_nothing_is_significant_and_that_is_said(num_seeds: int) -> None:
    sides = [candidate(name, noisy(mean, num_seeds, 1)) for name, mean in (("a", 0), ("b", 1))]
    (comparison,) = compare(sides)
    assert not any(line.is_significant for line in comparison.lines)
    assert any("below 6" in note for note in comparison.notes)


def test_with_many_languages_it_is_said_how_many_seeds_one_would_need() -> None:
    codes = tuple(f"q{number:02d}" for number in range(33))
    sides = [candidate(name, noisy(mean, 8, 1, codes)) for name, mean in (("a", 0), ("b", 1))]
    (comparison,) = compare(sides)
    assert any("below 11 seeds" in note for note in comparison.notes)


def test_only_common_seeds_are_paired() -> None:
    baseline = candidate("a", {0: dict.fromkeys(CODES, 0.1), 1: dict.fromkeys(CODES, 0.2)})
    other = candidate("b", {1: dict.fromkeys(CODES, 0.5), 7: dict.fromkeys(CODES, 0.9)})
    (comparison,) = compare([baseline, other])
    assert comparison.seeds == (1,)
    assert [line.baseline for line in comparison.lines] == pytest.approx([0.2] * 5)
    (comparison,) = compare([baseline, candidate("c", {9: dict.fromkeys(CODES, 0.5)})])
    assert all(line.paired is None for line in comparison.lines)
    assert any("no seed in common" in note for note in comparison.notes)


def test_languages_scored_on_other_data_are_left_out_and_named() -> None:
    baseline = candidate("a", noisy(0.5, 6, 1))
    other = candidate(
        "b", noisy(0.5, 6, 2), data={"qaa": "the same", "qab": "other", "qac": "the same"}
    )
    (comparison,) = compare([baseline, other])
    assert set(by_language(comparison)) == {"qaa", "qac"}
    assert any("other data" in note and "qab" in note for note in comparison.notes)
    assert all("qab" not in line.languages for line in comparison.lines)


@given(
    st.lists(
        st.dictionaries(st.integers(0, 3), st.sets(st.sampled_from(CODES), min_size=1), min_size=1),
        min_size=2, max_size=4,
    )
)  # fmt: skip
def test_all_means_of_a_comparison_are_over_the_same_languages(
    sides: list[dict[int, set[str]]],
) -> None:
    candidates = [
        candidate(
            f"s{turn}",
            {seed: dict.fromkeys(sorted(codes), 0.1 * turn) for seed, codes in seeds.items()},
        )
        for turn, seeds in enumerate(sides)
    ]
    everywhere = set.intersection(*(codes for seeds in sides for codes in seeds.values()))
    for comparison in compare(candidates):
        for line in comparison.lines:
            if line.kind == "mean":
                assert set(line.languages) == everywhere
            if line.kind == "mean_without_source":
                assert set(line.languages) == everywhere - {"qaa"}


def test_means_are_corrected_over_the_sweeps_and_languages_within_each() -> None:
    first = candidate("a", noisy(0.5, 6, 0))
    others = [candidate(name, noisy(0.6, 6, 5 + turn)) for turn, name in enumerate("bcd")]
    found = compare([first, *others])
    for comparison in found:
        for line in comparison.lines:
            assert line.paired is not None
            assert line.paired.p == 2 / 2**6
            assert line.p_holm == pytest.approx(3 * line.paired.p)
    (alone,) = compare([first, others[0]])
    assert alone.lines[0].p_holm == alone.lines[0].paired.p


def test_unlike_sweeps_are_refused() -> None:
    baseline = candidate("a", noisy(0.5, 6, 1))
    with pytest.raises(LedgerError, match="a/0: name another one"):
        compare([baseline])
    with pytest.raises(LedgerError, match="a/0: is named twice"):
        compare([baseline, baseline])
    for name, value in (("task", "u"), ("metric", "f1"), ("source_language", "qab")):
        other = replace(baseline, sweep="b", table=replace(baseline.table, **{name: value}))
        with pytest.raises(LedgerError, match=name.replace("_", " ")):
            compare([baseline, other])


def test_a_sweep_sends_what_its_rule_selects_or_what_is_named(snapshot: Snapshot) -> None:
    chosen, named = candidate_of(snapshot), candidate_of(snapshot, 0)
    assert "dev set of qaa" in chosen.rule
    assert (named.row.configuration, "by hand" in named.rule) == (0, True)
    assert "qaf" not in candidate_of(snapshot, NOWHERE_SCORED).data
    with pytest.raises(LedgerError, match=r"quick/5: .* with scores: 0, 1, 2"):
        candidate_of(snapshot, 5)


def test_a_stage_that_one_sides_seeds_share_is_named_and_leaves_no_test(snapshot: Snapshot) -> None:
    with_stage, without = (
        next(
            trial.configuration for trial in snapshot.trials
            if trial.state == "complete" and (trial.assignment["intermediate"] is None) == is_none
        )
        for is_none in (False, True)
    )  # fmt: skip
    (comparison,) = compare([candidate_of(snapshot, number) for number in (without, with_stage)])
    assert any(
        "seeds share one training of intermediate toy-para" in note for note in comparison.notes
    )
    assert {stage.kind for stage in comparison.given} == {"intermediate"}
    for line in comparison.lines:
        assert line.paired is not None
        assert (line.paired.p, line.p_holm, line.is_significant) == (None, None, False)
        assert line.paired.interval is not None
        assert line.paired.interval.method == "student_given_stages"
    rows = comparison_json([comparison])["comparisons"][0]["rows"]
    assert {row["interval"] for row in rows} == {"student_given_stages"}
    assert {row["p"] for row in rows} == {None}
    assert {row["two_level_interval"] for row in rows} <= {"two_level_given_stages", None}


def test_a_stage_that_both_sides_go_on_from_favours_neither() -> None:
    first, second = (
        candidate(name, noisy(mean, 6, 1), dict.fromkeys(range(6), (stage("common"),)))
        for name, mean in (("a", 0.5), ("b", 0.7))
    )
    (comparison,) = compare([first, second])
    assert comparison.given == ()
    assert comparison.lines[0].is_significant
    assert any("given one training of intermediate common" in note for note in comparison.notes)


def test_two_pairs_of_six_that_share_a_stage_leave_no_test() -> None:
    own = {seed: (stage(f"b{seed % 5}"),) for seed in range(6)}
    sides = [candidate("a", noisy(0.5, 6, 1)), candidate("b", noisy(0.7, 6, 1), own)]
    (comparison,) = compare(sides)
    assert [stage.key for stage in comparison.given] == ["b0"]
    assert not any(line.is_significant for line in comparison.lines)
    # Of five seeds of them nothing is shared, and nothing is mentioned.
    (fewer,) = compare([candidate("a", noisy(0.5, 5, 1)), sides[1]])
    assert fewer.given == ()


def test_a_sweep_without_a_complete_trial_is_refused(tmp_path: Path) -> None:
    home, sweep = Home(tmp_path), sweep_of(parse_document(SWEEP, "quick.yaml"))
    snapshot = read_snapshot(open_ledger(home, sweep), StageStore(home.stages))
    with pytest.raises(LedgerError, match="no trial is complete yet"):
        candidate_of(snapshot)


def test_scores_of_fewer_examples_are_no_scores_of_the_same_data(tmp_path: Path) -> None:
    small = sized(1, 2)
    sweep = finished(Home(tmp_path), small)
    other = finished(Home(tmp_path), small.replace("name: quick", "name: other"))
    first, second = (candidate_of(found.snapshot()) for found in (sweep, other))
    assert first.data == second.data
    (comparison,) = compare([first, second])
    assert all(line.paired is not None and line.paired.difference == 0 for line in comparison.lines)
    assert all(line.paired is not None and line.paired.p == 1 for line in comparison.lines)
    assert first.data["qab"] != first.data["qab"].replace(" 400 ", " 200 ")


def test_a_seed_that_was_scored_on_other_data_makes_its_language_incomparable(
    snapshot: Snapshot,
) -> None:
    first = next(trial for trial in snapshot.trials if trial.configuration == 0)
    record = snapshot.record(first, "evaluate")
    assert record is not None
    data: Any = record.payload["data"]
    moved = {**data, "test": {**data["test"], "qab": "changed since"}}
    changed = replace(record, payload={**record.payload, "data": moved})
    other = replace(snapshot, records={**snapshot.records, record.key: changed})
    (comparison,) = compare([candidate_of(snapshot, 1), candidate_of(other, 0)])
    assert "qab" not in by_language(comparison)
    assert "scored on other data, not compared: qab" in comparison.notes


def test_json_has_a_number_or_null_everywhere(snapshot: Snapshot) -> None:
    found = compare(
        [candidate_of(snapshot, configuration) for configuration in (0, NOWHERE_SCORED)]
    )
    tree = comparison_json(found)
    assert [candidate["configuration"] for candidate in tree["contenders"]] == [0, NOWHERE_SCORED]
    (comparison,) = tree["comparisons"]
    for row in comparison["rows"]:
        assert row["difference"] == pytest.approx(row["other"] - row["baseline"])
    rows = {row["languages"][0]: row for row in comparison["rows"] if row["kind"] == "language"}
    scores = {
        configuration: {
            seed: trial.scores
            for seed, trial in candidate_of(snapshot, configuration).trials.items()
        }
        for configuration in (0, NOWHERE_SCORED)
    }
    assert rows["qab"]["difference"] == pytest.approx(
        statistics.fmean(
            scores[NOWHERE_SCORED][seed]["qab"] - scores[0][seed]["qab"] for seed in scores[0]
        )
    )
