"""How alike languages are in every layer: the diagnostics of a sweep as a frame and a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from xlt_ray.config.diagnostics import DIAGNOSTICS
from xlt_ray.config.languages import language
from xlt_ray.ledger import TrialView
from xlt_ray.report.figures.base import Figure, figure_of, new_canvas, rendered
from xlt_ray.report.figures.parameters import RESOURCES
from xlt_ray.report.frames import Snapshot

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
                    means = of_group.groupby("layer")["value"].agg(
                        lambda one: one.mean(skipna=False)
                    )
                    means = means.dropna()
                    if means.empty:
                        continue
                    layers, values = [int(values) for values in means.index], list(means)
                    languages = "+".join(sorted(of_group["language"].unique()))
                    lines += [
                        [name, group, languages, moment, *pair]
                        for pair in zip(layers, values, strict=True)
                    ]
                    axes.plot(
                        layers, values, style, color=RESOURCES.get(group, RESOURCES["unknown"]),
                        marker=_MARKS.get(group, "o"), ms=3.5 if style == "-" else 0,
                        lw=1.6 if style == "-" else 1.1,
                    )  # fmt: skip
            axes.set_xlabel("layer")
            axes.set_ylabel(DIAGNOSTICS[name].unit)
        _legend(figure, groups, {moment: style for moment, (style, _) in moments.items()})
        drawing = rendered(figure)
    source = str(of_best["source_language"].iloc[0])
    styles = {"-": "Solid", "--": "dashed", ":": "dotted"}
    shown = ", ".join(f"{styles[style]}: {moment}" for moment, (style, _) in moments.items())
    return figure_of(
        drawing,
        "layer-profile",
        "How alike are the languages, layer by layer?",
        f"Configuration {best}: {source} against each other language, means over the languages of "
        f"a class of resources and over seeds. {shown}. Layer 0 is the embeddings.",
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


def _rows(view: TrialView, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    who = {name: getattr(view, name) for name in PROFILE_COLUMNS[:4]}
    for use in view.stages:
        record = snapshot.records.get(use.key)
        for profile in record.profiles if record else ():
            for layer, value in enumerate(profile.values):
                yield {
                    **who,
                    "stage": use.kind,
                    "step": profile.step,
                    "examples": profile.examples,
                    "diagnostic": profile.diagnostic,
                    "source_language": profile.source_language,
                    "language": profile.language,
                    "layer": layer,
                    "value": value,
                    "num_sentences": profile.num_sentences,
                }
