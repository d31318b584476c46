"""Figures that answer questions: right numbers, refused fits, and files that say the same."""

from __future__ import annotations

import datetime
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy import stats

from tests.unit.report.conftest import NOWHERE_SCORED, csv_rows, made_table
from xlt_ray.config.labels import value_label
from xlt_ray.ledger import StageUse
from xlt_ray.ledger.front import pareto_front
from xlt_ray.report.effects import (
    MIN_POINTS,
    OTHERS,
    Effects,
    Importance,
    _thresholds,
    effects_of,
    importances,
)
from xlt_ray.report.figures import Figure
from xlt_ray.report.figures.overview import (
    _parameter_axis,
    bars_of,
    heat_map,
    importance_figure,
    parallel_figure,
    pareto_figure,
    timeline,
)
from xlt_ray.report.figures.parameters import language_figure, parameter_figure
from xlt_ray.report.figures.questions import layer_figure, ratio_figure, size_figure
from xlt_ray.report.frames import Snapshot, costs_frame
from xlt_ray.report.ped_anova import TARGET_QUANTILE, Axis, ped_anova
from xlt_ray.report.stats import PowerLaw, fit_power_law, monotony_p
from xlt_ray.report.tables import (
    MAX_DRAWN,
    Group,
    LanguageTable,
    TrialScores,
    drawn_groups,
    known_groupings,
    tables_of,
)

SIZES = np.repeat([1000, 4000, 16000, 64000, 256000], 3)


def rows_of(figure: Figure | None) -> list[dict[str, str]]:
    assert figure is not None
    assert figure.svg.startswith(b"<svg")
    assert figure.png.startswith(b"\x89PNG")
    return csv_rows(figure.csv)


@pytest.fixture(scope="module")
def table(snapshot: Snapshot) -> LanguageTable:
    (table,) = tables_of(snapshot, known_groupings)
    return table


def table_over(parameter: str, points: Sequence[tuple[Any, float, float]]) -> LanguageTable:
    """A table of one parameter: its value, the source's score, and that of two other languages."""
    scores = [{"qaa": source, "qab": others, "qac": others} for _, source, others in points]
    trials = [[TrialScores(number, 0, of_trial)] for number, of_trial in enumerate(scores)]
    return made_table([{parameter: value} for value, _, _ in points], trials)


# -- the power law ------------------------------------------------------------------------


def saturating(noise: float, seed: int = 0) -> np.ndarray:
    return (
        0.8
        - 0.3 * (SIZES / 1000.0) ** -0.4
        + np.random.default_rng(seed).normal(0, noise, SIZES.size)
    )


def test_a_saturating_rise_is_found_with_its_ceiling() -> None:
    fit = fit_power_law(SIZES, saturating(0.005))
    assert isinstance(fit, PowerLaw)
    assert fit.ceiling == pytest.approx(0.8, abs=0.02)
    assert 0 < fit.ceiling_error < 0.1
    assert fit.exponent == pytest.approx(0.4, abs=0.15)
    for low, curve, high in zip(fit.low, fit.curve, fit.high, strict=True):
        assert low <= curve <= high
    assert list(fit.curve) == sorted(fit.curve)


def test_intervals_of_the_ceiling_hold_it_nearly_as_often_as_they_say() -> None:
    held = tried = 0
    for seed in range(60):
        fit = fit_power_law(SIZES, saturating(0.01, seed))
        if isinstance(fit, PowerLaw):
            tried += 1
            held += abs(fit.ceiling - 0.8) <= fit.ceiling_error
    assert tried >= 40
    assert held >= 0.85 * tried


@pytest.mark.parametrize(
    ("sizes", "scores", "why"),
    [
        (SIZES, -saturating(0.005), "repeats reject every rising curve"),
        (SIZES, 0.5 + np.linspace(0, 0.2, 15) * 0, "all scores are equal"),
        ([1000, 2000, 4000], [0.1, 0.2, 0.25], "3 sizes do not determine"),
        (SIZES, (np.log(SIZES) / 20) ** 3, "bounds"),
        ([1000, 2000, 4000, 8000, 16000], [0.5, 0.6, 0.59, 0.7, 0.8], "rise from 2000 to 4000"),
        ([1000, 2000, 4000, 8000, 16000], [0.5, 0.51, 0.515, 0.53, 0.7], "no better than a const"),
    ],
)
def test_a_fit_that_data_do_not_ask_for_is_refused(
    sizes: Sequence[float], scores: Sequence[float], why: str
) -> None:
    fit = fit_power_law(sizes, scores)
    assert isinstance(fit, str)
    assert why in fit


