"""What was evaluated besides the target task in one language: a frame and tables of its own.

Pairs of languages and further tasks never stand in the frame of scores, so that no mean over
languages, no rule of selection and no comparison can hold them by mistake.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xlt_ray.report.snapshot import Snapshot
from xlt_ray.report.tables import Cell, TrialScores, cell_of, mean_of
from xlt_ray.stages.record import Role, Score, StageRecord

FURTHER_COLUMNS = (
    "number",
    "configuration",
    "repeat",
    "seed",
    "role",
    "task",
    "task_version",
    "source_language",
    "language",
    "split",
    "metric",
    "value",
    "num_examples",
    "num_dropped",
    "data",
)


@dataclass(frozen=True)
class FurtherRow:
    """One configuration; what was not scored in any seed has no cell."""

    configuration: int
    num_seeds: int
    means: Mapping[str, Cell | None]
    """None unless every seed has all languages of the mean."""
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class FurtherTable:
    """One metric of one further task, or of the target's pairs, by configuration number."""

    role: Role
    task: str
    metric: str
    source_language: str
    languages: tuple[str, ...]
    """Of pairs ``FIRST:SECOND``."""
    means: Mapping[str, tuple[str, ...]]
    """Name of a mean -> the languages that it is over."""
    rows: tuple[FurtherRow, ...]
    is_headline: bool
    """Whether the page shows it; the others are files only."""

    @property
    def stem(self) -> str:
        """What the table's file is called after."""
        return f"{self.task}-{self.source_language}-{self.metric}-further"


def further_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a complete trial, task, language and metric: ``FURTHER_COLUMNS``.

    ``role`` is *pairs* or *further*. Of pairs ``task`` is ``TASK-pairs``, ``language``
    ``FIRST:SECOND``, and ``data`` both fingerprints.
    """
    rows = []
    for view in snapshot.trials:
        record = snapshot.record(view, "evaluate")
        if record is None or view.state != "complete":
            continue
        who = {name: getattr(view, name) for name in FURTHER_COLUMNS[:4]}
        rows += [{**who, **row} for row in _rows(record)]
    frame = pd.DataFrame(rows, columns=list(FURTHER_COLUMNS))
    return frame.sort_values(
        ["number", "role", "task", "metric", "language"], kind="stable", ignore_index=True
    )


def further_tables(further: pd.DataFrame, sweep: Mapping[str, Any]) -> list[FurtherTable]:
    """One table for each task, source language and metric; pairs first.

    The headline is the metric of the objective, or, of a task that is not scored by it, the first
    by name.
    """
    objective = str(sweep["objective"]["metric"])
    found = []
    by_task = further.groupby(["role", "task", "source_language"], sort=True)
    for (role, task, source), part in sorted(by_task, key=lambda one: one[0][0] != "pairs"):
        metrics = sorted(part["metric"].unique())
        headline = objective if objective in metrics else metrics[0]
        found += [
            _table(role, str(task), str(source), metric, part, metric == headline)
            for metric in metrics
        ]
    return found


def further_csv(table: FurtherTable) -> str:
    """Mean, deviation and seeds of every cell in full precision; a missing cell is empty."""
    names = [*table.means, *table.languages]
    header = [f"{name}{suffix}" for name in names for suffix in ("", "_deviation", "_seeds")]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["configuration", "num_seeds", *header])
    for row in table.rows:
        cells = [row.means[name] for name in table.means]
        cells += [row.cells.get(language) for language in table.languages]
        writer.writerow([row.configuration, row.num_seeds, *_flat(cells)])
    return stream.getvalue()


def _table(
    role: Role, task: str, source: str, metric: str, part: pd.DataFrame, is_headline: bool
) -> FurtherTable:
    part = part[part["metric"] == metric]
    languages = tuple(sorted(part["language"].unique()))
    means = {"mean": languages}
    if role == "pairs":
        means["mean_of_two_languages"] = tuple(
            one for one in languages if len(set(one.split(":"))) == 2
        )
    rows = []
    for configuration, mine in part.groupby("configuration", sort=True):
        trials = [
            TrialScores(
                int(number),
                int(one["seed"].iloc[0]),
                dict(zip(one["language"], one["value"], strict=True)),
            )
            for number, one in mine.groupby("number", sort=True)
        ]
        rows.append(
            FurtherRow(
                int(configuration),
                len(trials),
                {name: mean_of(trials, members) for name, members in means.items()},
                {
                    language: cell_of([float(value) for value in one["value"]])
                    for language, one in mine.groupby("language", sort=True)
                },
            )
        )
    return FurtherTable(role, task, metric, source, languages, means, tuple(rows), is_headline)


def _rows(record: StageRecord) -> Iterator[dict[str, Any]]:
    settings: Any = record.payload["settings"]
    for score in record.scores:
        if score.role == "target":
            continue
        entry = settings["task"] if score.role == "pairs" else settings["also"][score.task]
        yield {
            "role": score.role,
            "task": score.task,
            "task_version": entry["version"],
            "source_language": settings["source_language"],
            "language": score.language,
            "split": score.split,
            "metric": score.metric,
            "value": score.value,
            "num_examples": score.num_examples,
            "num_dropped": score.num_dropped,
            "data": _data_of(score, record),
        }


def _data_of(score: Score, record: StageRecord) -> str:
    data: Any = record.payload["data"]
    if score.role == "pairs":
        return " ".join(data[score.split][one] for one in score.language.split(":"))
    return str(data["also"][score.task][score.language])


def _flat(cells: Sequence[Cell | None]) -> Iterator[float | int | str]:
    for cell in cells:
        if cell is None:
            yield from ("", "", 0)
        else:
            yield from (
                cell.mean,
                "" if cell.deviation is None else cell.deviation,
                cell.num_seeds,
            )
