"""Configurations of several sweeps against the first: paired by seed, language by language.

Each sweep sends the configuration that its own rule selects, unless the user names one. Only scores
on the same data are compared: a language whose test data differ, or that one side lacks, is named
and left out. Means are over the languages that all sides have in all their seeds.

A difference is tested where its pairs are independent (:mod:`xlt_ray.report.replication`) and
neither side was chosen for its scores on these seeds. The best of 50 equal configurations beats a
single one on the seeds that chose it far more often than a test allows for; on fresh seeds
(``xlt confirm``) it does not. So a comparison takes fresh seeds where every side has some, and
otherwise says how to get them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from xlt_ray.errors import LedgerError
from xlt_ray.ledger import TrialView, facts_label
from xlt_ray.report.evidence import evidence_notes
from xlt_ray.report.frames import Snapshot, scores_frame, stages_frame, trials_frame
from xlt_ray.report.item_uncertainty import OverItems, ReadItems, kept_of, over_items
from xlt_ray.report.labels import value_label
from xlt_ray.report.provenance import model_of, weights_of
from xlt_ray.report.replication import Trained, named, shared_by, shared_on_one_side
from xlt_ray.report.selection import header, is_oracle, num_candidates
from xlt_ray.report.stats import (
    ALPHA,
    MIN_SEEDS_FOR_STAR,
    Paired,
    deserves_star,
    given_stages,
    holm,
    paired,
)
from xlt_ray.report.tables import (
    LanguageTable,
    Row,
    TrialScores,
    is_translate_train,
    note,
    tables_of,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Candidate:
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
    versions: frozenset[str] = frozenset()
    """Commits and library versions that made its stages, as canonical JSON."""
    facts: frozenset[int] = frozenset()
    """Numbers of the sets of facts that its trials were made with; those of its sweep."""
    num_candidates: int = 1
    """Configurations of its sweep for this task that had a chance to be chosen in its place."""
    is_best: bool = True
    """Whether the sweep's rule puts it before all of them, named or not."""
    rank: int = 1
    """Its place among all configurations of the sweep: ``xlt confirm --top`` counts so."""
    next_seed: int = 0
    """The first seed that its sweep has not used."""
    run_by: str = ""
    """The sweep whose trials these are; empty for its own."""
    read: ReadItems | None = None
    """Reads the items of its trials; None where there are none."""
    fresh: Candidate | None = None
    """The same configuration on seeds that took no part in choosing it."""

    @property
    def label(self) -> str:
        return f"{self.sweep}/{self.row.configuration}"

    @property
    def trials(self) -> dict[int, TrialScores]:
        """By seed."""
        return {trial.seed: trial for trial in self.row.trials}

    @property
    def is_fresh(self) -> bool:
        """Whether these seeds took no part in choosing it."""
        return bool(self.run_by)


