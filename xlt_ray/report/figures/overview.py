"""Figures of a whole sweep: heat map, importance, Pareto front, parallel coordinates, timeline."""

from __future__ import annotations

import datetime
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd

from xlt_ray.config.labels import is_absent, is_number, parameter_names, short_names, value_label
from xlt_ray.ledger import TrialView
from xlt_ray.ledger.front import pareto_front
from xlt_ray.report import figures as base
from xlt_ray.report.effects import (
    MIN_POINTS,
    Effects,
    drawn_series,
    importances_csv,
)
from xlt_ray.report.figures import Figure, figure_of, new_canvas
from xlt_ray.report.frames import Snapshot, in_utc
from xlt_ray.report.ped_anova import TARGET_QUANTILE
from xlt_ray.report.tables import LanguageTable
from xlt_ray.store.record import StageRecord

MAX_ROWS = 40
"""Configurations in a heat map, the best ones; the table has them all."""


def heat_map(table: LanguageTable) -> Figure | None:
    """Every configuration in every language, the best first; what is missing is hatched."""
    scored = [row for row in table.rows if row.trials]
    rows = scored[:MAX_ROWS]
    if len(rows) < 2:
        return None
    languages = table.languages
    values = [
        [100 * row.cells[code].mean if code in row.cells else None for code in languages]
        for row in rows
    ]
    known = [value for line in values for value in line if value is not None]
    low, high = min(known), max(known)
    is_small = len(languages) <= 16
    width = min(1.3 + (0.42 if is_small else 0.24) * len(languages), 12.0)
    more = len(scored) - len(rows)
    with new_canvas(width, 1.1 + 0.2 * len(rows)) as (figure, axes):
        axes.set_facecolor("#EEF1F4")
        grid = pd.DataFrame(values, dtype=float).to_numpy()
        image = axes.imshow(grid, cmap="cividis", aspect="auto", vmin=low, vmax=high)
        for y, line in enumerate(values):
            for x, value in enumerate(line):
                if value is None:
                    axes.text(x, y, "–", ha="center", va="center", color=base.GREY, size=7)
                elif is_small:
                    ink = "white" if value < (low + high) / 2 else "#111111"
                    axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=ink, size=6)
        turned = 0 if is_small else 90
        axes.set_xticks(range(len(languages)), languages, rotation=turned, size=7.5)
        axes.set_yticks(range(len(rows)), [str(row.configuration) for row in rows], size=7.5)
        if table.source_language in languages:
            axes.axvline(0.5, color="white", lw=2.5)
        axes.set_ylabel("configuration, best first")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label=f"test {table.metric} (%)", shrink=0.85)
        return figure_of(
            figure,
            name=table.file_name("heat-map"),
            title="Configuration by language",
            caption="Mean over seeds; the source language first, a dash where a score is missing."
            + (f" {more} further configurations are in the table." if more else ""),
            header=["configuration", *languages],
            rows=[[row.configuration, *line] for row, line in zip(rows, values, strict=True)],
        )


