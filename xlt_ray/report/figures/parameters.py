"""Scores against each parameter that was searched, and the best configuration by language.

Colours are Okabe and Ito's; source and target languages differ in shape as well.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.config.languages import language
from xlt_ray.report.figures.base import (
    BLUE,
    GREEN,
    GREY,
    MAX_EXACT,
    NUM_BINS,
    ORANGE,
    SKY,
    VERMILION,
    Figure,
    draw_series,
    figure_of,
    jitter,
    means,
    natural,
    new_canvas,
    number_ticks,
    rendered,
)
from xlt_ray.report.labels import (
    is_absent,
    is_number,
    language_label,
    parameter_names,
    short_names,
    value_label,
)
from xlt_ray.report.replication import named, spread_note
from xlt_ray.report.tables import Cell, LanguageTable, Row

RESOURCES = {"high": BLUE, "medium": SKY, "low": ORANGE, "unknown": "#999999"}


@dataclass(frozen=True)
class Point:
    """One configuration: the value of a parameter and its two scores, in percent."""

    configuration: int
    value: Any
    source: float | None
    others: float | None


def parameter_figure(path: str, table: LanguageTable, *, log: bool = False) -> Figure | None:
    """Test scores against one parameter; None where it has fewer than two values.

    Args:
        log: whether the parameter is searched on a logarithmic scale. Numbers that are all positive
            and span more than a factor of 15 are drawn on one in any case.
    """
    points = [_point(row, path, table) for row in table.rows]
    values = {value_label(point.value) for point in points}
    if len(values) < 2:
        return None
    numbers = [point.value for point in points if is_number(point.value)]
    is_numeric = len({*numbers}) > 1 and all(
        is_absent(point.value) or is_number(point.value) for point in points
    )
    with new_canvas(3.4, 2.9) as (figure, axes):
        if is_numeric:
            is_log = min(numbers) > 0 and (log or max(numbers) / min(numbers) > 15)
            note = _numeric(axes, points, is_log)
        else:
            note = _categorical(axes, points)
        axes.set_xlabel(path)
        axes.set_ylabel(f"test {table.metric} (%)")
        _legend(axes)
        drawing = rendered(figure)
    caption = (
        f"Each pale mark is a configuration (mean over its seeds): {table.source_language} (round) "
        f"and the mean of the other languages (diamond). {note}"
    )
    rows = [
        [point.configuration, value_label(point.value), point.source, point.others]
        for point in points
    ]
    header = ["configuration", path, f"{table.source_language}_percent", "others_percent"]
    return figure_of(
        drawing,
        table.file_name(path),
        parameter_names(table.parameters)[path],
        caption,
        header,
        rows,
        section="parameter",
    )


def language_figure(row: Row, table: LanguageTable) -> Figure:
    """Test scores of one configuration in every language, the source language on top."""
    from matplotlib.patches import Patch

    targets = sorted(
        table.targets, key=lambda code: (-row.cells[code].mean if code in row.cells else 1.0, code)
    )
    first = [table.source_language] if table.source_language in table.languages else []
    languages = [*first, *targets]
    classes = {code: language(code).resources for code in languages}
    with new_canvas(5.3, 0.75 + 0.27 * len(languages)) as (figure, axes):
        for place, code in enumerate(languages):
            cell = row.cells.get(code)
            if cell is None:
                axes.text(0.8, place, "missing", va="center", color=GREY, style="italic")
                continue
            is_source = code == table.source_language
            color = GREEN if is_source else RESOURCES.get(classes[code], RESOURCES["unknown"])
            error = 100 * cell.deviation if cell.deviation is not None else None
            hatch = "//" if is_source else None
            score = 100 * cell.mean
            axes.barh(place, score, 0.7, color=color, hatch=hatch, edgecolor="white", linewidth=0)
            if error is not None:
                axes.errorbar(score, place, xerr=error, color="#222222", capsize=2, lw=1)
            axes.text(score + (error or 0) + 0.8, place, f"{score:.1f}", va="center", size=8)
        if row.mean_without_source is not None:
            mean = 100 * row.mean_without_source.mean
            axes.axvline(mean, color=VERMILION, lw=1.2, ls="--", zorder=0)
        labels = list(map(language_label, languages))
        axes.set_yticks(range(len(languages)), labels)
        axes.set_ylim(len(languages) - 0.4, -0.6)
        lowest = 100 * min(cell.mean - (cell.deviation or 0) for cell in row.cells.values())
        axes.set_xlim(
            # A correlation may be negative.
            min(1.15 * lowest, 0.0),
            max(100.0 if _top(row) > 0.85 else 100 * _top(row) * 1.15, 1.0),
        )
        axes.set_xlabel(f"test {table.metric} (%)")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        keys = [Patch(facecolor=GREEN, hatch="//", edgecolor="white", label="source language")]
        known = {classes[code] for code in targets}
        keys += [
            Patch(facecolor=color, label=f"{name} resources")
            for name, color in RESOURCES.items()
            if name in known
        ]
        figure.legend(
            handles=keys,
            loc="outside upper left",
            ncols=4,
            fontsize=7.5,
            handlelength=1.2,
            columnspacing=1.0,
        )
        drawing = rendered(figure)
    over = f"Mean over {row.num_seeds} seeds; " if row.num_seeds > 1 else ""
    whisker = "whiskers: standard deviation over seeds" if row.num_seeds > 1 else "One seed"
    note = spread_note([[trial.trained for trial in row.trials]])
    line = "; dashed: mean without the source language" if row.mean_without_source else ""
    shared = named(row.shared)
    rows: list[list[Any]] = []
    for code in languages:
        cell = row.cells.get(code)
        deviation = None if cell is None or cell.deviation is None else cell.deviation * 100
        rows.append([code, _percent(cell), deviation, shared])
    return figure_of(
        drawing,
        table.file_name("languages"),
        f"Configuration {row.configuration} by language",
        f"{over}{whisker}{line}. {note}",
        ["language", "percent", "deviation", "shared_by_seeds"],
        rows,
        section="best",
    )


# -- drawing ------------------------------------------------------------------------------


def _numeric(axes: Any, points: Sequence[Point], is_log: bool) -> str:
    """Scatter and line of means over numbers; configurations without the parameter on the left."""
    numbers = sorted({float(point.value) for point in points if is_number(point.value)})
    low, high = numbers[0], numbers[-1]
    absent = low / (high / low) ** 0.22 if is_log else low - 0.2 * (high - low)
    has_absent = any(is_absent(point.value) for point in points)
    for name, color, marker in _SERIES:
        drawn = [
            (absent if is_absent(point.value) else float(point.value), score)
            for point in points
            if (score := getattr(point, name)) is not None
        ]
        line = means(sorted(pair for pair in drawn if pair[0] != absent), is_log)
        draw_series(axes, drawn, line, color, marker, label=name)
        without = [score for place, score in drawn if place == absent]
        if without:
            axes.plot([absent], [sum(without) / len(without)], marker, color=color, ms=6)
    if is_log:
        axes.set_xscale("log")
    number_ticks(axes, numbers, absent if has_absent else None, is_log)
    if has_absent:
        edge = math.sqrt(absent * low) if is_log else (absent + low) / 2
        axes.axvline(edge, color="#B8C0CA", lw=0.8, ls=":")
    if len(numbers) > MAX_EXACT:
        return f"Line: means of {NUM_BINS} bins with equally many configurations."
    return "Line: means per value."


def _categorical(axes: Any, points: Sequence[Point]) -> str:
    """A strip of marks for each option, with a bar at its mean."""
    options = sorted({value_label(point.value) for point in points}, key=natural)
    for offset, (name, color, marker) in zip((-0.16, 0.16), _SERIES, strict=True):
        label: str | None = name
        for place, option in enumerate(options):
            scores = [
                score
                for point in points
                if value_label(point.value) == option
                and (score := getattr(point, name)) is not None
            ]
            if not scores:
                continue
            spread = [place + offset + 0.07 * jitter(index) for index in range(len(scores))]
            axes.plot(spread, scores, marker, color=color, ms=5, alpha=0.35, mew=0)
            mean = sum(scores) / len(scores)
            axes.plot(
                [place + offset - 0.13, place + offset + 0.13],
                [mean, mean],
                color=color,
                lw=2.4,
                solid_capstyle="round",
                label=label,
            )
            label = None
    room = max(44 // len(options), 9)
    names = short_names(options)
    labels = [textwrap.fill(names[option], room, break_long_words=False) for option in options]
    long = max(len(line) for label in labels for line in label.splitlines()) > 1.3 * room
    axes.set_xticks(
        range(len(options)),
        labels,
        rotation=20 if long else 0,
        ha="right" if long else "center",
    )
    axes.set_xlim(-0.5, len(options) - 0.5)
    axes.grid(visible=False, axis="x")
    return "Bars: means per value."


_SERIES = (("source", BLUE, "o"), ("others", VERMILION, "D"))


def _legend(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    named = {"source": "source language", "others": "mean of the others"}
    axes.figure.legend(
        handles,
        [named[label] for label in labels],
        loc="outside upper left",
        ncols=2,
        fontsize=8,
        handlelength=1.6,
        columnspacing=1.4,
    )


# -- values -------------------------------------------------------------------------------


def _point(row: Row, path: str, table: LanguageTable) -> Point:
    return Point(
        configuration=row.configuration,
        value=row.parameters[path],
        source=_percent(row.cells.get(table.source_language)),
        others=_percent(row.mean_without_source or None),
    )


def _percent(cell: Cell | None) -> float | None:
    return None if cell is None else 100 * cell.mean


def _top(row: Row) -> float:
    return max((cell.mean + (cell.deviation or 0) for cell in row.cells.values()), default=1.0)
