"""By which rule a configuration is chosen, and what other rules would have chosen.

Test scores are of each training's best or last checkpoint, as ``target.select`` says, and of the
average of the last ones where a sweep asks for it (``target.average``): dev scores are kept at
every evaluation of a training, the weights of one.
A rule that reads labels of target languages is called an oracle: it bounds what selection could
gain, and is not zero-shot.

Which configurations no other one beats in everything at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xlt_ray.config.sweep import selection_rule
from xlt_ray.config.trial import Target
from xlt_ray.report.tables import Cell, LanguageTable, Row, cell_of


def pareto_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each point is on the front, all coordinates the higher the better.

    A point is off the front if another is at least as good everywhere and better somewhere;
    equal points are on it together or not at all.

    >>> pareto_front([(1, 5), (2, 4), (1, 4), (2, 4)])
    [True, True, False, True]
    """
    known = [tuple(point) for point in points]
    # What beats many is asked first: few points are compared with all others.
    strong = sorted(set(known), key=sum, reverse=True)
    return [not any(_beats(other, one) for other in strong) for one in known]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


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
    """Trainings whose last evaluation is their best: whichever is selected, the scores are the
    same."""


def is_oracle(sweep: Mapping[str, Any]) -> bool:
    """Whether the objective reads labels of target languages."""
    return bool(sweep["objective"]["languages"] != "source")


def has_few_shot(sweep: Mapping[str, Any]) -> bool:
    """Whether trials may be trained on a few labels of a target language."""
    return sweep["space"].get("few_shot") is not None


def header(sweep: Mapping[str, Any], source: str) -> str:
    """What stands above every table: the rule, the checkpoint, and whether it is an oracle."""
    text = f"Configurations are {selection_rule(sweep['objective'], source)}; "
    text += f"scores are of the {checkpoint_rule(sweep, source)}."
    if has_few_shot(sweep):
        text += " Trials with few_shot are NOT ZERO-SHOT: their scores are in a table of their own."
    return text + (ORACLE if is_oracle(sweep) else "")


def checkpoint_rule(sweep: Mapping[str, Any], source: str) -> str:
    """Which checkpoint of a training is scored, to follow "the"."""
    found = selected_checkpoints(sweep)
    if found == {"last"}:
        return "last checkpoint"
    best = f"checkpoint of each training that is best on the dev set of {source}"
    return best if found == {"best"} else f"last checkpoint, or the {best} (target.select)"


def selected_checkpoints(sweep: Mapping[str, Any]) -> set[str]:
    """Values of ``target.select`` that trials of a sweep may have."""

    def options(node: Any) -> list[Any]:
        is_choice = isinstance(node, Mapping) and set(node) == {"choice"}
        return [leaf for one in node["choice"] for leaf in options(one)] if is_choice else [node]

    default = Target.model_fields["select"].default
    targets = options(sweep["space"].get("target") or {})
    return {str(option) for target in targets for option in options(target.get("select", default))}


def table_header(table: LanguageTable, sweep: Mapping[str, Any]) -> str:
    """The same of one table, with those of its configurations that are not zero-shot."""
    return " ".join(
        part for part in (header(sweep, table.source_language), table.supervision_note) if part
    )


def counted(sweep: Mapping[str, Any], source: str) -> str:
    """What stands above a table in which configurations are not ranked."""
    text = "All configurations with scores count here, selected or not. "
    text += f"Configurations are {selection_rule(sweep['objective'], source)}."
    return text + (ORACLE if is_oracle(sweep) else "")


def num_candidates(trials: pd.DataFrame) -> int:
    """Configurations that had a chance to be chosen: complete, or stopped early as worse."""
    competed = trials[trials["state"].isin(COMPETED)]
    return int(competed["configuration"].nunique())


