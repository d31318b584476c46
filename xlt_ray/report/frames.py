"""Data frames of a sweep, from ledger and store alone: trials, scores, stages.

Rows are ordered by trial number and then by name, so that the same ledger and store give the same
frames everywhere. Scores are those of complete trials; a pruned or failed trial has none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from xlt_ray.ledger import Ledger, TrialView
from xlt_ray.stages.record import StageRecord
from xlt_ray.stages.store import StageStore

TRIAL_COLUMNS = (
    "number",
    "state",
    "configuration",
    "repeat",
    "seed",
    "objective",
    "attempts",
    "cause",
    "message",
    "retry_of",
    "examples",
    "seconds",
    "started",
    "ended",
    "mlflow_run_id",
)
SCORE_COLUMNS = (
    "number",
    "configuration",
    "repeat",
    "seed",
    "task",
    "source_language",
    "language",
    "split",
    "metric",
    "value",
    "num_examples",
)
STAGE_COLUMNS = (
    "number",
    "kind",
    "key",
    "label",
    "reused",
    "examples",
    "seconds",
    "runtime",
    "versions",
)


def knobs_of(trials: Sequence[TrialView]) -> list[str]:
    """Dotted paths of everything that was searched over, the model first."""
    paths = {path for view in trials for path in view.assignment}
    return sorted(paths, key=lambda path: (path != "model", path))


def trials_frame(ledger: Ledger) -> pd.DataFrame:
    """One row a trial: ``TRIAL_COLUMNS``, then one column for each knob by its dotted path.

    A knob that a trial does not have (of a block that was not chosen) is None. ``examples`` and
    ``seconds`` are what this trial itself trained and took; reused stages count for nothing.
    """
    views = ledger.trials()
    knobs = knobs_of(views)
    rows = [
        {
            **{name: getattr(view, name, None) for name in TRIAL_COLUMNS},
            "examples": sum(one.examples for one in view.stages),
            "seconds": sum(one.seconds for one in view.stages),
            **{path: view.assignment.get(path) for path in knobs},
        }
        for view in views
    ]
    # Object columns: a knob may be text in one trial and absent in the next.
    return pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, *knobs], dtype=object)


def scores_frame(ledger: Ledger, store: StageStore) -> pd.DataFrame:
    """One row a trial, task, language, split and metric: ``SCORE_COLUMNS``.

    Raises:
        DamagedStage: a record of scores cannot be read.
    """
    rows: list[dict[str, Any]] = []
    for view in ledger.trials():
        if view.state != "complete" or view.evaluation_key is None:
            continue
        record = store.record(view.evaluation_key)
        if record is None:
            continue
        rows += [
            {
                "number": view.number,
                "configuration": view.configuration,
                "repeat": view.repeat,
                "seed": view.seed,
                "source_language": _source_language(record),
                **vars(score),
            }
            for score in record.scores
        ]
    frame = pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
    return frame.sort_values(
        ["number", "task", "split", "metric", "language"], kind="stable", ignore_index=True
    )


def stages_frame(ledger: Ledger, store: StageStore) -> pd.DataFrame:
    """One row a trial and stage: ``STAGE_COLUMNS``.

    ``runtime`` (the numeric half, which may move last bits) and ``versions`` (of the code that
    made it) are canonical JSON of the record, empty where the store has it no more.
    """
    records: dict[str, StageRecord | None] = {}
    rows: list[dict[str, Any]] = []
    for view in ledger.trials():
        for one in view.stages:
            if one.key not in records:
                records[one.key] = store.record(one.key)
            record = records[one.key]
            made_by = record.made_by if record else {}
            versions = {name: made_by[name] for name in ("commit", "versions") if name in made_by}
            rows.append(
                {
                    "number": view.number,
                    **{name: getattr(one, name) for name in STAGE_COLUMNS[1:7]},
                    "runtime": _json(record.runtime) if record and record.runtime else "",
                    "versions": _json(versions) if versions else "",
                }
            )
    return pd.DataFrame(rows, columns=list(STAGE_COLUMNS))


def _source_language(record: StageRecord) -> str:
    settings = record.payload["settings"]
    return str(settings.get("source_language", "")) if isinstance(settings, dict) else ""


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
