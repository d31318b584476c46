"""What was evaluated besides the target task in one language: a frame and tables of its own.

Pairs of languages, further tasks and averaged weights (and scores after few shots, which are in
:mod:`xlt_ray.report.few_shot_tables`) never stand in the frame of scores, so that
no mean over languages and no comparison can hold them by mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pandas as pd

from xlt_ray.config.task_types import AVERAGE_SUFFIX
from xlt_ray.report.evidence import (
    Constant,
    Evidence,
    constants_of,
    evidence_of,
    near_constant_by_trial,
)
from xlt_ray.report.figures.base import csv_text
from xlt_ray.report.frames import WHAT_COLUMNS, WHO_COLUMNS, Snapshot, typed, what, who
from xlt_ray.report.replication import Trained, named, shared_by, spread_note
from xlt_ray.report.tables import Cell, TrialScores, cell_of, mean_of, note
from xlt_ray.report.xtreme import TASKS as BENCHMARK
from xlt_ray.store.record import Role, Score, StageRecord

ADDITIONAL_COLUMNS = (*WHO_COLUMNS, "supervision", "role", *WHAT_COLUMNS, "num_dropped", "data")


@dataclass(frozen=True)
class AdditionalRow:
    """One configuration; what was not scored in any seed has no cell."""

    configuration: int
    num_seeds: int
    supervision: str
    """Which labels it learned from (:mod:`xlt_ray.config.supervision`)."""
    means: Mapping[str, Cell | None]
    """None unless every seed has all languages of the mean."""
    cells: Mapping[str, Cell]
    shared: Trained = ()
    """The trained stages that several of its seeds go on from."""
    near_constant: Mapping[str, Constant] = field(default_factory=dict)
    """Languages in which the network of a seed says next to one thing to everything."""


@dataclass(frozen=True)
class AdditionalTable:
    """One metric of one further task, or of the target's pairs or averaged weights, by number of
    configuration."""

    role: Role
    task: str
    metric: str
    source_language: str
    languages: tuple[str, ...]
    """Of pairs ``FIRST:SECOND``."""
    means: Mapping[str, tuple[str, ...]]
    """Name of a mean -> the languages that it is over."""
    rows: tuple[AdditionalRow, ...]
    is_headline: bool
    """Whether the page shows it; the others are files only."""
    spread_note: str = ""
    """What has to stand where its deviations are; empty where seeds share no training."""
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def constant_note(self) -> str:
        """Which networks say next to one thing to everything; empty where none does."""
        marked = [
            f"configuration {row.configuration} in {', '.join(row.near_constant)}"
            for row in self.rows
            if row.near_constant
        ]
        return f"≡, next to one thing is said to everything: {'; '.join(marked)}." if marked else ""

    @property
    def supervision_note(self) -> str:
        """Which rows are not zero-shot; empty where all are."""
        return note((row.configuration, row.supervision) for row in self.rows)

    @property
    def stem(self) -> str:
        """What the table's file is called after."""
        return f"{self.task}-{self.source_language}-{self.metric}-further"