FIVE, SEVEN = [1000, 4000, 16000, 64000, 256000], [1000 * 2**turn for turn in range(7)]
DIP = FIVE, [0.50, 0.55, 0.60, 0.65, 0.50]
ARCH = SEVEN, [0.50, 0.58, 0.66, 0.70, 0.66, 0.58, 0.52]
FLAT = SEVEN, [0.5] * 7
FALL = FIVE, [0.65, 0.60, 0.55, 0.52, 0.50]
LAW = FIVE, [0.8 - 0.3 * (size / 1000) ** -0.4 for size in FIVE]


def share_drawn(shape: tuple[list[int], list[float]], repeats: int, num_draws: int) -> float:
    """Of simulated sweeps with noise of half a point, those whose law is drawn."""
    sizes, means = (np.repeat(part, repeats) for part in shape)
    draw = np.random.default_rng(repeats)
    fits = [
        fit_power_law(sizes, means + draw.normal(0, 0.005, len(sizes))) for _ in range(num_draws)
    ]
    return sum(isinstance(fit, PowerLaw) for fit in fits) / num_draws


@pytest.mark.parametrize("repeats", [1, 2, 3])
@pytest.mark.parametrize("shape", [DIP, ARCH, FALL], ids=["dip", "arch", "fall"])
def test_what_does_not_rise_is_not_drawn_as_a_law(
    shape: tuple[list[int], list[float]], repeats: int
) -> None:
    assert share_drawn(shape, repeats, 40) == 0


@pytest.mark.parametrize("repeats", [1, 3])
def test_noise_is_drawn_as_a_law_in_five_of_a_hundred_at_most(repeats: int) -> None:
    assert share_drawn(FLAT, repeats, 100) <= 0.05


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_law_is_drawn_where_there_is_one(repeats: int) -> None:
    assert share_drawn(LAW, repeats, 40) >= 0.9


def test_flat_noise_is_called_not_rising_in_five_of_a_hundred_at_most() -> None:
    draw = np.random.default_rng(1)
    p_values = [monotony_p(SIZES, draw.normal(0, 1, SIZES.size)) for _ in range(400)]
    assert sum(p <= 0.05 for p in p_values) <= 33  # binomial: 0.999 of 400 at 5 %


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=2, max_size=5).filter(
        lambda groups: any(len(set(group)) > 1 for group in groups)
    )
)
def test_the_lack_of_fit_is_that_of_the_best_rising_curve_of_all(groups: list[list[int]]) -> None:
    """Every way to pool neighbouring sizes is tried; of those that rise the best one counts."""
    sizes = [size for size, group in enumerate(groups, start=1) for _ in group]
    error = sum(float(np.var(group)) * len(group) for group in groups)
    degrees = len(sizes) - len(groups)
    places = range(1, len(groups))
    candidates = []
    for cuts in itertools.chain.from_iterable(
        itertools.combinations(places, number) for number in range(len(groups))
    ):
        levels = [groups[a:b] for a, b in itertools.pairwise((0, *cuts, len(groups)))]
        means = [float(np.mean(list(itertools.chain(*level)))) for level in levels]
        if all(low < high for low, high in itertools.pairwise(means)):
            misfit = sum(
                len(group) * (float(np.mean(group)) - mean) ** 2
                for level, mean in zip(levels, means, strict=True)
                for group in level
            )
            candidates.append((misfit, len(groups) - len(levels)))
    misfit, pooled = min(candidates)
    expected = stats.f.sf(misfit / pooled / (error / degrees), pooled, degrees) if pooled else 1.0
    assert monotony_p(sizes, list(itertools.chain(*groups))) == pytest.approx(expected, abs=1e-9)


