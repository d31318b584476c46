"""Scores against each parameter that was searched, and the best configuration: its score in every
language, and how alike languages are in every layer.

Colours are Okabe and Ito's; source and target languages differ in shape as well.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xlt_ray.config.diagnostics import DIAGNOSTICS
from xlt_ray.config.labels import (
    is_absent,
    is_number,
    language_label,
    parameter_names,
    short_names,
    value_label,
)
from xlt_ray.config.languages import language
from xlt_ray.ledger import TrialView
from xlt_ray.report import figures as base
from xlt_ray.report.figures import Figure, figure_of, new_canvas
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.stats import named, spread_note
from xlt_ray.report.tables import Cell, LanguageTable, Row

RESOURCES = {"high": base.BLUE, "medium": base.SKY, "low": base.ORANGE, "unknown": "#999999"}


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
    source = table.source_language
    points = [
        Point(
            row.configuration,
            row.parameters[path],
            _percent(row.cells.get(source)),
            _percent(row.mean_without_source),
        )
        for row in table.rows
    ]
    if len({value_label(point.value) for point in points}) < 2:
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
        handles, labels = axes.get_legend_handles_labels()
        titles = {"source": "source language", "others": "mean of the others"}
        style = {"ncols": 2, "fontsize": 8, "handlelength": 1.6, "columnspacing": 1.4}
        titled = [titles[label] for label in labels]
        figure.legend(handles, titled, loc="outside upper left", **style)
        return figure_of(
            figure,
            table.file_name(path),
            parameter_names(table.parameters)[path],
            f"Each pale mark is a configuration (mean over its seeds): {source} (round) and the "
            f"mean of the other languages (diamond). {note}",
            ["configuration", path, f"{source}_percent", "others_percent"],
            [[p.configuration, value_label(p.value), p.source, p.others] for p in points],
            section="parameter",
        )


def language_figure(row: Row, table: LanguageTable) -> Figure:
    """Test scores of one configuration in every language, the source language on top."""
    from matplotlib.patches import Patch

    targets = sorted(
        table.targets, key=lambda code: (-row.cells[code].mean if code in row.cells else 1.0, code)
    )
    languages = [*(code for code in table.languages if code == table.source_language), *targets]
    classes = {code: language(code).resources for code in languages}
    ends = [(cell.mean, cell.deviation or 0) for cell in row.cells.values()]
    top = max((mean + deviation for mean, deviation in ends), default=1.0)
    lowest = 100 * min(mean - deviation for mean, deviation in ends)
    with new_canvas(5.3, 0.75 + 0.27 * len(languages)) as (figure, axes):
        for place, code in enumerate(languages):
            cell = row.cells.get(code)
            if cell is None:
                axes.text(0.8, place, "missing", va="center", color=base.GREY, style="italic")
                continue
            is_source = code == table.source_language
            color = base.GREEN if is_source else RESOURCES[classes[code]]
            hatch = "//" if is_source else None
            score, error = 100 * cell.mean, 100 * (cell.deviation or 0)
            axes.barh(place, score, 0.7, color=color, hatch=hatch, edgecolor="white", linewidth=0)
            if cell.deviation is not None:
                axes.errorbar(score, place, xerr=error, color="#222222", capsize=2, lw=1)
            axes.text(score + error + 0.8, place, f"{score:.1f}", va="center", size=8)
        if row.mean_without_source is not None:
            mean = 100 * row.mean_without_source.mean
            axes.axvline(mean, color=base.VERMILION, lw=1.2, ls="--", zorder=0)
        axes.set_yticks(range(len(languages)), list(map(language_label, languages)))
        axes.set_ylim(len(languages) - 0.4, -0.6)
        # A correlation may be negative.
        axes.set_xlim(min(1.15 * lowest, 0.0), max(100.0 if top > 0.85 else 100 * top * 1.15, 1.0))
        axes.set_xlabel(f"test {table.metric} (%)")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        keys = [Patch(facecolor=base.GREEN, hatch="//", edgecolor="white", label="source language")]
        known = {classes[code] for code in targets}
        keys += [
            Patch(facecolor=color, label=f"{name} resources")
            for name, color in RESOURCES.items()
            if name in known
        ]
        style = {"ncols": 4, "fontsize": 7.5, "handlelength": 1.2, "columnspacing": 1.0}
        figure.legend(handles=keys, loc="outside upper left", **style)
        over = f"Mean over {row.num_seeds} seeds; " if row.num_seeds > 1 else ""
        whisker = "whiskers: standard deviation over seeds" if row.num_seeds > 1 else "One seed"
        line = "; dashed: mean without the source language" if row.mean_without_source else ""
        note = spread_note([[trial.trained for trial in row.trials]])
        rows: list[list[Any]] = []
        for code in languages:
            cell = row.cells.get(code)
            deviation = None if cell is None or cell.deviation is None else cell.deviation * 100
            rows.append([code, _percent(cell), deviation, named(row.shared)])
        return figure_of(
            figure,
            table.file_name("languages"),
            f"Configuration {row.configuration} by language",
            f"{over}{whisker}{line}. {note}",
            ["language", "percent", "deviation", "shared_by_seeds"],
            rows,
            section="best",
        )


_SERIES = (("source", base.BLUE, "o"), ("others", base.VERMILION, "D"))


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
        line = base.means(sorted(pair for pair in drawn if pair[0] != absent), is_log)
        base.draw_series(axes, drawn, line, color, marker, label=name)
        without = [score for place, score in drawn if place == absent]
        if without:
            axes.plot([absent], [sum(without) / len(without)], marker, color=color, ms=6)
    if is_log:
        axes.set_xscale("log")
    base.number_ticks(axes, numbers, absent if has_absent else None, is_log)
    if has_absent:
        edge = math.sqrt(absent * low) if is_log else (absent + low) / 2
        axes.axvline(edge, color="#B8C0CA", lw=0.8, ls=":")
    if len(numbers) > base.MAX_EXACT:
        return f"Line: means of {base.NUM_BINS} bins with equally many configurations."
    return "Line: means per value."


def _categorical(axes: Any, points: Sequence[Point]) -> str:
    """A strip of marks for each option, with a bar at its mean."""
    by_option: dict[str, list[Point]] = {}
    for point in points:
        by_option.setdefault(value_label(point.value), []).append(point)
    options = sorted(by_option, key=base.natural)
    for offset, (name, color, marker) in zip((-0.16, 0.16), _SERIES, strict=True):
        label: str | None = name
        for place, option in enumerate(options):
            values = (getattr(point, name) for point in by_option[option])
            scores = [score for score in values if score is not None]
            if not scores:
                continue
            at = place + offset
            spread = [at + 0.07 * base.jitter(index) for index in range(len(scores))]
            axes.plot(spread, scores, marker, color=color, ms=5, alpha=0.35, mew=0)
            mean = sum(scores) / len(scores)
            bar = {"color": color, "lw": 2.4, "solid_capstyle": "round", "label": label}
            axes.plot([at - 0.13, at + 0.13], [mean, mean], **bar)
            label = None
    room = max(44 // len(options), 9)
    names = short_names(options)
    labels = [textwrap.fill(names[option], room, break_long_words=False) for option in options]
    is_long = max(len(line) for label in labels for line in label.splitlines()) > 1.3 * room
    style: dict[str, Any] = {"rotation": 20, "ha": "right"} if is_long else {}
    axes.set_xticks(range(len(options)), labels, **style)
    axes.set_xlim(-0.5, len(options) - 0.5)
    axes.grid(visible=False, axis="x")
    return "Bars: means per value."


def _percent(cell: Cell | None) -> float | None:
    return None if cell is None else 100 * cell.mean


# -- layers -------------------------------------------------------------------------------

PROFILE_COLUMNS = (
    "number", "configuration", "repeat", "seed", "stage", "step", "examples", "diagnostic",
    "source_language", "language", "layer", "value", "num_sentences",
)  # fmt: skip
_MARKS = {"high": "o", "medium": "s", "low": "D", "unknown": "o"}


def profiles_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a trial, stage, step, diagnostic, language and layer: ``PROFILE_COLUMNS``.

    Rows of ``stage`` *evaluate* are of the finished encoder and have no ``step``; those of a
    training are of its beginning and of its evaluations. A stage that was trained for a sweep
    without diagnostics has none. Layer 0 is the embeddings; a number that is not defined is
    missing. Trials are in order, and in each its stages as they were made.
    """
    rows = [row for view in snapshot.trials for row in _rows(view, snapshot)]
    frame = pd.DataFrame(rows, columns=list(PROFILE_COLUMNS))
    whole = ("number", "configuration", "repeat", "seed", "step", "examples", "layer")
    kinds = dict.fromkeys((*whole, "num_sentences"), "Int64")
    return frame.astype({**kinds, "value": "float64"})