def importance_figure(table: LanguageTable, effects: Effects) -> tuple[Figure | None, list[str]]:
    """Importance of every parameter for the source language, the mean of the others, and the groups
    of one grouping.

    Returns the figure, None where there are too few configurations, and why that is so.
    """
    by_series = {
        series.name: effects.importances.get(series.name, {}) for series in drawn_series(table)
    }
    paths = sorted({path for importances in by_series.values() for path in importances})
    if not paths:
        enough = sum(1 for row in table.rows if row.trials) >= MIN_POINTS
        note = f"{table.task}: no importance below {MIN_POINTS} configurations."
        return None, [] if enough or not table.parameters else [note]

    def rank(path: str) -> tuple[float, str]:
        of_path = [importances[path] for importances in by_series.values() if path in importances]
        return min(importance.rank for importance in of_path), path

    order = sorted(paths, key=rank)
    from matplotlib.patches import Patch

    height = 0.78 / len(by_series)
    with new_canvas(5.2, 1.1 + (0.1 + 0.16 * len(by_series)) * len(order)) as (figure, axes):
        for number, shares in enumerate(by_series.values()):
            color = base.SERIES[number]
            for place, path in enumerate(order):
                importance = shares.get(path)
                if importance is None:
                    continue
                at = place + (number - (len(by_series) - 1) / 2) * height
                inside = {"facecolor": "none", "edgecolor": color, "hatch": "////"}
                if importance.is_above_chance:
                    inside = {"color": color}
                axes.barh(at, importance.share, 0.9 * height, **inside)
                axes.plot([importance.low, importance.high], [at] * 2, color="#222222", lw=1.1)
                axes.vlines(
                    importance.chance, at - height / 2, at + height / 2, color="#111111", lw=2
                )
        axes.set_yticks(range(len(order)), order, size=8)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of importance")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        handles = [
            Patch(color=base.SERIES[number], label=name) for number, name in enumerate(by_series)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=8)
    caption = (
        f"PED-ANOVA of reaching the best {TARGET_QUANTILE:.0%} of configurations (means over "
        "seeds); lines: the middle 95 % of a bootstrap over configurations; upright marks: what "
        "noise reaches, 95 % of the null of permuted scores (beyond the edge where there is "
        "none). Hatched: not above chance, and therefore not ranked."
    )
    name, csv = table.file_name("importance"), importances_csv(effects)
    return Figure(name, "Which parameters decide?", caption, csv, figure), []


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
    unit = "GPU-hours" if set(costs["device"]) == {"cuda"} else "worker-hours"
    points = []
    for row in sorted(table.rows, key=lambda row: row.configuration):
        low = row.groups.get(low_title) if has_low else row.mean_without_source
        at_source = row.cells.get(source)
        if low and at_source and row.configuration in hours.index:
            price = float(hours.loc[row.configuration])
            points.append((row.configuration, 100 * at_source.mean, 100 * low.mean, price))
    if len(points) < 3:
        return None
    sign = table.sign
    front = pareto_front([(sign * point[1], sign * point[2], -point[3]) for point in points])
    on_front = [point for point, is_on in zip(points, front, strict=True) if is_on]
    beaten = [point for point in points if point not in on_front]
    prices = [point[3] for point in points]
    best: dict[str, Any] = {"marker": "D", "s": 46, "linewidths": 1.2, "edgecolors": base.VERMILION}
    rest: dict[str, Any] = {"s": 20, "alpha": 0.55, "linewidths": 0.5, "edgecolors": base.GREY}
    with new_canvas(5.0, 3.6) as (figure, axes):
        for part, label, style in (
            (beaten, "beaten in all three", {**rest, "zorder": 2}),
            (on_front, "on the front", {**best, "zorder": 3}),
        ):
            _, x, y, price_of = zip(*part, strict=True) if part else ((), (), (), ())
            drawn = axes.scatter(
                x, y, c=price_of, cmap="cividis_r", vmin=min(prices), vmax=max(prices),
                label=label, **style,
            )  # fmt: skip
        for number, point in enumerate(sorted(on_front, key=lambda point: point[1])):
            # Neighbours are named on different sides.
            offset, side = ((5, 4), "left") if number % 2 else ((-5, -10), "right")
            axes.annotate(
                str(point[0]), point[1:3], xytext=offset, textcoords="offset points", ha=side,
                size=7.5,
            )  # fmt: skip
        axes.set_xlabel(f"{source}, test {table.metric} (%)")
        axes.set_ylabel(f"mean of {name} (%)")
        figure.colorbar(drawn, ax=axes, label=f"{unit}, whole path alone")
        figure.legend(loc="outside upper left", ncols=2, fontsize=8)
        return figure_of(
            figure,
            table.file_name("pareto"),
            "What is worth its price?",
            f"Configurations (numbers) that no other beats in {source}, the mean of {name}, and "
            f"the {unit} of a trial that shares nothing.",
            ["configuration", "source_percent", "low_percent", "worker_hours_alone", "on_front"],
            [[*point, is_on] for point, is_on in zip(points, front, strict=True)],
        )


