"""Configurations of several sweeps against the first: paired by seed, language by language.

Each sweep sends the configuration that its own rule selects, unless one is named. Only what was
scored on the same data is compared: a language whose test data differ, or that one side lacks, is
named and left out. Means are over the languages that all sides have in all their seeds, so every
mean of a comparison is over the same ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from xlt_ray.errors import LedgerError
from xlt_ray.report.frames import scores_frame, stages_frame, trials_frame
from xlt_ray.report.labels import shown_value
from xlt_ray.report.selection import best_configuration, header, is_oracle
from xlt_ray.report.snapshot import Snapshot
from xlt_ray.report.statistics import ALPHA, MIN_SEEDS_FOR_STAR, Paired, deserves_star, holm, paired
from xlt_ray.report.tables import LanguageTable, Row, language_tables

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Contender:
    """One configuration of one sweep, with all that a comparison needs."""

    sweep: str
    table: LanguageTable
    row: Row
    rule: str
    """How it was chosen."""
    is_oracle: bool
    data: Mapping[str, str]
    """Language -> what was scored: fingerprint of the data, number of examples, task version; of
    seeds that were scored on different data all of them."""
    runtimes: frozenset[str]
    shared_stages: tuple[str, ...]
    """Training stages that all its seeds have in common."""

    @property
    def label(self) -> str:
        return f"{self.sweep}/{self.row.configuration}"

    @property
    def scores(self) -> dict[int, Mapping[str, float]]:
        """Scores by seed and language."""
        return {one.seed: one.scores for one in self.row.trials}


@dataclass(frozen=True)
class Line:
    """One language, or one mean over languages, of two contenders."""

    kind: Literal["language", "mean", "mean_without_source"]
    languages: tuple[str, ...]
    baseline: float | None
    """Mean over the paired seeds; None where there is no pair."""
    other: float | None
    paired: Paired | None
    p_holm: float | None
    """Languages: corrected over the languages of this comparison. Means: over its contenders."""
    is_significant: bool


@dataclass(frozen=True)
class Versus:
    """One contender against the first."""

    baseline: Contender
    other: Contender
    seeds: tuple[int, ...]
    """That both have."""
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def contender_of(snapshot: Snapshot, configuration: int | None = None) -> Contender:
    """A sweep's selected configuration, or the one that is named.

    Raises:
        LedgerError: no trial is complete, or the configuration has none, does not exist, or was
            trained on few shots of a target language.
    """
    sweep, name = snapshot.sweep, snapshot.name
    trials, scores = trials_frame(snapshot), scores_frame(snapshot)
    best = best_configuration(trials, sweep)
    chosen = best if configuration is None else configuration
    if chosen is None:
        raise LedgerError(f"{name}: no trial is complete yet; compare it when one is")
    found = next(
        (
            (table, row)
            for table in language_tables(trials, scores, snapshot.knobs, sweep)
            for row in table.rows
            if row.configuration == chosen and row.trials
        ),
        None,
    )
    if found is None:
        there = sorted({int(one) for one in scores[scores["stage"] == "evaluate"]["configuration"]})
        shots = shots_of(snapshot, chosen)
        problem = (
            f"was trained on labels of a target language ({shots}) and is not zero-shot; its "
            "scores stand in the report's table of few shots, beside those without shots"
            if shots
            else f"has no test scores of {sweep['objective']['metric']}"
        )
        listed = ", ".join(map(str, there)) or "none"
        raise LedgerError(
            f"{name}/{chosen}: {problem}; with {'zero-shot ' if shots else ''}scores: {listed}"
        )
    table, row = found
    rule = header(sweep, table.source_language)
    numbers = {one.number for one in row.trials}
    part = scores[scores["number"].isin(numbers) & (scores["stage"] == "evaluate")]
    part = part[(part["split"] == "test") & (part["metric"] == table.metric)]
    stages = stages_frame(snapshot)
    mine = stages[stages["number"].isin(numbers)]
    uses = mine[mine["kind"].isin(["align", "intermediate"])].groupby("label")["key"]
    return Contender(
        sweep=name,
        table=table,
        row=row,
        rule=rule if chosen == best else f"Configuration {chosen} was named by hand.",
        is_oracle=is_oracle(sweep) and chosen == best,
        data=_data_of(part),
        runtimes=frozenset(one for one in mine["runtime"] if one),
        shared_stages=tuple(
            str(label) for label, keys in uses if len(numbers) > 1 and keys.nunique() == 1
        ),
    )  # fmt: skip


def shots_of(snapshot: Snapshot, configuration: int) -> str:
    """The few-shot stage of a configuration by its label; empty where it has none."""
    return next(
        (
            stage.label
            for view in snapshot.trials
            if view.configuration == configuration
            for stage in view.stages
            if stage.kind == "few_shot"
        ),
        "",
    )


def compare(contenders: Sequence[Contender]) -> list[Versus]:
    """Every contender against the first.

    Raises:
        LedgerError: fewer than two, one twice, or they differ in task, metric or source language.
    """
    _refuse_unlike(contenders)
    first, *others = contenders
    common = [
        code
        for code in first.table.languages
        if all(code in one.data and one.data[code] == first.data.get(code) for one in contenders)
        and all(code in scores for one in contenders for scores in one.scores.values())
    ]
    found = [_versus(first, other, common) for other in others]
    return _with_corrected_means(found)


def comparison_json(found: Sequence[Versus]) -> dict[str, Any]:
    """A comparison as ``xlt compare --json`` prints it; the keys are documented and stable."""
    first = found[0].baseline
    contenders = [first, *(one.other for one in found)]
    return {
        "task": first.table.task,
        "metric": first.table.metric,
        "source_language": first.table.source_language,
        "contenders": [
            {
                "sweep": one.sweep,
                "configuration": one.row.configuration,
                "selection": one.rule,
                "is_oracle": one.is_oracle,
                "seeds": [trial.seed for trial in one.row.trials],
                "trials": [trial.number for trial in one.row.trials],
                "params": {path: shown_value(value) for path, value in one.row.knobs.items()},
            }
            for one in contenders
        ],
        "comparisons": [
            {
                "baseline": one.baseline.label,
                "other": one.other.label,
                "seeds": list(one.seeds),
                "notes": list(one.notes),
                "rows": [_line_json(line) for line in one.lines],
            }
            for one in found
        ],
    }


def _line_json(line: Line) -> dict[str, Any]:
    result = line.paired
    interval = result.interval if result else None
    return {
        "kind": line.kind,
        "languages": list(line.languages),
        "baseline": line.baseline,
        "other": line.other,
        "difference": result.difference if result else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "interval": interval.method if interval else None,
        "num_pairs": result.num_pairs if result else 0,
        "p": result.p if result else None,
        "is_exact": result.is_exact if result else None,
        "p_holm": line.p_holm,
        "is_significant": line.is_significant,
    }


def _data_of(scores: pd.DataFrame) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    columns = ("language", "data", "num_examples", "task_version")
    for language, *data in zip(*(scores[name] for name in columns), strict=True):
        found.setdefault(str(language), set()).add(" ".join(map(str, data)))
    return {language: ", ".join(sorted(data)) for language, data in found.items()}


def _refuse_unlike(contenders: Sequence[Contender]) -> None:
    labels = [one.label for one in contenders]
    if len(labels) < 2:
        raise LedgerError(f"{labels[0] if labels else 'compare'}: name another one to compare with")
    twice = next((one for one in labels if labels.count(one) > 1), None)
    if twice:
        raise LedgerError(f"{twice}: is named twice; compare it with another one")
    first = contenders[0].table
    for one in contenders[1:]:
        for name in ("task", "metric", "source_language"):
            mine, theirs = getattr(one.table, name), getattr(first, name)
            if mine != theirs:
                raise LedgerError(
                    f"{one.label}: its {name.replace('_', ' ')} is {mine} and that of "
                    f"{labels[0]} is {theirs}; compare sweeps of one {name.replace('_', ' ')}"
                )


def _versus(first: Contender, other: Contender, common: Sequence[str]) -> Versus:
    seeds = tuple(sorted(first.scores.keys() & other.scores.keys()))
    languages = [*first.table.languages]
    languages += [code for code in other.table.languages if code not in languages]
    same = [code for code in languages if first.data.get(code, 0) == other.data.get(code, 1)]
    source = first.table.source_language
    lines = [_line("language", (code,), first, other, seeds) for code in same]
    corrected = holm([line.paired.p if line.paired else None for line in lines])
    lines = [_corrected(line, p) for line, p in zip(lines, corrected, strict=True)]
    without = tuple(code for code in common if code != source)
    if source in common:
        lines.insert(0, _line("mean", tuple(common), first, other, seeds))
    if without:
        lines.insert(0, _line("mean_without_source", without, first, other, seeds))
    return Versus(first, other, seeds, tuple(lines), _notes(first, other, seeds, languages, same,
                                                            common))  # fmt: skip


def _line(
    kind: Literal["language", "mean", "mean_without_source"],
    languages: tuple[str, ...],
    first: Contender,
    other: Contender,
    seeds: Sequence[int],
) -> Line:
    there = [
        seed
        for seed in seeds
        if all(code in one.scores[seed] for one in (first, other) for code in languages)
    ]
    if not there:
        return Line(kind, languages, None, None, None, None, False)
    mine = [statistics.fmean(first.scores[seed][code] for code in languages) for seed in there]
    theirs = [statistics.fmean(other.scores[seed][code] for code in languages) for seed in there]
    return Line(
        kind=kind,
        languages=languages,
        baseline=statistics.fmean(mine),
        other=statistics.fmean(theirs),
        paired=paired([b - a for a, b in zip(mine, theirs, strict=True)]),
        p_holm=None,
        is_significant=False,
    )


def _corrected(line: Line, p: float | None) -> Line:
    num_pairs = line.paired.num_pairs if line.paired else 0
    return replace(line, p_holm=p, is_significant=deserves_star(p, num_pairs))


def _with_corrected_means(found: Sequence[Versus]) -> list[Versus]:
    lines = [list(one.lines) for one in found]
    for kind in ("mean", "mean_without_source"):
        places = [
            (turn, index)
            for turn, part in enumerate(lines)
            for index, line in enumerate(part)
            if line.kind == kind
        ]
        family = [lines[turn][index].paired for turn, index in places]
        corrected = holm([one.p if one else None for one in family])
        for (turn, index), p in zip(places, corrected, strict=True):
            lines[turn][index] = _corrected(lines[turn][index], p)
    return [replace(one, lines=tuple(part)) for one, part in zip(found, lines, strict=True)]


def _notes(
    first: Contender,
    other: Contender,
    seeds: Sequence[int],
    languages: Sequence[str],
    same: Sequence[str],
    common: Sequence[str],
) -> tuple[str, ...]:
    notes = []
    if not seeds:
        notes.append("no seed in common: nothing can be paired")
    elif len(seeds) < MIN_SEEDS_FOR_STAR:
        notes.append(
            f"{len(seeds)} paired seed{'' if len(seeds) == 1 else 's'}: nothing can be "
            f"significant below {MIN_SEEDS_FOR_STAR}"
        )
    elif len(same) * 2 ** (1 - len(seeds)) > ALPHA:
        needed = next(n for n in range(len(seeds), 99) if len(same) * 2 ** (1 - n) <= ALPHA)
        notes.append(
            f"with {len(same)} languages to correct for, no single one can be significant below "
            f"{needed} seeds"
        )
    other_data = [one for one in languages if one in first.data and one in other.data
                  and one not in same]  # fmt: skip
    if other_data:
        notes.append(f"scored on other data, not compared: {', '.join(other_data)}")
    lacking = [one for one in languages if (one in first.data) != (one in other.data)]
    if lacking:
        notes.append(f"scored on one side alone, not compared: {', '.join(lacking)}")
    outside = [one for one in same if one not in common]
    if outside:
        notes.append(f"not in the means, as some seed or sweep lacks them: {', '.join(outside)}")
    if first.runtimes != other.runtimes:
        notes.append("made under different numeric runtimes: last bits may differ")
    shared = sorted({*first.shared_stages, *other.shared_stages})
    if shared:
        notes.append(
            f"all seeds share {', '.join(shared)}: the spread is that of the training after it"
        )
    for one in (first, other):
        if one.is_oracle:
            notes.append(f"{one.label} was chosen by an oracle: not zero-shot")
    return tuple(notes)
