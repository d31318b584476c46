"""Configurations of several sweeps against the first: paired by seed, language by language.

Each sweep sends the configuration that its own rule selects, unless one is named. Only what was
scored on the same data is compared: a language whose test data differ, or that one side lacks, is
named and left out. Means are over the languages that all sides have in all their seeds, so every
mean of a comparison is over the same ones.

A difference is tested where its pairs are independent and neither side was chosen for its scores on
these seeds: see :mod:`xlt_ray.report.replication` and :mod:`xlt_ray.report.fresh`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from xlt_ray.errors import LedgerError
from xlt_ray.ledger import facts_label
from xlt_ray.report.contender import Candidate
from xlt_ray.report.evidence import evidence_notes
from xlt_ray.report.fresh import on_fresh_seeds, selection_notes, was_chosen_here
from xlt_ray.report.items import OverItems, over_items
from xlt_ray.report.labels import shown_value
from xlt_ray.report.replication import Trained, named, shared_by, shared_on_one_side
from xlt_ray.report.statistics import (
    ALPHA,
    MIN_SEEDS_FOR_STAR,
    Paired,
    deserves_star,
    given_stages,
    holm,
    paired,
)
from xlt_ray.report.supervision import is_translate_train, note


@dataclass(frozen=True)
class ComparisonRow:
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
    """By the test over seeds alone."""
    items: OverItems | None = None
    """What the test items say; None where some network has none."""


@dataclass(frozen=True)
class Comparison:
    """One contender against the first."""

    baseline: Candidate
    other: Candidate
    seeds: tuple[int, ...]
    """That both have."""
    given: Trained
    """Stages that several of these seeds share on one side alone: differences are told given them,
    and none is tested."""
    is_chosen_here: bool
    """Whether a side was chosen by its scores on these very seeds: nothing is significant then."""
    lines: tuple[ComparisonRow, ...]
    notes: tuple[str, ...]


def compare(contenders: Sequence[Candidate]) -> list[Comparison]:
    """Every contender against the first, on fresh seeds where one was chosen among many.

    Raises:
        LedgerError: fewer than two, one twice, or they differ in task, metric or source language.
    """
    _refuse_unlike(contenders)
    contenders = on_fresh_seeds(contenders)
    first, *others = contenders
    common = [
        code
        for code in first.table.languages
        if all(code in one.data and one.data[code] == first.data.get(code) for one in contenders)
        and all(code in trial.scores for one in contenders for trial in one.row.trials)
    ]
    found = [_versus(first, other, contenders, common) for other in others]
    return [_with_items(one) for one in _with_corrected_means(found)]


def comparison_json(found: Sequence[Comparison]) -> dict[str, Any]:
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
                "supervision": one.row.supervision,
                "candidates": one.num_candidates,
                "is_fresh": one.is_fresh,
                "trials_of": one.run_by or one.sweep,
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
                "given": [stage.label for stage in one.given],
                "notes": list(one.notes),
                "rows": [
                    _line_json(line) | {"chance": first.table.evidence.mean_chance(line.languages)}
                    for line in one.lines
                ],
            }
            for one in found
        ],
    }


def _line_json(line: ComparisonRow) -> dict[str, Any]:
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
        **_items_json(line.items),
    }


def _items_json(items: OverItems | None) -> dict[str, Any]:
    over_both = items.interval if items else None
    drawn = items.drawn if items else None
    return {
        "items": dict(items.sizes) if items else None,
        "num_items": items.num_items if items else None,
        "two_level_low": over_both.low if over_both else None,
        "two_level_high": over_both.high if over_both else None,
        "two_level_interval": over_both.method if over_both else None,
        "items_low": drawn.interval.low if drawn else None,
        "items_high": drawn.interval.high if drawn else None,
        "items_p": drawn.p if drawn else None,
        "items_p_holm": items.p_holm if items else None,
    }


def _refuse_unlike(contenders: Sequence[Candidate]) -> None:
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


def _versus(
    first: Candidate, other: Candidate, contenders: Sequence[Candidate], common: Sequence[str]
) -> Comparison:
    seeds = tuple(sorted(first.trials.keys() & other.trials.keys()))
    languages = [*first.table.languages]
    languages += [code for code in other.table.languages if code not in languages]
    same = [code for code in languages if first.data.get(code, 0) == other.data.get(code, 1)]
    source = first.table.source_language
    lines = [_line("language", (code,), first, other, seeds) for code in same]
    without = tuple(code for code in common if code != source)
    if source in common:
        lines.insert(0, _line("mean", tuple(common), first, other, seeds))
    if without:
        lines.insert(0, _line("mean_without_source", without, first, other, seeds))
    notes = _notes(first, other, seeds, languages, same, common)
    found = Comparison(
        baseline=first,
        other=other,
        seeds=seeds,
        given=_given(first, other, seeds),
        is_chosen_here=any(was_chosen_here(one, contenders) for one in (first, other)),
        lines=tuple(lines),
        notes=(*notes, *selection_notes(first, other, contenders)),
    )
    return _corrected(
        [found], [(0, place) for place, line in enumerate(lines) if line.kind == "language"]
    )[0]


def _line(
    kind: Literal["language", "mean", "mean_without_source"],
    languages: tuple[str, ...],
    first: Candidate,
    other: Candidate,
    seeds: Sequence[int],
) -> ComparisonRow:
    pairs = {seed: (first.trials[seed].scores, other.trials[seed].scores) for seed in seeds}
    there = [
        seed for seed in seeds if all(code in one for one in pairs[seed] for code in languages)
    ]
    if not there:
        return ComparisonRow(kind, languages, None, None, None, None, False)
    mine, theirs = (
        [statistics.fmean(pairs[seed][side][code] for code in languages) for seed in there]
        for side in (0, 1)
    )
    return ComparisonRow(
        kind=kind,
        languages=languages,
        baseline=statistics.fmean(mine),
        other=statistics.fmean(theirs),
        paired=paired(
            [b - a for a, b in zip(mine, theirs, strict=True)],
            are_independent=not _given(first, other, there),
        ),
        p_holm=None,
        is_significant=False,
    )


def _given(first: Candidate, other: Candidate, seeds: Sequence[int]) -> Trained:
    return shared_on_one_side(
        (first.trials[seed].trained, other.trials[seed].trained) for seed in seeds
    )


def _with_corrected_means(found: list[Comparison]) -> list[Comparison]:
    for kind in ("mean", "mean_without_source"):
        family = [
            (turn, place)
            for turn, one in enumerate(found)
            for place, line in enumerate(one.lines)
            if line.kind == kind
        ]
        found = _corrected(found, family)
    return found


def _with_items(versus: Comparison) -> Comparison:
    """The comparison with what the items of the paired seeds say of every line."""
    sides = (versus.baseline, versus.other)
    if any(one.read is None for one in sides) or not versus.seeds:
        return versus
    baseline, other = (
        [one.read(one.trials[seed].number) for seed in versus.seeds] if one.read else []
        for one in sides
    )
    found = over_items([line.languages for line in versus.lines], other, baseline)
    if versus.given:
        found = [one and replace(one, interval=given_stages(one.interval)) for one in found]
    lines = (replace(line, items=items) for line, items in zip(versus.lines, found, strict=True))
    return replace(versus, lines=tuple(lines))


def _corrected(found: Sequence[Comparison], family: Sequence[tuple[int, int]]) -> list[Comparison]:
    """The comparisons with the p-values of a family (comparison, line) corrected, and their
    stars."""
    lines = [list(one.lines) for one in found]
    results = [lines[turn][place].paired for turn, place in family]
    corrected = holm([one.p if one else None for one in results])
    for (turn, place), result, p in zip(family, results, corrected, strict=True):
        is_won = result is not None and deserves_star(p, result.num_pairs)
        lines[turn][place] = replace(
            lines[turn][place],
            p_holm=p,
            is_significant=is_won and not found[turn].is_chosen_here,
        )
    return [replace(one, lines=tuple(part)) for one, part in zip(found, lines, strict=True)]


def _made_by(contender: Candidate) -> str:
    """Versions and commits of the code that trained and scored a contender."""
    return " and ".join(sorted(contender.versions)) or "versions that nobody has kept"


def _notes(
    first: Candidate,
    other: Candidate,
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
    if first.versions != other.versions:
        makers = (f"{one.label} by {_made_by(one)}" for one in (first, other))
        notes.append(f"made by different versions: {', '.join(makers)}")
    for one in (first, other):
        if len(one.facts) > 1:
            notes.append(
                f"seeds of {one.label} were made with different facts (data, weights or code): "
                f"the sets {facts_label(one.facts)} of its sweep"
            )
    given = _given(first, other, seeds)
    if given:
        notes.append(
            f"seeds share one training of {named(given)}, which the other side has not: there is "
            "no test, and the interval is of what was trained after it and leaves out its luck; "
            "seed: per_trial there, or xlt confirm, trains one for each seed"
        )
    both = shared_by(first.trials[seed].trained for seed in seeds)
    both = tuple(one for one in both if one.key not in {each.key for each in given})
    if both:
        notes.append(f"all is told given one training of {named(both)}, which both sides share")
    if small := first.table.evidence.small_note():
        notes.append(small)
    if cut := first.table.evidence.cut_note():
        notes.append(cut)
    for one in (first, other):
        notes += evidence_notes(one.label, one.row.near_constant)
        if one.is_oracle:
            notes.append(f"{one.label} was chosen by an oracle: not zero-shot")
        marked = note([(one.row.configuration, one.row.supervision)])
        if marked:
            notes.append(f"{one.sweep}: {marked.rstrip('.')}")
    if is_translate_train(first.row.supervision) != is_translate_train(other.row.supervision):
        notes.append(
            "one side is zero-shot and the other translate-train: what sets them apart may be the "
            "text in the scored languages alone"
        )
    return tuple(notes)
