"""The rule that selects a configuration, what other rules would select, and the Pareto front.

Test scores are of each training's best or last checkpoint (``target.select``), or of the average of
the last ones (``target.average``): dev scores are kept at every evaluation, weights at one. A rule
that reads labels of target languages is called an oracle: it bounds what selection could gain, and
is not zero-shot.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xlt_ray.config.seed_race import seed_levels
from xlt_ray.config.sweep import reads_target_labels, selection_rule
from xlt_ray.config.trial import Target
from xlt_ray.report.tables import Cell, LanguageTable, Row, cell_of

COMPETED = ("complete", "pruned")
"""States of trials by which a configuration had a chance to be chosen."""
ORACLE = " ORACLE SELECTION: not zero-shot."


@dataclass(frozen=True)
class Pick:
    """What one rule chooses: a row of a table, by this value of what the rule looks at."""

    rule: str
    is_oracle: bool
    value: float | None = None
    row: Row | None = None
    """None where there is nothing to choose by: ``missing`` says what."""
    missing: str = ""
    is_averaged: bool = False
    """Whether the row is of averaged weights."""


@dataclass(frozen=True)
class Checkpoints:
    """Source-language dev scores over the steps of one configuration's target trainings."""

    configuration: int
    last: Cell
    """At the last checkpoint."""
    best: Cell
    """At each training's best evaluation."""
    num_last_is_best: int
    """Trainings whose scores are the same, whichever of the two is selected."""


def is_oracle(sweep: Mapping[str, Any]) -> bool:
    """Whether objectives or constraints read labels of target languages."""
    return reads_target_labels(sweep)


def has_few_shot(sweep: Mapping[str, Any]) -> bool:
    """Whether trials may be trained on a few labels of a target language."""
    return sweep["space"].get("few_shot") is not None


def header(sweep: Mapping[str, Any], source: str) -> str:
    """What stands above every table: the rule, the checkpoint, and whether it is an oracle."""
    text = f"Configurations are {selection_rule(sweep, source)}; "
    text += f"scores are of the {checkpoint_rule(sweep, source)}."
    levels = seed_levels(sweep["search"]["seeds"])
    if len(levels) > 1:
        text += f" Better ones got more seeds, {levels[0]} to {levels[-1]}"
        text += ", and those with more rank before those with fewer."
    if fidelity := sweep["search"].get("fidelity"):
        text += f" Better ones were trained again with a larger {fidelity['over']}"
        text += ", and only those with its last value are selected from."
    if has_few_shot(sweep):
        text += " Trials with few_shot are NOT ZERO-SHOT: their scores are in a table of their own."
    return text + (ORACLE if is_oracle(sweep) else "")


def checkpoint_rule(sweep: Mapping[str, Any], source: str) -> str:
    """Which checkpoint of a training is scored, to follow "the"."""
    selected = selected_checkpoints(sweep)
    if selected == {"last"}:
        return "last checkpoint"
    best = f"checkpoint of each training that is best on the dev set of {source}"
    return best if selected == {"best"} else f"last checkpoint, or the {best} (target.select)"


def selected_checkpoints(sweep: Mapping[str, Any]) -> set[str]:
    """Values of ``target.select`` that trials of a sweep may have."""

    def options(node: Any) -> list[Any]:
        is_choice = isinstance(node, Mapping) and set(node) == {"choice"}
        return (
            [leaf for option in node["choice"] for leaf in options(option)] if is_choice else [node]
        )

    default = Target.model_fields["select"].default
    targets = options(sweep["space"].get("target") or {})
    return {str(option) for target in targets for option in options(target.get("select", default))}