# -- parallel coordinates -----------------------------------------------------------------

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
    heights: Sequence[float]
    """NaN where a configuration has none: its line has a gap there."""
    ticks: Sequence[tuple[float, str]]


def parallel_figure(table: LanguageTable, effects: Effects) -> Figure | None:
    """A line for each configuration with a mean of the others, the darker the better that is.

    None with fewer than three of them, or without a parameter that varies.
    """
    scored = [(row.mean_without_source.mean, row) for row in table.rows if row.mean_without_source]
    scored.sort(key=lambda pair: (-table.sign * pair[0], pair[1].configuration))
    rows = [row for _, row in scored]
    names = parameter_names(table.parameters)
    axes_of = [
        _parameter_axis(names[path], [row.parameters[path] for row in rows])
        for path in effects.parameters
    ]
    parameters = [axis for axis in axes_of if axis is not None][:MAX_PARAMETERS]
    if len(rows) < MIN_ROWS or not parameters:
        return None
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    source = table.source_language
    at_source = [row.cells[source].mean if source in row.cells else None for row in rows]
    means = [value for value, _ in scored]
    drawn = [*parameters, _score_axis(source, at_source), _score_axis("mean of the others", means)]
    left_out = len(table.parameters) - len(parameters)
    with new_canvas(0.9 * len(drawn) + 0.6, 3.6) as (figure, axes):
        shades = colormaps["cividis_r"]
        lines = np.array([axis.heights for axis in drawn]).T
        goodness = lines[:, -1] if table.is_higher_better else 1 - lines[:, -1]
        colors = shades(PALEST + (1 - PALEST) * goodness)
        points = np.stack(np.broadcast_arrays(np.arange(len(drawn)), lines), axis=-1)
        # The best are drawn last, over the others.
        worse = slice(len(rows), 0, -1)
        axes.add_collection(
            LineCollection([*points[worse]], colors=colors[worse], lw=1.0, alpha=0.6)
        )
        if len(rows) <= MAX_MARKED:
            marks = colors[worse].repeat(len(drawn), axis=0)
            axes.scatter(*points[worse].reshape(-1, 2).T, s=6, color=marks, alpha=0.6, zorder=2)
        axes.plot(*points[0].T, marker="o", color=base.VERMILION, ms=4, lw=2.2)
        for place, axis in enumerate(drawn):
            axes.axvline(place, color=base.GREY, lw=0.9, zorder=0)
            for height, text in axis.ticks:
                axes.annotate(
                    text, (place, height), xytext=(4, 2), textcoords="offset points", size=7,
                    color="#111111", zorder=4,
                    bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
                )  # fmt: skip
        titles = [textwrap.fill(axis.title, 15, break_long_words=False) for axis in drawn]
        axes.set_xticks(range(len(drawn)), titles, size=7.5)
        axes.set_xlim(-0.15, len(drawn) - 0.4)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", length=0)
        return figure_of(
            figure,
            name=table.file_name("parallel"),
            title="Which combinations are good?",
            caption="A line for each configuration (means over seeds, test "
            f"{table.metric} in %), the darker the better its mean of the other languages; red: "
            "the best by it, which selects nothing. Parameters by importance, those that are "
            "not above chance by name." + (f" {left_out} more are in the CSV." if left_out else ""),
            header=["configuration", *table.parameters, "source_percent", "others_percent"],
            rows=[
                [
                    row.configuration,
                    *(value_label(row.parameters[path]) for path in table.parameters),
                    None if score is None else 100 * score,
                    100 * mean,
                ]
                for row, score, mean in zip(rows, at_source, means, strict=True)
            ],
        )