def _rows(view: TrialView, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    trial = {name: getattr(view, name) for name in PROFILE_COLUMNS[:4]}
    for use in view.stages:
        record = snapshot.records.get(use.key)
        for profile in record.profiles if record else ():
            measured = {name: getattr(profile, name) for name in PROFILE_COLUMNS[5:10]}
            for layer, value in enumerate(profile.values):
                of_layer = {"stage": use.kind, "layer": layer, "value": value}
                yield {**trial, **measured, **of_layer, "num_sentences": profile.num_sentences}


def finished(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of finished encoders."""
    return frame[frame["stage"] == "evaluate"]


def profile_figure(frame: pd.DataFrame, best: int | None) -> Figure | None:
    """Each diagnostic over the layers of the best configuration, a line for each class of
    resources, means over its languages and seeds; None where nothing was measured.

    All points of a line, and of the lines that it is compared with, are over the same languages:
    those that were measured at every moment. A layer at which one of them has no number has no
    point.

    Beside the finished encoder stands the one that the first recorded training began with, and
    the one that the target training began with, where that is another.
    """
    of_best = frame[frame["configuration"] == best] if best is not None else frame[:0]
    moments = _moments(of_best)
    if finished(of_best).empty:
        return None
    names = [name for name in DIAGNOSTICS if name in set(finished(of_best)["diagnostic"])]
    classes = {code: language(code).resources for code in sorted(of_best["language"].unique())}
    groups = [resource for resource in RESOURCES if resource in classes.values()]
    lines: list[list[Any]] = []
    with new_canvas(max(3.8, 2.9 * len(names)), 3.2, columns=len(names)) as (figure, _):
        for axes, name in zip(figure.axes, names, strict=True):
            everywhere = _languages_everywhere(name, [part for _, part in moments.values()])
            for group in groups:
                members = [code for code in everywhere if classes[code] == group]
                for moment, (style, part) in moments.items():
                    of_group = part[(part["diagnostic"] == name) & part["language"].isin(members)]
                    by_layer = of_group.groupby("layer")["value"]
                    means = by_layer.agg(lambda values: values.mean(skipna=False)).dropna()
                    if means.empty:
                        continue
                    layers, values = means.index.astype(int).tolist(), means.tolist()
                    languages = "+".join(sorted(of_group["language"].unique()))
                    lines += [
                        [name, group, languages, moment, *pair]
                        for pair in zip(layers, values, strict=True)
                    ]
                    is_solid = style == "-"
                    axes.plot(
                        layers, values, style, color=RESOURCES[group], marker=_MARKS[group],
                        ms=3.5 if is_solid else 0, lw=1.6 if is_solid else 1.1,
                    )  # fmt: skip
            axes.set_xlabel("layer")
            axes.set_ylabel(DIAGNOSTICS[name].unit)
        styles = {moment: style for moment, (style, _) in moments.items()}
        _legend(figure, groups, styles)
        words = {"-": "Solid", "--": "dashed", ":": "dotted"}
        shown = ", ".join(f"{words[style]}: {moment}" for moment, style in styles.items())
        source = str(of_best["source_language"].iloc[0])
        return figure_of(
            figure,
            "layer-profile",
            "How alike are the languages, layer by layer?",
            f"Configuration {best}: {source} against each other language, means over the "
            f"languages of a class of resources and over seeds. {shown}. Layer 0 is the "
            "embeddings.",
            ["diagnostic", "resources", "languages", "moment", "layer", "value"],
            lines,
        )


def _languages_everywhere(name: str, parts: Sequence[pd.DataFrame]) -> list[str]:
    """Languages of a diagnostic, in order, that every moment has where it was measured at all."""
    measured = [set(part.loc[part["diagnostic"] == name, "language"]) for part in parts]
    return sorted(set.intersection(*(languages for languages in measured if languages)))


def _moments(of_best: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """Style and rows of each moment of one configuration that is drawn, the last one first."""
    moments = {"after training": ("-", finished(of_best))}
    trained = of_best[of_best["stage"] != "evaluate"]
    if trained.empty:
        return moments
    begins = trained["step"] == trained.groupby(["number", "stage"])["step"].transform("min")
    first = str(trained["stage"].iloc[0])
    moments[f"before {first}"] = ("--", trained[begins & (trained["stage"] == first)])
    if first != "target" and (trained["stage"] == "target").any():
        moments["before target"] = (":", trained[begins & (trained["stage"] == "target")])
    return moments


def _legend(figure: Any, groups: Sequence[str], styles: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=RESOURCES[group], marker=_MARKS[group], lw=1.6, ms=4,
               label=f"{group} resources")
        for group in groups
        if group != "unknown"
    ]  # fmt: skip
    handles += [
        Line2D([], [], color=RESOURCES["unknown"], ls=style, lw=1.4, label=moment)
        for moment, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8)
