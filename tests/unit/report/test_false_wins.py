"""Equal systems differ in at most five of a hundred comparisons, however they were trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.equal_systems import Scope, best_of, equal_pair, is_won_by_seeds, wins
from xlt_ray.report.comparison import compare
from xlt_ray.report.stats import ALPHA, MIN_SEEDS_FOR_STAR

DRAWS = 200


def most_by_chance(draws: int) -> int:
    """What 5 % false wins stay below in all but one of a thousand series of simulations."""
    return int(stats.binom.ppf(0.999, draws, ALPHA))


@pytest.mark.parametrize("num_seeds", [3, 6, 10])
@pytest.mark.parametrize("scope", ["shared", "per_trial", "mixed", "common"])
def test_equal_systems_are_distinguished_in_at_most_five_of_a_hundred_comparisons(
    scope: Scope, num_seeds: int
) -> None:
    random = np.random.default_rng(num_seeds)
    comparisons = [compare(equal_pair(random, num_seeds, scope, 1.0))[0] for _ in range(DRAWS)]
    for is_won in zip(*map(wins, comparisons), strict=True):
        assert sum(is_won) <= most_by_chance(DRAWS)
    naive = sum(map(is_won_by_seeds, comparisons))
    if num_seeds < MIN_SEEDS_FOR_STAR:
        assert naive == 0
    elif scope in ("shared", "mixed"):
        assert naive > most_by_chance(DRAWS), "the simulation shows what is guarded against"
    else:
        assert naive == sum(mean for _, mean in map(wins, comparisons)) > 0


@pytest.mark.parametrize("candidates", [20, 50])
def test_the_best_of_many_equal_systems_wins_no_more_often_than_a_single_one(
    candidates: int,
) -> None:
    random = np.random.default_rng(candidates)
    comparisons = [compare(best_of(random, candidates, 6, 0.9))[0] for _ in range(DRAWS)]
    assert {candidate.seeds for candidate in comparisons} == {tuple(range(6, 12))}
    assert 0 < sum(mean for _, mean in map(wins, comparisons)) <= most_by_chance(DRAWS)


def test_on_the_seeds_that_chose_it_the_best_of_many_never_wins() -> None:
    random = np.random.default_rng(0)
    naive = 0
    for _ in range(DRAWS):
        sides = [replace(candidate, fresh=None) for candidate in best_of(random, 50, 6, 0.9)]
        (comparison,) = compare(sides)
        assert wins(comparison) == (False, False)
        assert any("best of 50 configurations" in note for note in comparison.notes)
        assert any("xlt confirm searched --seeds 6" in note for note in comparison.notes)
        naive += is_won_by_seeds(comparison)
    assert naive > 1.5 * ALPHA * DRAWS, "the simulation shows what is guarded against"
