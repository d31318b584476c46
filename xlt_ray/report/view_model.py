"""What the page shows, as plain values for its template.

Scores as cells of the page's tables: many, so they are small and made without a template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from xlt_ray.config.languages import language
from xlt_ray.ledger import Start, changes, facts_label
from xlt_ray.report.effects import Effects
from xlt_ray.report.evidence import Constant
from xlt_ray.report.labels import is_absent, language_label, value_label
from xlt_ray.report.replication import named, spread_note
from xlt_ray.report.selection import num_candidates
from xlt_ray.report.stats import student_quantile, summary
from xlt_ray.report.tables import Cell, LanguageTable, Row, cell_of, mean_of
from xlt_ray.store.stage import short

MISSING = '<td data-v><span class="soft" title="missing">–</span></td>'


def score_cell(
    cell: Cell | None,
    num_seeds: int,
    *,
    shade: float | None = None,
    warned: bool = False,
    constant: Constant | None = None,
) -> str:
    """HTML of one score: percent, deviation over seeds, and its number of seeds where it differs.

    What it opens follows from its row and column, so that none of it stands in the cell.

    Args:
        num_seeds: of its row.
        shade: strength of its background, 0 to 1.
        warned: whether a gap is smaller by the source language alone.
        constant: what is known of a network that says next to one thing to everything.
    """
    if cell is None:
        return MISSING
    style = f" style=--s:{shade:.2f}" if shade else ""
    small = "" if cell.deviation is None else f"±{100 * cell.deviation:.1f}"
    if cell.num_seeds != num_seeds:
        small += f" n={cell.num_seeds}"
    warning = (
        '<span class="warn" title="smaller only because the source language is worse">⚠ </span>'
        if warned
        else ""
    )
    if constant is not None:
        warning += f'<span class="warn" title="{constant}">≡ </span>'
    under = f"<small>{small}</small>" if small else ""
    return f"<td data-v={cell.mean:.6g}{style}>{warning}<a>{100 * cell.mean:.1f}</a>{under}</td>"


FIRST_CELLS = 3_000
"""Cells of a table of scores that are in the page from the start; a button shows the others."""

Uses = Mapping[int, Sequence[Mapping[str, Any]]]
"""Stages of every trial, by its number."""


def fact_list(
    trials: pd.DataFrame,
    tables: Sequence[LanguageTable],
    sweep: Mapping[str, Any],
    gpu_hours: float = 0.0,
) -> list[tuple[str, str]]:
    facts = [
        ("trials", str(len(trials))),
        ("configurations", str(trials["configuration"].nunique())),
        ("seeds", str(sweep["search"]["seeds"])),
    ]
    if tables:
        facts += [
            ("task", ", ".join(dict.fromkeys(table.task for table in tables))),
            ("source", ", ".join(dict.fromkeys(table.source_language for table in tables))),
            ("languages", str(len({code for table in tables for code in table.languages}))),
        ]
    facts.append(("metric", str(sweep["objective"]["metric"])))
    return [*facts, *([("GPU-hours", f"{gpu_hours:.3g}")] if gpu_hours else [])]


def best_view(
    best: int | None,
    trials: pd.DataFrame,
    uses: Uses,
    tables: Sequence[LanguageTable],
    parameters: Sequence[str],
    intervals: pd.DataFrame,
) -> dict[str, Any] | None:
    """What the page says of the best configuration; ``intervals`` are those over seeds and items
    (:func:`xlt_ray.report.item_uncertainty.intervals_frame`)."""
    if best is None:
        return None
    complete = trials[(trials["configuration"] == best) & (trials["state"] == "complete")]
    table, row = next(
        ((table, row) for table in tables for row in table.rows if row.configuration == best),
        (None, None),
    )
    first = complete.iloc[0]
    stages = uses.get(int(first["number"]), ())
    return {
        "configuration": best,
        "seeds": len(complete),
        "facts": facts_label(complete["facts"]),
        "objective": cell_of([float(value) for value in complete["objective"]]),
        "shots": next((str(stage["label"]) for stage in stages if stage["kind"] == "few_shot"), ""),
        "table": table,
        "row": row,
        "intervals": _intervals(row, table) if row and table else {},
        "over_items": _over_items(table, intervals) if table else {},
        "spread_note": spread_note([[trial.trained for trial in row.trials]]) if row else "",
        "num_candidates": num_candidates(trials),
        "parameters": [(path, value_label(first[path])) for path in parameters],
        "trials": [
            {
                "number": int(number),
                "seed": int(seed),
                "objective": float(objective),
                "run": "" if is_absent(run) else str(run),
                "stages": uses.get(int(number), ()),
            }
            for number, seed, objective, run in complete[
                ["number", "seed", "objective", "mlflow_run_id"]
            ].to_numpy()
        ],
    }


def language_table(table: LanguageTable, effects: Effects, best: int | None) -> dict[str, Any]:
    values = [cell.mean for row in table.rows for cell in row.cells.values()]
    low, high = min(values), max(values)
    reference = table.reference

    def shade(cell: Cell | None) -> float | None:
        if cell is None:
            return None
        return 0.0 if high == low else 0.42 * (cell.mean - low) / (high - low)

    def cells(row: Row) -> str:
        means = (row.objective, row.mean, row.mean_without_source)
        parts = [score_cell(mean, row.num_seeds) for mean in means]
        parts.append(score_cell(row.gap, row.num_seeds, warned=row.is_gap_of_source))
        constants = row.near_constant
        for code in table.languages:
            cell = row.cells.get(code)
            constant = constants.get(code)
            parts.append(score_cell(cell, row.num_seeds, shade=shade(cell), constant=constant))
        return "".join(parts)

    def group_cells(row: Row) -> str:
        means = [row.mean_without_source, *(row.groups.get(group.title) for group in table.groups)]
        return "".join(score_cell(mean, row.num_seeds) for mean in means)

    def pick_cells(row: Row) -> str:
        means = (row.cells.get(table.source_language), row.mean_without_source, row.gap)
        return "".join(score_cell(mean, row.num_seeds) for mean in means)

    def hint(code: str) -> str:
        known = language(code)
        return f"{known.name}: {known.family}, {known.script}, {known.resources} resources"

    return {
        "table": table,
        "best": best,
        "groups": [(group.title, ", ".join(group.languages)) for group in table.groups],
        "reference": None if reference is None else reference.configuration,
        "languages": [(code, language_label(code), hint(code)) for code in table.languages],
        "parameter_values": {
            row.configuration: [
                (path, _sortable(row.parameters[path]), value_label(row.parameters[path]))
                for path in table.parameters
            ]
            for row in table.rows
        },
        "cells": cells,
        "group_cells": group_cells,
        "pick_cells": pick_cells,
        "first": max(20, FIRST_CELLS // (len(table.languages) + len(table.parameters))),
        "effects": effects,
        "importances": [
            (path, [effects.importances[name].get(path) for name in effects.series])
            for path in effects.parameters
            if any(path in importance for importance in effects.importances.values())
        ],
    }


def links(tables: Mapping[str, LanguageTable], trials: pd.DataFrame, uses: Uses) -> dict[str, Any]:
    """Which trials every number of the tables is made of, and what made those trials.

    ``scores``: table -> configuration -> trials, each its number and its scores in the order of
    the table's languages (null where one is missing); ``groups``: table -> languages of every
    mean; ``given``: table -> configuration -> the trained stages that its seeds share, where they
    share any; ``trials``: number -> seed, objective, MLflow run and stages; ``quantiles``: number
    of seeds -> Student's quantile, for intervals of means.

    Args:
        tables: by what the page calls them.
    """
    scored = {
        trial.number for table in tables.values() for row in table.rows for trial in row.trials
    }
    most = max((row.num_seeds for table in tables.values() for row in table.rows), default=0)
    return {
        "quantiles": {str(number): student_quantile(number) for number in range(2, most + 1)},
        "scores": {
            stem: {
                str(row.configuration): [
                    [trial.number, *(trial.scores.get(code) for code in table.languages)]
                    for trial in row.trials
                ]
                for row in table.rows
            }
            for stem, table in tables.items()
        },
        "given": {
            stem: {str(row.configuration): named(row.shared) for row in table.rows if row.shared}
            for stem, table in tables.items()
        },
        "groups": {
            stem: {
                "all": table.languages,
                "without": table.targets,
                **{group.title: group.languages for group in table.groups},
            }
            for stem, table in tables.items()
        },
        "trials": {
            str(trial["number"]): {
                "seed": int(trial["seed"]),
                "dev": None if is_absent(trial["objective"]) else trial["objective"],
                "run": "" if is_absent(trial["mlflow_run_id"]) else trial["mlflow_run_id"],
                "stages": [
                    [use["kind"], use["key"], use["short"], bool(use["reused"])]
                    for use in uses.get(int(trial["number"]), ())
                ],
            }
            for trial in trials.to_dict("records")
            if trial["number"] in scored
        },
    }


def _intervals(row: Row, table: LanguageTable) -> dict[str, str]:
    """Student's 95 % intervals over seeds, in percent, of the headline numbers."""
    by_name = {}
    for name, languages in (("source", (table.source_language,)), ("others", table.targets)):
        if mean_of(row.trials, languages) is None:
            continue
        values = [fmean(trial.scores[code] for code in languages) for trial in row.trials]
        interval = summary(values).interval
        if interval is not None:
            by_name[name] = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    return by_name