def test_size_curve_draws_the_law_and_its_rows() -> None:
    points = [(int(n), 0.8, float(y)) for n, y in zip(SIZES, saturating(0.005), strict=True)]
    figure, notes = size_figure(table_over("intermediate.size", points), "intermediate.size")
    assert notes == []
    rows = rows_of(figure)
    assert sum(row["row"] == "fit" for row in rows) == 60
    assert figure is not None
    assert "ceiling" in figure.caption


def test_size_curve_says_why_there_is_no_law() -> None:
    points = [(int(n), 0.8, -float(y)) for n, y in zip(SIZES, saturating(0.005), strict=True)]
    figure, (note,) = size_figure(table_over("intermediate.size", points), "intermediate.size")
    assert "no power law is fitted to 15 independent repeats: scores do not rise" in note
    assert not any(row["row"] == "fit" for row in rows_of(figure))


def test_size_curve_has_a_line_for_each_model_and_group_of_languages(table: LanguageTable) -> None:
    figure, notes = size_figure(table, "intermediate.size")
    rows = rows_of(figure)
    classes = {f"resources: {resource}" for resource in ("high", "medium", "low")}
    assert {(row["model"], row["languages"]) for row in rows} == set(
        itertools.product(("toy:2x64", "toy:4x64"), (OTHERS, *classes))
    )
    means = {row.configuration: row for row in table.rows}
    low = next(group for group in table.groups if group.title == "resources: low")
    by_place = [row for row in rows if row["languages"] == low.title and row["model"] == "toy:4x64"]
    shown = sorted(float(place["percent"]) for place in by_place)
    assert shown == pytest.approx(
        sorted(
            100 * row.groups[low.title].mean
            for row in means.values()
            if row.parameters["model"] == "toy:4x64" and row.mean_without_source
        )
    )
    assert len(notes) == 2, "one a model, as the reason is the same in all languages"
    assert all("resources: low" in note for note in notes)
    assert all("sizes do not determine" in note for note in notes)


def test_each_group_of_languages_has_its_own_law() -> None:
    points = [(int(n), 0.8, float(y)) for n, y in zip(SIZES, saturating(0.005), strict=True)]
    # What the law of the others has too much in one language, it has too little in another.
    trials = [[TrialScores(number, 0, {"qaa": 0.8, "qab": 1 - score, "qac": 3 * score - 1})]
              for number, (_, _, score) in enumerate(points)]  # fmt: skip
    parameters = [{"intermediate.size": size} for size, _, _ in points]
    table = made_table(parameters, trials, [Group("resources", "low", ("qab",))])
    figure, (note,) = size_figure(table, "intermediate.size")
    fits = {row["languages"] for row in rows_of(figure) if row["row"] == "fit"}
    assert fits == {OTHERS}
    assert "(resources: low)" in note
    assert "reject every rising curve" in note


def seeded_table(
    means: Sequence[float], *, scope: str, other: Sequence[str] = ("x",), num_seeds: int = 3
) -> LanguageTable:
    """A configuration for each size and each value of another parameter; noise of half a point.

    Args:
        scope: of the intermediate stage: ``shared``, or ``per_trial``.
    """
    draw = random.Random(1)
    parameters, trials = [], []
    for number, (size, value) in enumerate(itertools.product(range(len(means)), other)):
        parameters.append({"intermediate.size": FIVE[size], "width": value})
        of_configuration = []
        for seed in range(num_seeds):
            score = means[size] + draw.gauss(0, 0.005)
            key = f"{size}" if scope == "shared" else f"{size} {seed}"
            trained = (
                StageUse("align", "common", "align", True),
                StageUse("intermediate", key, "intermediate", True),
                StageUse("target", f"{number} {seed}", "target", False),
            )
            scores = {"qaa": 0.8, "qab": score, "qac": score}
            of_configuration.append(TrialScores(num_seeds * number + seed, seed, scores, trained))
        trials.append(of_configuration)
    return made_table(parameters, trials)


