"""Scores after few shots: a frame and a table of their own, beside the zero-shot ones.

A trial with ``few_shot`` has no row of scores anywhere else, so that no mean over languages mixes
the two. Its zero-shot counterpart is whatever trial scored the very target stage that it goes on
from. Samples of the same size are shown as one row with the spread over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from xlt_ray.config.task_types import FEW_SHOT_SUFFIX
from xlt_ray.ledger import TrialView
from xlt_ray.report.frames import WHAT_COLUMNS, WHO_COLUMNS, Snapshot, typed, what, who
from xlt_ray.report.replication import spread_note, trained_stages
from xlt_ray.report.tables import Cell, cell_of

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
    before = _zero_shot(snapshot)
    rows = []
    for view in snapshot.trials:
        record = snapshot.record(view, "evaluate")
        if record is None or view.state != "complete":
            continue
        settings: Any = record.payload["settings"]
        data: Any = record.payload["data"]
        shots = settings.get("few_shot")
        for score in record.scores if shots else ():
            scored = what(score, settings["task"]["version"], settings["source_language"])
            scored["task"] = score.task.removesuffix(FEW_SHOT_SUFFIX)
            key = (_target_key(view), score.split, score.metric, score.language)
            zero_shot = before.get(key)
            rows.append(
                {
                    **who(view),
                    "supervision": record.supervision,
                    "shot_language": shots["language"],
                    "shot_split": shots["split"],
                    "shots": shots["shots"],
                    "sample": shots["sample"],
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
    """Test scores of the metric of the objective, one table a task and source language."""
    metric = str(sweep["objective"]["metric"])
    test = frame[(frame["split"] == "test") & (frame["metric"] == metric)]
    ways = {view.number: _way(view) for view in snapshot.trials}
    test = test.assign(way=[ways[number] for number in test["number"]])
    trained = trained_stages(snapshot.trials)
    tables = []
    for (task, source), of_task in test.groupby(["task", "source_language"], sort=True):
        groups = of_task.groupby(["shot_language", "shots", "way"], sort=True)
        rows = [
            _row(part, str(language), int(shots), str(source))
            for (language, shots, _), part in groups
        ]
        note = spread_note(
            [trained[int(number)] for number in part["number"].unique()] for _, part in groups
        )
        rows.sort(key=lambda row: (row.language, row.shots, row.configurations))
        tables.append(FewShotTable(str(task), metric, str(source), tuple(rows), note))
    return tables


def _row(part: pd.DataFrame, language: str, shots: int, source: str) -> FewShotRow:
    of_language, of_source = part[part["language"] == language], part[part["language"] == source]
    values = [float(value) for value in of_language["value"]]
    return FewShotRow(
        configurations=tuple(sorted({int(number) for number in of_language["configuration"]})),
        language=language,
        shots=shots,
        num_samples=int(of_language["sample"].nunique()),
        num_seeds=int(of_language["seed"].nunique()),
        supervision=str(of_language["supervision"].iloc[0]),
        score=cell_of(values),
        lowest=min(values),
        highest=max(values),
        zero_shot=_before(of_language),
        source=None if of_source.empty else cell_of([float(value) for value in of_source["value"]]),
        source_before=_before(of_source),
    )


def _before(part: pd.DataFrame) -> Cell | None:
    """The mean of the trials' scores without shots; a seed's samples share one, so that the
    deviation is over seeds."""
    if part.empty or part["zero_shot"].isna().any():
        return None
    by_seed = cell_of([float(value) for value in part.drop_duplicates("seed")["zero_shot"]])
    return replace(by_seed, mean=cell_of([float(value) for value in part["zero_shot"]]).mean)


def _way(view: TrialView) -> str:
    """All that was searched over but the sample."""
    return repr(
        sorted((path, str(value)) for path, value in view.assignment.items() if path != SAMPLE)
    )


def _target_key(view: TrialView) -> str:
    return next((stage.key for stage in view.stages if stage.kind == "target"), "")


def _zero_shot(snapshot: Snapshot) -> dict[tuple[str, str, str, str], float]:
    """Target stage, split, metric and language -> score without shots."""
    scores = {}
    for view in snapshot.trials:
        record = snapshot.record(view, "evaluate")
        if record is None or view.state != "complete":
            continue
        for score in record.scores:
            if score.role == "target":
                scores[_target_key(view), score.split, score.metric, score.language] = score.value
    return scores
