"""By which rule a configuration is chosen, and what other rules would have chosen.

Test scores exist of the last checkpoint alone, whatever rule picks the configuration: dev scores
are kept at every evaluation of a training, weights at its end. A rule that reads labels of target
languages is called an oracle: it bounds what selection could gain, and is not zero-shot.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xlt_ray.report.tables import Cell, LanguageTable, Row, cell_of


@dataclass(frozen=True)
class Pick:
    """What one rule chooses: a row of the table, by this value of what the rule looks at."""

    rule: str
    is_oracle: bool
    value: float
    row: Row


@dataclass(frozen=True)
class Checkpoints:
    """Source-language dev scores over the steps of one configuration's target trainings."""

    configuration: int
    last: Cell
    """At the last checkpoint: what is scored on the test sets."""
    best: Cell
    """At each training's best evaluation."""
    num_last_is_best: int
    """Trainings whose last evaluation is their best: their test scores are those of both picks."""


def selection_rule(sweep: Mapping[str, Any], source: str) -> str:
    """By what configurations are ranked, to follow "configurations are"."""
    objective = sweep["objective"]
    languages = objective["languages"]
    if languages == "source":
        return f"chosen by {objective['metric']} on the dev set of {source}"
    named = languages if isinstance(languages, str) else ", ".join(languages)
    where = {"target": "the target languages", "all": "all languages"}.get(named, named)
    return f"chosen by {objective['metric']} on the dev sets of {where}"


def is_oracle(sweep: Mapping[str, Any]) -> bool:
    """Whether the objective reads labels of target languages."""
    return bool(sweep["objective"]["languages"] != "source")


def header(sweep: Mapping[str, Any], source: str) -> str:
    """What stands above every table: the rule, the checkpoint, and whether it is an oracle."""
    text = f"Configurations are {selection_rule(sweep, source)}; scores are of the last checkpoint."
    return text + (" ORACLE SELECTION: not zero-shot." if is_oracle(sweep) else "")


def best_configuration(trials: pd.DataFrame, sweep: Mapping[str, Any]) -> int | None:
    """The first of :func:`ranked_configurations`; None before any trial is complete."""
    return next(iter(ranked_configurations(trials, sweep)), None)


def ranked_configurations(trials: pd.DataFrame, sweep: Mapping[str, Any]) -> list[int]:
    """Configurations with a complete trial by their mean objective over seeds, the best first.

    Those of which every seed is complete go before those that lack one; of equals the first
    that was tried.
    """
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        return []
    means = complete.astype({"objective": float}).groupby("configuration")["objective"]
    full = means.count() >= int(sweep["search"]["seeds"])
    ranked = sorted(
        (not full[configuration], sign_of(sweep) * value, int(configuration))
        for configuration, value in means.mean().items()
    )
    return [configuration for *_, configuration in ranked]


def sign_of(sweep: Mapping[str, Any]) -> float:
    """-1 where higher is better: what a sort with the best first multiplies by."""
    return -1.0 if sweep["objective"]["mode"] == "max" else 1.0


def picks(table: LanguageTable, scores: pd.DataFrame, sweep: Mapping[str, Any]) -> list[Pick]:
    """What each rule picks of a table, the sweep's own first; rules without data are left out.

    Only configurations that have all seeds of the best-covered one take part, and each rule
    looks at the same languages in all of them.
    """
    most = max((row.num_seeds for row in table.rows), default=0)
    full = [row for row in table.rows if row.num_seeds == most and most]
    others = [code for code in table.languages if code != table.source_language]
    dev = _dev_means(table, scores)
    steps = {one.configuration: one.best.mean for one in checkpoints(table, scores)}
    objective = {row.configuration: row.objective.mean for row in full if row.objective}
    source_dev = {
        row.configuration: dev[row.configuration, table.source_language]
        for row in full
        if (row.configuration, table.source_language) in dev
    }
    on_source = f"dev {table.source_language}"
    rules: list[tuple[str, bool, dict[int, float]]] = [
        (
            f"the sweep's: {selection_rule(sweep, table.source_language)}",
            is_oracle(sweep),
            objective,
        ),
        # A sweep that is chosen by this says so in its own rule.
        (f"{on_source}, last checkpoint", False, source_dev if is_oracle(sweep) else {}),
        (f"{on_source}, best checkpoint of each training", False, steps),
    ]
    scored = [code for code in others if any((row.configuration, code) in dev for row in full)]
    oracle_dev = {
        row.configuration: statistics.fmean(dev[row.configuration, code] for code in scored)
        for row in full
        if scored and all((row.configuration, code) in dev for code in scored)
    }
    oracle_test = {
        row.configuration: row.mean_without_source.mean for row in full if row.mean_without_source
    }
    rules.append((f"oracle: dev of {len(scored)} target languages", True, oracle_dev))
    rules.append((f"oracle: test of {len(others)} target languages", True, oracle_test))
    rows = {row.configuration: row for row in full}
    found = []
    for rule, oracle, values in rules:
        known = {one: value for one, value in values.items() if one in rows}
        if known:
            best = min(known, key=lambda one: (sign_of(sweep) * known[one], one))
            found.append(Pick(rule, oracle, known[best], rows[best]))
    return found


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
        mine = [curves[one.number] for one in row.trials if curves.get(one.number)]
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


def _dev_means(table: LanguageTable, scores: pd.DataFrame) -> dict[tuple[int, str], float]:
    """Mean dev score by configuration and language, where every seed has it."""
    part = scores[
        (scores["stage"] == "evaluate")
        & (scores["split"] == "dev")
        & (scores["metric"] == table.metric)
        & (scores["task"] == table.task)
        & (scores["source_language"] == table.source_language)
    ]
    seeds: Mapping[int, Sequence[int]] = {
        row.configuration: [one.number for one in row.trials] for row in table.rows
    }
    return {
        (int(configuration), str(language)): float(one["value"].mean())
        for (configuration, language), one in part.groupby(["configuration", "language"])
        if set(seeds.get(int(configuration), ())) == set(one["number"])
    }