@pytest.mark.parametrize(
    ("table", "repeats"),
    [
        (seeded_table(DIP[1], scope="per_trial"), 15),
        (seeded_table(DIP[1], scope="shared"), 5),
        # What another parameter does is the same at every size, and is no luck of a size.
        (seeded_table(DIP[1], scope="per_trial", other="xy"), 15),
        (seeded_table(DIP[1], scope="shared", other="xy"), 5),
    ],
)
def test_repeats_of_a_size_are_trainings_of_its_own(table: LanguageTable, repeats: int) -> None:
    figure, (note,) = size_figure(table, "intermediate.size")
    assert f"to {repeats} independent repeats: scores do not rise" in note
    assert not any(row["row"] == "fit" for row in rows_of(figure))


def test_where_sizes_differ_in_other_parameters_a_configuration_is_one_repeat() -> None:
    table = seeded_table(DIP[1], scope="per_trial")
    rows = [
        replace(row, parameters={**row.parameters, "width": str(row.configuration)})
        for row in table.rows
    ]
    _, (note,) = size_figure(replace(table, rows=tuple(rows)), "intermediate.size")
    assert "to 5 independent repeats: scores do not rise from 64000 to 256000" in note


def test_seeds_that_rise_together_have_a_law() -> None:
    for scope in ("per_trial", "shared"):
        figure, notes = size_figure(seeded_table(LAW[1], scope=scope), "intermediate.size")
        assert notes == []
        assert any(row["row"] == "fit" for row in rows_of(figure))


def test_figures_show_the_groups_of_one_grouping() -> None:
    def groups(grouping: str, num: int) -> list[Group]:
        return [Group(grouping, str(turn), (f"q{turn}",)) for turn in range(num)]

    family, script = groups("family", MAX_DRAWN + 1), groups("script", 2)
    mine, classes = groups("mine", 1), groups("resources", 3)
    assert drawn_groups([*classes, *script, *family]) == tuple(classes)
    assert drawn_groups([*family, *script]) == tuple(script)
    assert drawn_groups([*classes, *mine]) == tuple(mine)
    assert drawn_groups(family) == ()


# -- other curves -------------------------------------------------------------------------


def test_hybrid_curve_has_source_mean_and_worst(table: LanguageTable) -> None:
    drawn = rows_of(ratio_figure(table, "target.hybrid.ratio"))
    rows = {int(trial["configuration"]): trial for trial in drawn}
    assert NOWHERE_SCORED not in rows, "a worst of fewer languages is no worst"
    for row in table.rows:
        if row.configuration not in rows or row.mean_without_source is None:
            continue
        shown = rows[row.configuration]
        others = [row.cells[code].mean for code in table.languages[1:]]
        assert float(shown["worst_percent"]) == pytest.approx(100 * min(others))
        assert float(shown["others_percent"]) == pytest.approx(100 * row.mean_without_source.mean)


def test_fusion_profile_has_a_row_for_each_configuration(table: LanguageTable) -> None:
    rows = rows_of(layer_figure(table, "target.fusion.layer"))
    assert {row["target.fusion.layer"] for row in rows} == {"0.0", "1.0", "2.0", "3.0"}


def test_fusion_profile_of_one_model_has_a_line_for_each_method() -> None:
    points = [("none", None, 0.5), ("dlfa", 0, 0.6), ("dlfa", 1, 0.7), ("aif", 1, 0.4)]
    parameters = [
        {"target.fusion": f'{{"method": "{method}"}}', "target.fusion.layer": layer}
        for method, layer, _ in points
    ]
    scores = [[TrialScores(seed, seed, {"qaa": mean + seed / 100, "qab": mean}) for seed in (0, 1)]
              for _, _, mean in points]  # fmt: skip
    rows = rows_of(layer_figure(made_table(parameters, scores), "target.fusion.layer"))
    assert [(row["line"], row["target.fusion.layer"]) for row in rows] == [
        ("none", ""), ("dlfa", "0.0"), ("dlfa", "1.0"), ("aif", "1.0")
    ]  # fmt: skip
    assert float(rows[2]["qaa_percent"]) == pytest.approx(70.5)
    low, high = (float(rows[2][f"qaa_{end}"]) for end in ("low", "high"))
    assert (low + high) / 2 == pytest.approx(70.5)
    assert high - low == pytest.approx(12.7062, rel=1e-4)  # t of one degree times 1 point