def candidate_of(
    snapshot: Snapshot,
    configuration: int | None = None,
    confirmations: Sequence[Snapshot] = (),
) -> Candidate:
    """A sweep's selected configuration, or the one that is named.

    Args:
        confirmations: sweeps that may have run it again on fresh seeds.

    Raises:
        LedgerError: no trial is complete, or the configuration has none, does not exist, or was
            trained on few shots of a target language.
    """
    sweep, name = snapshot.sweep, snapshot.name
    trials, scores = trials_frame(snapshot), scores_frame(snapshot)
    best = snapshot.best_configuration
    chosen = best if configuration is None else configuration
    if chosen is None:
        raise LedgerError(f"{name}: no trial is complete yet; compare it later")
    table_and_row = next(
        (
            (table, row)
            for table in tables_of(snapshot)
            for row in table.rows
            if row.configuration == chosen and row.trials
        ),
        None,
    )
    if table_and_row is None:
        scored = sorted(
            {int(score) for score in scores[scores["stage"] == "evaluate"]["configuration"]}
        )
        shots = shots_of(snapshot, chosen)
        problem = (
            f"was trained on labels of a target language ({shots}) and is not zero-shot; its "
            "scores stand in the report's table of few shots, beside those without shots"
            if shots
            else f"has no test scores of {sweep['objective']['metric']}"
        )
        listed = ", ".join(map(str, scored)) or "none"
        raise LedgerError(
            f"{name}/{chosen}: {problem}; with {'zero-shot ' if shots else ''}scores: {listed}"
        )
    table, row = table_and_row
    rivals = trials[trials["configuration"].isin([row.configuration for row in table.rows])]
    candidates = num_candidates(rivals)
    rule = header(sweep, table.source_language)
    numbers = {trial.number for trial in row.trials}
    part = scores[scores["number"].isin(numbers) & (scores["stage"] == "evaluate")]
    part = part[(part["split"] == "test") & (part["metric"] == table.metric)]
    stages = stages_frame(snapshot)
    made = stages[stages["number"].isin(numbers)]
    candidate = Candidate(
        sweep=name,
        table=table,
        row=row,
        rule=rule
        if chosen == best
        else f"Configuration {chosen} of {candidates} was named by hand.",
        is_oracle=is_oracle(sweep) and chosen == best,
        data=_data_of(part),
        runtimes=frozenset(runtime for runtime in made["runtime"] if runtime),
        versions=frozenset(version for version in made["versions"] if version),
        facts=frozenset(view.facts for view in snapshot.trials if view.number in numbers),
        num_candidates=candidates,
        is_best=row is table.rows[0],
        rank=snapshot.ranking.index(chosen) + 1,
        next_seed=max(view.seed for view in snapshot.trials) + 1,
        read=kept_of(snapshot, table.task, table.metric),
    )
    return replace(candidate, fresh=_fresh(candidate, snapshot, confirmations))


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


def _fresh(chosen: Candidate, snapshot: Snapshot, among: Iterable[Snapshot]) -> Candidate | None:
    """The configuration's run on most fresh seeds; None if it was never run again."""
    used = {view.seed for view in snapshot.trials}
    science = _science(snapshot, next(v for v in snapshot.trials if v.number in _numbers(chosen)))
    runs = []
    for confirmation in among:
        alike = {
            view.configuration
            for view in confirmation.trials
            if view.state == "complete"
            and science is not None
            and _science(confirmation, view) == science
        }
        for configuration in sorted(alike):
            run = candidate_of(confirmation, configuration)
            if used.isdisjoint(run.trials):
                runs.append(run)
    if not runs:
        return None
    most = max(runs, key=lambda one: one.row.num_seeds)
    return replace(
        most,
        sweep=chosen.sweep,
        row=replace(
            most.row, configuration=chosen.row.configuration, parameters=chosen.row.parameters
        ),
        rule=chosen.rule,
        is_oracle=chosen.is_oracle,
        num_candidates=chosen.num_candidates,
        is_best=chosen.is_best,
        rank=chosen.rank,
        next_seed=chosen.next_seed,
        run_by=most.sweep,
    )


def _numbers(candidate: Candidate) -> set[int]:
    return {trial.number for trial in candidate.row.trials}


def _science(snapshot: Snapshot, view: TrialView) -> Any:
    """All that a trial trained, seeds aside; None where the store has not all of it.

    Trunks are left out: which there are on the way depends on the other sizes of a sweep.
    """
    kinds = ("trunk", "evaluate")
    records = [snapshot.records.get(stage.key) for stage in view.stages if stage.kind not in kinds]
    model, _ = model_of(snapshot.sweep, view.assignment)
    parts = [
        [record.payload[part] for part in ("kind", "version", "settings", "data")]
        for record in records
        if record is not None
    ]
    return [model, weights_of(snapshot, view), *parts] if len(parts) == len(records) else None


