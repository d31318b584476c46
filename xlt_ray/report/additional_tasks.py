"""What was evaluated besides the target task in one language: frames and tables of their own.

Pairs of languages, further tasks, averaged weights and scores after few shots never stand in the
frame of scores, so that no mean over languages and no comparison can hold them by mistake. The
zero-shot counterpart of a trial with few shots is whatever trial scored the very target stage that
it goes on from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pandas as pd

from xlt_ray.config.task_types import AVERAGE_SUFFIX, FEW_SHOT_SUFFIX
from xlt_ray.ledger import TrialView
from xlt_ray.report.figures import csv_text
from xlt_ray.report.frames import WHAT_COLUMNS, WHO_COLUMNS, Snapshot, typed, what, who
from xlt_ray.report.stats import Trained, named, spread_note, trained_stages
from xlt_ray.report.tables import (
    Cell,
    Evidence,
    ScoredRow,
    cell_of,
    cells_of,
    evidence_of,
    mean_of,
    note,
    trial_scores,
)
from xlt_ray.report.xtreme import TASKS as BENCHMARK
from xlt_ray.store.record import Role, Score, StageRecord

ADDITIONAL_COLUMNS = (*WHO_COLUMNS, "supervision", "role", *WHAT_COLUMNS, "num_dropped", "data")


@dataclass(frozen=True, kw_only=True)
class AdditionalRow(ScoredRow):
    """One configuration of a table of additional scores."""

    means: Mapping[str, Cell | None]
    """None unless every seed has all languages of the mean."""


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
    evidence: Evidence

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
    def spread_note(self) -> str:
        """What has to stand where its deviations are; empty where seeds share no training."""
        return spread_note([trial.trained for trial in row.trials] for row in self.rows)

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
    rows = [
        {**who(view), "supervision": snapshot.supervision(view), **row}
        for view, record in snapshot.evaluated()
        for row in _additional_rows(record)
    ]
    frame = typed(pd.DataFrame(rows, columns=list(ADDITIONAL_COLUMNS)))
    return frame.sort_values(
        ["number", "role", "task", "split", "metric", "language"], kind="stable", ignore_index=True
    )


def _additional_rows(record: StageRecord) -> Iterator[dict[str, Any]]:
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
    for (role, task, source), part in sorted(by_task, key=lambda pair: order.index(pair[0][0])):
        metrics = part.groupby("metric", sort=True)
        headline = objective if objective in metrics.groups else min(metrics.groups)
        benchmark = BENCHMARK.get(task)
        if benchmark is not None and not benchmark.is_trained:
            headline = benchmark.metrics[0]
        tables += [
            _table(role, str(task), str(source), str(metric), scores, metric == headline, trained)
            for metric, scores in metrics
        ]
    return tables


def _table(
    role: Role,
    task: str,
    source: str,
    metric: str,
    scores: pd.DataFrame,
    is_headline: bool,
    trained: Mapping[int, Trained],
) -> AdditionalTable:
    languages = tuple(sorted(scores["language"].unique()))
    means = {"mean": languages}
    if role == "average":
        means["mean_without_source"] = tuple(code for code in languages if code != source)
    if role == "pairs":
        apart = (pair for pair in languages if len(set(pair.split(":"))) == 2)
        means["mean_of_two_languages"] = tuple(apart)
    rows = []
    for configuration, part in scores.groupby("configuration", sort=True):
        trials = tuple(trial_scores(part, trained).values())
        rows.append(
            AdditionalRow(
                configuration=int(configuration),
                trials=trials,
                supervision=str(part["supervision"].iloc[0]),
                means={name: mean_of(trials, members) for name, members in means.items()},
                cells=cells_of(trials, languages),
            )
        )
    return AdditionalTable(
        role, task, metric, source, languages, means, tuple(rows), is_headline, evidence_of(scores)
    )


def additional_csv(table: AdditionalTable) -> str:
    """Mean, deviation and seeds of every cell in full precision; a missing cell is empty.

    Items, chance and near-constant networks of every language follow as in the table of the target
    task. ``shared_by_seeds`` names the trained stages that several seeds of a line go on from: its
    deviations are of what was trained after them.
    """
    header = ["configuration", "supervision", "num_seeds"]
    suffixes, beside = ("", "_deviation", "_seeds"), ("items", "chance", "near_constant")
    columns = [*table.means, *table.languages]
    header += [f"{column}{suffix}" for column in columns for suffix in suffixes]
    header += [f"{code}_{name}" for code in table.languages for name in beside]
    lines = []
    for row in table.rows:
        line: list[Any] = [row.configuration, row.supervision, row.num_seeds]
        for cell in (*row.means.values(), *map(row.cells.get, table.languages)):
            line += [cell.mean, cell.deviation, cell.num_seeds] if cell else [None, None, 0]
        constants = row.near_constant
        for code in table.languages:
            constant = constants.get(code)
            line += [table.evidence.sizes.get(code), table.evidence.chance.get(code)]
            line.append(constant and constant.share)
        lines.append([*line, named(row.shared)])
    return csv_text([*header, "shared_by_seeds"], lines)


# -- few shots ----------------------------------------------------------------------------

SHOT_COLUMNS = ("shot_language", "shot_split", "shots", "sample")
FEW_SHOT_COLUMNS = (
    *WHO_COLUMNS, "supervision", *SHOT_COLUMNS, *WHAT_COLUMNS, "zero_shot", "gain", "data",
)  # fmt: skip
SAMPLE = "few_shot.sample"
"""The parameter that tells samples apart and configurations not."""


@dataclass(frozen=True)
class FewShotRow:
    """One way of training and number of shots in one language, over its samples and seeds."""

    configurations: tuple[int, ...]
    language: str
    shots: int
    num_samples: int
    num_seeds: int
    supervision: str
    """Which labels it learned from, shots and all (:mod:`xlt_ray.config.supervision`)."""
    score: Cell
    """Test score in the language, one number a trial."""
    lowest: float
    highest: float
    zero_shot: Cell | None
    """Score of the target stages that the trials go on from; None where one was not scored."""
    source: Cell | None
    """Test score in the source language."""
    source_before: Cell | None


@dataclass(frozen=True)
class FewShotTable:
    """One metric of one task; rows by language, shots and configuration."""

    task: str
    metric: str
    source_language: str
    rows: tuple[FewShotRow, ...]
    spread_note: str
    """What has to stand where its deviations are: samples of one seed share its target training."""


def few_shot_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a complete few-shot trial, split, metric and language: ``FEW_SHOT_COLUMNS``.

    ``language`` is that of the shots or the source language; ``zero_shot`` the same score of the
    target stage without shots, missing where no complete trial has it, ``gain`` what the shots
    added to it. Under translated hybrid batches neither is zero-shot: ``supervision`` says so.
    """
    before = {
        (_target_key(view), score.split, score.metric, score.language): score.value
        for view, record in snapshot.evaluated()
        for score in record.scores
        if score.role == "target"
    }
    rows = []
    for view, record in snapshot.evaluated():
        settings: Any = record.payload["settings"]
        data: Any = record.payload["data"]
        shots = settings.get("few_shot")
        for score in record.scores if shots else ():
            scored = what(score, settings["task"]["version"], settings["source_language"])
            scored["task"] = score.task.removesuffix(FEW_SHOT_SUFFIX)
            zero_shot = before.get((_target_key(view), score.split, score.metric, score.language))
            rows.append(
                {
                    **who(view),
                    "supervision": record.supervision,
                    **{name: shots[name.removeprefix("shot_")] for name in SHOT_COLUMNS},
                    **scored,
                    "zero_shot": zero_shot,
                    "gain": None if zero_shot is None else score.value - zero_shot,
                    "data": data[score.split][score.language],
                }
            )
    frame = typed(pd.DataFrame(rows, columns=list(FEW_SHOT_COLUMNS)))
    return frame.astype({"zero_shot": float, "gain": float}).sort_values(
        ["number", "task", "split", "metric", "language"], kind="stable", ignore_index=True
    )


