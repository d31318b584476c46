"""What the page shows, as plain values for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from xlt_ray.report.labels import DescribeLanguage, is_absent, language_label, shown_value
from xlt_ray.report.statistics import summary
from xlt_ray.report.tables import LanguageTable, Row, mean_of
from xlt_ray.stages.stage import short

STATES = ("complete", "pruned", "failed", "running", "waiting")


def fact_list(
    trials: pd.DataFrame, tables: Sequence[LanguageTable], sweep: Mapping[str, Any]
) -> list[tuple[str, str]]:
    facts = [
        ("trials", str(len(trials))),
        ("configurations", str(trials["configuration"].nunique())),
        ("seeds", str(sweep["search"]["seeds"])),
    ]
    if tables:
        facts += [
            ("task", ", ".join(dict.fromkeys(one.task for one in tables))),
            ("source", ", ".join(dict.fromkeys(one.source_language for one in tables))),
            ("languages", str(len({code for one in tables for code in one.languages}))),
        ]
    return [*facts, ("metric", str(sweep["objective"]["metric"]))]


def best_view(
    best: int | None,
    trials: pd.DataFrame,
    stages: pd.DataFrame,
    tables: Sequence[LanguageTable],
    knobs: Sequence[str],
) -> dict[str, Any] | None:
    if best is None:
        return None
    mine = trials[(trials["configuration"] == best) & (trials["state"] == "complete")]
    table, row = next(
        ((one, row) for one in tables for row in one.rows if row.configuration == best),
        (None, None),
    )
    first = mine.iloc[0]
    return {
        "configuration": best,
        "seeds": len(mine),
        "table": table,
        "row": row,
        "intervals": _intervals(row, table) if row and table else {},
        "knobs": [(path, shown_value(first[path])) for path in knobs],
        "trials": [
            {
                "number": int(number),
                "seed": int(seed),
                "objective": float(objective),
                "run": "" if is_absent(run) else str(run),
                "stages": _stages_of(int(number), stages),
            }
            for number, seed, objective, run in mine[
                ["number", "seed", "objective", "mlflow_run_id"]
            ].to_numpy()
        ],
    }


def language_table(
    table: LanguageTable, best: int | None, describe: DescribeLanguage | None
) -> dict[str, Any]:
    values = [cell.mean for row in table.rows for cell in row.cells.values()]
    low, high = min(values), max(values)
    reference = table.reference

    def shade(value: float) -> float:
        return 0.0 if high == low else 0.42 * (value - low) / (high - low)

    def hint(code: str) -> str:
        if describe is None:
            return code
        told = describe(code)
        return f"{told.name}: {told.family}, {told.script}, {told.resources} resources"

    return {
        "table": table,
        "best": best,
        "groups": [(one.title, ", ".join(one.languages)) for one in table.groups],
        "reference": None if reference is None else reference.configuration,
        "languages": [
            (code, language_label(code, describe), hint(code)) for code in table.languages
        ],
        "knob_values": {
            row.configuration: [
                (path, _sortable(row.knobs[path]), shown_value(row.knobs[path]))
                for path in table.knobs
            ]
            for row in table.rows
        },
        "shade": shade,
    }


def links(
    tables: Sequence[LanguageTable], trials: pd.DataFrame, stages: pd.DataFrame
) -> dict[str, Any]:
    """Which trials every number of the tables is made of, and what made those trials.

    ``scores``: table -> configuration -> trials with their scores by language; ``trials``: number
    -> seed, objective, MLflow run and stages.
    """
    scored = {one.number for table in tables for row in table.rows for one in row.trials}
    return {
        "scores": {
            table.stem: {
                str(row.configuration): [
                    {"trial": one.number, "scores": dict(sorted(one.scores.items()))}
                    for one in row.trials
                ]
                for row in table.rows
            }
            for table in tables
        },
        "groups": {
            table.stem: {
                "all": table.languages,
                "without": table.languages[1:],
                **{group.title: group.languages for group in table.groups},
            }
            for table in tables
        },
        "trials": {
            str(one["number"]): {
                "seed": int(one["seed"]),
                "dev": None if is_absent(one["objective"]) else one["objective"],
                "run": "" if is_absent(one["mlflow_run_id"]) else one["mlflow_run_id"],
                "stages": [
                    [use["kind"], use["key"], use["short"], bool(use["reused"])]
                    for use in _stages_of(int(one["number"]), stages)
                ],
            }
            for one in trials.to_dict("records")
            if one["number"] in scored
        },
    }


def _intervals(row: Row, table: LanguageTable) -> dict[str, str]:
    """Student's 95 % intervals over seeds, in percent, of the headline numbers."""
    source = table.source_language
    others = table.languages[1:] if source in table.languages else table.languages
    found = {}
    for name, languages in (("source", [source]), ("others", others)):
        if mean_of(row.trials, languages) is None:
            continue
        values = [fmean(one.scores[code] for code in languages) for one in row.trials]
        interval = summary(values).interval
        if interval is not None:
            found[name] = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    return found


_TRIAL_COLUMNS = ("number", "state", "configuration", "seed", "attempts")


def trial_rows(
    trials: pd.DataFrame, stages: pd.DataFrame, knobs: Sequence[str]
) -> list[dict[str, Any]]:
    retried = {
        int(old): int(number)
        for number, old in trials[["number", "retry_of"]].to_numpy()
        if not is_absent(old)
    }
    return [
        {
            **{str(name): one[name] for name in _TRIAL_COLUMNS},
            "objective": None if is_absent(one["objective"]) else one["objective"],
            "cause": "" if is_absent(one["cause"]) else one["cause"],
            "message": one["message"],
            "retried_as": retried.get(one["number"]),
            "run": "" if is_absent(one["mlflow_run_id"]) else one["mlflow_run_id"],
            "seconds": float(one["seconds"]),
            "knobs": [(_sortable(one[path]), shown_value(one[path])) for path in knobs],
            "stages": _stages_of(int(one["number"]), stages),
        }
        for one in trials.to_dict("records")
    ]


def _stages_of(number: int, stages: pd.DataFrame) -> list[dict[str, Any]]:
    rows = stages[stages["number"] == number].to_dict("records")
    return [
        {**{str(name): value for name, value in row.items()}, "short": short(row["key"])}
        for row in rows
    ]


def stage_rows(stages: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a stage: the trial that made it and how many used it."""
    shown = []
    for key, part in stages.groupby("key", sort=False):
        made = part[~part["reused"].astype(bool)]
        first = (part if made.empty else made).iloc[0]
        shown.append(
            {
                "key": key,
                "short": short(str(key)),
                "kind": first["kind"],
                "label": first["label"],
                "made_by": None if made.empty else int(first["number"]),
                "examples": int(first["examples"]),
                "seconds": float(first["seconds"]),
                "uses": len(part),
            }
        )
    return shown


def sharing_of(stages: pd.DataFrame) -> dict[str, Any]:
    """How much training the sharing of stages has saved."""
    reused = stages["reused"].astype(bool)
    cost = stages[~reused].groupby("key")["examples"].max()
    trained = int(stages["examples"].sum())
    saved = sum(int(cost.get(key, 0)) for key in stages[reused]["key"])
    return {
        "unique": int(stages["key"].nunique()),
        "reused": int(reused.sum()),
        "trained": trained,
        "saved": saved,
        "share": saved / (saved + trained) if saved + trained else 0.0,
    }


def distinct(column: pd.Series) -> list[str]:
    return sorted(str(value) for value in column.unique() if value)


def _sortable(value: Any) -> str:
    return "" if is_absent(value) else str(value)