def test_lines_of_sizes_are_called_by_folder_and_layers() -> None:
    block = '{"freeze": {"embeddings": true}, "layers": {"choice": [3, 12]}, "name": "/m/e5"}'
    parameters = [
        {"model": block, "model.layers": layers, "intermediate.size": size}
        for layers in (3, 12)
        for size in (500, 1000)
    ]
    scores = [[TrialScores(0, 0, {"qaa": 0.5, "qab": 0.5})] for _ in parameters]
    figure, _ = size_figure(made_table(parameters, scores), "intermediate.size")
    assert {row["model"] for row in rows_of(figure)} == {"e5, 3 layers", "e5, 12 layers"}


@pytest.mark.parametrize("draw", [layer_figure, ratio_figure])
def test_a_parameter_with_one_value_has_no_curve(draw: Any) -> None:
    assert draw(table_over("k", [(1, 0.5, 0.4), (1, 0.6, 0.4), (None, 0.5, 0.5)]), "k") is None


# -- heat map, importance, front ----------------------------------------------------------


def test_heat_map_leaves_missing_cells_empty(table: LanguageTable) -> None:
    rows = {int(row["configuration"]): row for row in rows_of(heat_map(table))}
    assert set(rows) == {row.configuration for row in table.rows if row.trials}
    assert rows[NOWHERE_SCORED]["qaf"] == ""
    assert float(rows[0]["qab"]) == pytest.approx(
        100 * next(row for row in table.rows if row.configuration == 0).cells["qab"].mean
    )


def points_of(num: int, seed: int = 0) -> list[tuple[dict[str, Any], float]]:
    """Scores that a layer decides, a model a little, a rate not at all; a size only some have."""
    draw = random.Random(seed)
    found = []
    for _ in range(num):
        parameters: dict[str, Any] = {
            "layer": draw.randint(0, 11),
            "model": draw.choice(["a", "b"]),
            "rate": 10 ** draw.uniform(-5, -3),
        }
        if draw.random() < 0.6:
            parameters["size"] = draw.choice([500, 2000, 8000])
        score = (
            0.03 * parameters["layer"] + 0.05 * (parameters["model"] == "b") + draw.gauss(0, 0.01)
        )
        found.append((parameters, score))
    return found


def test_importance_is_that_of_the_parameter_that_decides() -> None:
    by_parameter = importances(points_of(40), maximize=True)
    assert set(by_parameter) == {"layer", "model", "rate", "size"}
    assert max(by_parameter, key=lambda parameter: by_parameter[parameter].share) == "layer"
    assert math.fsum(importance.share for importance in by_parameter.values()) == pytest.approx(1)
    assert all(0 <= importance.low <= importance.high <= 1 for importance in by_parameter.values())
    assert by_parameter["layer"].low > by_parameter["rate"].share
    assert importances(points_of(40), maximize=True) == by_parameter


