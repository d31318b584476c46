"""What stands beside a score: its items, what chance scores, what was cut, who answers blindly.

A mean over languages weighs a test set of forty sentences as one of ten thousand, and a network
that predicts one label for everything has scores like any other; both stand beside the scores.
What a score's evaluation knew of this is in its record (:class:`xlt_ray.store.record.Score`).
Scores of older stages know their number of examples alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from xlt_ray.config.task_types import TOO_FEW_ITEMS

MIN_GROUP_ITEMS = 30
"""A language with fewer test items is in no mean over a group of languages."""


@dataclass(frozen=True)
class Evidence:
    """What is known of the scores of one metric of a task, by language."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    """Number of test items: examples, sentences of tags, queries; the least that a trial had."""
    chance: Mapping[str, float] = field(default_factory=dict)
    """What is scored without looking at the text; unknown languages are absent."""
    cut: Mapping[str, float] = field(default_factory=dict)
    """Share of the examples that ``max_length`` takes a part of, the highest of the trials; only
    languages where it takes something."""

    @property
    def small(self) -> tuple[str, ...]:
        """Languages with fewer than ``TOO_FEW_ITEMS``."""
        return tuple(code for code, size in self.sizes.items() if size < TOO_FEW_ITEMS)

    @property
    def without_groups(self) -> tuple[str, ...]:
        """Languages that no group holds, because they have fewer than ``MIN_GROUP_ITEMS``."""
        return tuple(code for code, size in self.sizes.items() if size < MIN_GROUP_ITEMS)

    def mean_chance(self, languages: Sequence[str]) -> float | None:
        """What is scored by chance in a mean over languages; None where one is not known."""
        if not languages or any(code not in self.chance for code in languages):
            return None
        return sum(self.chance[code] for code in languages) / len(languages)

    def small_note(self) -> str:
        """Which languages of a mean have few items; empty where none has."""
        if not self.small:
            return ""
        listed = ", ".join(f"{code} ({self.sizes[code]})" for code in self.small)
        return f"Fewer than {TOO_FEW_ITEMS} test items: {listed}."

    def cut_note(self) -> str:
        """What rows had no room for; empty where they had room for everything.

        >>> Evidence(cut={"hy": 0.048, "ru": 0.0003}).cut_note()
        'max_length cuts examples (of tags words, of questions all answers): hy 4.8 %, ru 0.03 %.'
        """
        if not self.cut:
            return ""
        listed = ", ".join(f"{code} {100 * share:.3g} %" for code, share in self.cut.items())
        return f"max_length cuts examples (of tags words, of questions all answers): {listed}."

    def groups_note(self) -> str:
        """Which languages are in no group's mean; empty where all may be."""
        if not self.without_groups:
            return ""
        return (
            f"No group holds {', '.join(self.without_groups)}: fewer than {MIN_GROUP_ITEMS} "
            "test items."
        )


class Constant(NamedTuple):
    """That a network says next to one thing to everything, in one language."""

    share: float
    """Share of the most frequent prediction, the highest of the seeds."""
    num_seeds: int
    """Whose network does so."""

    def __str__(self) -> str:
        seeds = f" (in {self.num_seeds} seeds)" if self.num_seeds > 1 else ""
        return f"{100 * self.share:.0f} % of the predictions are the same{seeds}"


def evidence_of(test: pd.DataFrame) -> Evidence:
    """Of test scores of one task and metric, as rows of the frame of scores."""
    items = test["num_items"].fillna(test["num_examples"]).dropna()
    known = test[test["chance"].notna()]
    sizes = items.astype(int).groupby(test["language"]).min()
    chance = known["chance"].astype(float).groupby(known["language"]).mean()
    cut = test["cut"].astype(float).groupby(test["language"]).max()
    return Evidence(
        {str(code): int(size) for code, size in sizes.items()},
        {str(code): float(value) for code, value in chance.items()},
        {str(code): float(share) for code, share in cut.items() if share > 0},
    )


def near_constant_by_trial(test: pd.DataFrame) -> dict[int, dict[str, float]]:
    """Trial -> language -> share of the most frequent prediction, where that is nearly all."""
    by_trial: dict[int, dict[str, float]] = {}
    flagged = test[test["is_near_constant"].fillna(value=False).astype(bool)]
    for number, code, share in zip(
        flagged["number"], flagged["language"], flagged["top_share"], strict=True
    ):
        by_trial.setdefault(int(number), {})[str(code)] = float(share)
    return by_trial


def evidence_notes(label: str, constants: Mapping[str, Constant]) -> list[str]:
    """What a comparison says of one side's networks that say next to one thing to everything."""
    if not constants:
        return []
    listed = "; ".join(f"{code}: {constant}" for code, constant in constants.items())
    return [f"{label} says next to one thing to everything: {listed}"]


def constants_of(shares: Iterable[Mapping[str, float]]) -> dict[str, Constant]:
    """What several seeds have in common, by language.

    >>> constants_of([{"de": 0.97}, {}, {"de": 1.0, "sw": 0.99}])["de"]
    Constant(share=1.0, num_seeds=2)
    """
    by_seed = list(shares)
    languages = dict.fromkeys(code for of_seed in by_seed for code in of_seed)
    return {
        code: Constant(
            max(of_seed.get(code, 0.0) for of_seed in by_seed),
            sum(1 for of_seed in by_seed if code in of_seed),
        )
        for code in languages
    }
