"""Curves that answer a research question: intermediate size, hybrid ratio, fusion layer.

Each mark is a configuration, mean over its seeds, in percent. Lines are models, or methods of
fusion, and differ in colour and mark.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from xlt_ray.config.labels import is_absent, is_number, short_names, value_label
from xlt_ray.report import figures as base
from xlt_ray.report.effects import Effects, drawn_series
from xlt_ray.report.figures import Figure, figure_of, new_canvas
from xlt_ray.report.figures.overview import (
    heat_map,
    importance_figure,
    parallel_figure,
    pareto_figure,
)
from xlt_ray.report.stats import PowerLaw, fit_power_law, units
from xlt_ray.report.tables import Cell, LanguageTable, Row, TrialScores, is_translate_train

MAX_LINES = len(base.SERIES)


@dataclass(frozen=True)
class _Mark:
    """One configuration at one place of the parameter; None where it lacks the parameter."""

    configuration: int
    place: float | None
    line: str
    cells: Mapping[str, Cell]
    """By the name of the series."""
    supervision: str

    @property
    def values(self) -> dict[str, float]:
        """Means in percent, by the name of the series."""
        return {name: 100 * cell.mean for name, cell in self.cells.items()}

    def interval(self, name: str) -> tuple[float, float]:
        """Student's 95 % interval over seeds of a series, in percent; its mean twice with one."""
        low, high = self.cells[name].interval or (self.cells[name].mean, self.cells[name].mean)
        return 100 * low, 100 * high


Fits = Mapping[tuple[str, str], PowerLaw | str]
"""By line and series: the power law, or why there is none."""


def size_figure(table: LanguageTable, path: str) -> tuple[Figure | None, list[str]]:
    """Score by intermediate size: a panel for the mean of the target languages and for each group
    of them, and in it a power law for each model, through the sizes' independent repeats.

    Returns the figure (None with fewer than two sizes) and why fits are refused.
    """
    series = [each for each in drawn_series(table) if each.name != table.source_language]
    names = [each.name for each in series]
    marks = _marks(table, path, {each.name: each.of for each in series})
    if not marks:
        return None, []
    repeats = {model: _repeats(table, path, marks, model) for model in _lines(marks)}
    fits: Fits = {
        (model, each.name): fit_power_law(
            [size for size, _ in repeats[model]],
            [table.sign * _mean_score(trials, each.languages) for _, trials in repeats[model]],
        )
        for model, each in itertools.product(repeats, series)
    }
    laws = {key: fit for key, fit in fits.items() if isinstance(fit, PowerLaw)}
    laws_text = "; ".join(
        f"{model}, {name}: ceiling {100 * table.sign * fit.ceiling:.1f} ± "
        f"{100 * fit.ceiling_error:.1f}, exponent {fit.exponent:.2f}"
        for (model, name), fit in laws.items()
    )
    caption = (
        f"Without {table.source_language}; dashed: configurations without that stage. "
        + (f"Solid: a - b n^-c with its 95 % band ({laws_text}). " if laws else "")
        + ("Dotted: means by size, where no fit is drawn." if len(laws) < len(fits) else "")
    )
    lines: list[list[Any]] = [
        ["configuration", mark.line, name, mark.place, mark.values[name], None, None]
        for name in names
        for mark in marks
    ]
    for (model, name), fit in laws.items():
        bands = (_percents(part, table) for part in (fit.curve, fit.low, fit.high))
        lines += [["fit", model, name, *line] for line in zip(fit.grid, *bands, strict=True)]
    columns = min(len(names), 2)
    rows = math.ceil(len(names) / columns)
    with new_canvas(1.2 + 2.5 * columns, 0.5 + 2.3 * rows, columns, rows) as (figure, _):
        for axes, name in itertools.zip_longest(figure.axes, names):
            if name is None:
                axes.set_axis_off()
                continue
            axes.set_xscale("log")
            _draw_models(axes, marks, name, table, fits)
            base.number_ticks(axes, _places(marks), None, is_log=True)
            axes.set_xlabel(path)
            axes.set_ylabel(f"test {table.metric} (%)")
            if len(names) > 1:
                axes.set_title(name, fontsize=9, color=base.GREY)
        _legend(figure, figure.axes[0], len(repeats))
        drawn = figure_of(
            figure,
            table.file_name("size-curve"),
            "How much intermediate data?",
            caption,
            ["row", "model", "languages", path, "percent", "low", "high"],
            lines,
        )
    return drawn, _refusals(table, repeats, names, fits)


