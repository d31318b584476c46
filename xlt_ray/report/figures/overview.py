"""Figures of a whole sweep: heat map, importance of parameters, Pareto front.

Parallel coordinates: every configuration as one line through its parameters and scores.

When each trial of a sweep ran, and what it trained meanwhile.
"""

from __future__ import annotations

import datetime
import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xlt_ray.ledger import TrialView
from xlt_ray.report.effects import Effects, drawn_series, importances_csv
from xlt_ray.report.figures.base import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SERIES,
    SKY,
    VERMILION,
    Figure,
    csv_text,
    natural,
    new_canvas,
    rendered,
    short_number,
)
from xlt_ray.report.figures.parameters import file_name
from xlt_ray.report.frames import Snapshot, in_utc
from xlt_ray.report.importance import MIN_POINTS, TARGET_QUANTILE
from xlt_ray.report.labels import is_absent, parameter_names, short_names, shown_value
from xlt_ray.report.selection import pareto_front
from xlt_ray.report.tables import Cell, LanguageTable
from xlt_ray.store.record import StageRecord

MAX_ROWS = 40
"""Configurations in a heat map, the best ones; the table has them all."""


def heat_map(table: LanguageTable) -> Figure | None:
    """Every configuration in every language, the best first; what is missing is hatched."""
    rows = [row for row in table.rows if row.trials][:MAX_ROWS]
    if len(rows) < 2:
        return None
    languages = table.languages
    values = [
        [100 * row.cells[code].mean if code in row.cells else None for code in languages]
        for row in rows
    ]
    known = [one for line in values for one in line if one is not None]
    low, high = min(known), max(known)
    is_small = len(languages) <= 16
    width = min(1.3 + (0.42 if is_small else 0.24) * len(languages), 12.0)
    with new_canvas(width, 1.1 + 0.2 * len(rows)) as (figure, axes):
        axes.set_facecolor("#EEF1F4")
        grid = [[float("nan") if one is None else one for one in line] for line in values]
        image = axes.imshow(grid, cmap="cividis", aspect="auto", vmin=low, vmax=high)
        for y, line in enumerate(values):
            for x, one in enumerate(line):
                if one is None:
                    axes.text(x, y, "–", ha="center", va="center", color=GREY, size=7)
                elif is_small:
                    ink = "white" if one < (low + high) / 2 else "#111111"
                    axes.text(x, y, f"{one:.1f}", ha="center", va="center", color=ink, size=6)
        turned = 0 if is_small else 90
        axes.set_xticks(range(len(languages)), languages, rotation=turned, size=7.5)
        axes.set_yticks(range(len(rows)), [str(row.configuration) for row in rows], size=7.5)
        if table.source_language in languages:
            axes.axvline(0.5, color="white", lw=2.5)
        axes.set_ylabel("configuration, best first")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label=f"test {table.metric} (%)", shrink=0.85)
        svg, png = rendered(figure)
    more = len([row for row in table.rows if row.trials]) - len(rows)
    return Figure(
        name=file_name(table, "heat-map"),
        title="Configuration by language",
        caption="Mean over seeds; the source language first, a dash where a score is missing."
        + (f" {more} further configurations are in the table." if more else ""),
        csv=csv_text(
            ["configuration", *languages],
            [[row.configuration, *line] for row, line in zip(rows, values, strict=True)],
        ),
        svg=svg,
        png=png,
        section="question",
    )


