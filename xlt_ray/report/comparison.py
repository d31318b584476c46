"""Configurations of several sweeps against the first: paired by seed, language by language.

Each sweep sends the configuration that its own rule selects, unless one is named. Only what was
scored on the same data is compared: a language whose test data differ, or that one side lacks, is
named and left out. Means are over the languages that all sides have in all their seeds, so every
mean of a comparison is over the same ones.

A difference is tested where its pairs are independent and neither side was chosen for its scores on
these seeds: see :mod:`xlt_ray.report.replication` and :mod:`xlt_ray.report.comparison`.

What a sweep sends into a comparison: one configuration, its scores by seed, how it was chosen.

A configuration that was chosen as the best of many looks better on the seeds that chose it than it
is. Where it was run again on seeds that took no part (``xlt confirm``), its contender carries those
as ``fresh``.

On which seeds configurations are compared that were chosen among many.

The best of 50 equal configurations beats a single one on the seeds that chose it, far more often
than a test of one configuration allows for. On fresh seeds (``xlt confirm``) it does not. So a
comparison takes fresh seeds where every side has some, and otherwise says what is missing.
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
from xlt_ray.report.labels import shown_value
from xlt_ray.report.provenance import model_of, weights_of
from xlt_ray.report.replication import Trained, named, shared_by, shared_on_one_side, trained_stages
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
    language_tables,
    note,
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
    """The items of its trials; None where nobody can read any."""
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
        raise LedgerError(f"{name}: no trial is complete yet; compare it when one is")
    trained = trained_stages(snapshot.trials)
    found = next(
        (
            (table, row)
            for table in language_tables(
                trials, scores, snapshot.parameters, sweep, trained=trained
            )
            for row in table.rows
            if row.configuration == chosen and row.trials
        ),
        None,
    )
    if found is None:
        there = sorted(
            {int(score) for score in scores[scores["stage"] == "evaluate"]["configuration"]}
        )
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
    rivals = trials[trials["configuration"].isin([row.configuration for row in table.rows])]
    candidates = num_candidates(rivals)
    rule = header(sweep, table.source_language)
    numbers = {trial.number for trial in row.trials}
    part = scores[scores["number"].isin(numbers) & (scores["stage"] == "evaluate")]
    part = part[(part["split"] == "test") & (part["metric"] == table.metric)]
    stages = stages_frame(snapshot)
    mine = stages[stages["number"].isin(numbers)]
    own = Candidate(
        sweep=name,
        table=table,
        row=row,
        rule=rule
        if chosen == best
        else f"Configuration {chosen} of {candidates} was named by hand.",
        is_oracle=is_oracle(sweep) and chosen == best,
        data=_data_of(part),
        runtimes=frozenset(one for one in mine["runtime"] if one),
        versions=frozenset(one for one in mine["versions"] if one),
        facts=frozenset(view.facts for view in snapshot.trials if view.number in numbers),
        num_candidates=candidates,
        is_best=row is table.rows[0],
        rank=snapshot.ranking.index(chosen) + 1,
        next_seed=max(view.seed for view in snapshot.trials) + 1,
        read=kept_of(snapshot, table.task, table.metric),
    )
    return replace(own, fresh=_fresh(own, snapshot, confirmations))


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


def _fresh(own: Candidate, snapshot: Snapshot, among: Iterable[Snapshot]) -> Candidate | None:
    """The configuration's run on most fresh seeds; None where nobody has run it again."""
    used = {view.seed for view in snapshot.trials}
    mine = _science(snapshot, next(v for v in snapshot.trials if v.number in _numbers(own)))
    found = []
    for confirmation in among:
        alike = {
            view.configuration
            for view in confirmation.trials
            if view.state == "complete"
            and mine is not None
            and _science(confirmation, view) == mine
        }
        for configuration in sorted(alike):
            fresh = candidate_of(confirmation, configuration)
            if used.isdisjoint(fresh.trials):
                found.append(fresh)
    if not found:
        return None
    most = max(found, key=lambda one: one.row.num_seeds)
    return replace(
        most,
        sweep=own.sweep,
        row=replace(most.row, configuration=own.row.configuration, parameters=own.row.parameters),
        rule=own.rule,
        is_oracle=own.is_oracle,
        num_candidates=own.num_candidates,
        is_best=own.is_best,
        rank=own.rank,
        next_seed=own.next_seed,
        run_by=most.sweep,
    )


def _numbers(contender: Candidate) -> set[int]:
    return {trial.number for trial in contender.row.trials}


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
    found: dict[str, set[str]] = {}
    columns = ("language", "data", "num_examples", "task_version")
    for language, *data in zip(*(scores[name] for name in columns), strict=True):
        found.setdefault(str(language), set()).add(" ".join(map(str, data)))
    return {language: ", ".join(sorted(data)) for language, data in found.items()}


def was_chosen_here(contender: Candidate, among: Sequence[Candidate]) -> bool:
    """Whether a contender is the best of more candidates than are compared, on these very seeds.

    Where all candidates of a sweep take part, none of them won unseen.
    """
    present = sum(one.sweep == contender.sweep for one in among)
    return contender.is_best and not contender.is_fresh and contender.num_candidates > present


