"""Curves over one parameter that a study is about: intermediate size, hybrid ratio, fusion layer.

Each mark is a configuration, mean over its seeds. Models differ in colour and mark; scores are in
percent.

Figures that answer a research question, where the sweep has searched for its answer.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from xlt_ray.config.supervision import ZERO_SHOT
from xlt_ray.report.effects import Effects, drawn_series
from xlt_ray.report.figures.base import (
    BLUE,
    GREEN,
    GREY,
    MARKS,
    SERIES,
    VERMILION,
    Figure,
    csv_text,
    means,
    new_canvas,
    number_ticks,
    rendered,
)
from xlt_ray.report.figures.overview import (
    heat_map,
    importance_figure,
    parallel_figure,
    pareto_figure,
)
from xlt_ray.report.figures.parameters import file_name
from xlt_ray.report.labels import is_absent, short_names, shown_value
from xlt_ray.report.power_law import PowerLaw, fit_power_law
from xlt_ray.report.replication import units
from xlt_ray.report.tables import Cell, LanguageTable, Row, TrialScores, is_translate_train

MAX_MODELS = len(SERIES)


@dataclass(frozen=True)
class _Mark:
    """One configuration at one place of the parameter; None where it lacks the parameter."""

    configuration: int
    place: float | None
    model: str
    values: Mapping[str, float]
    """In percent, by the name of the series."""
    supervision: str = ZERO_SHOT


def size_figure(table: LanguageTable, path: str) -> tuple[Figure | None, list[str]]:
    """Score by intermediate size: a panel for the mean of the target languages and for each group
    of them, and in it a power law for each model, through the sizes' independent repeats.

    Returns the figure (None with fewer than two sizes) and why fits are refused.
    """
    series = [one for one in drawn_series(table) if one.name != table.source_language]
    names = [one.name for one in series]
    marks = _marks(table, path, {one.name: one.of for one in series})
    if len({mark.place for mark in marks if mark.place is not None}) < 2:
        return None, []
    models = _models(marks)
    sign = 1.0 if table.is_higher_better else -1.0
    repeats = {model: _repeats(table, path, marks, model) for model in models}
    fits: dict[tuple[str, str], PowerLaw | str] = {
        (model, one.name): fit_power_law(
            [size for size, _ in repeats[model]],
            [sign * _mean_score(trials, one.languages) for _, trials in repeats[model]],
        )
        for model, one in itertools.product(models, series)
    }
    columns = min(len(names), 2)
    rows = math.ceil(len(names) / columns)
    with new_canvas(1.2 + 2.5 * columns, 0.5 + 2.3 * rows, columns, rows) as (figure, _):
        for axes, name in itertools.zip_longest(figure.axes, names):
            if name is None:
                axes.set_axis_off()
                continue
            _size_panel(axes, marks, name, {model: fits[model, name] for model in models}, table)
            axes.set_xlabel(path)
            axes.set_ylabel(f"test {table.metric} (%)")
            if len(names) > 1:
                axes.set_title(name, fontsize=9, color=GREY)
        _legend(figure, figure.axes[0], len(models))
        svg, png = rendered(figure)
    laws = {key: fit for key, fit in fits.items() if isinstance(fit, PowerLaw)}
    told = [
        f"{model}, {name}: ceiling {100 * sign * fit.ceiling:.1f} ± {100 * fit.ceiling_error:.1f}, "
        f"exponent {fit.exponent:.2f}"
        for (model, name), fit in laws.items()
    ]
    caption = (
        f"Without {table.source_language}; dashed: configurations without that stage. "
        + (f"Solid: a - b n^-c with its 95 % band ({'; '.join(told)}). " if told else "")
        + ("Dotted: means by size, where no fit is drawn." if len(laws) < len(fits) else "")
    )
    lines = [["configuration", mark.model, name, mark.place, mark.values[name], None, None]
             for name in names for mark in marks]  # fmt: skip
    for (model, name), fit in laws.items():
        bands = (_percents(part, table) for part in (fit.curve, fit.low, fit.high))
        lines += [["fit", model, name, *line] for line in zip(fit.grid, *bands, strict=True)]
    made = Figure(
        name=file_name(table, "size-curve"),
        title="How much intermediate data?",
        caption=caption.strip(),
        csv=csv_text(["row", "model", "languages", path, "percent", "low", "high"], lines),
        svg=svg,
        png=png,
        section="question",
    )
    return made, _refusals(table, repeats, names, fits)


_Repeats = list[tuple[float, list[TrialScores]]]
"""Sizes, each as often as it was independently repeated, and the trials of that repeat."""


def _repeats(table: LanguageTable, path: str, marks: Sequence[_Mark], model: str) -> _Repeats:
    """What the power law of a model goes through: at every size what shares no luck.

    Trials that go on from the same trained stage are one repeat, unless trials of every size do:
    such a stage is the same luck for all. Where the sizes differ in other parameters as well, these
    are chance too, and all trials of a configuration are one repeat.
    """
    place = {mark.configuration: mark.place for mark in marks if mark.model == model}
    at: dict[float, list[Row]] = {}
    for row in table.rows:
        size = place.get(row.configuration)
        if size is not None:
            at.setdefault(size, []).append(row)
    designs = {tuple(sorted(_other_parameters(row, path) for row in rows)) for rows in at.values()}
    keys = [
        {stage.key for row in rows for trial in row.trials for stage in trial.trained}
        for rows in at.values()
    ]
    common = set.intersection(*keys)
    found: _Repeats = []
    for size, rows in sorted(at.items()):
        trials = [trial for row in rows for trial in row.trials]
        members = [
            {stage.key for stage in trial.trained} - common | {f"trial {trial.number}"}
            | ({f"configuration {row.configuration}"} if len(designs) > 1 else set())
            for row in rows
            for trial in row.trials
        ]  # fmt: skip
        found += [(size, [trials[one] for one in unit]) for unit in units(members)]
    return found


def _other_parameters(row: Row, path: str) -> str:
    return repr(sorted((name, shown_value(value)) for name, value in row.parameters.items()
                       if name != path))  # fmt: skip


def _mean_score(trials: Sequence[TrialScores], languages: Sequence[str]) -> float:
    return statistics.fmean(trial.scores[code] for trial in trials for code in languages)


def _size_panel(
    axes: Any,
    marks: Sequence[_Mark],
    name: str,
    fits: Mapping[str, PowerLaw | str],
    table: LanguageTable,
) -> None:
    """Configurations of every model by size, and the law through them or their means."""
    axes.set_xscale("log")
    for turn, (model, fit) in enumerate(fits.items()):
        color, mark = SERIES[turn], MARKS[turn]
        mine = [mark for mark in marks if mark.model == model]
        pairs = [(one.place, one.values[name]) for one in mine if one.place is not None]
        axes.plot(*_two(pairs), mark, color=color, ms=5, alpha=0.45, mew=0)
        if isinstance(fit, PowerLaw):
            low, high = _percents(fit.low, table), _percents(fit.high, table)
            axes.fill_between(fit.grid, low, high, color=color, alpha=0.15, lw=0)
            axes.plot(fit.grid, _percents(fit.curve, table), color=color, lw=1.8, label=model)
        else:
            line = means(sorted(pairs), is_log=True)
            axes.plot(*_two(line), ":", marker=mark, color=color, lw=1.4, ms=6, label=model)
        without = [one.values[name] for one in mine if one.place is None]
        if without:
            axes.axhline(sum(without) / len(without), color=color, lw=1, ls="--", zorder=0)
    sizes = sorted({mark.place for mark in marks if mark.place is not None})
    number_ticks(axes, sizes, None, is_log=True)


def _refusals(
    table: LanguageTable,
    repeats: Mapping[str, _Repeats],
    names: Sequence[str],
    fits: Mapping[tuple[str, str], PowerLaw | str],
) -> list[str]:
    """A note for each model and reason why it has no power law."""
    found = []
    for model in repeats:
        reasons: dict[str, list[str]] = {}
        for name in names:
            fit = fits[model, name]
            if isinstance(fit, str):
                reasons.setdefault(fit, []).append(name)
        of = "" if len(repeats) == 1 else f" of {model}"
        found += [
            f"{table.task}, size curve{of} ({', '.join(told)}): no power law is fitted to "
            f"{len(repeats[model])} independent repeats: {reason}."
            for reason, told in reasons.items()
        ]
    return found


def ratio_figure(table: LanguageTable, path: str) -> Figure | None:
    """Source language, mean of the others and worst language by hybrid ratio."""
    source = table.source_language
    marks = _marks(
        table,
        path,
        {
            "source": lambda row: row.cells.get(source),
            "others": lambda row: row.mean_without_source,
            "worst": table.worst,
        },
    )
    if len({mark.place for mark in marks if mark.place is not None}) < 2:
        return None
    series = (("source", BLUE, "o", source), ("others", VERMILION, "D", "mean of the others"),
              ("worst", GREEN, "s", "worst language"))  # fmt: skip
    with new_canvas(4.6, 3.3) as (figure, axes):
        for name, color, mark, label in series:
            for is_translated, style, face in ((False, "-", color), (True, ":", "white")):
                # What was learned on text in scored languages is no point of a zero-shot curve.
                pairs = sorted(
                    (mark.place, mark.values[name])
                    for mark in marks
                    if mark.place is not None
                    and is_translate_train(mark.supervision) == is_translated
                )
                if not pairs:
                    continue
                axes.plot(*_two(pairs), mark, color=color, ms=5, alpha=0.35, mew=0)
                axes.plot(
                    *_two(means(pairs, is_log=False)), style, marker=mark, color=color, mfc=face,
                    ms=6, lw=1.8, label=f"{label}, translate-train" if is_translated else label,
                )  # fmt: skip
        axes.set_xlabel(path)
        axes.set_ylabel(f"test {table.metric} (%)")
        _legend(figure, axes, 3)
        svg, png = rendered(figure)
    names = [name for name, *_ in series]
    rows = [
        [mark.configuration, mark.place, mark.supervision, *(mark.values[name] for name in names)]
        for mark in marks
    ]
    is_mixed = any(is_translate_train(mark.supervision) for mark in marks)
    return Figure(
        name=file_name(table, "hybrid-curve"),
        title="What do cross-lingual batches trade?",
        caption="Lines: means per value, or of five bins where there are many. Worst: the lowest "
        "of the target languages of each configuration."
        + (" Hollow and dotted: translate-train, not zero-shot." if is_mixed else ""),
        csv=csv_text(
            ["configuration", path, "supervision", *(f"{name}_percent" for name in names)], rows
        ),
        svg=svg,
        png=png,
        section="question",
    )


def layer_figure(table: LanguageTable, path: str) -> Figure | None:
    """Source language and mean of the others by fusion layer, one line for each model."""
    source = table.source_language
    marks = _marks(
        table,
        path,
        {
            "source": lambda row: row.cells.get(source),
            "others": lambda row: row.mean_without_source,
        },
    )
    if len({mark.place for mark in marks if mark.place is not None}) < 2:
        return None
    models = _models(marks)
    with new_canvas(5.6, 3.1, columns=2) as (figure, panels):
        for axes, (name, title) in zip(
            panels, (("source", source), ("others", "mean of the others")), strict=True
        ):
            for turn, model in enumerate(models):
                mine = [mark for mark in marks if mark.model == model]
                pairs = sorted(
                    (one.place, one.values[name]) for one in mine if one.place is not None
                )
                color, mark = SERIES[turn], MARKS[turn]
                axes.plot(*_two(pairs), mark, color=color, ms=4.5, alpha=0.35, mew=0)
                groups = _by_place(pairs)
                axes.plot(*_two(groups), "-", marker=mark, color=color, lw=1.8, ms=6, label=model)
                without = [one.values[name] for one in mine if one.place is None]
                if without:
                    axes.axhline(sum(without) / len(without), color=color, lw=1, ls="--", zorder=0)
            layers = sorted({mark.place for mark in marks if mark.place is not None})
            if len(layers) <= 13:
                axes.set_xticks(layers, [f"{layer:g}" for layer in layers])
            axes.set_title(title, fontsize=9, color=GREY)
            axes.set_xlabel("fused layer")
        panels[0].set_ylabel(f"test {table.metric} (%)")
        _legend(figure, panels[0], len(models))
        svg, png = rendered(figure)
    rows = [
        [mark.configuration, mark.model, mark.place, mark.values["source"], mark.values["others"]]
        for mark in marks
    ]
    return Figure(
        name=file_name(table, "fusion-profile"),
        title="Which layer to fuse?",
        caption="Lines: means per layer; dashed: configurations that fuse none.",
        csv=csv_text(["configuration", "model", path, "source_percent", "others_percent"], rows),
        svg=svg,
        png=png,
        section="question",
    )


def _marks(
    table: LanguageTable, path: str, series: Mapping[str, Callable[[Row], Cell | None]]
) -> list[_Mark]:
    """The configurations of which every series is known; of many models the first ones."""
    found = []
    for row in sorted(table.rows, key=lambda row: row.configuration):
        cells = {name: of(row) for name, of in series.items()}
        values = {name: 100 * cell.mean for name, cell in cells.items() if cell is not None}
        place = row.parameters[path]
        if len(values) == len(series) and (is_absent(place) or _is_number(place)):
            model = shown_value(row.parameters["model"]) if "model" in row.parameters else "all"
            at = None if is_absent(place) else float(place)
            found.append(_Mark(row.configuration, at, model, values, row.supervision))
    names = short_names(sorted({one.model for one in found})[:MAX_MODELS])
    return [replace(one, model=names[one.model]) for one in found if one.model in names]


def _models(marks: Sequence[_Mark]) -> list[str]:
    """Models with a value of the parameter, by name."""
    return sorted({mark.model for mark in marks if mark.place is not None})


def _by_place(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    places = sorted({place for place, _ in pairs})
    found = []
    for place in places:
        values = [value for one, value in pairs if one == place]
        found.append((place, sum(values) / len(values)))
    return found


def _legend(figure: Any, axes: Any, entries: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels != ["all"]:
        figure.legend(handles, labels, loc="outside upper left", ncols=min(entries, 3), fontsize=8)


def _percents(values: Sequence[float], table: LanguageTable) -> list[float]:
    return [100 * table.sign * value for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _two(pairs: Sequence[tuple[Any, float]]) -> tuple[list[Any], list[float]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


CURVES: dict[str, Callable[[LanguageTable, str], Figure | None]] = {
    "target.hybrid.ratio": ratio_figure,
    "target.fusion.layer": layer_figure,
}


def question_figures(
    table: LanguageTable, known: Effects, costs: pd.DataFrame
) -> tuple[list[Figure], list[str]]:
    """The figures of a table, and what is not drawn and why."""
    found: list[Figure | None] = []
    notes: list[str] = []
    if "intermediate.size" in table.parameters:
        figure, refused = size_figure(table, "intermediate.size")
        found.append(figure)
        notes += refused
    found += [draw(table, path) for path, draw in CURVES.items() if path in table.parameters]
    figure, told = importance_figure(table, known)
    notes += told
    found += [heat_map(table), figure, parallel_figure(table, known), pareto_figure(table, costs)]
    return [one for one in found if one is not None], notes
