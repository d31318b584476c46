"""What a sweep sends into a comparison: one configuration, its scores by seed, how it was chosen.

A configuration that was chosen as the best of many looks better on the seeds that chose it than it
is. Where it was run again on seeds that took no part (``xlt confirm``), its contender carries those
as ``fresh``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xlt_ray.errors import LedgerError
from xlt_ray.ledger import TrialView
from xlt_ray.report.frames import scores_frame, stages_frame, trials_frame
from xlt_ray.report.items import ReadItems, kept_of
from xlt_ray.report.provenance import model_of, weights_of
from xlt_ray.report.replication import trained_stages
from xlt_ray.report.selection import header, is_oracle, num_candidates, ranked_configurations
from xlt_ray.report.snapshot import Snapshot
from xlt_ray.report.tables import LanguageTable, Row, TrialScores, language_tables

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
        return {one.seed: one for one in self.row.trials}

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
    ranked = ranked_configurations(trials, sweep)
    best = next(iter(ranked), None)
    chosen = best if configuration is None else configuration
    if chosen is None:
        raise LedgerError(f"{name}: no trial is complete yet; compare it when one is")
    trained = trained_stages(snapshot.trials)
    found = next(
        (
            (table, row)
            for table in language_tables(trials, scores, snapshot.knobs, sweep, trained=trained)
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
    rivals = trials[trials["configuration"].isin([one.configuration for one in table.rows])]
    candidates = num_candidates(rivals)
    rule = header(sweep, table.source_language)
    numbers = {one.number for one in row.trials}
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
        rank=ranked.index(chosen) + 1,
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
        row=replace(most.row, configuration=own.row.configuration, knobs=own.row.knobs),
        rule=own.rule,
        is_oracle=own.is_oracle,
        num_candidates=own.num_candidates,
        is_best=own.is_best,
        rank=own.rank,
        next_seed=own.next_seed,
        run_by=most.sweep,
    )


def _numbers(contender: Candidate) -> set[int]:
    return {one.number for one in contender.row.trials}


def _science(snapshot: Snapshot, view: TrialView) -> Any:
    """All that a trial trained, seeds aside; None where the store has not all of it.

    Trunks are left out: which there are on the way depends on the other sizes of a sweep.
    """
    kinds = ("trunk", "evaluate")
    records = [snapshot.records.get(one.key) for one in view.stages if one.kind not in kinds]
    model, _ = model_of(snapshot.sweep, view.assignment)
    parts = [
        [one.payload[part] for part in ("kind", "version", "settings", "data")]
        for one in records
        if one is not None
    ]
    return [model, weights_of(snapshot, view), *parts] if len(parts) == len(records) else None


def _data_of(scores: pd.DataFrame) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    columns = ("language", "data", "num_examples", "task_version")
    for language, *data in zip(*(scores[name] for name in columns), strict=True):
        found.setdefault(str(language), set()).add(" ".join(map(str, data)))
    return {language: ", ".join(sorted(data)) for language, data in found.items()}