def _over_items(table: LanguageTable, intervals: pd.DataFrame) -> dict[str, str]:
    """The same over seeds and test items, or over the items of one seed."""
    of_table = intervals[(intervals["task"] == table.task) & (intervals["interval"] != "")]
    of_table = of_table[of_table["source_language"] == table.source_language]
    names = {table.source_language: "source", "mean_without_source": "others"}
    return {
        names[str(line["languages"])]: (
            f"{100 * line['low']:.1f} to {100 * line['high']:.1f} over "
            f"{'seeds and ' if line['interval'] == 'two_level' else ''}{line['num_items']:,} items"
        )
        for line in of_table.to_dict("records")
        if line["languages"] in names
    }


_TRIAL_COLUMNS = ("number", "state", "configuration", "seed", "attempts", "facts")


def trial_rows(trials: pd.DataFrame, uses: Uses, parameters: Sequence[str]) -> list[dict[str, Any]]:
    retried = {
        int(old): int(number)
        for number, old in trials[["number", "retry_of"]].to_numpy()
        if not is_absent(old)
    }
    firsts = set(trials.drop_duplicates("configuration")["number"])
    return [
        {
            **{str(name): trial[name] for name in _TRIAL_COLUMNS},
            "is_first": trial["number"] in firsts,
            "objective": None if is_absent(trial["objective"]) else trial["objective"],
            "cause": "" if is_absent(trial["cause"]) else trial["cause"],
            "message": trial["message"],
            "retried_as": retried.get(trial["number"]),
            "run": "" if is_absent(trial["mlflow_run_id"]) else trial["mlflow_run_id"],
            "seconds": float(trial["seconds"]),
            "parameters": [
                (_sortable(trial[path]), value_label(trial[path])) for path in parameters
            ],
            "stages": uses.get(int(trial["number"]), ()),
        }
        for trial in trials.to_dict("records")
    ]