@pytest.mark.parametrize("num", [16, 40])
def test_noise_is_above_chance_in_five_of_a_hundred_at_most(
    num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt_ray.report.effects.NUM_BOOTSTRAPS", 1)
    draw = random.Random(7)
    assignments = [parameters for parameters, _ in points_of(num)]
    above, tops = 0, []
    for _ in range(100):
        by_parameter = importances(
            [(parameters, draw.gauss(0, 1)) for parameters in assignments], maximize=True
        )
        above += any(importance.is_above_chance for importance in by_parameter.values())
        tops.append(max(importance.share for importance in by_parameter.values()))
    assert above <= 12  # binomial: 0.998 of 100 at 5 %
    assert min(tops) > 0.25, "shares of noise look like importances"


def test_a_parameter_that_decides_is_above_chance_beside_others_that_do_not() -> None:
    for seed in range(2):
        by_parameter = importances(points_of(40, seed), maximize=True)
        assert by_parameter["layer"].is_above_chance
        assert not by_parameter["rate"].is_above_chance
        assert by_parameter["layer"].chance < 0.5


def test_what_noise_reaches_is_what_permuted_scores_reach() -> None:
    """Of parameters with few levels and many, none is above its threshold in more than its part."""
    draw = np.random.default_rng(0)
    null = np.column_stack(
        [draw.chisquare(1, 999), 5 * draw.chisquare(8, 999), draw.integers(0, 3, 999)]
    )
    above = null > _thresholds(null)
    assert 0.03 <= above.any(axis=1).mean() <= 0.05
    assert abs(above[:, 0].mean() - above[:, 1].mean()) < 0.005


def test_equal_scores_have_no_importance() -> None:
    by_parameter = importances(
        [(parameters, 0.5) for parameters, _ in points_of(20)], maximize=True
    )
    assert {importance.share for importance in by_parameter.values()} == {0.0}
    assert not any(importance.is_above_chance for importance in by_parameter.values())


def test_importance_looks_at_the_end_that_is_better() -> None:
    rising = points_of(40)
    falling = [(parameters, -score) for parameters, score in rising]
    assert importances(falling, maximize=False) == importances(rising, maximize=True)


@pytest.mark.parametrize(("num", "digits"), [(12, 3), (60, 1)])
def test_importances_are_those_of_optuna(num: int, digits: int) -> None:
    """Also of a sample in which points and scores occur several times."""
    draw = random.Random(num)
    values = [(parameters, round(score, digits)) for parameters, score in points_of(num)]
    drawn = draw.choices(range(num), k=num)
    numbers = {
        name: [float(parameters[name]) for parameters, _ in values] for name in ("layer", "rate")
    }
    models = [parameters["model"] for parameters, _ in values]
    distributions: dict[str, Any] = {
        name: FloatDistribution(min(column), max(column), log=name == "rate")
        for name, column in numbers.items()
    } | {"model": CategoricalDistribution(sorted(set(models)))}
    study = optuna.create_study(direction="maximize")
    for number in drawn:
        params = {name: column[number] for name, column in numbers.items()}
        params |= {"model": models[number]}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=values[number][1]
            )
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TARGET_QUANTILE)
    axes = [*map(Axis.of_numbers, numbers.values()), Axis.of_options(models)]
    scores = np.array([score for _, score in values])
    (found,) = ped_anova(axes, np.array([drawn]), scores[[drawn]])
    expected = evaluator.evaluate(study)
    assert dict(zip([*numbers, "model"], found, strict=True)) == pytest.approx(expected)


def test_importance_of_few_configurations_or_without_choice_is_not_reported() -> None:
    assert importances(points_of(MIN_POINTS - 1), maximize=True) == {}
    assert importances([({"layer": 1}, 0.1 * number) for number in range(20)], maximize=True) == {}


def test_importance_figure_tells_why_it_is_not_there(table: LanguageTable) -> None:
    few = replace(table, rows=table.rows[:3])
    figure, (note,) = importance_figure(few, effects_of(few))
    assert figure is None
    assert f"below {MIN_POINTS}" in note


POINTS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, ...]]) -> None:
    front = pareto_front(points)
    assert any(front)
    for point, is_on in zip(points, front, strict=True):
        beaten = any(
            rival != point and all(a >= b for a, b in zip(rival, point, strict=True))
            for rival in points
        )
        assert is_on == (not beaten)


def test_pareto_figure_is_of_low_resource_languages_and_whole_paths(
    table: LanguageTable, snapshot: Snapshot
) -> None:
    costs = costs_frame(snapshot)
    rows = rows_of(pareto_figure(table, costs))
    assert NOWHERE_SCORED not in {int(row["configuration"]) for row in rows}
    first = next(row for row in rows if row["configuration"] == "0")
    alone = costs[(costs["configuration"] == 0)]["seconds_alone"].astype(float).mean()
    assert float(first["worker_hours_alone"]) == pytest.approx(alone / 3600)
    row = next(row for row in table.rows if row.configuration == 0)
    assert float(first["low_percent"]) == pytest.approx(100 * row.cells["qaf"].mean)
    assert {row["on_front"] for row in rows} == {"True", "False"}


