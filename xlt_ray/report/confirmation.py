"""What of a winner's score was luck: the score that selected it against its fresh seeds.

The score that selected a configuration is the best of many, so it is too good on average, the
more so the more configurations were tried and the noisier a score is. On seeds that took no part
in the selection the same configuration has no such advantage: their mean is what to expect, and
the difference is the selection bias. Means are over fresh seeds, intervals Student's
(:func:`xlt_ray.report.stats.summary`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from xlt_ray.errors import LedgerError
from xlt_ray.ledger import TrialView, changes
from xlt_ray.ledger.made_with import listed
from xlt_ray.report.comparison import Candidate, candidate_of, shots_of
from xlt_ray.report.frames import Snapshot, target_of, trials_frame
from xlt_ray.report.selection import header, num_candidates
from xlt_ray.report.stats import Interval, Summary, summary
from xlt_ray.report.tables import note

CONFIRMATION_COLUMNS = (
    "configuration", "rank", "measure", "languages", "selected", "num_selecting_seeds", "fresh",
    "num_fresh_seeds", "low", "high", "bias", "bias_low", "bias_high",
)  # fmt: skip
Measure = Literal["objective", "source", "mean_without_source", "mean"]


@dataclass(frozen=True)
class Confirmed:
    """One number of one configuration: as it was when it was selected, and on fresh seeds."""

    configuration: int
    """In the sweep that selected it."""
    rank: int
    """Among that sweep's configurations, from 1."""
    measure: Measure
    """The objective, which selected; the others are test scores."""
    languages: tuple[str, ...]
    """The languages of a test score that every seed of both sweeps has; empty for the objective."""
    selected: float
    """Mean over the seeds of the sweep."""
    num_selecting_seeds: int
    fresh: Summary | None
    """None while no fresh seed is complete."""

    @property
    def bias(self) -> float | None:
        """How much better it looked than it is."""
        return None if self.fresh is None else self.selected - self.fresh.mean

    @property
    def bias_interval(self) -> Interval | None:
        """Interval of the bias, given the selected score; None with one fresh seed."""
        if self.fresh is None or self.fresh.interval is None:
            return None
        interval = self.fresh.interval
        return Interval(
            self.selected - interval.high,
            self.selected - interval.low,
            interval.method,
            interval.level,
        )


@dataclass(frozen=True)
class Confirmation:
    """All that a confirming sweep has measured."""

    sweep: str
    confirmed_by: str
    num_candidates: int
    """Configurations that the winner was chosen among, those that were stopped early included."""
    rule: str
    """By which they were chosen."""
    rows: tuple[Confirmed, ...]
    notes: tuple[str, ...]


def winners(snapshot: Snapshot, top: int) -> list[TrialView]:
    """A trial of each of the ``top`` best configurations, the best first.

    Raises:
        LedgerError: no trial is complete, or there are fewer configurations.
    """
    ranked = snapshot.ranking
    if not ranked:
        raise LedgerError(f"{snapshot.name}: no trial is complete yet; there is nothing to confirm")
    if len(ranked) < top:
        raise LedgerError(
            f"{snapshot.name}: {len(ranked)} configurations are complete, not {top}; "
            f"give --top {len(ranked)} or less"
        )
    return [
        next(
            trial
            for trial in snapshot.trials
            if trial.configuration == configuration and trial.state == "complete"
        )
        for configuration in ranked[:top]
    ]


def confirmation_of(
    snapshot: Snapshot, fresh: Snapshot, configurations: Sequence[int]
) -> Confirmation:
    """Compare a sweep's configurations with the sweep that ran them again.

    Args:
        configurations: of ``snapshot``, in the order in which ``fresh`` has them from 0 on.

    Raises:
        LedgerError: a configuration has no test scores in ``snapshot``.
    """
    trials, again = trials_frame(snapshot), trials_frame(fresh)
    rows: list[Confirmed] = []
    notes: dict[str, None] = {}
    for number, configuration in enumerate(configurations):
        measured: list[_Measured] = [
            ("objective", (), _objectives(trials, configuration), _objectives(again, number))
        ]
        shots = shots_of(snapshot, configuration)
        if shots:
            notes[f"configuration {configuration} was trained on {shots}, not zero-shot: its test "
                  "scores are in the report's table of few shots"] = None  # fmt: skip
        else:
            selected, repeated = candidate_of(snapshot, configuration), _repeated(fresh, number)
            marked = note([(configuration, selected.row.supervision)])
            if marked:
                notes[marked.rstrip(".")] = None
            languages, missing = _common(selected, repeated)
            if missing:
                notes[f"means of configuration {configuration} are without {', '.join(missing)}: "
                      "not scored, or on other data, in one of the sweeps"] = None  # fmt: skip
            measured += [
                (measure, part, _means(selected, part), _means(repeated, part))
                for measure, part in _measures(languages, selected.table.source_language)
            ]
        rows += [
            Confirmed(
                configuration=configuration,
                rank=snapshot.ranking.index(configuration) + 1,
                measure=measure,
                languages=part,
                selected=statistics.fmean(before),
                num_selecting_seeds=len(before),
                fresh=summary(after) if after else None,
            )
            for measure, part, before, after in measured
        ]
        changed = _changed(snapshot, configuration, fresh)
        if changed:
            notes[f"configuration {configuration} was selected with other data, weights or code "
                  f"than it was run again with: {changed}"] = None  # fmt: skip
    retried = {view.retry_of for view in fresh.trials}
    for view in fresh.trials:
        state = fresh.standings[view.number]
        if state != "complete" and view.number not in retried:
            notes[f"trial {view.number} of {fresh.name} (seed {view.seed}) is {state}: "
                  "it counts for nothing here"] = None  # fmt: skip
    return Confirmation(
        snapshot.name,
        fresh.name,
        num_candidates(trials),
        _rule(snapshot),
        tuple(rows),
        tuple(notes),
    )