_Repeats = list[tuple[float, list[TrialScores]]]
"""Sizes, each as often as it was independently repeated, and the trials of that repeat."""


def _repeats(table: LanguageTable, path: str, marks: Sequence[_Mark], model: str) -> _Repeats:
    """What the power law of a model goes through: at every size what shares no luck.

    Trials that go on from the same trained stage are one repeat, unless trials of every size do:
    such a stage is the same luck for all. Where the sizes differ in other parameters as well, these
    are chance too, and all trials of a configuration are one repeat.
    """
    place = {mark.configuration: mark.place for mark in marks if mark.line == model}
    at: dict[float, list[Row]] = {}
    for row in table.rows:
        size = place.get(row.configuration)
        if size is not None:
            at.setdefault(size, []).append(row)
    designs = {tuple(sorted(_other_parameters(row, path) for row in rows)) for rows in at.values()}
    keys = [{key for row in rows for key in row.stage_keys} for rows in at.values()]
    common = set.intersection(*keys)
    repeats: _Repeats = []
    for size, rows in sorted(at.items()):
        pairs = [(row, trial) for row in rows for trial in row.trials]
        members = [
            {stage.key for stage in trial.trained} - common | {f"trial {trial.number}"}
            | ({f"configuration {row.configuration}"} if len(designs) > 1 else set())
            for row, trial in pairs
        ]  # fmt: skip
        repeats += [(size, [pairs[index][1] for index in unit]) for unit in units(members)]
    return repeats


def _other_parameters(row: Row, path: str) -> str:
    return repr(sorted((name, value_label(value)) for name, value in row.parameters.items()
                       if name != path))  # fmt: skip


def _mean_score(trials: Sequence[TrialScores], languages: Sequence[str]) -> float:
    return statistics.fmean(trial.scores[code] for trial in trials for code in languages)


def _refusals(
    table: LanguageTable, repeats: Mapping[str, _Repeats], names: Sequence[str], fits: Fits
) -> list[str]:
    """A note for each model and reason why it has no power law."""
    notes = []
    for model in repeats:
        reasons: dict[str, list[str]] = {}
        for name in names:
            fit = fits[model, name]
            if isinstance(fit, str):
                reasons.setdefault(fit, []).append(name)
        of = "" if len(repeats) == 1 else f" of {model}"
        notes += [
            f"{table.task}, size curve{of} ({', '.join(refused)}): no power law is fitted to "
            f"{len(repeats[model])} independent repeats: {reason}."
            for reason, refused in reasons.items()
        ]
    return notes


def ratio_figure(table: LanguageTable, path: str) -> Figure | None:
    """Source language, mean of the others and worst language by hybrid ratio."""
    source = table.source_language
    marks = _marks(table, path, {**_source_and_others(table), "worst": table.worst})
    if not marks:
        return None
    series = {
        "source": (base.BLUE, "o", source),
        "others": (base.VERMILION, "D", "mean of the others"),
        "worst": (base.GREEN, "s", "worst language"),
    }
    is_mixed = any(is_translate_train(mark.supervision) for mark in marks)
    with new_canvas(4.6, 3.3) as (figure, axes):
        for name, (color, mark, label) in series.items():
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
                title = f"{label}, translate-train" if is_translated else label
                line = base.means(pairs, is_log=False)
                base.draw_series(axes, pairs, line, color, mark, ls=style, mfc=face, label=title)
        axes.set_xlabel(path)
        axes.set_ylabel(f"test {table.metric} (%)")
        _legend(figure, axes, 2 if is_mixed else 3)
        return figure_of(
            figure,
            table.file_name("hybrid-curve"),
            "What do cross-lingual batches trade?",
            "Lines: means per value, or of five bins where there are many. Worst: the lowest of "
            "the target languages of each configuration."
            + (" Hollow and dotted: translate-train, not zero-shot." if is_mixed else ""),
            ["configuration", path, "supervision", *(f"{name}_percent" for name in series)],
            [[m.configuration, m.place, m.supervision, *m.values.values()] for m in marks],
        )