def _parameter_axis(title: str, values: Sequence[Any]) -> _Axis | None:
    """Few values evenly apart in their order, many numbers on a scale; none if all are alike."""
    texts = [value_label(value) for value in values]
    distinct = sorted(set(texts), key=base.natural)
    if len(distinct) < 2:
        return None
    numbers = [float(value) if is_number(value) else None for value in values]
    pairs = zip(texts, numbers, strict=True)
    known = {text: number for text, number in pairs if number is not None}
    has_scale = len(set(numbers) - {None}) > 1 and all(
        is_absent(value) or is_number(value) for value in values
    )
    if has_scale and len(distinct) > MAX_PLACES:
        low, high = min(known.values()), max(known.values())
        scale = math.log if low > 0 and high / low > 15 else float
        return _scaled(title, numbers, base.short_number, scale, 0.15 if None in numbers else 0.0)
    if has_scale:
        distinct.sort(key=lambda text: known.get(text, -math.inf))
    at = {text: place / (len(distinct) - 1) for place, text in enumerate(distinct)}
    short = short_names(distinct)
    ticks = [(at[text], textwrap.shorten(short[text], 22, placeholder="…")) for text in at]
    return _Axis(title, [at[text] for text in texts], ticks)


def _score_axis(title: str, scores: Sequence[float | None]) -> _Axis:
    return _scaled(title, scores, lambda score: f"{100 * score:.1f}")


def _scaled(
    title: str,
    values: Sequence[float | None],
    label: Callable[[float], str],
    scale: Callable[[float], float] = float,
    bottom: float = 0.0,
) -> _Axis:
    """Numbers on a scale with ticks at its ends and its middle.

    Args:
        bottom: where the scale begins; what is absent lies at 0 below it, and without room there
            it has no height.
    """
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)

    def height(number: float) -> float:
        if low == high:
            return 0.5
        return bottom + (1 - bottom) * (scale(number) - scale(low)) / (scale(high) - scale(low))

    middle = math.sqrt(low * high) if scale is math.log else (low + high) / 2
    marked = dict.fromkeys((low, middle, high) if known else ())
    ticks = [
        *([(0.0, "none")] if bottom else []),
        *((height(tick), label(tick)) for tick in marked),
    ]
    absent = 0.0 if bottom else math.nan
    return _Axis(title, [absent if value is None else height(value) for value in values], ticks)


# -- the timeline -------------------------------------------------------------------------

KINDS = {
    "align": base.PURPLE,
    "trunk": base.SKY,
    "intermediate": base.ORANGE,
    "target": base.BLUE,
    "few_shot": base.VERMILION,
    "evaluate": base.GREEN,
}
MAX_TRIALS = 80


@dataclass(frozen=True)
class Bar:
    """A trial, or a stage that it made or reused, in seconds since the first trial was sampled.

    A reused stage starts and ends when the trial was sampled and the stage was committed.
    """

    trial: int
    kind: str
    """``trial``, or that of the stage."""
    start: float
    end: float
    host: str | None = None
    """That made the stage, where its record says so."""
    num_workers: int | None = None
    reused_from: str | None = None
    """``SWEEP/TRIAL`` that made a reused stage, or ``not known``."""


def bars_of(snapshot: Snapshot) -> list[Bar]:
    """Bars of all trials that have ended, each with those of the stages that it made or reused.

    Records say when a stage was committed and how long it took: where a trial was interrupted
    inside a stage, the stage's bar is shorter than that. No bar leaves its trial's.
    """
    bars = []
    for view, start, end, origin in _spans(snapshot):
        bars.append(Bar(view.number, "trial", start, end))
        for use in view.stages:
            record = snapshot.records.get(use.key)
            at = _committed(record, origin)
            if use.reused:
                moment = min(max(start, start if at is None else at), end)
                made_by = use.made_by or "not known"
                bars.append(Bar(view.number, use.kind, moment, moment, reused_from=made_by))
            elif record is not None and at is not None:
                begin, end_of_stage = max(at - use.seconds, start), min(at, end)
                host, workers = record.made_by.get("host", ""), record.runtime.get("workers", 1)
                if end_of_stage > begin:
                    bar = Bar(view.number, use.kind, begin, end_of_stage, str(host), int(workers))
                    bars.append(bar)
    return bars