def sign_of(sweep: Mapping[str, Any]) -> float:
    """-1 where higher is better: what a sort with the best first multiplies by."""
    return -1.0 if sweep["objective"]["mode"] == "max" else 1.0


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
    source = table.source_language
    rows = _full(table)
    others = [code for code in table.languages if code != source]
    dev = _dev_means(table, scores, "evaluate")
    on_source = f"dev {source}"
    rules = [
        _pick(
            f"the sweep's: {selection_rule(sweep['objective'], source)}",
            {one: row.objective.mean for one, row in rows.items() if row.objective},
            rows,
            sweep,
            "no configuration has a score yet",
            is_oracle=is_oracle(sweep),
        )
    ]
    if is_oracle(sweep):
        # A sweep that is chosen by this says so in its own rule.
        values = {row: dev[row, source] for row in rows if (row, source) in dev}
        missing = f"the dev set of {source} was not scored"
        rules.append(_pick(f"{on_source}, checkpoint that is scored", values, rows, sweep, missing))
    best = {
        checkpoint.configuration: checkpoint.best.mean for checkpoint in checkpoints(table, scores)
    }
    rules.append(
        _pick(
            f"{on_source}, best checkpoint of each training",
            best,
            rows,
            sweep,
            "no training kept its dev scores on the way",
        )
    )
    mean_rows = _full(averaged) if averaged is not None else {}
    mean_dev: Mapping[tuple[int, str], float] = {}
    if averaged is not None and averaged_scores is not None:
        mean_dev = _dev_means(averaged, averaged_scores, None)
    rules.append(
        _pick(
            f"{on_source}, average of the last checkpoints",
            {row: mean_dev[row, source] for row in mean_rows if (row, source) in mean_dev},
            mean_rows,
            sweep,
            "no training averaged its checkpoints (target.average)",
            is_averaged=True,
        )
    )
    scored = [code for code in others if any((row, code) in dev for row in rows)]
    oracle_dev = {
        row: statistics.fmean(dev[row, code] for code in scored)
        for row in rows
        if scored and all((row, code) in dev for code in scored)
    }
    oracle_test = {
        one: row.mean_without_source.mean for one, row in rows.items() if row.mean_without_source
    }
    number = len(scored) or len(others)
    return [
        *rules,
        _pick(
            f"oracle: dev of {number} target languages",
            oracle_dev,
            rows,
            sweep,
            "their dev sets were not scored (evaluate.dev)",
            is_oracle=True,
        ),
        _pick(
            f"oracle: test of {len(others)} target languages",
            oracle_test,
            rows,
            sweep,
            "no configuration has all of them",
            is_oracle=True,
        ),
    ]


def _full(table: LanguageTable) -> dict[int, Row]:
    """Rows that have all seeds of the best-covered one, by configuration."""
    most = max((row.num_seeds for row in table.rows), default=0)
    return {row.configuration: row for row in table.rows if row.num_seeds == most and most}


def _pick(
    rule: str,
    values: Mapping[int, float],
    rows: Mapping[int, Row],
    sweep: Mapping[str, Any],
    missing: str,
    *,
    is_oracle: bool = False,
    is_averaged: bool = False,
) -> Pick:
    known = {one: value for one, value in values.items() if one in rows}
    if not known:
        return Pick(rule, is_oracle, missing=missing, is_averaged=is_averaged)
    best = min(known, key=lambda one: (sign_of(sweep) * known[one], one))
    return Pick(rule, is_oracle, known[best], rows[best], is_averaged=is_averaged)


def checkpoints(table: LanguageTable, scores: pd.DataFrame) -> list[Checkpoints]:
    """Last and best checkpoint of every configuration whose trainings' dev scores are known."""
    part = scores[
        (scores["stage"] == "target")
        & (scores["split"] == "dev")
        & (scores["metric"] == table.metric)
        & (scores["task"] == table.task)
        & (scores["source_language"] == table.source_language)
    ]
    curves = {
        int(number): [float(value) for value in one.sort_values("examples")["value"]]
        for number, one in part.groupby("number")
    }
    found = []
    for row in table.rows:
        mine = [curves[trial.number] for trial in row.trials if curves.get(trial.number)]
        if not mine or len(mine) < row.num_seeds:
            continue
        best = [max(one) if table.is_higher_better else min(one) for one in mine]
        found.append(
            Checkpoints(
                configuration=row.configuration,
                last=cell_of([one[-1] for one in mine]),
                best=cell_of(best),
                num_last_is_best=sum(one[-1] == top for one, top in zip(mine, best, strict=True)),
            )
        )
    return found


def _dev_means(
    table: LanguageTable, scores: pd.DataFrame, stage: str | None
) -> dict[tuple[int, str], float]:
    """Mean dev score by configuration and language, where every seed has it.

    Args:
        stage: that the scores are of; None where the frame holds those of one alone.
    """
    part = scores if stage is None else scores[scores["stage"] == stage]
    part = part[
        (part["split"] == "dev")
        & (part["metric"] == table.metric)
        & (part["task"] == table.task)
        & (part["source_language"] == table.source_language)
    ]
    found: dict[tuple[int, str], dict[int, float]] = {}
    columns = (part[name] for name in ("configuration", "language", "number", "value"))
    for configuration, language, number, value in zip(*columns, strict=True):
        found.setdefault((int(configuration), str(language)), {})[int(number)] = float(value)
    seeds = {row.configuration: {trial.number for trial in row.trials} for row in table.rows}
    return {
        (configuration, language): statistics.fmean(values.values())
        for (configuration, language), values in found.items()
        if seeds.get(configuration) == values.keys()
    }
