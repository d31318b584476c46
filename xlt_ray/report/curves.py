"""Curves over one knob that a study is about: intermediate size, hybrid ratio, fusion layer.

Each mark is a configuration, mean over its seeds. Models differ in colour and mark; scores are in
percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xlt_ray.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    MARKS,
    SERIES,
    VERMILION,
    Figure,
    csv_text,
    new_canvas,
    rendered,
)
from xlt_ray.report.figures import file_name
from xlt_ray.report.labels import is_absent, short_names, shown_value
from xlt_ray.report.powerlaw import PowerLaw, fit_power_law
from xlt_ray.report.scales import means, number_ticks
from xlt_ray.report.tables import Cell, LanguageTable, Row

MAX_MODELS = len(SERIES)


@dataclass(frozen=True)
class _Mark:
    """One configuration at one place of the knob; None where it does not have the knob."""

    configuration: int
    place: float | None
    model: str
    values: Mapping[str, float]
    """In percent, by the name of the series."""


def size_figure(table: LanguageTable, path: str) -> tuple[Figure | None, list[str]]:
    """Mean of the target languages by intermediate size, a power law through it for each model.

    Returns the figure (None with fewer than two sizes) and why fits are refused.
    """
    marks = _marks(table, path, {"others": lambda row: row.mean_without_source})
    if len({one.place for one in marks if one.place is not None}) < 2:
        return None, []
    models = _models(marks)
    fits: dict[str, PowerLaw | str] = {}
    sign = 1.0 if table.is_higher_better else -1.0
    for model in models:
        mine = [one for one in marks if one.model == model and one.place is not None]
        fits[model] = fit_power_law(
            [float(one.place or 0) for one in mine],
            [sign * one.values["others"] / 100 for one in mine],
        )
    with new_canvas(4.6, 3.3) as (figure, axes):
        axes.set_xscale("log")
        for turn, model in enumerate(models):
            color, mark = SERIES[turn], MARKS[turn]
            mine = [one for one in marks if one.model == model]
            pairs = [(one.place, one.values["others"]) for one in mine if one.place is not None]
            axes.plot(*_two(pairs), mark, color=color, ms=5, alpha=0.45, mew=0)
            fit = fits[model]
            if isinstance(fit, PowerLaw):
                axes.fill_between(
                    fit.grid, _percents(fit.low, table), _percents(fit.high, table),
                    color=color, alpha=0.15, lw=0,
                )  # fmt: skip
                axes.plot(fit.grid, _percents(fit.curve, table), color=color, lw=1.8, label=model)
            else:
                line = means(sorted(pairs), is_log=True)
                axes.plot(*_two(line), ":", marker=mark, color=color, lw=1.4, ms=6, label=model)
            without = [one.values["others"] for one in mine if one.place is None]
            if without:
                axes.axhline(sum(without) / len(without), color=color, lw=1, ls="--", zorder=0)
        sizes = sorted({one.place for one in marks if one.place is not None})
        number_ticks(axes, sizes, None, is_log=True)
        axes.set_xlabel(path)
        axes.set_ylabel(f"test {table.metric} (%), w/o {table.source_language}")
        _legend(figure, axes, len(models))
        svg, png = rendered(figure)
    refused = [
        f"{table.task}, size curve{'' if len(models) == 1 else f' of {model}'}: no power law is "
        f"fitted: {fit}."
        for model, fit in fits.items()
        if isinstance(fit, str)
    ]
    told = [
        f"{model}: ceiling {100 * sign * fit.ceiling:.1f} ± {100 * fit.ceiling_error:.1f}, "
        f"exponent {fit.exponent:.2f}"
        for model, fit in fits.items()
        if isinstance(fit, PowerLaw)
    ]
    caption = "Mean of the target languages; dashed: configurations without that stage. " + (
        f"Solid: a - b n^-c with its 95 % band ({'; '.join(told)}). " if told else ""
    ) + ("Dotted: means by size, where no fit is drawn." if refused else "")  # fmt: skip
    rows = [["configuration", one.model, one.place, one.values["others"], None, None]
            for one in marks]  # fmt: skip
    for model, fit in fits.items():
        if isinstance(fit, PowerLaw):
            bands = (_percents(part, table) for part in (fit.curve, fit.low, fit.high))
            rows += [["fit", model, *line] for line in zip(fit.grid, *bands, strict=True)]
    made = Figure(
        name=file_name(table, "size-curve"),
        title="How much intermediate data?",
        caption=caption.strip(),
        csv=csv_text(["row", "model", path, "others_percent", "low", "high"], rows),
        svg=svg,
        png=png,
        section="question",
    )
    return made, refused


def ratio_figure(table: LanguageTable, path: str) -> Figure | None:
    """Source language, mean of the others and worst language by hybrid ratio."""
    source = table.source_language
    marks = _marks(
        table,
        path,
        {
            "source": lambda row: row.cells.get(source),
            "others": lambda row: row.mean_without_source,
            "worst": lambda row: _worst(row, table),
        },
    )
    if len({one.place for one in marks if one.place is not None}) < 2:
        return None
    series = (("source", BLUE, "o", source), ("others", VERMILION, "D", "mean of the others"),
              ("worst", GREEN, "s", "worst language"))  # fmt: skip
    with new_canvas(4.6, 3.3) as (figure, axes):
        for name, color, mark, label in series:
            pairs = sorted((one.place, one.values[name]) for one in marks if one.place is not None)
            axes.plot(*_two(pairs), mark, color=color, ms=5, alpha=0.35, mew=0)
            line = means(pairs, is_log=False)
            axes.plot(*_two(line), "-", marker=mark, color=color, ms=6, lw=1.8, label=label)
        axes.set_xlabel(path)
        axes.set_ylabel(f"test {table.metric} (%)")
        _legend(figure, axes, 3)
        svg, png = rendered(figure)
    names = [name for name, *_ in series]
    rows = [[one.configuration, one.place, *(one.values[name] for name in names)] for one in marks]
    return Figure(
        name=file_name(table, "hybrid-curve"),
        title="What do cross-lingual batches trade?",
        caption="Lines: means per value, or of five bins where there are many. Worst: the lowest "
        "of the target languages of each configuration.",
        csv=csv_text(["configuration", path, *(f"{name}_percent" for name in names)], rows),
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
    if len({one.place for one in marks if one.place is not None}) < 2:
        return None
    models = _models(marks)
    with new_canvas(5.6, 3.1, columns=2) as (figure, panels):
        for axes, (name, title) in zip(
            panels, (("source", source), ("others", "mean of the others")), strict=True
        ):
            for turn, model in enumerate(models):
                mine = [one for one in marks if one.model == model]
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
            layers = sorted({one.place for one in marks if one.place is not None})
            if len(layers) <= 13:
                axes.set_xticks(layers, [f"{one:g}" for one in layers])
            axes.set_title(title, fontsize=9, color=GREY)
            axes.set_xlabel("fused layer")
        panels[0].set_ylabel(f"test {table.metric} (%)")
        _legend(figure, panels[0], len(models))
        svg, png = rendered(figure)
    rows = [
        [one.configuration, one.model, one.place, one.values["source"], one.values["others"]]
        for one in marks
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
        place = row.knobs[path]
        if len(values) == len(series) and (is_absent(place) or _is_number(place)):
            model = shown_value(row.knobs["model"]) if "model" in row.knobs else "all"
            at = None if is_absent(place) else float(place)
            found.append(_Mark(row.configuration, at, model, values))
    names = short_names(sorted({one.model for one in found})[:MAX_MODELS])
    return [replace(one, model=names[one.model]) for one in found if one.model in names]


def _models(marks: Sequence[_Mark]) -> list[str]:
    """Models with a value of the knob, by name."""
    return sorted({one.model for one in marks if one.place is not None})


def _worst(row: Row, table: LanguageTable) -> Cell | None:
    if row.mean_without_source is None:
        return None
    others = [row.cells[code] for code in table.languages if code != table.source_language]
    pick = min if table.is_higher_better else max
    return pick(others, key=lambda cell: cell.mean)


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
    sign = 1.0 if table.is_higher_better else -1.0
    return [100 * sign * one for one in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _two(pairs: Sequence[tuple[Any, float]]) -> tuple[list[Any], list[float]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
