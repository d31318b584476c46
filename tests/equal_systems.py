"""Comparisons of which the truth is known: systems that differ in nothing but their luck.

A score is made of the luck of a trained stage, that of a seed, and that of a language in both. What
is drawn goes through the functions that compare real sweeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Literal

import numpy as np

from xlt_ray.ledger import StageUse
from xlt_ray.report.comparison import Candidate, Comparison
from xlt_ray.report.stats import Trained, deserves_star, sign_flip_p
from xlt_ray.report.tables import LanguageTable, Row, TrialScores, cell_of

LANGUAGES = ("qaa", "qab", "qac", "qad")
"""The source language first."""

Scope = Literal["shared", "per_trial", "mixed", "common"]
"""Of the stages before the target: one for all seeds of a side, one a seed, the one on the first
side and the other on the second, one for all seeds of both sides."""


def stage(key: str, kind: str = "intermediate") -> StageUse:
    return StageUse(kind, key, f"{kind} {key}", reused=False)


def candidate(
    name: str,
    scores: Mapping[int, Mapping[str, float]],
    trained: Mapping[int, Trained] | None = None,
    data: Mapping[str, str] | None = None,
) -> Candidate:
    """A configuration with these scores by seed and language."""
    trials = tuple(
        TrialScores(seed, seed, own, (trained or {}).get(seed, ())) for seed, own in scores.items()
    )
    row = Row(
        configuration=0, parameters={}, states={}, trials=trials, objective=cell_of([0.5]),
        cells={}, mean=None, mean_without_source=None,
    )  # fmt: skip
    languages = tuple(sorted({code for own in scores.values() for code in own}))
    table = LanguageTable("t", "accuracy", "qaa", languages, (), (len(scores),), (row,))
    there = dict.fromkeys(languages, "the same") if data is None else data
    return Candidate(
        name, table, row, "by rule", False, there, frozenset({"r"}),
        next_seed=max(scores, default=-1) + 1,
    )  # fmt: skip


def luck(random: np.random.Generator, size: float) -> np.ndarray:
    """Of one training, by language: the larger part is the same in all of them."""
    return size * (random.normal(0, 1) + 0.5 * random.normal(0, 1, len(LANGUAGES)))


def equal_pair(
    random: np.random.Generator, num_seeds: int, scope: Scope, ratio: float
) -> list[Candidate]:
    """Two systems that are one and the same, compared over so many seeds.

    Args:
        ratio: how much a trained stage varies, in standard deviations of a target training.
    """
    common = luck(random, ratio)
    found = []
    for side, name in enumerate("ab"):
        is_shared = scope == "shared" or (scope == "mixed" and side == 0)
        own = luck(random, ratio)
        scores, trained = {}, {}
        for seed in range(num_seeds):
            key = f"{name}{'' if is_shared else seed}"
            of_stage = own if is_shared else luck(random, ratio)
            if scope == "common":
                key, of_stage = "common", common
            values = 0.6 + 0.01 * (of_stage + luck(random, 1.0))
            scores[seed] = dict(zip(LANGUAGES, map(float, values), strict=True))
            trained[seed] = (stage(key), stage(f"{name} target {seed}", "target"))
        found.append(candidate(name, scores, trained))
    return found


def best_of(
    random: np.random.Generator, candidates: int, num_seeds: int, correlation: float
) -> list[Candidate]:
    """A single system, and the best of so many that are equal to it, with fresh seeds of both.

    Args:
        correlation: of the score that selects with the test scores, seed by seed.
    """
    rest = np.sqrt(1 - correlation**2)

    def tested(selecting: np.ndarray) -> dict[int, dict[str, float]]:
        own = random.normal(0, 1, len(selecting))
        return {
            seed: dict.fromkeys(LANGUAGES, 0.6 + 0.01 * float(value))
            for seed, value in enumerate(correlation * selecting + rest * own)
        }

    selecting = random.normal(0, 1, (candidates, num_seeds))
    winner = selecting[selecting.mean(1).argmax()]
    single = candidate("single", tested(random.normal(0, 1, num_seeds)))
    searched = replace(candidate("searched", tested(winner)), num_candidates=candidates)

    def again(before: Candidate) -> Candidate:
        scores = tested(random.normal(0, 1, num_seeds))
        fresh = candidate(before.sweep, {num_seeds + seed: own for seed, own in scores.items()})
        own = replace(before, row=fresh.row, run_by=f"{before.sweep}-confirm")
        return replace(before, fresh=own)

    return [again(single), again(searched)]


def wins(comparison: Comparison) -> tuple[bool, bool]:
    """Whether any language has a star, and whether the mean over languages has one."""
    of_languages = [line.is_significant for line in comparison.lines if line.kind == "language"]
    of_mean = [line.is_significant for line in comparison.lines if line.kind == "mean"]
    return any(of_languages), any(of_mean)


def gains(comparison: Comparison) -> list[float]:
    """What the second has over the first, mean over languages, of every seed."""
    sides = comparison.baseline.trials, comparison.other.trials
    first, second = (
        [fmean(trials[seed].scores.values()) for seed in comparison.seeds] for trials in sides
    )
    return [b - a for a, b in zip(first, second, strict=True)]


def is_won_by_seeds(comparison: Comparison) -> bool:
    """Whether the mean would have a star if every seed counted, whatever it shares or chose."""
    return deserves_star(sign_flip_p(gains(comparison))[0], len(comparison.seeds))