def made_with(
    fact_sets: Mapping[int, Mapping[str, str]], starts: Sequence[Start]
) -> dict[str, Any]:
    """``sets``: number of every set of facts, how many there are in it and how it differs from the
    first one; ``starts``: every start with its set, commit and versions."""
    first = next(iter(fact_sets.values()), {})
    return {
        "sets": [
            {
                "number": number,
                "size": len(fact_set),
                "changes": list(map(str, changes(first, fact_set))),
            }
            for number, fact_set in fact_sets.items()
        ],
        "starts": [
            {
                "time": start.time,
                "facts": start.facts,
                "commit": start.commit or "–",
                "versions": ", ".join(
                    f"{name} {version}" for name, version in start.versions.items()
                ),
            }
            for start in starts
        ],
    }


def stages_by_trial(stages: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """The stages of every trial in the order of its path, with their short keys."""
    by_trial: dict[int, list[dict[str, Any]]] = {}
    for row in stages.to_dict("records"):
        stage = {str(name): value for name, value in row.items()} | {"short": short(row["key"])}
        by_trial.setdefault(int(row["number"]), []).append(stage)
    return by_trial


def stage_rows(stages: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a stage: the trial that made it and how many used it."""
    by_key: dict[str, dict[str, Any]] = {}
    for stage in stages.to_dict("records"):
        key = str(stage["key"])
        row = by_key.setdefault(
            key,
            {"key": key, "short": short(key), "kind": stage["kind"], "label": stage["label"],
             "coverage": stage["coverage"],
             "made_by": None, "examples": 0, "seconds": 0.0, "uses": 0},
        )  # fmt: skip
        row["uses"] += 1
        if row["made_by"] is None and not stage["reused"]:
            row |= {
                "made_by": int(stage["number"]),
                "examples": int(stage["examples"]),
                "seconds": float(stage["seconds"]),
            }
    return list(by_key.values())


def sharing_of(stages: pd.DataFrame, costs: Mapping[str, int]) -> dict[str, Any]:
    """How much training the sharing of stages has saved, those of other sweeps included.

    Args:
        costs: key of a stage -> examples that making it takes; one that is not there counts for
            nothing.
    """
    trained = int(stages["examples"].sum())
    reused = stages["key"][stages["reused"].astype(bool)]
    saved = sum(costs.get(str(key), 0) for key in reused)
    return {
        "unique": int(stages["key"].nunique()),
        "uses": len(stages),
        "trained": trained,
        "saved": saved,
        "share": saved / (saved + trained) if saved + trained else 0.0,
    }


def distinct(column: pd.Series) -> list[str]:
    return sorted(str(value) for value in column.unique() if value)


def _sortable(value: Any) -> str:
    return "" if is_absent(value) else str(value)