def _changed(snapshot: Snapshot, configuration: int, fresh: Snapshot) -> str:
    """What has changed between a configuration's trials and those that ran it again; empty where
    nothing has, or the ledgers did not keep it."""
    before = {view.facts for view in snapshot.trials if view.configuration == configuration}
    after = {view.facts for view in fresh.trials}
    changed = {
        change
        for first in sorted(before & snapshot.fact_sets.keys())
        for second in sorted(after & fresh.fact_sets.keys())
        for change in changes(snapshot.fact_sets[first], fresh.fact_sets[second])
    }
    return listed(sorted(changed, key=str))


def confirmation_frame(confirmation: Confirmation) -> pd.DataFrame:
    """One row a configuration and measure, with the columns of the table."""
    rows: list[dict[str, Any]] = []
    for row in confirmation.rows:
        fresh, bias = row.fresh, row.bias_interval
        interval = fresh and fresh.interval
        names = ("configuration", "rank", "measure", "selected", "num_selecting_seeds", "bias")
        values = {name: getattr(row, name) for name in names} | {
            "languages": " ".join(row.languages),
            "fresh": fresh and fresh.mean,
            "num_fresh_seeds": fresh.num_seeds if fresh else 0,
            "low": interval and interval.low,
            "high": interval and interval.high,
            "bias_low": bias and bias.low,
            "bias_high": bias and bias.high,
        }
        rows.append({name: values[name] for name in CONFIRMATION_COLUMNS})
    return pd.DataFrame(rows)


def _rule(snapshot: Snapshot) -> str:
    sources = {target_of(snapshot.sweep, trial.assignment)[1] for trial in snapshot.trials}
    return " ".join(header(snapshot.sweep, source) for source in sorted(sources))


def _repeated(fresh: Snapshot, configuration: int) -> Candidate | None:
    """None while no fresh seed of the configuration is complete."""
    is_complete = any(
        trial.configuration == configuration and trial.state == "complete" for trial in fresh.trials
    )
    return candidate_of(fresh, configuration) if is_complete else None


def _common(selected: Candidate, repeated: Candidate | None) -> tuple[tuple[str, ...], list[str]]:
    """Languages that every seed of both sides was scored in, on the same data; and the rest."""
    sides = [selected] if repeated is None else [selected, repeated]

    def is_common(language: str) -> bool:
        return all(
            language in trial.scores and side.data.get(language) == selected.data.get(language)
            for side in sides
            for trial in side.row.trials
        )

    common = tuple(language for language in selected.table.languages if is_common(language))
    return common, [language for language in selected.table.languages if language not in common]


def _measures(languages: tuple[str, ...], source: str) -> Iterator[tuple[Measure, tuple[str, ...]]]:
    """The test scores that are compared, and over which languages each is a mean."""
    targets = tuple(language for language in languages if language != source)
    if source in languages:
        yield "source", (source,)
    if targets:
        yield "mean_without_source", targets
    if targets and source in languages:
        yield "mean", languages


_Measured = tuple[Measure, tuple[str, ...], list[float], list[float]]
"""A measure, its languages, and its values by seed in the sweep and on fresh seeds."""


def _objectives(trials: pd.DataFrame, configuration: int) -> list[float]:
    """One number a complete seed."""
    complete = trials[(trials["configuration"] == configuration) & (trials["state"] == "complete")]
    return [float(value) for value in complete["objective"]]


def _means(candidate: Candidate | None, languages: tuple[str, ...]) -> list[float]:
    """The mean over ``languages`` of each seed that was scored."""
    trials = candidate.row.trials if candidate is not None else ()
    return [statistics.fmean(trial.scores[code] for code in languages) for trial in trials]
