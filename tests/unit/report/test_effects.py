"""Effects of parameters: right numbers, levels that part all configurations, honest intervals."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.report.conftest import csv_rows, made_table
from xlt_ray.report.effects import (
    MAX_LEVELS,
    MIN_POINTS,
    OTHERS,
    effects_csv,
    effects_of,
    importances,
    importances_csv,
    series_of,
)
from xlt_ray.report.stats import difference_interval
from xlt_ray.report.tables import Group, LanguageTable, TrialScores


def table_of(values: Sequence[Any], scores: Sequence[float], seeds: int = 1) -> LanguageTable:
    """One parameter; the others are half as good as the source, and one language is a group."""
    trials = [
        [TrialScores(number * seeds + seed, seed, {"qaa": score, "qab": score / 2})
         for seed in range(seeds)]
        for number, score in enumerate(scores)
    ]  # fmt: skip
    return made_table([{"width": value} for value in values], trials, [GROUP])


GROUP = Group("script", "Latn", ("qab",))


def test_an_effect_is_the_mean_at_a_value_minus_that_of_all_others() -> None:
    known = effects_of(table_of(["a", "a", "b", "b", "c"], [0.8, 0.9, 0.5, 0.6, 0.4], seeds=3))
    assert [level.label for level in known.levels] == ["a", "b", "c"]
    first = known.levels[0]
    assert (first.num_configurations, first.num_seeds) == (2, 6)
    assert [level.configurations for level in known.levels] == [(0, 1), (2, 3), (4,)]
    assert first.effects["qaa"].difference == pytest.approx(0.85 - 0.5)
    assert first.effects[OTHERS].difference == pytest.approx((0.85 - 0.5) / 2)
    assert first.effects["script: Latn"] == replace(first.effects[OTHERS], num_configurations=2)
    interval = difference_interval([0.8, 0.9], [0.5, 0.6, 0.4])
    assert interval is not None
    effect = first.effects["qaa"]
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
    # One configuration has no spread to judge by.
    assert known.levels[2].effects["qaa"].low is None
    assert not known.levels[2].effects["qaa"].is_clear
    assert known.num_intervals == 2 * len(series_of(table_of([1], [0.5])))


@settings(max_examples=40)
@given(
    st.lists(
        st.none() | st.booleans() | st.integers(0, 40) | st.floats(0, 1) | st.sampled_from("xyz"),
        min_size=1,
        max_size=40,
    )
)
def test_levels_part_all_configurations(values: list[Any]) -> None:
    draw = random.Random(len(values))
    table = table_of(values, [draw.random() for _ in values])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xlt_ray.report.effects.importances", lambda *_, **__: {})
        levels = effects_of(replace(table, groups=())).levels
    if levels:
        assert sum(level.num_configurations for level in levels) == len(values)
        members = [configuration for level in levels for configuration in level.configurations]
        assert sorted(members) == list(range(len(values)))
        assert len({level.label for level in levels}) == len(levels) > 1
    numbers = [level for level in levels if " to " in level.label]
    assert len(numbers) <= MAX_LEVELS


def test_welchs_interval_holds_no_difference_as_often_as_it_says() -> None:
    draw = random.Random(4)
    held = 0
    for _ in range(300):
        interval = difference_interval(
            [draw.gauss(0, 1) for _ in range(6)], [draw.gauss(0, 3) for _ in range(15)]
        )
        assert interval is not None
        held += interval.low <= 0 <= interval.high
    assert held >= 0.9 * 300


def test_there_is_no_interval_without_spread() -> None:
    assert difference_interval([0.5, 0.5], [0.5, 0.5, 0.5]) is None
    assert difference_interval([0.5], [0.4, 0.6]) is None
    with pytest.raises(ValueError, match="finite"):
        difference_interval([], [0.4, 0.6])


def test_parameters_are_in_order_of_importance_for_the_other_languages() -> None:
    draw = random.Random(1)
    table = table_of(list(range(3 * MIN_POINTS)), [number / 40 for number in range(3 * MIN_POINTS)])
    rows = tuple(
        replace(row, parameters={"idle": draw.random(), "width": row.parameters["width"]})
        for row in table.rows
    )
    known = effects_of(replace(table, rows=rows, parameters=("idle", "width")))
    assert known.parameters == ("width", "idle")
    shuffled = [row.parameters["width"] for row in rows]
    draw.shuffle(shuffled)
    noise = tuple(
        replace(row, parameters={"idle": row.parameters["idle"], "a": value, "width": 1})
        for row, value in zip(rows, shuffled, strict=True)
    )
    known_of_noise = effects_of(replace(table, rows=noise, parameters=("idle", "width", "a")))
    assert not any(
        importance.is_above_chance for importance in known_of_noise.importances[OTHERS].values()
    )
    assert known_of_noise.parameters == ("a", "idle"), "by name, whichever share is larger"
    assert set(known.importances) == set(known.series) == {"qaa", OTHERS, "script: Latn"}


def test_files_say_what_the_page_says() -> None:
    values = ["a", "b"] * 2 * MIN_POINTS
    scores = [0.5 + 0.2 * (value == "a") + 0.01 * place for place, value in enumerate(values)]
    known = effects_of(table_of(values, scores))
    effects = csv_rows(effects_csv(known))
    assert len(effects) == 2 * len(known.series)
    first = known.levels[0].effects["qaa"]
    assert float(effects[0]["difference"]) == first.difference
    assert first.is_clear
    assert statistics.fmean([first.low or 0, first.high or 0]) == pytest.approx(first.difference)
    shares = csv_rows(importances_csv(known))
    assert {share["score"] for share in shares} == set(known.series)
    assert {share["is_above_chance"] for share in shares} == {"True"}
    assert all(float(share["chance"]) < float(share["share"]) for share in shares)


def test_scores_of_the_same_languages_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(2)
    table = table_of([draw.random() for _ in range(20)], [draw.random() for _ in range(20)])
    asked = []

    def counted(points: Any, **how: Any) -> Any:
        asked.append(points)
        return importances(points, **how)

    monkeypatch.setattr("xlt_ray.report.effects.importances", counted)
    known = effects_of(table)
    assert len(known.series) == 3
    assert len(asked) == 2, "the group is all of the others"
    for name, points in (("qaa", asked[0]), (OTHERS, asked[1]), ("script: Latn", asked[1])):
        assert known.importances[name] == importances(points, maximize=True)
