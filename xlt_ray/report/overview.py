"""Figures of a whole sweep: heat map, importance of knobs, Pareto front."""

from __future__ import annotations

import pandas as pd

from xlt_ray.ledger.importance import MIN_POINTS, TARGET_QUANTILE
from xlt_ray.report.canvas import (
    GREY,
    SERIES,
    VERMILION,
    Figure,
    csv_text,
    new_canvas,
    rendered,
)
from xlt_ray.report.effects import Effects, drawn_series, importances_csv
from xlt_ray.report.figures import file_name
from xlt_ray.report.frontier import pareto_front
from xlt_ray.report.tables import Cell, LanguageTable

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
    """Importance of every knob for the source language, the mean of the others, and the groups of
    one grouping.

    Returns the figure, None where there are too few configurations, and why that is so.
    """
    found = {one.name: known.importances.get(one.name, {}) for one in drawn_series(table)}
    paths = sorted({path for one in found.values() for path in one})
    if not paths:
        enough = sum(1 for row in table.rows if row.trials) >= MIN_POINTS
        note = f"{table.task}: importance of knobs is not told below {MIN_POINTS} configurations."
        return None, [] if enough or not table.knobs else [note]

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
        title="Which knobs decide?",
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
    front = pareto_front([(sign * one[1], sign * one[2], -one[3]) for one in rows])
    with new_canvas(5.0, 3.6) as (figure, axes):
        shades = [one[3] for one in rows]
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
