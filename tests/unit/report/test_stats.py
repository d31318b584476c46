"""Statistics: exact where they can be, honest where they cannot, and rarely wrong by chance."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from xlt_ray.report.confirmation import Confirmed
from xlt_ray.report.stats import (
    ALPHA,
    LEVEL,
    MAX_EXACT_PAIRS,
    MIN_SEEDS_FOR_STAR,
    deserves_star,
    difference_interval,
    holm,
    paired,
    sign_flip_p,
    summary,
)
from xlt_ray.report.tables import cell_of

SCORES = st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 4))


def most_by_chance(simulations: int) -> int:
    """What 5 % false wins stay below in all but one of a thousand series of simulations."""
    return int(stats.binom.ppf(0.999, simulations, ALPHA))


# -- the sign-flip test -------------------------------------------------------------------


@given(st.lists(SCORES, min_size=1, max_size=8))
def test_p_is_the_share_of_all_sign_patterns_as_far_from_zero(differences: list[float]) -> None:
    patterns = itertools.product((-1, 1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns]
    seen = abs(sum(differences))
    expected = sum(total >= seen - 1e-9 for total in sums) / len(sums)
    assert sign_flip_p(differences) == (pytest.approx(expected), True)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        *(([0.1] * num_pairs, 2 / 2**num_pairs) for num_pairs in (1, 2, 5, 6, 10)),
        ([0.0] * 7, 1.0),
        # 0.1 + 0.2 - 0.3 is not zero in floating point; the pattern is a tie all the same.
        ([0.1, 0.2, -0.3], 1.0),
        ([0.1, 0.2, 0.3], 0.25),
    ],
)
def test_the_least_p_is_that_of_two_patterns_and_ties_are_counted(
    differences: list[float], p: float
) -> None:
    assert sign_flip_p(differences) == (p, True)


@given(st.lists(SCORES, min_size=1, max_size=10), st.floats(0.001, 1000))
def test_p_does_not_depend_on_direction_order_or_scale(values: list[float], by: float) -> None:
    p = sign_flip_p(values)
    assert sign_flip_p([-value for value in values]) == p
    assert sign_flip_p(values[::-1]) == p
    assert sign_flip_p([by * value for value in values])[0] == pytest.approx(p[0])


def test_many_pairs_are_sampled_the_same_way_every_time_and_near_the_exact_p() -> None:
    differences = [
        float(value) for value in np.random.default_rng(3).normal(0.35, 1, MAX_EXACT_PAIRS)
    ]
    exact, is_exact = sign_flip_p(differences)
    assert is_exact
    more = [*differences, 0.0]
    sampled, is_exact = sign_flip_p(more, seed=1)
    assert not is_exact
    assert sign_flip_p(more, seed=1) == (sampled, False)
    assert sign_flip_p(more, seed=2)[0] != sampled
    # A zero has no sign, so both tests ask the same.
    assert sampled == pytest.approx(exact, abs=5 * math.sqrt(exact / 50_000))
    assert sign_flip_p([1.0] * 40)[0] > 0


# -- false wins ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "accuracies of 40 examples"])
@pytest.mark.parametrize("num_seeds", [6, 8, 12])
def test_the_same_against_itself_wins_in_at_most_five_of_a_hundred(
    num_seeds: int, kind: str
) -> None:
    random = np.random.default_rng(num_seeds)
    draw = {
        "normal": lambda: random.normal(0, 1, (2, num_seeds)),
        "heavy tails": lambda: random.standard_t(2, (2, num_seeds)),
        "accuracies of 40 examples": lambda: random.binomial(40, 0.7, (2, num_seeds)) / 40,
    }[kind]
    wins = 0
    for _ in range(600):
        first, second = draw()
        wins += deserves_star(sign_flip_p(second - first)[0], num_seeds)
    assert wins <= most_by_chance(600)


def over_languages(num_seeds: int, effect: float, draw: np.random.Generator) -> np.ndarray:
    """Differences in ten languages and their mean, by seed: a bad seed is bad in all of them."""
    first, second = draw.normal(0, 1, (2, 10, num_seeds)) + 2 * draw.normal(0, 1, (2, 1, num_seeds))
    differences = second - first + effect
    return np.vstack([differences, differences.mean(0)])


@pytest.mark.parametrize("num_seeds", range(3, 11))
def test_equal_configurations_win_in_at_most_five_of_a_hundred_comparisons(num_seeds: int) -> None:
    draw = np.random.default_rng(num_seeds)
    any_language = mean = 0
    for _ in range(400):
        *languages, over_all = over_languages(num_seeds, 0.0, draw)
        corrected = holm([sign_flip_p(language)[0] for language in languages])
        any_language += any(deserves_star(p, num_seeds) for p in corrected)
        mean += deserves_star(sign_flip_p(over_all)[0], num_seeds)
    assert any_language <= most_by_chance(400)
    assert mean <= most_by_chance(400)
    if num_seeds < MIN_SEEDS_FOR_STAR:
        assert any_language == mean == 0
    else:
        assert mean > 0, "a test that never finds anything is no test"


@pytest.mark.parametrize(("num_seeds", "effect"), [(6, 8.0), (8, 6.0), (10, 5.0)])
def test_a_difference_between_configurations_is_found(num_seeds: int, effect: float) -> None:
    draw = np.random.default_rng(num_seeds)
    found = 0
    for _ in range(100):
        over_all = over_languages(num_seeds, effect, draw)[-1]
        found += deserves_star(sign_flip_p(over_all)[0], num_seeds)
    assert found > 80


@pytest.mark.parametrize("num_seeds", range(1, MIN_SEEDS_FOR_STAR))
def test_there_is_no_star_below_six_seeds(num_seeds: int) -> None:
    assert not deserves_star(sign_flip_p([5.0] * num_seeds)[0], num_seeds)
    assert not deserves_star(0.0, num_seeds)
    assert not deserves_star(None, 10)


# -- intervals ----------------------------------------------------------------------------


def test_one_seed_or_equal_differences_have_no_interval() -> None:
    assert summary([0.5]).interval is None
    assert (paired([0.1]).p, paired([0.1]).num_pairs) == (1.0, 1)
    for num_pairs in (1, 3, 9):
        assert paired([0.02] * num_pairs).interval is None
        assert paired([0.02] * num_pairs).difference == pytest.approx(0.02)


@given(st.lists(SCORES, min_size=2, max_size=12))
def test_every_interval_over_seeds_is_students(values: list[float]) -> None:
    interval = summary(values).interval
    assert paired(values).interval == interval
    low_high = cell_of(values).interval
    if interval is None:
        assert max(values) - min(values) < 1e-9
        return
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.method == "student"
    assert low_high == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("values", [[0, 0, 0, 0, 0, 1], [0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1]])
def test_an_interval_of_ties_is_finite_and_holds_the_mean(values: list[float]) -> None:
    interval = paired(values).interval
    assert interval is not None
    assert math.isfinite(interval.low)
    assert interval.low <= statistics.fmean(values) <= interval.high


def beyond_chance(level: float, simulations: int) -> tuple[float, float]:
    """Between these shares all but one of a thousand series of simulations lie."""
    low, high = stats.binom.interval(0.999, simulations, level)
    return low / simulations, high / simulations


@pytest.mark.parametrize("num_seeds", range(3, 11))
def test_intervals_hold_the_truth_as_often_as_they_say(num_seeds: int) -> None:
    random = np.random.default_rng(num_seeds)
    held = biases_held = 0
    for values in random.normal(1, 1, (1000, num_seeds)):
        interval = paired(values).interval
        assert interval is not None
        held += interval.low <= 1 <= interval.high
        # A winner's score on the seeds that selected it is a number; what it is worth is 1.
        selected = random.normal(1, 1, (20, 3)).mean(1).max()
        bias = Confirmed(0, 1, "objective", (), selected, 3, summary(values)).bias_interval
        assert bias is not None
        biases_held += bias.low <= selected - 1 <= bias.high
    low, high = beyond_chance(LEVEL, 1000)
    assert low <= held / 1000 <= high
    assert low <= biases_held / 1000 <= high


@pytest.mark.parametrize(("first", "second", "spread"), [(3, 9, 1.0), (6, 6, 3.0), (10, 4, 0.3)])
def test_the_interval_of_two_unpaired_samples_holds_the_truth(
    first: int, second: int, spread: float
) -> None:
    random = np.random.default_rng(first)
    held = 0
    for _ in range(600):
        interval = difference_interval(random.normal(0, 1, first), random.normal(1, spread, second))
        assert interval is not None
        held += interval.low <= -1 <= interval.high
    # Welch's is an approximation: within a percent of what it says at these sizes.
    low, high = beyond_chance(LEVEL, 600)
    assert low - 0.01 <= held / 600 <= high + 0.01


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_what_is_no_number_is_refused(values: list[float]) -> None:
    for function in (summary, paired, sign_flip_p):
        with pytest.raises(ValueError, match="finite"):
            function(values)


# -- Holm ---------------------------------------------------------------------------------


@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_rejects_what_its_step_down_rule_rejects(ps: list[float | None]) -> None:
    corrected = holm(ps)
    assert [p is None for p in corrected] == [p is None for p in ps]
    known = sorted(p for p in ps if p is not None)
    rejected = 0
    for rank, p in enumerate(known):
        if p * (len(known) - rank) > ALPHA:
            break
        rejected += 1
    assert sum(p is not None and p <= ALPHA for p in corrected) == rejected
    for p, q in zip(ps, corrected, strict=True):
        assert p is None or (q is not None and p <= q <= 1)