def few_shot_tables(
    frame: pd.DataFrame, snapshot: Snapshot, sweep: Mapping[str, Any]
) -> list[FewShotTable]:
    """Test scores of the metric of the objective, one table a task and source language.

    Samples of the same size are one row, with the spread over them.
    """
    metric = str(sweep["objective"]["metric"])
    test = frame[(frame["split"] == "test") & (frame["metric"] == metric)]
    ways = {view.number: _way(view) for view in snapshot.trials}
    test = test.assign(way=test["number"].map(ways))
    trained = trained_stages(snapshot.trials)
    tables = []
    for (task, source), of_task in test.groupby(["task", "source_language"], sort=True):
        groups = of_task.groupby(["shot_language", "shots", "way"], sort=True)
        rows = [_few_shot_row(part, str(source)) for _, part in groups]
        numbers = (part["number"].unique() for _, part in groups)
        note = spread_note([trained[int(number)] for number in of_row] for of_row in numbers)
        rows.sort(key=lambda row: (row.language, row.shots, row.configurations))
        tables.append(FewShotTable(str(task), metric, str(source), tuple(rows), note))
    return tables


def _few_shot_row(part: pd.DataFrame, source: str) -> FewShotRow:
    language, shots = part["shot_language"].iloc[0], part["shots"].iloc[0]
    of_language, of_source = part[part["language"] == language], part[part["language"] == source]
    return FewShotRow(
        configurations=tuple(sorted({int(number) for number in of_language["configuration"]})),
        language=str(language),
        shots=int(shots),
        num_samples=int(of_language["sample"].nunique()),
        num_seeds=int(of_language["seed"].nunique()),
        supervision=str(of_language["supervision"].iloc[0]),
        score=cell_of(of_language["value"]),
        lowest=float(of_language["value"].min()),
        highest=float(of_language["value"].max()),
        zero_shot=_before(of_language),
        source=None if of_source.empty else cell_of(of_source["value"]),
        source_before=_before(of_source),
    )


def _before(part: pd.DataFrame) -> Cell | None:
    """The mean of the trials' scores without shots; a seed's samples share one, so that the
    deviation is over seeds."""
    if part.empty or part["zero_shot"].isna().any():
        return None
    by_seed = cell_of(part.drop_duplicates("seed")["zero_shot"])
    return replace(by_seed, mean=cell_of(part["zero_shot"]).mean)


def _way(view: TrialView) -> str:
    """All that was searched over but the sample."""
    return repr(
        sorted((path, str(value)) for path, value in view.assignment.items() if path != SAMPLE)
    )


def _target_key(view: TrialView) -> str:
    return next((stage.key for stage in view.stages if stage.kind == "target"), "")