def test_pareto_figure_needs_costs(table: LanguageTable, snapshot: Snapshot) -> None:
    assert pareto_figure(table, costs_frame(snapshot).assign(worker_hours_alone=None)) is None


def test_hours_count_every_worker_and_are_named_after_what_worked(
    table: LanguageTable, snapshot: Snapshot
) -> None:
    def on(**runtime: Any) -> Snapshot:
        records = {
            key: replace(record, runtime={**record.runtime, **runtime})
            for key, record in snapshot.records.items()
        }
        return replace(snapshot, records=records)

    before, after = costs_frame(snapshot), costs_frame(on(workers=4, device="cuda"))
    for name in ("worker_hours", "worker_hours_alone"):
        found = after[name].dropna().to_list()
        assert found == pytest.approx([4 * hours for hours in before[name].dropna()])
    for costs, unit in ((before, "worker-hours"), (after, "GPU-hours")):
        figure = pareto_figure(table, costs)
        assert figure is not None
        assert unit in figure.caption


def test_parallel_coordinates_have_a_line_for_each_configuration(table: LanguageTable) -> None:
    figure = parallel_figure(table, effects_of(table))
    rows = {int(row["configuration"]): row for row in rows_of(figure)}
    whole = [row for row in table.rows if row.mean_without_source]
    assert set(rows) == {row.configuration for row in whole}
    for row in whole:
        assert row.mean_without_source is not None
        line = rows[row.configuration]
        assert float(line["others_percent"]) == 100 * row.mean_without_source.mean
        assert line["model"] == row.parameters["model"]
        assert line["intermediate.size"] == value_label(row.parameters["intermediate.size"])


@settings(max_examples=25)
@given(
    st.lists(
        st.none() | st.integers(0, 40) | st.floats(0, 1) | st.sampled_from("xyz") | st.booleans(),
        min_size=2, max_size=30,
    )
)  # fmt: skip
def test_every_value_has_its_place_on_its_axis(values: list[Any]) -> None:
    axis = _parameter_axis("width", values)
    texts = [value_label(value) for value in values]
    if axis is None:
        assert len(set(texts)) == 1
        return
    assert all(0 <= height <= 1 for height in axis.heights)
    places = dict(zip(texts, axis.heights, strict=True))
    assert [places[text] for text in texts] == list(axis.heights)
    assert max(axis.heights) == pytest.approx(1)
    assert all(0 <= height <= 1 for height, _ in axis.ticks)


def test_parallel_coordinates_need_three_lines_and_a_parameter() -> None:
    two = table_over("k", [(1, 0.5, 0.4), (2, 0.6, 0.4)])
    alike = table_over("k", [(1, 0.5, 0.4)] * 5)
    for table in (two, alike):
        assert parallel_figure(table, effects_of(table)) is None


# -- the timeline -------------------------------------------------------------------------


def test_stages_lie_inside_their_trials(snapshot: Snapshot) -> None:
    bars = bars_of(snapshot)
    trials = {bar.trial: bar for bar in bars if bar.kind == "trial"}
    assert set(trials) == {view.number for view in snapshot.trials if view.ended}
    assert {"intermediate", "target"} <= {bar.kind for bar in bars}
    for bar in bars:
        if not bar.reused_from:
            assert trials[bar.trial].start <= bar.start < bar.end <= trials[bar.trial].end


def test_a_stage_ends_where_it_was_committed(snapshot: Snapshot) -> None:
    view = next(trial for trial in snapshot.trials if trial.state == "complete")
    (last,) = [stage for stage in view.stages if stage.kind == "evaluate"]
    # As Optuna has it: local, without a zone.
    start = datetime.datetime(2026, 1, 5, 3, 0)
    moved = replace(
        view, started=start, ended=start + datetime.timedelta(minutes=10), stages=(last,)
    )
    committed = (start + datetime.timedelta(seconds=570)).astimezone(datetime.UTC)
    record = snapshot.records[last.key]
    made_by = {**record.made_by, "time": committed.isoformat()}
    records = {last.key: replace(record, made_by=made_by)}
    bars = bars_of(replace(snapshot, trials=(moved,), records=records))
    assert [(bar.kind, bar.start, bar.end) for bar in bars] == [
        ("trial", 0, 600), ("evaluate", 570 - last.seconds, 570),
    ]  # fmt: skip