def on_fresh_seeds(contenders: Sequence[Candidate]) -> list[Candidate]:
    """The same contenders on seeds that chose none of them, where the first has such seeds in
    common with every other; as they are where that is not so, or where none was chosen."""
    if not any(was_chosen_here(contender, contenders) for contender in contenders):
        return [*contenders]
    found = [contender.fresh or contender for contender in contenders]
    first, *others = found
    is_whole = not any(was_chosen_here(one, found) for one in found)
    is_paired = all(first.trials.keys() & other.trials.keys() for other in others)
    return found if is_whole and is_paired else [*contenders]


def selection_notes(
    first: Candidate, other: Candidate, contenders: Sequence[Candidate]
) -> list[str]:
    """What is to be said of how two of the contenders were chosen."""
    notes = []
    for one in (first, other):
        among = f"{one.num_candidates} configurations"
        if was_chosen_here(one, contenders):
            notes.append(
                f"{one.label} is the best of {among} on the very seeds that are compared: its "
                "score is too good on average, and nothing can be significant"
            )
        elif one.is_fresh:
            how = "the best of" if one.is_best else "named by hand among"
            notes.append(
                f"{one.label}, {how} {among}, is compared on the fresh seeds of {one.run_by}"
                if one.num_candidates > 1
                else f"{one.label} is compared on the fresh seeds of {one.run_by}"
            )
        elif one.num_candidates > sum(each.sweep == one.sweep for each in contenders):
            notes.append(
                f"{one.label} was named by hand among {among}: p holds where it was not named for "
                "its scores"
            )
    if any(was_chosen_here(one, contenders) for one in (first, other)):
        notes.append(f"to compare on fresh seeds: {'; '.join(_commands(contenders))}")
    return notes


def _commands(contenders: Sequence[Candidate]) -> list[str]:
    """What gives all contenders enough fresh seeds in common."""
    chosen = [contender for contender in contenders if was_chosen_here(contender, contenders)]
    start = max(one.next_seed for one in chosen)
    # Those that were chosen have used no seed from there on.
    lacking = [contender for contender in contenders if not _has(contender, start)]
    start = max(one.next_seed for one in lacking)
    found = []
    for sweep in dict.fromkeys(one.sweep for one in lacking):
        mine = [one for one in lacking if one.sweep == sweep]
        if all(one.fresh and _has(one.fresh, start) for one in mine):
            continue
        seeds = start - mine[0].next_seed + MIN_SEEDS_FOR_STAR
        top = max(one.rank for one in mine)
        is_again = any(one.fresh for one in mine)
        found.append(
            f"xlt confirm {sweep} --seeds {seeds}"
            + (f" --top {top}" if top > 1 else "")
            + (f" name={sweep}-confirm-{seeds}" if is_again else "")
        )
    return found


def _has(contender: Candidate, start: int) -> bool:
    """Whether it was run with enough seeds from ``start`` on."""
    return contender.trials.keys() >= set(range(start, start + MIN_SEEDS_FOR_STAR))


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
        if all(
            code in contender.data and contender.data[code] == first.data.get(code)
            for contender in contenders
        )
        and all(code in trial.scores for contender in contenders for trial in contender.row.trials)
    ]
    found = [_versus(first, other, contenders, common) for other in others]
    return [_with_items(mean) for mean in _with_corrected_means(found)]


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
                "sweep": contender.sweep,
                "configuration": contender.row.configuration,
                "selection": contender.rule,
                "is_oracle": contender.is_oracle,
                "supervision": contender.row.supervision,
                "candidates": contender.num_candidates,
                "is_fresh": contender.is_fresh,
                "trials_of": contender.run_by or contender.sweep,
                "seeds": [trial.seed for trial in contender.row.trials],
                "trials": [trial.number for trial in contender.row.trials],
                "params": {
                    path: shown_value(value) for path, value in contender.row.parameters.items()
                },
            }
            for contender in contenders
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
    labels = [contender.label for contender in contenders]
    if len(labels) < 2:
        raise LedgerError(f"{labels[0] if labels else 'compare'}: name another one to compare with")
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise LedgerError(f"{twice}: is named twice; compare it with another one")
    first = contenders[0].table
    for contender in contenders[1:]:
        for name in ("task", "metric", "source_language"):
            mine, theirs = getattr(contender.table, name), getattr(first, name)
            if mine != theirs:
                raise LedgerError(
                    f"{contender.label}: its {name.replace('_', ' ')} is {mine} and that of "
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
        seed for seed in seeds if all(code in pair for pair in pairs[seed] for code in languages)
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
    if any(side.read is None for side in sides) or not versus.seeds:
        return versus
    baseline, other = (
        [side.read(side.trials[seed].number) for seed in versus.seeds] if side.read else []
        for side in sides
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
    corrected = holm([result.p if result else None for result in results])
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
    other_data = [
        language
        for language in languages
        if language in first.data and language in other.data and language not in same
    ]
    if other_data:
        notes.append(f"scored on other data, not compared: {', '.join(other_data)}")
    lacking = [
        language for language in languages if (language in first.data) != (language in other.data)
    ]
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