def _spans(snapshot: Snapshot) -> Iterator[tuple[TrialView, float, float, datetime.datetime]]:
    """Every ended trial, its start and end in seconds, and the time that these count from."""
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
    bars = bars_of(snapshot)
    numbers = sorted({bar.trial for bar in bars})
    if len(numbers) < 2:
        return None
    places = {number: place for place, number in enumerate(numbers[:MAX_TRIALS])}
    span = max(bar.end for bar in bars)
    unit, name = (1.0, "seconds") if span < 180 else (60.0, "minutes")
    if span > 3 * 3600:
        unit, name = 3600.0, "hours"
    more = len(numbers) - len(places)
    in_order = sorted(bars, key=lambda bar: bar.reused_from is not None)
    with new_canvas(5.6, 0.9 + max(1.2, 0.11 * len(places))) as (figure, axes):
        drawn = [bar for bar in bars if bar.trial in places]
        for bar in drawn:
            if bar.reused_from is None:
                is_trial = bar.kind == "trial"
                axes.barh(
                    places[bar.trial], (bar.end - bar.start) / unit, 0.75 if is_trial else 0.55,
                    left=bar.start / unit, label=bar.kind, linewidth=0,
                    color="#D5DBE2" if is_trial else KINDS.get(bar.kind, "#999999"),
                )  # fmt: skip
        _draw_reuses(axes, [bar for bar in drawn if bar.reused_from is not None], places, unit)
        labels, step, size = [str(number) for number in places], max(1, len(places) // 12), 7.5
        hosts = _hosts(bars)
        if len(set(hosts.values())) > 1:
            # Which machine made the stages of a trial is worth a line each.
            labels = [f"{number} {hosts.get(number, '')}".strip() for number in places]
            step, size = 1, 5.5
        axes.set_yticks(range(0, len(places), step), labels[::step], size=size)
        axes.set_ylim(len(places) - 0.3, -0.7)
        axes.set_xlim(0, span / unit * 1.01 or 1)
        axes.set_xlabel(f"{name} since the first trial was asked")
        axes.set_ylabel("trial")
        axes.grid(visible=False, axis="y")
        handles, labels = axes.get_legend_handles_labels()
        first = dict(zip(labels, handles, strict=True))
        order = [kind for kind in ("trial", *KINDS, "reused") if kind in first]
        keys = [first[kind] for kind in order]
        place: Any = {"loc": "outside upper left", "ncols": len(order), "handlelength": 1.2}
        figure.legend(keys, order, fontsize=7.5, **place)
        return figure_of(
            figure,
            name="timeline",
            title="When did what run?",
            caption="Grey: from when a trial was asked to its end, waiting included; in colour the "
            "stages that it made itself, up to their commit and as long as they took; rings: "
            "stages of that colour that it found ready, made by another trial."
            + (f" {more} later trials are in the CSV alone." if more else ""),
            header=["trial", "kind", "start_s", "end_s", "host", "workers", "reused_from"],
            rows=[
                [number, kind, round(start, 3), round(end, 3), *rest]
                for number, kind, start, end, *rest in map(astuple, in_order)
            ],
        )


def _draw_reuses(axes: Any, reuses: Sequence[Bar], places: Mapping[int, int], unit: float) -> None:
    """Rings at the moment from which a trial had a stage, side by side where that is one."""
    from matplotlib.transforms import ScaledTranslation

    beside: Counter[tuple[int, float]] = Counter()
    for number, bar in enumerate(reuses):
        moment = bar.trial, bar.start
        right = (2.5 + 4.5 * beside[moment]) / 72
        aside = ScaledTranslation(right, 0.0, axes.figure.dpi_scale_trans)
        beside[moment] += 1
        axes.plot(
            [bar.start / unit], [places[bar.trial]], "o", ms=3.5, mfc="white", mew=1.0,
            mec=KINDS.get(bar.kind, "#999999"), transform=axes.transData + aside, zorder=4,
            ls="none", label=None if number else "reused",
        )  # fmt: skip


def _hosts(bars: Sequence[Bar]) -> dict[int, str]:
    """By trial the machines that made its stages."""
    by_trial: dict[int, dict[str, None]] = {}
    for bar in bars:
        if bar.host:
            by_trial.setdefault(bar.trial, {})[bar.host] = None
    return {trial: "+".join(hosts) for trial, hosts in by_trial.items()}
