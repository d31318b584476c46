"""What is equal is told apart in at most five of a hundred comparisons, however it was trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.equal_systems import Scope, best_of, equal_pair
from xlt_ray.report.comparison import Versus, compare
from xlt_ray.report.statistics import ALPHA, MIN_SEEDS_FOR_STAR, deserves_star, sign_flip_p

DRAWS = 200


def most_by_chance(draws: int) -> int:
    """What 5 % false wins stay below in all but one of a thousand series of simulations."""
    return int(stats.binom.ppf(0.999, draws, ALPHA))


def wins(found: Versus) -> tuple[bool, bool]:
    """Whether any language has a star, and whether a mean has one."""
    of_languages = [one.is_significant for one in found.lines if one.kind == "language"]
    of_mean = [one.is_significant for one in found.lines if one.kind == "mean"]
    return any(of_languages), any(of_mean)


def is_won_by_seeds(found: Versus) -> bool:
    """Whether the mean would have a star if every seed counted, whatever it shares or chose."""
    first, other = found.baseline.trials, found.other.trials
    means = [
        np.mean(list(other[seed].scores.values())) - np.mean(list(first[seed].scores.values()))
        for seed in found.seeds
    ]
    return deserves_star(sign_flip_p([float(one) for one in means])[0], len(means))


@pytest.mark.parametrize("num_seeds", [3, 6, 10])
@pytest.mark.parametrize("scope", ["shared", "per_trial", "mixed", "common"])
def test_equal_systems_are_told_apart_in_at_most_five_of_a_hundred_comparisons(
    scope: Scope, num_seeds: int
) -> None:
    random = np.random.default_rng(num_seeds)
    found = [compare(equal_pair(random, num_seeds, scope, 1.0))[0] for _ in range(DRAWS)]
    for told in zip(*map(wins, found), strict=True):
        assert sum(told) <= most_by_chance(DRAWS)
    naive = sum(map(is_won_by_seeds, found))
    if num_seeds < MIN_SEEDS_FOR_STAR:
        assert naive == 0
    elif scope in ("shared", "mixed"):
        assert naive > most_by_chance(DRAWS), "the simulation shows what is guarded against"
    else:
        assert naive == sum(mean for _, mean in map(wins, found)) > 0


@pytest.mark.parametrize("candidates", [20, 50])
def test_the_best_of_many_equal_systems_wins_no_more_often_than_a_single_one(
    candidates: int,
) -> None:
    random = np.random.default_rng(candidates)
    found = [compare(best_of(random, candidates, 6, 0.9))[0] for _ in range(DRAWS)]
    assert {one.seeds for one in found} == {tuple(range(6, 12))}
    assert 0 < sum(mean for _, mean in map(wins, found)) <= most_by_chance(DRAWS)


def test_on_the_seeds_that_chose_it_the_best_of_many_never_wins() -> None:
    random = np.random.default_rng(0)
    naive = 0
    for _ in range(DRAWS):
        sides = [replace(one, fresh=None) for one in best_of(random, 50, 6, 0.9)]
        (found,) = compare(sides)
        assert wins(found) == (False, False)
        assert any("best of 50 configurations" in note for note in found.notes)
        assert any("xlt confirm searched --seeds 6" in note for note in found.notes)
        naive += is_won_by_seeds(found)
    assert naive > 1.5 * ALPHA * DRAWS, "the simulation shows what is guarded against"
