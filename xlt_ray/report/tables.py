"""Tables of a sweep: one row a configuration, its seeds averaged, one column a language.

Every configuration has a row, the source language comes first, and what is missing is missing in
plain sight. A mean over languages (all, without the source, of a group) is given for
configurations that have every one of its languages in every seed and missing for all others, so
that no two means of a column are over different languages. Spreads are the sample standard
deviation over seeds; with one seed there is none.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import pandas as pd

from xlt_ray.ledger import facts_label
from xlt_ray.report.evidence import (
    Constant,
    Evidence,
    constants_of,
    evidence_of,
    near_constant_by_trial,
)
from xlt_ray.report.grouping import Group, Groupings, groups_of
from xlt_ray.report.replication import Trained, shared_by, spread_note
from xlt_ray.report.snapshot import target_of
from xlt_ray.report.statistics import student_quantile
from xlt_ray.report.supervision import note
from xlt_ray.spec.supervision import ZERO_SHOT

MAX_LISTED = 40
"""Configurations of one kind that a note names."""


@dataclass(frozen=True)
class Cell:
    """Mean over ``num_seeds`` seeds and their sample standard deviation (None of one seed)."""

    mean: float
    deviation: float | None
    num_seeds: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean over seeds; None of one seed or of equal values."""
        if not self.deviation:
            return None
        half = student_quantile(self.num_seeds) * self.deviation / math.sqrt(self.num_seeds)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class TrialScores:
    """The test scores of one complete trial, by language."""

    number: int
    seed: int
    scores: Mapping[str, float]
    trained: Trained = ()
    near_constant: Mapping[str, float] = field(default_factory=dict)
    """Language -> share of the most frequent prediction, where that is next to all of them."""


@dataclass(frozen=True)
class Row:
    """One configuration; a language that was not scored in any seed has no cell."""

    configuration: int
    knobs: Mapping[str, Any]
    states: Mapping[str, int]
    """How many of its trials are in which state."""
    trials: tuple[TrialScores, ...]
    objective: Cell | None
    cells: Mapping[str, Cell]
    mean: Cell | None
    mean_without_source: Cell | None
    groups: Mapping[str, Cell] = field(default_factory=dict)
    """Means by the title of a group; those that lack a language are not there."""
    gap: Cell | None = None
    """Transfer gap: the source language's score minus the mean of the others, of each seed."""
    facts: str = ""
    """The sets of facts that its scored trials were made with: ``1``, or ``1+2``."""
    supervision: str = ZERO_SHOT
    """Which labels it learned from (:mod:`xlt_ray.spec.supervision`)."""
    is_gap_of_source: bool = False
    """Whether the gap is smaller than the reference's only because the source language is worse:
    the mean of the others is no better."""

    @property
    def num_seeds(self) -> int:
        return len(self.trials)

    @property
    def near_constant(self) -> dict[str, Constant]:
        """Languages in which the network of a seed says next to one thing to everything."""
        return constants_of(one.near_constant for one in self.trials)

    @property
    def shared(self) -> Trained:
        """The trained stages that several of its seeds go on from: spreads leave out their luck."""
        return shared_by(one.trained for one in self.trials)


