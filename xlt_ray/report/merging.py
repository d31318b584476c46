"""Merged networks against the trials that they were made of, on the test sets.

A merge is one network, so no seeds say how far its score would spread. What is compared is the
score in each language with the mean of its members there; Student's interval is over languages, and
says how alike the languages are in what merging does, for these trainings.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xlt_ray.ledger.merges import Merged
from xlt_ray.report.frames import Snapshot, readable
from xlt_ray.report.stats import Paired, paired
from xlt_ray.store.record import values_by_language


@dataclass(frozen=True)
class MergeRow:
    """A merge and its members, on the languages that all of them were scored in."""

    merged: Merged
    source_language: str
    scores: Mapping[str, float]
    """Language -> test score of the merge."""
    members: Mapping[str, float]
    """The same, as the mean over its members."""
    best_member: Mapping[str, float]
    """The same of the member with the best objective."""
    best_objective: float

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(language for language in self.scores if language != self.source_language)

    @property
    def gain(self) -> Paired | None:
        """Merge minus mean of its members, paired over the languages besides the source; without
        a test, as the languages share the trainings. None without such languages."""
        differences = [self.scores[code] - self.members[code] for code in self.targets]
        return paired(differences, are_independent=False) if differences else None

    def mean(self, scores: Mapping[str, float]) -> float | None:
        """Mean over the languages besides the source."""
        return statistics.fmean(scores[code] for code in self.targets) if self.targets else None


def merge_rows(snapshot: Snapshot, merges: Iterable[Merged]) -> list[MergeRow]:
    """The merges whose evaluation, and that of all members, the store has."""
    metric, store = snapshot.sweep["objective"]["metric"], snapshot.store
    sign = -1 if snapshot.sweep["objective"]["mode"] == "min" else 1
    rows = []
    for merged in merges:
        views = [view for view in snapshot.trials if view.number in merged.trials]
        views.sort(key=lambda view: -sign * (view.objective or 0.0))
        records = [snapshot.record(view, "evaluate") for view in views]
        own = None if store is None else readable(store, merged.evaluation)
        if own is None or not views:
            continue
        scores = values_by_language(own.scores, "test", metric)
        of_members = [
            values_by_language(record.scores, "test", metric)
            for record in records
            if record is not None
        ]
        if len(of_members) < len(merged.trials):
            continue
        common = [code for code in scores if all(code in values for values in of_members)]
        settings = own.payload["settings"]
        assert isinstance(settings, Mapping)
        rows.append(
            MergeRow(
                merged,
                str(settings["source_language"]),
                {code: scores[code] for code in common},
                {code: statistics.fmean(values[code] for values in of_members) for code in common},
                {code: of_members[0][code] for code in common},
                views[0].objective or 0.0,
            )
        )
    return rows
