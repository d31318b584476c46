"""What of a winner's score was luck: the score that selected it against its fresh seeds.

The score that selected a configuration is the best of many, so it is too good on average, the
more so the more configurations were tried and the noisier a score is. On seeds that took no part
in the selection the same configuration has no such advantage: their mean is what to expect, and
the difference is the selection bias. Intervals are Student's, over fresh seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Confirmed:
    """One number of one configuration: as it was when it was selected, and on fresh seeds."""

    configuration: int
    """In the sweep that selected it."""
    rank: int
    """Among that sweep's configurations, from 1."""
    measure: str
    """``objective``, which selected; ``source``, ``mean_without_source``, ``mean``: test scores."""
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
        low, high = self.selected - interval.high, self.selected - interval.low
        return Interval(low, high, interval.method)


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
    complete = (trial for trial in reversed(snapshot.trials) if trial.state == "complete")
    first_trial = {trial.configuration: trial for trial in complete}
    return [first_trial[configuration] for configuration in ranked[:top]]


def confirmation_of(
    snapshot: Snapshot, fresh: Snapshot, configurations: Sequence[int]
) -> Confirmation:
    """Compare a sweep's configurations with the sweep that ran them again.

    Args:
        configurations: of ``snapshot``, in the order in which ``fresh`` has them from 0 on.

    Raises:
        LedgerError: a configuration has no test scores in ``snapshot``.
    """
    rows: list[Confirmed] = []
    notes: list[str] = []
    for number, configuration in enumerate(configurations):
        measured: list[_Measured] = [
            ("objective", (), _objectives(snapshot, configuration), _objectives(fresh, number))
        ]
        shots = shots_of(snapshot, configuration)
        if shots:
            notes.append(
                f"configuration {configuration} was trained on {shots}, not zero-shot: its test "
                "scores are in the report's table of few shots"
            )
        else:
            # No fresh seed of it may be complete yet.
            is_repeated = bool(_objectives(fresh, number))
            sides = [candidate_of(snapshot, configuration)]
            sides += [candidate_of(fresh, number)] if is_repeated else []
            table, trials = sides[0].table, [side.row.trials for side in sides]
            marked = note([(configuration, sides[0].row.supervision)])
            notes += [marked.rstrip(".")] if marked else []
            languages = _common(sides)
            missing = [code for code in table.languages if code not in languages]
            if missing:
                notes.append(
                    f"means of configuration {configuration} are without {', '.join(missing)}: "
                    "not scored, or on other data, in one of the sweeps"
                )
            for measure, part in _measures(languages, table.source_language):
                before, *after = [
                    [statistics.fmean(trial.scores[code] for code in part) for trial in of_side]
                    for of_side in trials
                ]
                measured.append((measure, part, before, after[0] if after else []))
        rows += [
            Confirmed(
                configuration=configuration,
                rank=snapshot.ranking.index(configuration) + 1,
                measure=measure,
                languages=part,
                selected=statistics.fmean(before),
                num_selecting_seeds=len(before),
                fresh=summary(again) if again else None,
            )
            for measure, part, before, again in measured
        ]
        changed = _changed(snapshot, configuration, fresh)
        if changed:
            notes.append(
                f"configuration {configuration} was selected with other data, weights or code "
                f"than it was run again with: {changed}"
            )
    retried = {view.retry_of for view in fresh.trials}
    for view in fresh.trials:
        state = fresh.standings[view.number]
        if state != "complete" and view.number not in retried:
            notes.append(
                f"trial {view.number} of {fresh.name} (seed {view.seed}) is {state}: it counts for "
                "nothing here"
            )
    sources = {target_of(snapshot.sweep, trial.assignment)[1] for trial in snapshot.trials}
    return Confirmation(
        snapshot.name,
        fresh.name,
        num_candidates(trials_frame(snapshot)),
        " ".join(header(snapshot.sweep, source) for source in sorted(sources)),
        tuple(rows),
        tuple(dict.fromkeys(notes)),
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
        rows.append(
            vars(row)
            | {
                "languages": " ".join(row.languages),
                "fresh": fresh and fresh.mean,
                "num_fresh_seeds": fresh.num_seeds if fresh else 0,
                "low": interval and interval.low,
                "high": interval and interval.high,
                "bias": row.bias,
                "bias_low": bias and bias.low,
                "bias_high": bias and bias.high,
            }
        )
    return pd.DataFrame(rows, columns=list(CONFIRMATION_COLUMNS))


_Measured = tuple[str, tuple[str, ...], list[float], list[float]]
"""A measure, its languages, and its values by seed in the sweep and on fresh seeds."""


def _common(sides: Sequence[Candidate]) -> tuple[str, ...]:
    """Languages that every seed of all sides was scored in, on the same data."""
    first = sides[0]
    return tuple(
        code
        for code in first.table.languages
        if all(
            code in trial.scores and side.data.get(code) == first.data.get(code)
            for side in sides
            for trial in side.row.trials
        )
    )


def _measures(languages: tuple[str, ...], source: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The test scores that are compared, and over which languages each is a mean."""
    targets = tuple(language for language in languages if language != source)
    if source in languages:
        yield "source", (source,)
    if targets:
        yield "mean_without_source", targets
    if targets and source in languages:
        yield "mean", languages


def _objectives(snapshot: Snapshot, configuration: int) -> list[float]:
    """One number a complete seed."""
    trials = (trial for trial in snapshot.trials if trial.configuration == configuration)
    return [trial.objective for trial in trials if trial.objective is not None]
