"""Parallel coordinates: every configuration as one line through its knobs and scores."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.report.canvas import GREY, VERMILION, Figure, csv_text, new_canvas, rendered
from xlt_ray.report.effects import Effects
from xlt_ray.report.figures import file_name
from xlt_ray.report.labels import is_absent, knob_names, short_names, shown_value
from xlt_ray.report.scales import natural, short_number
from xlt_ray.report.tables import LanguageTable

MIN_ROWS = 3
MAX_KNOBS = 8
"""The first ones of ``Effects.knobs``; the CSV has all."""
MAX_PLACES = 6
"""Values that have a place each; more numbers lie on a scale."""

PALEST = 0.25
"""Where the colours of lines begin: the first ones are hard to see on white."""
MAX_MARKED = 60
"""Configurations whose lines have marks; more of them are a page's weight and no help."""


@dataclass(frozen=True)
class _Axis:
    """One vertical axis: the height of every configuration on it from 0 to 1, and its ticks."""

    title: str
    heights: tuple[float, ...]
    """NaN where a configuration has none: its line has a gap there."""
    ticks: tuple[tuple[float, str], ...]


def parallel_figure(table: LanguageTable, known: Effects) -> Figure | None:
    """A line for each configuration with a mean of the others, the darker the better that is.

    None with fewer than three of them, or without a knob that varies.
    """
    better = -1.0 if table.is_higher_better else 1.0
    scored = [(row.mean_without_source.mean, row) for row in table.rows if row.mean_without_source]
    scored.sort(key=lambda pair: (better * pair[0], pair[1].configuration))
    rows = [row for _, row in scored]
    names = knob_names(table.knobs)
    axes_of = [_knob_axis(names[path], [row.knobs[path] for row in rows]) for path in known.knobs]
    knobs = [one for one in axes_of if one is not None][:MAX_KNOBS]
    if len(rows) < MIN_ROWS or not knobs:
        return None
    from matplotlib import colormaps

    source = table.source_language
    at_source = [row.cells[source].mean if source in row.cells else math.nan for row in rows]
    others = [value for value, _ in scored]
    shown = [*knobs, _score_axis(source, at_source), _score_axis("mean of the others", others)]
    with new_canvas(0.9 * len(shown) + 0.6, 3.6) as (figure, axes):
        shades = colormaps["cividis_r"]
        # The best are drawn last, over the others.
        for turn in reversed(range(len(rows))):
            heights = [one.heights[turn] for one in shown]
            shade = heights[-1] if table.is_higher_better else 1 - heights[-1]
            axes.plot(
                range(len(shown)),
                heights,
                marker="o" if turn == 0 or len(rows) <= MAX_MARKED else None,
                ms=2.5 if turn else 4,
                lw=1.0 if turn else 2.2,
                color=shades(PALEST + (1 - PALEST) * shade) if turn else VERMILION,
                alpha=0.6 if turn else 1.0,
            )
        for place, one in enumerate(shown):
            axes.axvline(place, color=GREY, lw=0.9, zorder=0)
            for height, text in one.ticks:
                axes.annotate(
                    text, (place, height), xytext=(4, 2), textcoords="offset points", size=7,
                    color="#111111", zorder=4,
                    bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
                )  # fmt: skip
        titles = [textwrap.fill(one.title, 15, break_long_words=False) for one in shown]
        axes.set_xticks(range(len(shown)), titles, size=7.5)
        axes.set_xlim(-0.15, len(shown) - 0.4)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", length=0)
        svg, png = rendered(figure)
    left_out = len(table.knobs) - len(knobs)
    return Figure(
        name=file_name(table, "parallel"),
        title="Which combinations are good?",
        caption=f"A line for each configuration (means over seeds, test {table.metric} in %), the "
        "darker the better its mean of the other languages; red: the best by it, which is no "
        "selection rule. Knobs by importance, those that are not above chance by name."
        + (f" {left_out} more are in the CSV." if left_out else ""),
        csv=csv_text(
            ["configuration", *table.knobs, "source_percent", "others_percent"],
            [
                [
                    row.configuration,
                    *(shown_value(row.knobs[path]) for path in table.knobs),
                    None if math.isnan(mine) else 100 * mine,
                    100 * mean,
                ]
                for row, mine, mean in zip(rows, at_source, others, strict=True)
            ],
        ),
        svg=svg,
        png=png,
        section="question",
    )


def _knob_axis(title: str, values: Sequence[Any]) -> _Axis | None:
    """Few values evenly apart in their order, many numbers on a scale; none if all are alike."""
    texts = [shown_value(one) for one in values]
    distinct = sorted(set(texts), key=natural)
    if len(distinct) < 2:
        return None
    numbers = [float(one) for one in values if _is_number(one)]
    has_scale = len(set(numbers)) > 1 and all(is_absent(one) or _is_number(one) for one in values)
    if has_scale and len(distinct) > MAX_PLACES:
        return _scaled(title, [float(one) if _is_number(one) else None for one in values])
    if has_scale:
        order = {shown_value(one): float(one) for one in values if _is_number(one)}
        distinct.sort(key=lambda one: order.get(one, -math.inf))
    at = {text: place / (len(distinct) - 1) for place, text in enumerate(distinct)}
    short = short_names(distinct)
    ticks = tuple((at[text], textwrap.shorten(short[text], 22, placeholder="…")) for text in at)
    return _Axis(title, tuple(at[one] for one in texts), ticks)


def _scaled(title: str, values: Sequence[float | None]) -> _Axis:
    """Numbers on a scale, logarithmic where they span a factor of 15; what is absent below it."""
    numbers = [one for one in values if one is not None]
    low, high = min(numbers), max(numbers)
    scale = math.log if low > 0 and high / low > 15 else float
    bottom = 0.15 if len(numbers) < len(values) else 0.0

    def height(one: float) -> float:
        return bottom + (1 - bottom) * (scale(one) - scale(low)) / (scale(high) - scale(low))

    middle = math.sqrt(low * high) if scale is math.log else (low + high) / 2
    ticks = [(height(one), short_number(one)) for one in (low, middle, high)]
    heights = tuple(0.0 if one is None else height(one) for one in values)
    return _Axis(title, heights, tuple([(0.0, "none")] * bool(bottom) + ticks))


def _score_axis(title: str, scores: Sequence[float]) -> _Axis:
    known = [one for one in scores if not math.isnan(one)]
    if not known:
        return _Axis(title, tuple(scores), ())
    low, high = min(known), max(known)
    if low == high:
        return _Axis(title, tuple(0.5 for _ in scores), ((0.5, f"{100 * low:.1f}"),))
    ticks = [(place, f"{100 * (low + place * (high - low)):.1f}") for place in (0.0, 0.5, 1.0)]
    return _Axis(title, tuple((one - low) / (high - low) for one in scores), tuple(ticks))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not is_absent(value)