def test_what_was_reused_follows_from_when_it_was_there(snapshot: Snapshot) -> None:
    reuses = [bar for bar in bars_of(snapshot) if bar.reused_from]
    used = [
        (view.number, use.kind)
        for view in snapshot.trials
        for use in view.stages
        if use.reused and view.ended
    ]
    assert [(reuse.trial, reuse.kind) for reuse in reuses] == used != []
    trials = {bar.trial: bar for bar in bars_of(snapshot) if bar.kind == "trial"}
    for reuse in reuses:
        assert trials[reuse.trial].start <= reuse.start == reuse.end <= trials[reuse.trial].end
    rows = rows_of(timeline(snapshot))
    assert sum(row["reused_from"] != "" for row in rows) == len(used)


def test_the_timeline_tells_which_machine_made_a_stage(snapshot: Snapshot) -> None:
    records = {
        key: replace(record, made_by={**record.made_by, "host": f"node-{number % 2}"})
        for number, (key, record) in enumerate(snapshot.records.items())
    }
    figures = (timeline(replace(snapshot, records=records)), timeline(snapshot))
    rows = rows_of(figures[0])
    made = {row["host"] for row in rows if row["kind"] != "trial" and not row["reused_from"]}
    assert made == {"node-0", "node-1"}
    of_two, of_one = (
        [label.get_text() for label in figure.canvas.axes[0].get_yticklabels()]
        for figure in figures
        if figure is not None
    )
    assert any("node-0" in label for label in of_two)
    assert not any("here" in label for label in of_one), "one machine alone needs no name"


def test_a_timeline_needs_two_trials(snapshot: Snapshot) -> None:
    assert rows_of(timeline(snapshot))
    assert timeline(replace(snapshot, trials=snapshot.trials[:1])) is None
    assert timeline(replace(snapshot, trials=())) is None


# -- style --------------------------------------------------------------------------------


def test_figures_of_the_same_rows_are_the_same_bytes(
    table: LanguageTable, snapshot: Snapshot
) -> None:
    costs: pd.DataFrame = costs_frame(snapshot)
    for draw in (heat_map, lambda frame: pareto_figure(frame, costs), lambda _: timeline(snapshot)):
        first, second = draw(table), draw(table)
        assert first is not None
        assert second is not None
        assert (first.csv, first.svg, first.png) == (second.csv, second.svg, second.png)
        assert first.pdf == second.pdf


def test_a_negative_score_is_inside_its_figure() -> None:
    table = table_over("k", [(1, 0.5, -0.2)])
    low, high = language_figure(table.rows[0], table).canvas.axes[0].get_xlim()
    assert low < -20
    assert high > 50


def test_a_legend_names_both_series_where_the_first_option_has_no_scores() -> None:
    table = table_over("k", [("a", 0.5, 0.4), ("b", 0.5, 0.4), ("c", 0.6, 0.4)])
    first = replace(table.rows[0], cells={}, mean=None, mean_without_source=None)
    figure = parameter_figure("k", replace(table, rows=(first, *table.rows[1:])))
    assert figure is not None
    (legend,) = figure.canvas.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "source language", "mean of the others",
    ]  # fmt: skip


def test_a_legend_names_both_series_where_one_lacks_the_first_parameter() -> None:
    table = table_over("k", [("a", 0.5, 0.4), ("b", 0.6, 0.4)])
    big, small = Importance(0.9, 0.8, 1.0, 0.4), Importance(0.1, 0.0, 0.2, 0.4)
    known = Effects(("qaa", OTHERS), {"qaa": {"k": big, "m": small}, OTHERS: {"m": small}}, ())
    figure, _ = importance_figure(table, known)
    assert figure is not None
    (legend,) = figure.canvas.legends
    assert [text.get_text() for text in legend.get_texts()] == ["qaa", OTHERS]
