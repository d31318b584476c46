"""When each trial of a sweep ran, and what it trained meanwhile."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.ledger import TrialView
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
from xlt_ray.stages.record import StageRecord

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
        _draw_reuses(axes, [one for one in reuses if one.trial in shown], shown, unit)
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
                    one.trial,
                    one.kind,
                    round(one.start, 3),
                    round(one.end, 3),
                    one.host,
                    None if one.kind == "trial" else one.num_workers,
                    None,
                ]
                for one in bars
            ]
            + [
                [
                    one.trial,
                    one.kind,
                    round(one.at, 3),
                    round(one.at, 3),
                    None,
                    None,
                    one.made_by or "not known",
                ]
                for one in reuses
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
    for one in reuses:
        place = one.trial, one.at
        aside = ScaledTranslation(
            (2.5 + 4.5 * beside[place]) / 72, 0.0, axes.figure.dpi_scale_trans
        )
        beside[place] += 1
        axes.plot(
            [one.at / unit], [shown.index(one.trial)], "o", ms=3.5, mfc="white", mew=1.0,
            mec=KINDS.get(one.kind, "#999999"), transform=axes.transData + aside, zorder=4,
            ls="none", label=label,
        )  # fmt: skip
        label = None


def _hosts(bars: Sequence[Bar]) -> dict[int, str]:
    """By trial the machines that made its stages."""
    found: dict[int, dict[str, None]] = {}
    for one in bars:
        if one.host:
            found.setdefault(one.trial, {})[one.host] = None
    return {trial: "+".join(hosts) for trial, hosts in found.items()}