def importance_figure(table: LanguageTable, known: Effects) -> tuple[Figure | None, list[str]]:
    """Importance of every parameter for the source language, the mean of the others, and the groups
    of one grouping.

    Returns the figure, None where there are too few configurations, and why that is so.
    """
    found = {one.name: known.importances.get(one.name, {}) for one in drawn_series(table)}
    paths = sorted({path for one in found.values() for path in one})
    if not paths:
        enough = sum(1 for row in table.rows if row.trials) >= MIN_POINTS
        note = (
            f"{table.task}: importance of parameters is not told below {MIN_POINTS} configurations."
        )
        return None, [] if enough or not table.parameters else [note]

    def rank(path: str) -> tuple[float, str]:
        mine = [one[path] for one in found.values() if path in one]
        return -max((one.share for one in mine if one.is_above_chance), default=0.0), path

    order = sorted(paths, key=rank)
    from matplotlib.patches import Patch

    height = 0.78 / len(found)
    with new_canvas(5.2, 1.1 + (0.1 + 0.16 * len(found)) * len(order)) as (figure, axes):
        for turn, shares in enumerate(found.values()):
            for place, path in enumerate(order):
                one = shares.get(path)
                if one is None:
                    continue
                at = place + (turn - (len(found) - 1) / 2) * height
                inside = (
                    {"color": SERIES[turn]}
                    if one.is_above_chance
                    else {"facecolor": "none", "edgecolor": SERIES[turn], "hatch": "////"}
                )
                axes.barh(at, one.share, 0.9 * height, **inside)
                axes.plot([one.low, one.high], [at] * 2, color="#222222", lw=1.1)
                axes.vlines(one.chance, at - height / 2, at + height / 2, color="#111111", lw=2)
        axes.set_yticks(range(len(order)), order, size=8)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of importance")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        handles = [Patch(color=SERIES[turn], label=name) for turn, name in enumerate(found)]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=8)
        svg, png = rendered(figure)
    made = Figure(
        name=file_name(table, "importance"),
        title="Which parameters decide?",
        caption=f"PED-ANOVA of reaching the best {TARGET_QUANTILE:.0%} of configurations (means "
        "over seeds); lines: the middle 95 % of a bootstrap over configurations; upright marks: "
        "what noise reaches, 95 % of the null of permuted scores (beyond the edge where there is "
        "none). Hatched: not above chance, which is no importance, and in no order.",
        csv=importances_csv(known),
        svg=svg,
        png=png,
        section="question",
    )
    return made, []


def pareto_figure(table: LanguageTable, costs: pd.DataFrame) -> Figure | None:
    """Source score, low-resource mean and GPU-hours; the configurations that nothing beats.

    Hours are those of a trial that shares nothing, times its workers; of workers without a GPU
    where any stage was made by one.
    """
    source, low_title = table.source_language, "resources: low"
    has_low = any(group.title == low_title for group in table.groups)
    name = "low-resource languages" if has_low else "target languages"
    costs = costs.dropna(subset="worker_hours_alone")
    hours = costs.groupby("configuration")["worker_hours_alone"].mean()
    is_gpu = set(costs["device"]) == {"cuda"}
    unit = "GPU-hours" if is_gpu else "worker-hours"
    rows = []
    for row in sorted(table.rows, key=lambda row: row.configuration):
        low = row.groups.get(low_title) if has_low else row.mean_without_source
        at_source: Cell | None = row.cells.get(source)
        if low and at_source and row.configuration in hours.index:
            rows.append((row.configuration, 100 * at_source.mean, 100 * low.mean,
                         float(hours.loc[row.configuration])))  # fmt: skip
    if len(rows) < 3:
        return None
    sign = 1.0 if table.is_higher_better else -1.0
    front = pareto_front([(sign * row[1], sign * row[2], -row[3]) for row in rows])
    with new_canvas(5.0, 3.6) as (figure, axes):
        shades = [row[3] for row in rows]
        for is_on in (False, True):
            part = [one for one, on in zip(rows, front, strict=True) if on == is_on]
            drawn = axes.scatter(
                [one[1] for one in part],
                [one[2] for one in part],
                c=[one[3] for one in part],
                cmap="cividis_r",
                vmin=min(shades),
                vmax=max(shades),
                marker="D" if is_on else "o",
                s=46 if is_on else 20,
                alpha=1.0 if is_on else 0.55,
                linewidths=1.2 if is_on else 0.5,
                edgecolors=VERMILION if is_on else GREY,
                label="on the front" if is_on else "beaten in all three",
                zorder=3 if is_on else 2,
            )
        on_front = sorted((one for one, on in zip(rows, front, strict=True) if on),
                          key=lambda one: one[1])  # fmt: skip
        for turn, one in enumerate(on_front):
            # Neighbours are named on different sides.
            place = (5, 4) if turn % 2 else (-5, -10)
            side = "left" if turn % 2 else "right"
            axes.annotate(
                str(one[0]), one[1:3], xytext=place, textcoords="offset points", ha=side, size=7.5
            )
        axes.set_xlabel(f"{source}, test {table.metric} (%)")
        axes.set_ylabel(f"mean of {name} (%)")
        figure.colorbar(drawn, ax=axes, label=f"{unit}, whole path alone")
        figure.legend(loc="outside upper left", ncols=2, fontsize=8)
        svg, png = rendered(figure)
    return Figure(
        name=file_name(table, "pareto"),
        title="What is worth its price?",
        caption=f"Configurations (numbers) that no other beats in {source}, the mean of {name}, "
        f"and the {unit} of a trial that shares nothing.",
        csv=csv_text(
            ["configuration", "source_percent", "low_percent", "worker_hours_alone", "on_front"],
            [[*one, on] for one, on in zip(rows, front, strict=True)],
        ),
        svg=svg,
        png=png,
        section="question",
    )


