"""Configurations of several sweeps against the first: paired by seed, language by language.

Only scores on the same data are compared. Means are over the languages that all sides have in all
their seeds. A difference is tested where its pairs are independent and neither side was chosen for
its scores on these seeds: the best of 50 equal configurations beats a single one on the seeds that
chose it far more often than a test allows for, on fresh seeds (``xlt confirm``) it does not. So a
comparison takes fresh seeds where every side has some, and otherwise says how to get them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

import pandas as pd

from xlt_ray.config.labels import value_label
from xlt_ray.errors import LedgerError
from xlt_ray.ledger import TrialView, facts_label
from xlt_ray.report.frames import Snapshot, scores_frame, stages_frame, trials_frame
from xlt_ray.report.item_uncertainty import OverItems, ReadItems, kept_of, over_items
from xlt_ray.report.provenance import model_of, weights_of
from xlt_ray.report.selection import header, is_oracle, num_candidates
from xlt_ray.report.stats import (
    ALPHA,
    MIN_SEEDS_FOR_STAR,
    Interval,
    Paired,
    Trained,
    deserves_star,
    given_stages,
    holm,
    named,
    paired,
    shared_by,
    shared_on_one_side,
)
from xlt_ray.report.tables import (
    LanguageTable,
    Row,
    TrialScores,
    is_translate_train,
    note,
    tables_of,
)


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
    sweep, name, best = snapshot.sweep, snapshot.name, snapshot.best_configuration
    chosen = best if configuration is None else configuration
    if chosen is None:
        raise LedgerError(f"{name}: no trial is complete yet; compare it later")
    by_configuration = {
        row.configuration: (table, row)
        for table in reversed(tables_of(snapshot))
        for row in table.rows
        if row.trials
    }
    if chosen not in by_configuration:
        _refuse(snapshot, chosen)
    table, row = by_configuration[chosen]
    trials, scores, stages = (make(snapshot) for make in (trials_frame, scores_frame, stages_frame))
    rivals = trials[trials["configuration"].isin([row.configuration for row in table.rows])]
    candidates = num_candidates(rivals)
    numbers = {trial.number for trial in row.trials}
    part = scores[scores["number"].isin(numbers) & (scores["stage"] == "evaluate")]
    part = part[(part["split"] == "test") & (part["metric"] == table.metric)]
    made = stages[stages["number"].isin(numbers)]
    by_hand = f"Configuration {chosen} of {candidates} was named by hand."
    rule = header(sweep, table.source_language) if chosen == best else by_hand
    candidate = Candidate(
        sweep=name,
        table=table,
        row=row,
        rule=rule + f" It was {snapshot.origin}." * bool(snapshot.origin),
        is_oracle=is_oracle(sweep) and chosen == best,
        data=_data_of(part),
        runtimes=frozenset(filter(None, made["runtime"])),
        versions=frozenset(filter(None, made["versions"])),
        facts=frozenset(view.facts for view in snapshot.trials if view.number in numbers),
        num_candidates=candidates,
        is_best=row is table.rows[0],
        rank=snapshot.ranking.index(chosen) + 1,
        next_seed=max(view.seed for view in snapshot.trials) + 1,
        read=kept_of(snapshot, table.task, table.metric),
    )
    return replace(candidate, fresh=_fresh(candidate, snapshot, confirmations))


def _refuse(snapshot: Snapshot, configuration: int) -> NoReturn:
    """Say why a configuration without test scores has none."""
    scores = scores_frame(snapshot)
    scored = sorted(set(scores[scores["stage"] == "evaluate"]["configuration"]))
    shots = shots_of(snapshot, configuration)
    metric = snapshot.sweep["objective"]["metric"]
    problem = (
        f"was trained on labels of a target language ({shots}) and is not zero-shot; its "
        "scores stand in the report's table of few shots, beside those without shots"
        if shots
        else f"has no test scores of {metric}"
    )
    listed = ", ".join(map(str, scored)) or "none"
    raise LedgerError(
        f"{snapshot.name}/{configuration}: {problem}; with {'zero-shot ' if shots else ''}scores: "
        f"{listed}"
    )


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
    first = chosen.row.trials[0].number
    science = _science(snapshot, next(view for view in snapshot.trials if view.number == first))
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
    most = max(runs, key=lambda run: run.row.num_seeds)
    row = replace(
        most.row, configuration=chosen.row.configuration, parameters=chosen.row.parameters
    )
    measured = ("table", "data", "runtimes", "versions", "facts", "read")
    of_run = {name: getattr(most, name) for name in measured}
    return replace(chosen, row=row, run_by=most.sweep, fresh=None, **of_run)


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
    columns = [scores[name].astype(str) for name in ("data", "num_examples", "task_version")]
    scored = columns[0].str.cat(columns[1:], sep=" ")
    by_language = scored.groupby(scores["language"]).unique()
    return {str(code): ", ".join(sorted(data)) for code, data in by_language.items()}


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


@dataclass
class ComparisonRow:
    """One language, or one mean over languages, of two candidates."""

    kind: Literal["language", "mean", "mean_without_source"]
    languages: tuple[str, ...]
    baseline: float | None = None
    """Mean over the paired seeds; None without pairs."""
    other: float | None = None
    paired: Paired | None = None
    p_holm: float | None = None
    """Languages: corrected over the languages of this comparison. Means: over its candidates."""
    is_significant: bool = False
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
    for comparison in comparisons:
        _correct([comparison], "language")
    for kind in ("mean", "mean_without_source"):
        _correct(comparisons, kind)
    return comparisons


def _correct(comparisons: Sequence[Comparison], kind: str) -> None:
    """Correct the p-values of all lines of a kind as one family, and give them their stars."""
    family = [
        (comparison, line)
        for comparison in comparisons
        for line in comparison.lines
        if line.kind == kind
    ]
    corrected = holm([line.paired.p if line.paired else None for _, line in family])
    for (comparison, line), p in zip(family, corrected, strict=True):
        is_won = line.paired is not None and deserves_star(p, line.paired.num_pairs)
        line.p_holm, line.is_significant = p, is_won and not comparison.is_chosen_here


def comparison_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """A comparison as ``xlt compare --json`` prints it; the keys are documented and stable."""
    first = comparisons[0].baseline
    evidence = first.table.evidence
    return {
        **{name: getattr(first.table, name) for name in _ALIKE},
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
            for candidate in (first, *(comparison.other for comparison in comparisons))
        ],
        "comparisons": [
            {
                "baseline": comparison.baseline.label,
                "other": comparison.other.label,
                "seeds": list(comparison.seeds),
                "given": [stage.label for stage in comparison.given],
                "notes": list(comparison.notes),
                "rows": [
                    {**_line_json(line), "chance": evidence.mean_chance(line.languages)}
                    for line in comparison.lines
                ],
            }
            for comparison in comparisons
        ],
    }


_ALIKE = ("task", "metric", "source_language")
"""What all candidates of a comparison have in common."""


def _line_json(line: ComparisonRow) -> dict[str, Any]:
    result, items = line.paired, line.items
    drawn = items.drawn if items else None

    def ends(prefix: str, interval: Interval | None) -> dict[str, Any]:
        return {f"{prefix}{end}": interval and getattr(interval, end) for end in ("low", "high")}

    interval = result.interval if result else None
    over_both = items.interval if items else None
    return {
        "kind": line.kind,
        "languages": list(line.languages),
        "baseline": line.baseline,
        "other": line.other,
        "difference": result and result.difference,
        **ends("", interval),
        "interval": interval and interval.method,
        "num_pairs": result.num_pairs if result else 0,
        "p": result and result.p,
        "is_exact": result and result.is_exact,
        "p_holm": line.p_holm,
        "is_significant": line.is_significant,
        "items": dict(items.sizes) if items else None,
        "num_items": items and items.num_items,
        **ends("two_level_", over_both),
        "two_level_interval": over_both and over_both.method,
        **ends("items_", drawn.interval if drawn else None),
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
    for candidate in candidates[1:]:
        for name in _ALIKE:
            value, wanted = getattr(candidate.table, name), getattr(candidates[0].table, name)
            what = name.replace("_", " ")
            if value != wanted:
                raise LedgerError(
                    f"{candidate.label}: its {what} is {value} and that of {labels[0]} is "
                    f"{wanted}; compare sweeps of one {what}"
                )


def _compared(
    first: Candidate, second: Candidate, candidates: Sequence[Candidate], common: Sequence[str]
) -> Comparison:
    seeds = tuple(sorted(first.trials.keys() & second.trials.keys()))
    languages = list(dict.fromkeys([*first.table.languages, *second.table.languages]))
    same = [code for code in languages if first.data.get(code, 0) == second.data.get(code, 1)]
    source = first.table.source_language
    lines = [_line("language", (code,), first, second, seeds) for code in same]
    without = tuple(code for code in common if code != source)
    if source in common:
        lines.insert(0, _line("mean", tuple(common), first, second, seeds))
    if without:
        lines.insert(0, _line("mean_without_source", without, first, second, seeds))
    given = _given(first, second, seeds)
    if first.read and second.read and seeds:
        baseline = [first.read(first.trials[seed].number) for seed in seeds]
        compared = [second.read(second.trials[seed].number) for seed in seeds]
        results = over_items([line.languages for line in lines], compared, baseline)
        for line, items in zip(lines, results, strict=True):
            if items and given:
                items = replace(items, interval=given_stages(items.interval))
            line.items = items
    notes = _notes(first, second, seeds, languages, same, common)
    return Comparison(
        baseline=first,
        other=second,
        seeds=seeds,
        given=given,
        is_chosen_here=any(was_chosen_here(candidate, candidates) for candidate in (first, second)),
        lines=tuple(lines),
        notes=(*notes, *selection_notes(first, second, candidates)),
    )


def _line(
    kind: Literal["language", "mean", "mean_without_source"],
    languages: tuple[str, ...],
    first: Candidate,
    second: Candidate,
    seeds: Sequence[int],
) -> ComparisonRow:
    pairs = {seed: (first.trials[seed].scores, second.trials[seed].scores) for seed in seeds}
    scored = {
        seed: [statistics.fmean(scores[code] for code in languages) for scores in sides]
        for seed, sides in pairs.items()
        if all(code in scores for scores in sides for code in languages)
    }
    if not scored:
        return ComparisonRow(kind, languages)
    are_independent = not _given(first, second, [*scored])
    return ComparisonRow(
        kind,
        languages,
        baseline=statistics.fmean(baseline for baseline, _ in scored.values()),
        other=statistics.fmean(compared for _, compared in scored.values()),
        paired=paired([b - a for a, b in scored.values()], are_independent=are_independent),
    )


def _given(first: Candidate, second: Candidate, seeds: Sequence[int]) -> Trained:
    return shared_on_one_side(
        (first.trials[seed].trained, second.trials[seed].trained) for seed in seeds
    )


def _notes(
    first: Candidate,
    second: Candidate,
    seeds: Sequence[int],
    languages: Sequence[str],
    same: Sequence[str],
    common: Sequence[str],
) -> Iterator[str]:
    if not seeds:
        yield "no seed in common: nothing can be paired"
    elif len(seeds) < MIN_SEEDS_FOR_STAR:
        yield (
            f"{len(seeds)} paired seed{'' if len(seeds) == 1 else 's'}: nothing can be "
            f"significant below {MIN_SEEDS_FOR_STAR}"
        )
    elif len(same) * 2 ** (1 - len(seeds)) > ALPHA:
        needed = next(n for n in range(len(seeds), 99) if len(same) * 2 ** (1 - n) <= ALPHA)
        yield (
            f"with {len(same)} languages to correct for, no single one can be significant below "
            f"{needed} seeds"
        )
    sides = (first, second)
    num_scored = {code: sum(code in side.data for side in sides) for code in languages}
    left_out = {
        "scored on other data, not compared": [
            code for code in languages if num_scored[code] == 2 and code not in same
        ],
        "scored on one side alone, not compared": [
            code for code in languages if num_scored[code] == 1
        ],
        "not in the means, as some seed or sweep lacks them": [
            code for code in same if code not in common
        ],
    }
    yield from (f"{text}: {', '.join(codes)}" for text, codes in left_out.items() if codes)
    if first.runtimes != second.runtimes:
        yield "made under different numeric runtimes: last bits may differ"
    if first.versions != second.versions:
        unknown = "unknown versions"
        makers = (
            f"{side.label} by {' and '.join(sorted(side.versions)) or unknown}" for side in sides
        )
        yield f"made by different versions: {', '.join(makers)}"
    for side in sides:
        if len(side.facts) > 1:
            yield (
                f"seeds of {side.label} were made with different facts (data, weights or code): "
                f"the sets {facts_label(side.facts)} of its sweep"
            )
    given = _given(first, second, seeds)
    if given:
        yield (
            f"seeds share one training of {named(given)}, which the other side has not: there is "
            "no test, and the interval is of what was trained after it and leaves out its luck; "
            "seed: per_trial there, or xlt confirm, trains one for each seed"
        )
    shared = shared_by(first.trials[seed].trained for seed in seeds)
    both = tuple(stage for stage in shared if stage.key not in {each.key for each in given})
    if both:
        yield f"every difference is given one training of {named(both)}, which both sides share"
    evidence = first.table.evidence
    yield from filter(None, (evidence.small_note(), evidence.cut_note()))
    for side in sides:
        constants = side.row.near_constant
        if constants:
            listed = "; ".join(f"{code}: {constant}" for code, constant in constants.items())
            yield f"{side.label} says next to one thing to everything: {listed}"
        if side.is_oracle:
            yield f"{side.label} was chosen by an oracle: not zero-shot"
        marked = note([(side.row.configuration, side.row.supervision)])
        if marked:
            yield f"{side.sweep}: {marked.rstrip('.')}"
    if is_translate_train(first.row.supervision) != is_translate_train(second.row.supervision):
        yield (
            "one side is zero-shot and the other translate-train: what sets them apart may be the "
            "text in the scored languages alone"
        )