def table_header(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """The same of one table, with those of its configurations that are not zero-shot."""
    return f"{header(sweep, table.source_language)} {table.supervision_note}".rstrip()


def counted(sweep: Mapping[str, Any], source: str) -> str:
    """What stands above a table in which configurations are not ranked."""
    text = "All configurations with scores count here, selected or not. "
    text += f"Configurations are {selection_rule(sweep, source)}."
    return text + (ORACLE if is_oracle(sweep) else "")


def num_candidates(trials: pd.DataFrame) -> int:
    """Configurations that had a chance to be chosen: complete, or stopped early as worse."""
    competed = trials[trials["state"].isin(COMPETED)]
    return int(competed["configuration"].nunique())


def picks(
    table: LanguageTable,
    scores: pd.DataFrame,
    sweep: Mapping[str, Any],
    averaged: LanguageTable | None = None,
    averaged_scores: pd.DataFrame | None = None,
) -> list[Pick]:
    """What each rule picks of a table, the sweep's own first; a rule without data has no row.

    Only configurations that have all seeds of the best-covered one take part, and each rule
    looks at the same languages in all of them.

    Args:
        averaged: the same table of the scores of averaged weights, made from ``averaged_scores``.
    """
    source, targets = table.source_language, table.targets
    rows, dev = _full(table), _dev_means(table, scores[scores["stage"] == "evaluate"])
    averaged_rows = _full(averaged) if averaged is not None else {}
    averaged_dev: Mapping[tuple[int, str], float] = {}
    if averaged is not None and averaged_scores is not None:
        averaged_dev = _dev_means(averaged, averaged_scores)

    def pick(
        rule: str,
        values: Mapping[int, float],
        missing: str,
        *,
        is_oracle: bool = False,
        is_averaged: bool = False,
    ) -> Pick:
        among = averaged_rows if is_averaged else rows
        known = [number for number in values if number in among]
        if not known:
            return Pick(rule, is_oracle, missing=missing, is_averaged=is_averaged)
        best = min(known, key=lambda number: (-table.sign * values[number], number))
        return Pick(rule, is_oracle, values[best], among[best], is_averaged=is_averaged)

    scored = [code for code in targets if any((row, code) in dev for row in rows)]
    oracle_dev = {
        row: statistics.fmean(dev[row, code] for code in scored)
        for row in rows
        if scored and all((row, code) in dev for code in scored)
    }
    oracle_test = {
        number: row.mean_without_source.mean
        for number, row in rows.items()
        if row.mean_without_source
    }
    # A sweep that selects by the scored checkpoint's dev score says so in its own rule.
    on_checkpoint = pick(
        f"dev {source}, checkpoint that is scored",
        {row: dev[row, source] for row in rows if (row, source) in dev},
        f"the dev set of {source} was not scored",
    )
    return [
        pick(
            f"the sweep's: {selection_rule(sweep, source)}",
            {
                number: row.objective.mean
                for number, row in rows.items()
                if row.objective and not row.violated
            },
            "no configuration has a score yet",
            is_oracle=is_oracle(sweep),
        ),
        *([on_checkpoint] if is_oracle(sweep) else []),
        pick(
            f"dev {source}, best checkpoint of each training",
            {each.configuration: each.best.mean for each in checkpoints(table, scores)},
            "no training kept its dev scores on the way",
        ),
        pick(
            f"dev {source}, average of the last checkpoints",
            {row: value for (row, code), value in averaged_dev.items() if code == source},
            "no training averaged its checkpoints (target.average)",
            is_averaged=True,
        ),
        pick(
            f"oracle: dev of {len(scored) or len(targets)} target languages",
            oracle_dev,
            "their dev sets were not scored (evaluate.dev)",
            is_oracle=True,
        ),
        pick(
            f"oracle: test of {len(targets)} target languages",
            oracle_test,
            "no configuration has all of them",
            is_oracle=True,
        ),
    ]


def _full(table: LanguageTable) -> dict[int, Row]:
    """Rows that have all seeds of the best-covered one, by configuration; of the highest rung."""
    scored = [row for row in table.rows if row.num_seeds]
    covered = [(row.rung or 0, row.num_seeds) for row in scored]
    best = max(covered, default=None)
    return {
        row.configuration: row
        for row, coverage in zip(scored, covered, strict=True)
        if coverage == best
    }


def _of_table(scores: pd.DataFrame, table: LanguageTable) -> pd.DataFrame:
    """The dev scores that belong to a table."""
    return scores[
        (scores["split"] == "dev")
        & (scores["metric"] == table.metric)
        & (scores["task"] == table.task)
        & (scores["source_language"] == table.source_language)
    ]


def checkpoints(table: LanguageTable, scores: pd.DataFrame) -> list[Checkpoints]:
    """Last and best checkpoint of every configuration whose trainings' dev scores are known."""
    part = _of_table(scores[scores["stage"] == "target"], table).sort_values("examples")
    curves = {int(number): values.tolist() for number, values in part.groupby("number")["value"]}
    result = []
    for row in table.rows:
        of_row = [curves[trial.number] for trial in row.trials if trial.number in curves]
        if not of_row or len(of_row) < row.num_seeds:
            continue
        best = [max(curve) if table.is_higher_better else min(curve) for curve in of_row]
        last = [curve[-1] for curve in of_row]
        num_last_is_best = sum(a == b for a, b in zip(last, best, strict=True))
        result.append(
            Checkpoints(row.configuration, cell_of(last), cell_of(best), num_last_is_best)
        )
    return result


def _dev_means(table: LanguageTable, scores: pd.DataFrame) -> dict[tuple[int, str], float]:
    """Mean dev score by configuration and language, where every seed has it."""
    part = _of_table(scores, table)
    by_number: dict[tuple[int, str], dict[int, float]] = {}
    for configuration, code, number, value in zip(
        *(part[name] for name in ("configuration", "language", "number", "value")), strict=True
    ):
        by_number.setdefault((configuration, code), {})[number] = value
    numbers = {row.configuration: {trial.number for trial in row.trials} for row in table.rows}
    return {
        (configuration, code): statistics.fmean(values.values())
        for (configuration, code), values in by_number.items()
        if values.keys() == numbers.get(configuration)
    }