def layer_figure(table: LanguageTable, path: str) -> Figure | None:
    """Score by fusion layer: a panel for the source language, the mean of the others and each group
    of them, and in it a line for each model, or with one model for each method of fusion."""
    series = drawn_series(table)
    marks = _marks(table, path, {each.name: each.of for each in series}, "target.fusion")
    if not marks:
        return None
    layers, lines = _places(marks), _lines(marks)
    whole = sorted({mark.line for mark in marks}.difference(lines))
    colors = dict(zip([*lines, *whole], base.SERIES, strict=False))
    columns = min(len(series), 3)
    rows = math.ceil(len(series) / columns)
    with new_canvas(0.6 + 2.4 * columns, 0.6 + 2.3 * rows, columns, rows) as (figure, _):
        for axes, each in itertools.zip_longest(figure.axes, series):
            if each is None:
                axes.set_axis_off()
                continue
            _draw_models(axes, marks, each.name, table)
            placed = [mark for mark in marks if mark.place is not None]
            if placed:
                lows, highs = zip(*(mark.interval(each.name) for mark in placed), strict=True)
                inks = [colors[mark.line] for mark in placed]
                axes.vlines([mark.place for mark in placed], lows, highs, color=inks, lw=0.8)
            for mark in marks:
                if mark.place is None and mark.line in whole:
                    low, high = mark.interval(each.name)
                    axes.axhspan(low, high, color=colors[mark.line], alpha=0.1, lw=0)
            for line in whole:
                values = [mark.values[each.name] for mark in marks if mark.line == line]
                base.draw_absent(axes, values, colors[line], label=line)
            if len(layers) <= 13:
                axes.set_xticks(layers, [f"{layer:g}" for layer in layers])
            axes.set_title(each.name, fontsize=9, color=base.GREY)
            axes.set_xlabel("fused layer")
        figure.axes[0].set_ylabel(f"test {table.metric} (%)")
        _legend(figure, figure.axes[0], len(colors))
        header = [f"{each.name}{end}" for each in series for end in ("_percent", "_low", "_high")]
        return figure_of(
            figure,
            table.file_name("fusion-profile"),
            "Which layer to fuse?",
            "Lines: means per layer; dashed: configurations that fuse no single layer. Bars and "
            "bands: 95 % intervals over seeds.",
            ["configuration", "line", path, *header],
            [
                [mark.configuration, mark.line, mark.place]
                + [
                    number
                    for name in mark.cells
                    for number in (mark.values[name], *mark.interval(name))
                ]
                for mark in marks
            ],
        )


def _draw_models(
    axes: Any, marks: Sequence[_Mark], name: str, table: LanguageTable, fits: Fits | None = None
) -> None:
    """Configurations of every model at their places, and a line through them.

    Args:
        fits: laws, by size; where one is refused the line joins means, dotted. None: by layer.
    """
    for number, model in enumerate(_lines(marks)):
        color, marker = base.SERIES[number], base.MARKS[number]
        of_model = [mark for mark in marks if mark.line == model]
        pairs = [(mark.place, mark.values[name]) for mark in of_model if mark.place is not None]
        fit = None if fits is None else fits[model, name]
        if fit is None:
            pairs.sort()
            line = base.means(pairs, is_log=False, num_exact=math.inf)
            base.draw_series(axes, pairs, line, color, marker, label=model)
        elif isinstance(fit, PowerLaw):
            low, high = _percents(fit.low, table), _percents(fit.high, table)
            axes.fill_between(fit.grid, low, high, color=color, alpha=0.15, lw=0)
            line = list(zip(fit.grid, _percents(fit.curve, table), strict=True))
            base.draw_series(axes, pairs, line, color, marker, label=model, ms=0)
        else:
            line = base.means(sorted(pairs), is_log=True)
            base.draw_series(axes, pairs, line, color, marker, label=model, ls=":", lw=1.4)
        absent = [mark.values[name] for mark in of_model if mark.place is None]
        base.draw_absent(axes, absent, color)


