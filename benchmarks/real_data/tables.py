"""Markdown tables of the real sweeps: a row a configuration, each number with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xlt_ray.report.labels import is_absent, parameter_names, short_names, value_label
from xlt_ray.report.stats import summary

if TYPE_CHECKING:
    import pandas as pd

    from xlt_ray import Results


@dataclass(frozen=True)
class Asked:
    """What one table shows."""

    metrics: tuple[str, ...]
    """A row each for every configuration, where there are several."""
    languages: tuple[str, ...] = ()
    """That have a column of their own, besides the source language."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Means by their titles, before that over all languages but the source's."""
    further: str = ""
    """The task of the frame of further scores; the target task where it is left out."""
    where: Mapping[str, object] = field(default_factory=dict)
    """Parameter -> value of the rows that are shown, where not all are."""


def table(results: Results, asked: Asked) -> str:
    """Test scores in %, mean and half the 95 % interval of Student's t over seeds.

    Means over languages are taken within a seed first, over languages that every row has.
    """
    parameters, rows = _rows(results, asked.where)
    frame = _scores(results, asked)
    frame = frame[frame["configuration"].isin([number for number, _ in rows])]
    source = str(frame["source_language"].iloc[0])
    seeds = frame.pivot_table(
        index=["configuration", "metric", "seed"], columns="language", values="value"
    )
    shared = list(seeds.columns[seeds.notna().all()])
    others = [one for one in shared if one != source]
    columns: dict[str, Sequence[str]] = {
        **{one: [one] for one in (source, *asked.languages) if one in shared},
        **asked.groups,
        f"mean of {len(others)}": others,
    }
    has_metrics = len(asked.metrics) > 1
    lines = [[*parameter_names(parameters).values(), *["metric"] * has_metrics, *columns]]
    lines.append(["---"] * len(lines[0]))
    for configuration, labels in rows:
        for metric in asked.metrics:
            if (configuration, metric) in seeds.index.droplevel("seed"):
                found = seeds.loc[configuration, metric]
                cells = [_cell(found[list(names)]) for names in columns.values()]
                lines.append([*labels, *[metric] * has_metrics, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _scores(results: Results, asked: Asked) -> pd.DataFrame:
    frame = results.further if asked.further else results.scores
    frame = frame[frame["metric"].isin(asked.metrics)]
    if asked.further:
        return frame[frame["task"] == asked.further]
    return frame[(frame["stage"] == "evaluate") & (frame["split"] == "test")]


def _rows(
    results: Results, where: Mapping[str, object]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Parameters that differ, and for each configuration what its cells say of them, in order."""
    parameters = results.snapshot.parameters
    trials = results.trials.drop_duplicates("configuration")
    for parameter, value in where.items():
        trials = trials[trials[parameter] == value]
    ordered = sorted(
        trials.to_dict("records"), key=lambda row: [_order(row.get(name)) for name in parameters]
    )
    labels = {name: _labels([row.get(name) for row in ordered]) for name in parameters}
    differing = [name for name in parameters if len(set(labels[name])) > 1]
    return differing, [
        (row["configuration"], [labels[name][place] for name in differing])
        for place, row in enumerate(ordered)
    ]


def _order(value: Any) -> tuple[int, float, str]:
    """Absent values first, then numbers, then names."""
    if is_absent(value):
        return 0, 0.0, ""
    return (1, value, "") if isinstance(value, int | float) else (2, 0.0, str(value))


def _labels(values: Iterable[Any]) -> list[str]:
    """Blocks by their names alone, where these tell them apart."""
    texts = [value_label(value) for value in values]
    names = {text: text.partition(" (")[0] for text in texts}
    if len(set(names.values())) < len(names):
        names = {text: text for text in texts}
    short = short_names(names.values())
    return [short[names[text]] for text in texts]


def _cell(seeds: pd.DataFrame) -> str:
    found = summary([100 * one for one in seeds.mean(axis=1)])
    if found.interval is None:
        return f"{found.mean:.1f}"
    return f"{found.mean:.1f} ± {found.interval.high - found.mean:.1f}"