def additional_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a complete trial, task, language and metric: ``ADDITIONAL_COLUMNS``.

    ``role`` is *pairs*, *further* or *average*. Of pairs ``task`` is ``TASK-pairs``, ``language``
    ``FIRST:SECOND``, and ``data`` both fingerprints; of averaged weights ``task`` is
    ``TASK-average``.
    """
    rows = []
    for view in snapshot.trials:
        record = snapshot.record(view, "evaluate")
        if record is None or view.state != "complete":
            continue
        identity = {**who(view), "supervision": snapshot.supervision(view)}
        rows += [{**identity, **row} for row in _rows(record)]
    frame = typed(pd.DataFrame(rows, columns=list(ADDITIONAL_COLUMNS)))
    return frame.sort_values(
        ["number", "role", "task", "split", "metric", "language"], kind="stable", ignore_index=True
    )


def averaged_scores(further: pd.DataFrame) -> pd.DataFrame:
    """Scores of averaged weights under the name of the task itself, to make its tables of."""
    part = further[further["role"] == "average"]
    return part.assign(task=part["task"].str.removesuffix(AVERAGE_SUFFIX))


def additional_tables(
    further: pd.DataFrame,
    sweep: Mapping[str, Any],
    trained: Mapping[int, Trained] = MappingProxyType({}),
) -> list[AdditionalTable]:
    """One table of test scores for each task, source language and metric; averages, then pairs.

    The headline is what a benchmark publishes of its retrieval task, else the metric of the
    objective, or, of a task that is not scored by it, the first by name.

    Args:
        trained: trained stages of every trial by its number.
    """
    objective = str(sweep["objective"]["metric"])
    tables = []
    by_task = further[further["split"] == "test"].groupby(["role", "task", "source_language"])
    order = ("average", "pairs", "further")
    for (role, task, source), part in sorted(by_task, key=lambda one: order.index(one[0][0])):
        metrics = sorted(part["metric"].unique())
        headline = _published(str(task)) or (objective if objective in metrics else metrics[0])
        tables += [
            _table(role, str(task), str(source), metric, part, metric == headline, trained)
            for metric in metrics
        ]
    return tables


def additional_csv(table: AdditionalTable) -> str:
    """Mean, deviation and seeds of every cell in full precision; a missing cell is empty.

    Items, chance and near-constant networks of every language follow as in the table of the target
    task. ``shared_by_seeds`` names the trained stages that several seeds of a line go on from: its
    deviations are of what was trained after them.
    """
    names = [*table.means, *table.languages]
    header = ["configuration", "supervision", "num_seeds"]
    header += [f"{name}{suffix}" for name in names for suffix in ("", "_deviation", "_seeds")]
    lines = []
    for row in table.rows:
        line: list[Any] = [row.configuration, row.supervision, row.num_seeds]
        for cell in (
            *(row.means[name] for name in table.means),
            *map(row.cells.get, table.languages),
        ):
            line += [cell.mean, cell.deviation, cell.num_seeds] if cell else [None, None, 0]
        for code in table.languages:
            constant = row.near_constant.get(code)
            line += [table.evidence.sizes.get(code), table.evidence.chance.get(code)]
            line.append(constant and constant.share)
        lines.append([*line, named(row.shared)])
    beside = ("items", "chance", "near_constant")
    header += [f"{code}_{name}" for code in table.languages for name in beside]
    return csv_text([*header, "shared_by_seeds"], lines)


def _table(
    role: Role,
    task: str,
    source: str,
    metric: str,
    part: pd.DataFrame,
    is_headline: bool,
    trained: Mapping[int, Trained],
) -> AdditionalTable:
    part = part[part["metric"] == metric]
    languages = tuple(sorted(part["language"].unique()))
    means = {"mean": languages}
    if role == "average":
        means["mean_without_source"] = tuple(
            language for language in languages if language != source
        )
    if role == "pairs":
        means["mean_of_two_languages"] = tuple(
            language for language in languages if len(set(language.split(":"))) == 2
        )
    constant = near_constant_by_trial(part)
    rows = []
    repeats = []
    for configuration, of_configuration in part.groupby("configuration", sort=True):
        trials = [
            TrialScores(
                int(number),
                int(of_trial["seed"].iloc[0]),
                dict(zip(of_trial["language"], of_trial["value"], strict=True)),
                trained.get(int(number), ()),
                constant.get(int(number), {}),
            )
            for number, of_trial in of_configuration.groupby("number", sort=True)
        ]
        rows.append(
            AdditionalRow(
                int(configuration),
                len(trials),
                str(of_configuration["supervision"].iloc[0]),
                {name: mean_of(trials, members) for name, members in means.items()},
                {
                    language: cell_of([float(value) for value in part_of_language["value"]])
                    for language, part_of_language in of_configuration.groupby(
                        "language", sort=True
                    )
                },
                shared_by(trial.trained for trial in trials),
                constants_of(trial.near_constant for trial in trials),
            )
        )
        repeats.append([trial.trained for trial in trials])
    note = spread_note(repeats)
    return AdditionalTable(
        role,
        task,
        metric,
        source,
        languages,
        means,
        tuple(rows),
        is_headline,
        note,
        evidence_of(part),
    )


def _published(task: str) -> str:
    """The metric of a retrieval task of XTREME; empty of any other task."""
    benchmark = BENCHMARK.get(task)
    return "" if benchmark is None or benchmark.is_trained else benchmark.metrics[0]


def _rows(record: StageRecord) -> Iterator[dict[str, Any]]:
    settings: Any = record.payload["settings"]
    for score in record.scores:
        if score.role in ("target", "few_shot"):
            continue
        entry = settings["also"][score.task] if score.role == "further" else settings["task"]
        yield {
            "role": score.role,
            **what(score, entry["version"], settings["source_language"]),
            "num_dropped": score.num_dropped,
            "data": _data_of(score, record),
        }


def _data_of(score: Score, record: StageRecord) -> str:
    data: Any = record.payload["data"]
    if score.role == "average":
        return str(data[score.split][score.language])
    if score.role == "pairs":
        return " ".join(data[score.split][code] for code in score.language.split(":"))
    return str(data["also"][score.task][score.language])