@dataclass(frozen=True)
class LanguageTable:
    """Test scores of one task; rows by objective, the best first, those without scores last."""

    task: str
    metric: str
    source_language: str
    languages: tuple[str, ...]
    """The source language first, then by code."""
    knobs: tuple[str, ...]
    num_seeds: int
    """Seeds that the sweep gives every configuration."""
    rows: tuple[Row, ...]
    groups: tuple[Group, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    is_higher_better: bool = True

    @property
    def has_missing(self) -> bool:
        """Whether some row lacks a mean: a seed of it lacks a language, or the table the source or
        any other."""
        return any(row.mean is None or row.mean_without_source is None for row in self.rows)

    @property
    def spread_note(self) -> str:
        """What has to stand where its deviations and intervals are; empty where seeds share no
        training."""
        return spread_note([one.trained for one in row.trials] for row in self.rows)

    @property
    def facts_note(self) -> str:
        """Which rows were made with which facts; empty where all were with the same."""
        members: dict[str, list[str]] = {}
        for row in sorted(self.rows, key=lambda row: row.configuration):
            if row.trials:
                members.setdefault(row.facts, []).append(str(row.configuration))
        if len(members) < 2 and not any("+" in facts for facts in members):
            return ""
        listed = "; ".join(
            f"{facts}: {', '.join(numbers[:MAX_LISTED])}"
            + (f" and {len(numbers) - MAX_LISTED} more" if len(numbers) > MAX_LISTED else "")
            for facts, numbers in sorted(members.items())
        )
        return (
            "MIXED FACTS: data, weights or code have changed between configurations, which are "
            f"ranked together all the same (facts: configurations): {listed}."
        )

    @property
    def supervision_note(self) -> str:
        """Which rows are not zero-shot; empty where all are."""
        return note((row.configuration, row.supervision) for row in self.rows)

    @property
    def reference(self) -> Row | None:
        """The row that gaps are compared with: the first one that has a gap."""
        return next((row for row in self.rows if row.gap is not None), None)

    @property
    def stem(self) -> str:
        """What the table's files are called after."""
        return f"{self.task}-{self.source_language}-languages"


def language_tables(
    trials: pd.DataFrame,
    scores: pd.DataFrame,
    knobs: Sequence[str],
    sweep: Mapping[str, Any],
    groupings: Callable[[Sequence[str]], Groupings] = lambda _: {},
    trained: Mapping[int, Trained] = MappingProxyType({}),
) -> list[LanguageTable]:
    """One table for each task and source language that complete trials were scored in.

    Args:
        groupings: groups of a table's languages that rows give means of.
        trained: trained stages of every trial by its number
            (:func:`xlt_ray.report.replication.trained_stages`).
    """
    metric = str(sweep["objective"]["metric"])
    test = scores[(scores["split"] == "test") & (scores["metric"] == metric)]
    return [
        _table(str(task), str(source), trials, part, knobs, sweep, groupings, trained)
        for (task, source), part in test.groupby(["task", "source_language"], sort=True)
    ]


def cell_of(values: Sequence[float]) -> Cell:
    """The cell of one number a seed."""
    return Cell(
        mean=statistics.fmean(values),
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        num_seeds=len(values),
    )


def mean_of(trials: Sequence[TrialScores], languages: Sequence[str]) -> Cell | None:
    """Mean over languages of every seed, then over seeds; None unless every seed has them all."""
    if not trials or not languages:
        return None
    if any(language not in one.scores for one in trials for language in languages):
        return None
    return cell_of([statistics.fmean(one.scores[code] for code in languages) for one in trials])


def _table(
    task: str,
    source: str,
    trials: pd.DataFrame,
    test: pd.DataFrame,
    knobs: Sequence[str],
    sweep: Mapping[str, Any],
    groupings: Callable[[Sequence[str]], Groupings],
    trained: Mapping[int, Trained],
) -> LanguageTable:
    languages = tuple(
        sorted(test["language"].unique(), key=lambda language: (language != source, language))
    )
    evidence = evidence_of(test)
    groups = groups_of(groupings(languages), languages, source, evidence.without_groups)
    constant = near_constant_by_trial(test)
    values: dict[int, dict[str, float]] = {}
    for number, code, value in zip(test["number"], test["language"], test["value"], strict=True):
        values.setdefault(int(number), {})[str(code)] = float(value)
    seeds_of = dict(zip(trials["number"], trials["seed"], strict=True))
    scored = {
        number: TrialScores(
            number, int(seeds_of[number]), own, trained.get(number, ()), constant.get(number, {})
        )
        for number, own in values.items()
    }
    by_configuration: dict[int, list[_Trial]] = {}
    for one in trials.sort_values(["configuration", "number"]).to_dict("records"):
        by_configuration.setdefault(int(one["configuration"]), []).append(one)
    rows = [
        _row(configuration, part, scored, languages, source, knobs, groups)
        for configuration, part in by_configuration.items()
        if _is_of(part, knobs, scored, sweep, (task, source))
    ]
    seeds = int(sweep["search"]["seeds"])
    sign = -1.0 if sweep["objective"]["mode"] == "max" else 1.0
    rows.sort(
        key=lambda row: (
            row.num_seeds < seeds,
            row.objective is None,
            sign * row.objective.mean if row.objective else 0.0,
            row.configuration,
        )
    )
    table = LanguageTable(
        task=task,
        metric=str(sweep["objective"]["metric"]),
        source_language=source,
        languages=languages,
        knobs=tuple(knobs),
        num_seeds=seeds,
        rows=tuple(rows),
        groups=groups,
        evidence=evidence,
        is_higher_better=sweep["objective"]["mode"] == "max",
    )
    return _with_gap_warnings(table)


_Trial = Mapping[Hashable, Any]
"""A row of the frame of trials."""


def _is_of(
    part: Sequence[_Trial],
    knobs: Sequence[str],
    scored: Mapping[int, Any],
    sweep: Mapping[str, Any],
    target: tuple[str, str],
) -> bool:
    """Whether a configuration belongs to the table of this task and source language."""
    if any(int(one["number"]) in scored for one in part):
        return True
    first = part[0]
    assignment = {path: first[path] for path in knobs if isinstance(first[path], str)}
    return target_of(sweep, assignment) == target


def _row(
    configuration: int,
    part: Sequence[_Trial],
    scored: Mapping[int, TrialScores],
    languages: Sequence[str],
    source: str,
    knobs: Sequence[str],
    groups: Sequence[Group],
) -> Row:
    mine = [one for one in part if int(one["number"]) in scored]
    trials = tuple(scored[int(one["number"])] for one in mine)
    others = [language for language in languages if language != source]
    cells = {
        language: cell_of([one.scores[language] for one in trials if language in one.scores])
        for language in languages
        if any(language in one.scores for one in trials)
    }
    first = (mine or part)[0]
    means = {group.title: mean_of(trials, group.languages) for group in groups}
    has_source = source in languages
    return Row(
        configuration=configuration,
        knobs={path: first[path] for path in knobs},
        states=dict(sorted(Counter(str(one["state"]) for one in part).items())),
        trials=trials,
        objective=cell_of([float(one["objective"]) for one in mine]) if trials else None,
        cells=cells,
        mean=mean_of(trials, languages),
        mean_without_source=mean_of(trials, others) if has_source else None,
        groups={title: cell for title, cell in means.items() if cell is not None},
        gap=_gap(trials, source, others) if has_source else None,
        facts=facts_label(int(one.get("facts", 0)) for one in mine),
        supervision=str(first.get("supervision", ZERO_SHOT)) if trials else ZERO_SHOT,
    )


def _gap(trials: Sequence[TrialScores], source: str, others: Sequence[str]) -> Cell | None:
    if mean_of(trials, [source, *others]) is None or not others:
        return None
    return cell_of(
        [
            one.scores[source] - statistics.fmean(one.scores[code] for code in others)
            for one in trials
        ]
    )


def _with_gap_warnings(table: LanguageTable) -> LanguageTable:
    reference = table.reference
    if reference is None:
        return table
    rows = [
        replace(row, is_gap_of_source=_is_gap_of_source(row, reference, table))
        for row in table.rows
    ]
    return replace(table, rows=tuple(rows))


def _is_gap_of_source(row: Row, reference: Row, table: LanguageTable) -> bool:
    mine, theirs = row.mean_without_source, reference.mean_without_source
    if row.gap is None or reference.gap is None or mine is None or theirs is None:
        return False
    sign = 1.0 if table.is_higher_better else -1.0
    return (
        sign * row.gap.mean < sign * reference.gap.mean and sign * mine.mean <= sign * theirs.mean
    )
