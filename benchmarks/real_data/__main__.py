"""The sweeps of docs/real-data.md on real languages, and their tables.

    python -m benchmarks.real_data DATA MODELS [--home HOME] [--only NAME ...]

runs every sweep of this folder (or the named ones) with `xlt run`, one after the other, and prints
their tables in Markdown: a row for each configuration, each number with its interval. DATA is a
folder of the `files` source, MODELS has the encoders `bible-nano` and `bible-mini`. A home keeps
what was trained: a run that was stopped continues, and a second one only prints.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.common import xlt_run
from xlt_ray import Results
from xlt_ray.config.labels import is_absent, parameter_names, short_names, value_label
from xlt_ray.report.stats import summary

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TableSpec:
    """What one table shows."""

    metrics: tuple[str, ...]
    """With several, each configuration has a row for each."""
    languages: tuple[str, ...] = ()
    """Columns besides the source language."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further means, by title."""
    further: str = ""
    """Task of the frame of further scores; empty means the target task."""
    where: Mapping[str, object] = field(default_factory=dict)
    """Parameter -> value of the rows that are shown."""


HERE = Path(__file__).parent
AMERICAS = ("ay", "bzd", "cni", "gn", "hch", "nah", "oto", "quy", "shp", "tar")
EUROPE_ASIA = ("ar", "bg", "de", "el", "es", "fr", "hi", "ko", "ru", "sw", "tr", "ur", "vi", "zh")
PAWSX = ("de", "es", "fr", "ja", "ko", "zh")
TABLES: Mapping[str, tuple[TableSpec, ...]] = {
    "pos": (
        TableSpec(("accuracy",), ("de", "sv", "cs", "zh", "ru", "hi")),
        TableSpec(("conll_f1",), ("de", "sv", "cs", "zh", "ru", "hi")),
    ),
    "ner": (TableSpec(("conll_f1", "f1"), ("de", "sv", "es", "zh", "ru", "hi", "sw")),),
    "xnli": (
        TableSpec(("accuracy",), ("de", "es", "zh", "sw", "ru", "gn"),
              {"mean of XNLI's 14": EUROPE_ASIA, "mean of the Americas' 10": AMERICAS}),
    ),
    "pawsx": (
        TableSpec(("accuracy",), PAWSX),
        TableSpec(("accuracy",), ("de:fr", "ja:zh"), {
            "the same language": tuple(f"{code}:{code}" for code in ("en", *PAWSX)),
            "two languages": tuple(map(":".join, itertools.permutations(("en", *PAWSX), 2))),
        }, further="pawsx-pairs"),
    ),
    "qa": (
        TableSpec(("f1", "em"), ("ar", "de", "es", "zh"), where={"target.task": "xquad"}),
        TableSpec(("f1", "em"), ("ar", "de", "es", "zh"), where={"target.task": "mlqa"}),
        TableSpec(("f1", "em"), ("ar", "fi", "id", "ru", "sw"), where={"target.task": "tydiqa"}),
    ),
    "xcopa": (TableSpec(("accuracy",), ("et", "id", "sw", "ta", "zh")),),
    "tatoeba": (
        TableSpec(("accuracy",), ("de", "es", "ja", "sw", "ru", "hi"), further="tatoeba"),
    ),
    "robust": (
        TableSpec(("accuracy",), ("de", "es", "zh", "sw", "ru"),
              {"mean of XNLI's 14": EUROPE_ASIA, "mean of the Americas' 10": AMERICAS}),
    ),
    "axes": (TableSpec(("pearson",), ("de", "es", "fr", "ja", "pt", "ru", "zh")),),
}  # fmt: skip


def run(name: str, data: Path, models: Path, home: Path) -> float:
    """Run one sweep to its end; returns the seconds that it took.

    Raises:
        SystemExit: it failed and has said why.
    """
    began, file = time.monotonic(), HERE / f"{name}.yaml"
    model = yaml.safe_load(file.read_text())["model"]
    names = model["choice"] if isinstance(model, dict) else [model]
    options = ", ".join(f"{models / encoder}" for encoder in names)
    choice = options if len(names) == 1 else f"{{choice: [{options}]}}"
    if code := xlt_run(file, home, f"data.root={data}", f"model={choice}"):
        raise SystemExit(code)
    return time.monotonic() - began


def table(results: Results, spec: TableSpec) -> str:
    """Test scores in %, mean and half the 95 % interval of Student's t over seeds.

    Means over languages are taken within a seed first, over languages that every row has.
    """
    parameters, rows = _rows(results, spec.where)
    frame = _scores(results, spec)
    frame = frame[frame["configuration"].isin([number for number, _ in rows])]
    source = str(frame["source_language"].iloc[0])
    seeds = frame.pivot_table(
        index=["configuration", "metric", "seed"], columns="language", values="value"
    )
    shared = list(seeds.columns[seeds.notna().all()])
    others = [language for language in shared if language != source]
    columns: dict[str, Sequence[str]] = {
        **{code: [code] for code in (source, *spec.languages) if code in shared},
        **spec.groups,
        f"mean of {len(others)}": others,
    }
    has_metrics = len(spec.metrics) > 1
    lines = [[*parameter_names(parameters).values(), *["metric"] * has_metrics, *columns]]
    lines.append(["---"] * len(lines[0]))
    for configuration, labels in rows:
        for metric in spec.metrics:
            if (configuration, metric) in seeds.index.droplevel("seed"):
                scores = seeds.loc[configuration, metric]
                cells = [_cell(scores[list(names)]) for names in columns.values()]
                lines.append([*labels, *[metric] * has_metrics, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _scores(results: Results, spec: TableSpec) -> pd.DataFrame:
    frame = results.further if spec.further else results.scores
    frame = frame[frame["metric"].isin(spec.metrics)]
    if spec.further:
        return frame[frame["task"] == spec.further]
    return frame[(frame["stage"] == "evaluate") & (frame["split"] == "test")]


def _rows(
    results: Results, where: Mapping[str, object]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Parameters that differ, and their labels for each configuration, in order."""
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
    """Blocks by their names alone, if these distinguish them."""
    texts = [value_label(value) for value in values]
    names = {text: text.partition(" (")[0] for text in texts}
    if len(set(names.values())) < len(names):
        names = {text: text for text in texts}
    short = short_names(names.values())
    return [short[names[text]] for text in texts]


def _cell(seeds: pd.DataFrame) -> str:
    score = summary([100 * mean for mean in seeds.mean(axis=1)])
    if score.interval is None:
        return f"{score.mean:.1f}"
    return f"{score.mean:.1f} ± {score.interval.high - score.mean:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--home", type=Path, default=Path("real-home"))
    parser.add_argument("--only", nargs="*", choices=TABLES, default=list(TABLES))
    arguments = parser.parse_args()
    data, models, home = (
        path.absolute() for path in (arguments.data, arguments.models, arguments.home)
    )
    seconds = {name: run(name, data, models, home) for name in arguments.only}
    for name, spent in seconds.items():
        results = Results(home, f"real-{name}")
        print(f"\n## {name} ({len(results.trials)} trials, {spent / 60:.1f} min)")
        for spec in TABLES[name]:
            chosen = ", ".join(f"{parameter} {value}" for parameter, value in spec.where.items())
            print("\n" + " ".join(filter(None, (spec.further, ", ".join(spec.metrics), chosen))))
            print(f"\n{table(results, spec)}")


if __name__ == "__main__":
    main()
