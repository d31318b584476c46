"""When each trial of a sweep ran, and what it trained meanwhile."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from xlt_ray.report.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Figure,
    csv_text,
    new_canvas,
    rendered,
)
from xlt_ray.report.snapshot import Snapshot, in_utc

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


def bars_of(snapshot: Snapshot) -> list[Bar]:
    """Bars of all trials that have ended, each with those of the stages that it made.

    Records say when a stage was committed and how long it took: where a trial was interrupted
    inside a stage, the stage's bar is shorter than that. No bar leaves its trial's.
    """
    spans = [
        (view, asked, ended)
        for view in snapshot.trials
        if (asked := in_utc(view.started)) and (ended := in_utc(view.ended))
    ]
    if not spans:
        return []
    origin = min(asked for _, asked, _ in spans)
    found = []
    for view, asked, ended in spans:
        start, end = (asked - origin).total_seconds(), (ended - origin).total_seconds()
        found.append(Bar(view.number, "trial", start, end))
        for use in view.stages:
            record = snapshot.records.get(use.key)
            time = record.made_by.get("time") if record else None
            if use.reused or not time:
                continue
            at = (datetime.datetime.fromisoformat(str(time)) - origin).total_seconds()
            bar = Bar(view.number, use.kind, max(at - use.seconds, start), min(at, end))
            if bar.end > bar.start:
                found.append(bar)
    return found


def timeline(snapshot: Snapshot) -> Figure | None:
    """Trials as bars over time, their stages in colour; None before two trials have ended."""
    bars = bars_of(snapshot)
    numbers = sorted({one.trial for one in bars})
    shown = numbers[:MAX_TRIALS]
    if len(numbers) < 2:
        return None
    span = max(one.end for one in bars)
    unit, name = (1.0, "seconds") if span < 180 else (60.0, "minutes")
    if span > 3 * 3600:
        unit, name = 3600.0, "hours"
    height = 0.9 + max(1.2, 0.11 * len(shown))
    with new_canvas(5.6, height) as (figure, axes):
        for one in bars:
            if one.trial in shown:
                _draw(axes, one, shown.index(one.trial), unit)
        step = max(1, len(shown) // 12)
        axes.set_yticks(range(0, len(shown), step), [str(one) for one in shown[::step]], size=7.5)
        axes.set_ylim(len(shown) - 0.3, -0.7)
        axes.set_xlim(0, span / unit * 1.01 or 1)
        axes.set_xlabel(f"{name} since the first trial was asked")
        axes.set_ylabel("trial")
        axes.grid(visible=False, axis="y")
        handles, labels = axes.get_legend_handles_labels()
        first = dict(zip(labels, handles, strict=True))
        order = [one for one in ("trial", *KINDS) if one in first]
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
        "stages that it made itself, up to their commit and as long as they took."
        + (f" {more} later trials are in the CSV alone." if more else ""),
        csv=csv_text(
            ["trial", "kind", "start_s", "end_s"],
            [[one.trial, one.kind, round(one.start, 3), round(one.end, 3)] for one in bars],
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