MIN_ROWS = 3
MAX_PARAMETERS = 8
"""The first ones of ``Effects.parameters``; the CSV has all."""
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

    None with fewer than three of them, or without a parameter that varies.
    """
    better = -1.0 if table.is_higher_better else 1.0
    scored = [(row.mean_without_source.mean, row) for row in table.rows if row.mean_without_source]
    scored.sort(key=lambda pair: (better * pair[0], pair[1].configuration))
    rows = [row for _, row in scored]
    names = parameter_names(table.parameters)
    axes_of = [
        _parameter_axis(names[path], [row.parameters[path] for row in rows])
        for path in known.parameters
    ]
    parameters = [one for one in axes_of if one is not None][:MAX_PARAMETERS]
    if len(rows) < MIN_ROWS or not parameters:
        return None
    from matplotlib import colormaps

    source = table.source_language
    at_source = [row.cells[source].mean if source in row.cells else math.nan for row in rows]
    others = [value for value, _ in scored]
    shown = [*parameters, _score_axis(source, at_source), _score_axis("mean of the others", others)]
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
    left_out = len(table.parameters) - len(parameters)
    return Figure(
        name=file_name(table, "parallel"),
        title="Which combinations are good?",
        caption=f"A line for each configuration (means over seeds, test {table.metric} in %), the "
        "darker the better its mean of the other languages; red: the best by it, which is no "
        "selection rule. Parameters by importance, those that are not above chance by name."
        + (f" {left_out} more are in the CSV." if left_out else ""),
        csv=csv_text(
            ["configuration", *table.parameters, "source_percent", "others_percent"],
            [
                [
                    row.configuration,
                    *(shown_value(row.parameters[path]) for path in table.parameters),
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


def _parameter_axis(title: str, values: Sequence[Any]) -> _Axis | None:
    """Few values evenly apart in their order, many numbers on a scale; none if all are alike."""
    texts = [shown_value(value) for value in values]
    distinct = sorted(set(texts), key=natural)
    if len(distinct) < 2:
        return None
    numbers = [float(value) for value in values if _is_number(value)]
    has_scale = len(set(numbers)) > 1 and all(
        is_absent(value) or _is_number(value) for value in values
    )
    if has_scale and len(distinct) > MAX_PLACES:
        return _scaled(title, [float(value) if _is_number(value) else None for value in values])
    if has_scale:
        order = {shown_value(value): float(value) for value in values if _is_number(value)}
        distinct.sort(key=lambda one: order.get(one, -math.inf))
    at = {text: place / (len(distinct) - 1) for place, text in enumerate(distinct)}
    short = short_names(distinct)
    ticks = tuple((at[text], textwrap.shorten(short[text], 22, placeholder="…")) for text in at)
    return _Axis(title, tuple(at[text] for text in texts), ticks)


def _scaled(title: str, values: Sequence[float | None]) -> _Axis:
    """Numbers on a scale, logarithmic where they span a factor of 15; what is absent below it."""
    numbers = [value for value in values if value is not None]
    low, high = min(numbers), max(numbers)
    scale = math.log if low > 0 and high / low > 15 else float
    bottom = 0.15 if len(numbers) < len(values) else 0.0

    def height(one: float) -> float:
        return bottom + (1 - bottom) * (scale(one) - scale(low)) / (scale(high) - scale(low))

    middle = math.sqrt(low * high) if scale is math.log else (low + high) / 2
    ticks = [(height(one), short_number(one)) for one in (low, middle, high)]
    heights = tuple(0.0 if value is None else height(value) for value in values)
    return _Axis(title, heights, tuple([(0.0, "none")] * bool(bottom) + ticks))


def _score_axis(title: str, scores: Sequence[float]) -> _Axis:
    known = [score for score in scores if not math.isnan(score)]
    if not known:
        return _Axis(title, tuple(scores), ())
    low, high = min(known), max(known)
    if low == high:
        return _Axis(title, tuple(0.5 for _ in scores), ((0.5, f"{100 * low:.1f}"),))
    ticks = [(place, f"{100 * (low + place * (high - low)):.1f}") for place in (0.0, 0.5, 1.0)]
    return _Axis(title, tuple((score - low) / (high - low) for score in scores), tuple(ticks))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not is_absent(value)


KINDS = {
    "align": PURPLE,
    "trunk": SKY,
    "intermediate": ORANGE,
    "target": BLUE,
    "few_shot": VERMILION,
    "evaluate": GREEN,
}
MAX_TRIALS = 80


@dataclass(frozen=True)
class Bar:
    """A trial, or a stage that it made (``kind``), in seconds since the first trial was asked."""

    trial: int
    kind: str
    start: float
    end: float
    host: str = ""
    """That made the stage, where its record says so."""
    num_workers: int = 1


@dataclass(frozen=True)
class Reuse:
    """A stage that a trial found in the store, from when it had it: asked, and it committed."""

    trial: int
    kind: str
    at: float
    made_by: str
    """``SWEEP/TRIAL``; empty where that is not known."""


def bars_of(snapshot: Snapshot) -> list[Bar]:
    """Bars of all trials that have ended, each with those of the stages that it made.

    Records say when a stage was committed and how long it took: where a trial was interrupted
    inside a stage, the stage's bar is shorter than that. No bar leaves its trial's.
    """
    found = []
    for view, start, end, origin in _spans(snapshot):
        found.append(Bar(view.number, "trial", start, end))
        for use in view.stages:
            record = snapshot.records.get(use.key)
            at = _committed(record, origin)
            if use.reused or record is None or at is None:
                continue
            bar = Bar(
                view.number,
                use.kind,
                max(at - use.seconds, start),
                min(at, end),
                str(record.made_by.get("host", "")),
                int(record.runtime.get("workers", 1)),
            )
            if bar.end > bar.start:
                found.append(bar)
    return found


def reuses_of(snapshot: Snapshot) -> list[Reuse]:
    """The stages that ended trials found ready, in order."""
    found = []
    for view, start, end, origin in _spans(snapshot):
        for use in view.stages:
            if use.reused:
                at = _committed(snapshot.records.get(use.key), origin)
                moment = min(max(start, start if at is None else at), end)
                found.append(Reuse(view.number, use.kind, moment, use.made_by))
    return found


def _spans(
    snapshot: Snapshot,
) -> Iterator[tuple[TrialView, float, float, datetime.datetime]]:
    """Every ended trial, when it was asked and when it ended in seconds, and since when."""
    spans = [
        (view, asked, ended)
        for view in snapshot.trials
        if (asked := in_utc(view.started)) and (ended := in_utc(view.ended))
    ]
    if not spans:
        return
    origin = min(asked for _, asked, _ in spans)
    for view, asked, ended in spans:
        yield view, (asked - origin).total_seconds(), (ended - origin).total_seconds(), origin


def _committed(record: StageRecord | None, origin: datetime.datetime) -> float | None:
    time = record.made_by.get("time") if record else None
    if not time:
        return None
    return (datetime.datetime.fromisoformat(str(time)) - origin).total_seconds()


def timeline(snapshot: Snapshot) -> Figure | None:
    """Trials as bars over time, their stages in colour; None before two trials have ended."""
    bars, reuses = bars_of(snapshot), reuses_of(snapshot)
    hosts = _hosts(bars)
    numbers = sorted({bar.trial for bar in bars})
    shown = numbers[:MAX_TRIALS]
    if len(numbers) < 2:
        return None
    span = max(bar.end for bar in bars)
    unit, name = (1.0, "seconds") if span < 180 else (60.0, "minutes")
    if span > 3 * 3600:
        unit, name = 3600.0, "hours"
    height = 0.9 + max(1.2, 0.11 * len(shown))
    with new_canvas(5.6, height) as (figure, axes):
        for bar in bars:
            if bar.trial in shown:
                _draw(axes, bar, shown.index(bar.trial), unit)
        _draw_reuses(axes, [reuse for reuse in reuses if reuse.trial in shown], shown, unit)
        # Which machine made the stages of a trial is worth a line each where there are several.
        several = len(set(hosts.values())) > 1
        step = 1 if several else max(1, len(shown) // 12)
        labels = [f"{one} {hosts.get(one, '')}".strip() if several else str(one) for one in shown]
        size = 5.5 if several else 7.5
        axes.set_yticks(range(0, len(shown), step), labels[::step], size=size)
        axes.set_ylim(len(shown) - 0.3, -0.7)
        axes.set_xlim(0, span / unit * 1.01 or 1)
        axes.set_xlabel(f"{name} since the first trial was asked")
        axes.set_ylabel("trial")
        axes.grid(visible=False, axis="y")
        handles, labels = axes.get_legend_handles_labels()
        first = dict(zip(labels, handles, strict=True))
        order = [one for one in ("trial", *KINDS, "reused") if one in first]
        figure.legend(
            [first[one] for one in order],
            order,
            loc="outside upper left",
            ncols=len(order),
            fontsize=7.5,
            handlelength=1.2,
        )
        svg, png = rendered(figure)
    more = len(numbers) - len(shown)
    return Figure(
        name="timeline",
        title="When did what run?",
        caption="Grey: from when a trial was asked to its end, waiting included; in colour the "
        "stages that it made itself, up to their commit and as long as they took; rings: stages of "
        "that colour that it found ready, made by another trial."
        + (f" {more} later trials are in the CSV alone." if more else ""),
        csv=csv_text(
            ["trial", "kind", "start_s", "end_s", "host", "workers", "reused_from"],
            [
                [
                    bar.trial,
                    bar.kind,
                    round(bar.start, 3),
                    round(bar.end, 3),
                    bar.host,
                    None if bar.kind == "trial" else bar.num_workers,
                    None,
                ]
                for bar in bars
            ]
            + [
                [
                    reuse.trial,
                    reuse.kind,
                    round(reuse.at, 3),
                    round(reuse.at, 3),
                    None,
                    None,
                    reuse.made_by or "not known",
                ]
                for reuse in reuses
            ],
        ),
        svg=svg,
        png=png,
        section="question",
    )


def _draw(axes: Any, bar: Bar, place: int, unit: float) -> None:
    is_trial = bar.kind == "trial"
    axes.barh(
        place,
        (bar.end - bar.start) / unit,
        0.75 if is_trial else 0.55,
        left=bar.start / unit,
        color="#D5DBE2" if is_trial else KINDS.get(bar.kind, "#999999"),
        label=bar.kind,
        linewidth=0,
    )


def _draw_reuses(axes: Any, reuses: Sequence[Reuse], shown: Sequence[int], unit: float) -> None:
    """Rings at the moment from which a trial had a stage, side by side where that is one."""
    from matplotlib.transforms import ScaledTranslation

    label: str | None = "reused"
    beside: Counter[tuple[int, float]] = Counter()
    for reuse in reuses:
        place = reuse.trial, reuse.at
        aside = ScaledTranslation(
            (2.5 + 4.5 * beside[place]) / 72, 0.0, axes.figure.dpi_scale_trans
        )
        beside[place] += 1
        axes.plot(
            [reuse.at / unit], [shown.index(reuse.trial)], "o", ms=3.5, mfc="white", mew=1.0,
            mec=KINDS.get(reuse.kind, "#999999"), transform=axes.transData + aside, zorder=4,
            ls="none", label=label,
        )  # fmt: skip
        label = None


def _hosts(bars: Sequence[Bar]) -> dict[int, str]:
    """By trial the machines that made its stages."""
    found: dict[int, dict[str, None]] = {}
    for bar in bars:
        if bar.host:
            found.setdefault(bar.trial, {})[bar.host] = None
    return {trial: "+".join(hosts) for trial, hosts in found.items()}