def _data_of(scores: pd.DataFrame) -> dict[str, str]:
    by_language: dict[str, set[str]] = {}
    columns = ("language", "data", "num_examples", "task_version")
    for language, *data in zip(*(scores[name] for name in columns), strict=True):
        by_language.setdefault(str(language), set()).add(" ".join(map(str, data)))
    return {language: ", ".join(sorted(data)) for language, data in by_language.items()}


def was_chosen_here(winner: Candidate, among: Sequence[Candidate]) -> bool:
    """Whether a candidate is the best of more candidates than are compared, on these very seeds.

    Where all candidates of a sweep take part, none of them won unseen.
    """
    present = sum(candidate.sweep == winner.sweep for candidate in among)
    return winner.is_best and not winner.is_fresh and winner.num_candidates > present


def on_fresh_seeds(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same candidates on seeds that chose none of them, where the first has such seeds in
    common with every other; as they are where that is not so, or where none was chosen."""
    if not any(was_chosen_here(candidate, candidates) for candidate in candidates):
        return [*candidates]
    fresh = [candidate.fresh or candidate for candidate in candidates]
    first, *rest = fresh
    is_whole = not any(was_chosen_here(candidate, fresh) for candidate in fresh)
    is_paired = all(first.trials.keys() & candidate.trials.keys() for candidate in rest)
    return fresh if is_whole and is_paired else [*candidates]


def selection_notes(
    first: Candidate, second: Candidate, candidates: Sequence[Candidate]
) -> list[str]:
    """What is to be said of how two of the candidates were chosen."""
    notes = []
    for candidate in (first, second):
        among = f"{candidate.num_candidates} configurations"
        if was_chosen_here(candidate, candidates):
            notes.append(
                f"{candidate.label} is the best of {among} on the very seeds that are compared: "
                "its score is too good on average, and nothing can be significant"
            )
        elif candidate.is_fresh:
            how = "the best of" if candidate.is_best else "named by hand among"
            chosen = f", {how} {among}," if candidate.num_candidates > 1 else ""
            notes.append(
                f"{candidate.label}{chosen} is compared on the fresh seeds of {candidate.run_by}"
            )
        elif candidate.num_candidates > sum(each.sweep == candidate.sweep for each in candidates):
            notes.append(
                f"{candidate.label} was named by hand among {among}: p holds where it was not "
                "named for its scores"
            )
    if any(was_chosen_here(candidate, candidates) for candidate in (first, second)):
        notes.append(f"to compare on fresh seeds: {'; '.join(_commands(candidates))}")
    return notes


def _commands(candidates: Sequence[Candidate]) -> list[str]:
    """What gives all candidates enough fresh seeds in common."""
    chosen = [candidate for candidate in candidates if was_chosen_here(candidate, candidates)]
    start = max(candidate.next_seed for candidate in chosen)
    # Those that were chosen have used no seed from there on.
    lacking = [candidate for candidate in candidates if not _has(candidate, start)]
    start = max(candidate.next_seed for candidate in lacking)
    commands = []
    for sweep in dict.fromkeys(candidate.sweep for candidate in lacking):
        of_sweep = [candidate for candidate in lacking if candidate.sweep == sweep]
        if all(candidate.fresh and _has(candidate.fresh, start) for candidate in of_sweep):
            continue
        seeds = start - of_sweep[0].next_seed + MIN_SEEDS_FOR_STAR
        top = max(candidate.rank for candidate in of_sweep)
        is_again = any(candidate.fresh for candidate in of_sweep)
        commands.append(
            f"xlt confirm {sweep} --seeds {seeds}"
            + (f" --top {top}" if top > 1 else "")
            + (f" name={sweep}-confirm-{seeds}" if is_again else "")
        )
    return commands


def _has(candidate: Candidate, start: int) -> bool:
    """Whether it was run with enough seeds from ``start`` on."""
    return candidate.trials.keys() >= set(range(start, start + MIN_SEEDS_FOR_STAR))


@dataclass(frozen=True)
class ComparisonRow:
    """One language, or one mean over languages, of two candidates."""

    kind: Literal["language", "mean", "mean_without_source"]
    languages: tuple[str, ...]
    baseline: float | None
    """Mean over the paired seeds; None without pairs."""
    other: float | None
    paired: Paired | None
    p_holm: float | None
    """Languages: corrected over the languages of this comparison. Means: over its candidates."""
    is_significant: bool
    """By the test over seeds alone."""
    items: OverItems | None = None
    """What the test items say; None where some network has none."""


@dataclass(frozen=True)
class Comparison:
    """One candidate against the first."""

    baseline: Candidate
    other: Candidate
    seeds: tuple[int, ...]
    """Seeds that both have."""
    given: Trained
    """Stages that several of these seeds share on one side alone: differences are conditional on
    them, and no test is made."""
    is_chosen_here: bool
    """Whether a side was chosen by its scores on these very seeds: nothing is significant then."""
    lines: tuple[ComparisonRow, ...]
    notes: tuple[str, ...]


def compare(candidates: Sequence[Candidate]) -> list[Comparison]:
    """Every candidate against the first, on fresh seeds where one was chosen among many.

    Raises:
        LedgerError: fewer than two, one twice, or they differ in task, metric or source language.
    """
    _refuse_unlike(candidates)
    candidates = on_fresh_seeds(candidates)
    first, *rest = candidates
    common = [
        code
        for code in first.table.languages
        if all(
            code in candidate.data and candidate.data[code] == first.data.get(code)
            for candidate in candidates
        )
        and all(code in trial.scores for candidate in candidates for trial in candidate.row.trials)
    ]
    comparisons = [_compared(first, candidate, candidates, common) for candidate in rest]
    return [_with_items(comparison) for comparison in _with_corrected_means(comparisons)]


def comparison_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """A comparison as ``xlt compare --json`` prints it; the keys are documented and stable."""
    first = comparisons[0].baseline
    candidates = [first, *(comparison.other for comparison in comparisons)]
    return {
        "task": first.table.task,
        "metric": first.table.metric,
        "source_language": first.table.source_language,
        "contenders": [
            {
                "sweep": candidate.sweep,
                "configuration": candidate.row.configuration,
                "selection": candidate.rule,
                "is_oracle": candidate.is_oracle,
                "supervision": candidate.row.supervision,
                "candidates": candidate.num_candidates,
                "is_fresh": candidate.is_fresh,
                "trials_of": candidate.run_by or candidate.sweep,
                "seeds": [trial.seed for trial in candidate.row.trials],
                "trials": [trial.number for trial in candidate.row.trials],
                "params": {
                    path: value_label(value) for path, value in candidate.row.parameters.items()
                },
            }
            for candidate in candidates
        ],
        "comparisons": [
            {
                "baseline": comparison.baseline.label,
                "other": comparison.other.label,
                "seeds": list(comparison.seeds),
                "given": [stage.label for stage in comparison.given],
                "notes": list(comparison.notes),
                "rows": [
                    _line_json(line) | {"chance": first.table.evidence.mean_chance(line.languages)}
                    for line in comparison.lines
                ],
            }
            for comparison in comparisons
        ],
    }


def _line_json(line: ComparisonRow) -> dict[str, Any]:
    result, items = line.paired, line.items
    interval = result and result.interval
    over_both, drawn = items and items.interval, items and items.drawn
    return {
        "kind": line.kind,
        "languages": list(line.languages),
        "baseline": line.baseline,
        "other": line.other,
        "difference": result and result.difference,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "interval": interval and interval.method,
        "num_pairs": result.num_pairs if result else 0,
        "p": result and result.p,
        "is_exact": result and result.is_exact,
        "p_holm": line.p_holm,
        "is_significant": line.is_significant,
        "items": dict(items.sizes) if items else None,
        "num_items": items and items.num_items,
        "two_level_low": over_both and over_both.low,
        "two_level_high": over_both and over_both.high,
        "two_level_interval": over_both and over_both.method,
        "items_low": drawn and drawn.interval.low,
        "items_high": drawn and drawn.interval.high,
        "items_p": drawn and drawn.p,
        "items_p_holm": items and items.p_holm,
    }


def _refuse_unlike(candidates: Sequence[Candidate]) -> None:
    labels = [candidate.label for candidate in candidates]
    if len(labels) < 2:
        raise LedgerError(f"{labels[0] if labels else 'compare'}: name another one to compare with")
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise LedgerError(f"{twice}: is named twice; compare it with another one")
    first = candidates[0].table
    for candidate in candidates[1:]:
        for name in ("task", "metric", "source_language"):
            value, wanted = getattr(candidate.table, name), getattr(first, name)
            if value != wanted:
                raise LedgerError(
                    f"{candidate.label}: its {name.replace('_', ' ')} is {value} and that of "
                    f"{labels[0]} is {wanted}; compare sweeps of one {name.replace('_', ' ')}"
                )


def _compared(
    first: Candidate, second: Candidate, candidates: Sequence[Candidate], common: Sequence[str]
) -> Comparison:
    seeds = tuple(sorted(first.trials.keys() & second.trials.keys()))
    languages = [*first.table.languages]
    languages += [code for code in second.table.languages if code not in languages]
    same = [code for code in languages if first.data.get(code, 0) == second.data.get(code, 1)]
    source = first.table.source_language
    lines = [_line("language", (code,), first, second, seeds) for code in same]
    without = tuple(code for code in common if code != source)
    if source in common:
        lines.insert(0, _line("mean", tuple(common), first, second, seeds))
    if without:
        lines.insert(0, _line("mean_without_source", without, first, second, seeds))
    notes = _notes(first, second, seeds, languages, same, common)
    comparison = Comparison(
        baseline=first,
        other=second,
        seeds=seeds,
        given=_given(first, second, seeds),
        is_chosen_here=any(was_chosen_here(candidate, candidates) for candidate in (first, second)),
        lines=tuple(lines),
        notes=(*notes, *selection_notes(first, second, candidates)),
    )
    return _corrected(
        [comparison], [(0, place) for place, line in enumerate(lines) if line.kind == "language"]
    )[0]


def _line(
    kind: Literal["language", "mean", "mean_without_source"],
    languages: tuple[str, ...],
    first: Candidate,
    second: Candidate,
    seeds: Sequence[int],
) -> ComparisonRow:
    pairs = {seed: (first.trials[seed].scores, second.trials[seed].scores) for seed in seeds}
    scored = [
        seed for seed in seeds if all(code in pair for pair in pairs[seed] for code in languages)
    ]
    if not scored:
        return ComparisonRow(kind, languages, None, None, None, None, False)
    baseline, compared = (
        [statistics.fmean(pairs[seed][side][code] for code in languages) for seed in scored]
        for side in (0, 1)
    )
    return ComparisonRow(
        kind=kind,
        languages=languages,
        baseline=statistics.fmean(baseline),
        other=statistics.fmean(compared),
        paired=paired(
            [b - a for a, b in zip(baseline, compared, strict=True)],
            are_independent=not _given(first, second, scored),
        ),
        p_holm=None,
        is_significant=False,
    )


def _given(first: Candidate, second: Candidate, seeds: Sequence[int]) -> Trained:
    return shared_on_one_side(
        (first.trials[seed].trained, second.trials[seed].trained) for seed in seeds
    )


def _with_corrected_means(comparisons: list[Comparison]) -> list[Comparison]:
    for kind in ("mean", "mean_without_source"):
        family = [
            (number, place)
            for number, comparison in enumerate(comparisons)
            for place, line in enumerate(comparison.lines)
            if line.kind == kind
        ]
        comparisons = _corrected(comparisons, family)
    return comparisons


def _with_items(comparison: Comparison) -> Comparison:
    """The comparison with what the items of the paired seeds say of every line."""
    sides = (comparison.baseline, comparison.other)
    if any(side.read is None for side in sides) or not comparison.seeds:
        return comparison
    baseline, compared = (
        [side.read(side.trials[seed].number) for seed in comparison.seeds] if side.read else []
        for side in sides
    )
    results = over_items([line.languages for line in comparison.lines], compared, baseline)
    if comparison.given:
        results = [
            result and replace(result, interval=given_stages(result.interval)) for result in results
        ]
    lines = (
        replace(line, items=items) for line, items in zip(comparison.lines, results, strict=True)
    )
    return replace(comparison, lines=tuple(lines))


def _corrected(
    comparisons: Sequence[Comparison], family: Sequence[tuple[int, int]]
) -> list[Comparison]:
    """The comparisons with the p-values of a family (comparison, line) corrected, and their
    stars."""
    lines = [list(comparison.lines) for comparison in comparisons]
    results = [lines[number][place].paired for number, place in family]
    corrected = holm([result.p if result else None for result in results])
    for (number, place), result, p in zip(family, results, corrected, strict=True):
        is_won = result is not None and deserves_star(p, result.num_pairs)
        lines[number][place] = replace(
            lines[number][place],
            p_holm=p,
            is_significant=is_won and not comparisons[number].is_chosen_here,
        )
    return [
        replace(comparison, lines=tuple(part))
        for comparison, part in zip(comparisons, lines, strict=True)
    ]


def _made_by(candidate: Candidate) -> str:
    """Versions and commits of the code that trained and scored a candidate."""
    return " and ".join(sorted(candidate.versions)) or "versions that nobody has kept"


def _notes(
    first: Candidate,
    second: Candidate,
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
    other_data = [
        language
        for language in languages
        if language in first.data and language in second.data and language not in same
    ]
    if other_data:
        notes.append(f"scored on other data, not compared: {', '.join(other_data)}")
    lacking = [
        language for language in languages if (language in first.data) != (language in second.data)
    ]
    if lacking:
        notes.append(f"scored on one side alone, not compared: {', '.join(lacking)}")
    outside = [language for language in same if language not in common]
    if outside:
        notes.append(f"not in the means, as some seed or sweep lacks them: {', '.join(outside)}")
    if first.runtimes != second.runtimes:
        notes.append("made under different numeric runtimes: last bits may differ")
    if first.versions != second.versions:
        makers = (f"{candidate.label} by {_made_by(candidate)}" for candidate in (first, second))
        notes.append(f"made by different versions: {', '.join(makers)}")
    for candidate in (first, second):
        if len(candidate.facts) > 1:
            notes.append(
                f"seeds of {candidate.label} were made with different facts (data, weights or "
                f"code): the sets {facts_label(candidate.facts)} of its sweep"
            )
    given = _given(first, second, seeds)
    if given:
        notes.append(
            f"seeds share one training of {named(given)}, which the other side has not: there is "
            "no test, and the interval is of what was trained after it and leaves out its luck; "
            "seed: per_trial there, or xlt confirm, trains one for each seed"
        )
    both = shared_by(first.trials[seed].trained for seed in seeds)
    both = tuple(stage for stage in both if stage.key not in {shared.key for shared in given})
    if both:
        notes.append(f"all is told given one training of {named(both)}, which both sides share")
    if small := first.table.evidence.small_note():
        notes.append(small)
    if cut := first.table.evidence.cut_note():
        notes.append(cut)
    for candidate in (first, second):
        notes += evidence_notes(candidate.label, candidate.row.near_constant)
        if candidate.is_oracle:
            notes.append(f"{candidate.label} was chosen by an oracle: not zero-shot")
        marked = note([(candidate.row.configuration, candidate.row.supervision)])
        if marked:
            notes.append(f"{candidate.sweep}: {marked.rstrip('.')}")
    if is_translate_train(first.row.supervision) != is_translate_train(second.row.supervision):
        notes.append(
            "one side is zero-shot and the other translate-train: what sets them apart may be the "
            "text in the scored languages alone"
        )
    return tuple(notes)