def _source_and_others(table: LanguageTable) -> dict[str, Callable[[Row], Cell | None]]:
    return {
        "source": lambda row: row.cells.get(table.source_language),
        "others": lambda row: row.mean_without_source,
    }


def _marks(
    table: LanguageTable,
    path: str,
    series: Mapping[str, Callable[[Row], Cell | None]],
    method: str = "",
) -> list[_Mark]:
    """The configurations of which every series is known; of many lines the first ones.

    None at all where the parameter has fewer than two values.

    Args:
        method: the parameter whose values are the lines if there is one model.
    """
    has_models = len({_model_of(row) for row in table.rows}) > 1
    by_method = not has_models and method in table.parameters
    marks = []
    for row in sorted(table.rows, key=lambda row: row.configuration):
        given = {name: of(row) for name, of in series.items()}
        cells = {name: cell for name, cell in given.items() if cell is not None}
        place = row.parameters[path]
        if len(cells) == len(series) and (is_absent(place) or is_number(place)):
            line = value_label(row.parameters[method]) if by_method else _model_of(row)
            at = None if is_absent(place) else float(place)
            marks.append(_Mark(row.configuration, at, line, cells, row.supervision))
    lines = sorted({mark.line for mark in marks}, key=base.natural)[:MAX_LINES]
    # The settings of a model's block, where its name tells it apart.
    brief = {line: re.sub(r" \(.*?\)", "", line) for line in lines}
    if len(set(brief.values())) < len(lines):
        brief = {line: line for line in lines}
    names = short_names(brief.values())
    marks = [replace(mark, line=names[brief[mark.line]]) for mark in marks if mark.line in brief]
    return marks if len(_places(marks)) > 1 else []


def _model_of(row: Row) -> str:
    """Model of a configuration and how many of its layers are kept, where they are searched."""
    layers = row.parameters.get("model.layers")
    parts = [value_label(row.parameters["model"])] if "model" in row.parameters else []
    parts += [] if is_absent(layers) else [f"{layers:g} layers"]
    return ", ".join(parts) or "all"


def _places(marks: Sequence[_Mark]) -> list[float]:
    return sorted({mark.place for mark in marks if mark.place is not None})


def _lines(marks: Sequence[_Mark]) -> list[str]:
    """Lines with a value of the parameter, by name."""
    return sorted({mark.line for mark in marks if mark.place is not None}, key=base.natural)


def _legend(figure: Any, axes: Any, entries: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels != ["all"]:
        figure.legend(handles, labels, loc="outside upper left", ncols=min(entries, 3), fontsize=8)


def _percents(values: Sequence[float], table: LanguageTable) -> list[float]:
    return [100 * table.sign * value for value in values]


def question_figures(
    table: LanguageTable, effects: Effects, costs: pd.DataFrame
) -> tuple[list[Figure], list[str]]:
    """The figures of a table, and what is not drawn and why."""
    figures: list[Figure | None] = []
    notes: list[str] = []
    if "intermediate.size" in table.parameters:
        figure, notes = size_figure(table, "intermediate.size")
        figures.append(figure)
    curves = {"target.hybrid.ratio": ratio_figure, "target.fusion.layer": layer_figure}
    figures += [draw(table, path) for path, draw in curves.items() if path in table.parameters]
    importance, reasons = importance_figure(table, effects)
    figures += [heat_map(table), importance, parallel_figure(table, effects)]
    figures.append(pareto_figure(table, costs))
    return [drawn for drawn in figures if drawn is not None], [*notes, *reasons]
