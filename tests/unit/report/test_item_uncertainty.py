"""Intervals over seeds and items hold the truth as often as they say; draws find no ghosts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sample_items import TRUE_ACCURACY, TRUE_F1, counted, right_or_wrong
from xlt_ray.report.item_uncertainty import (
    MIN_DRAWN_ITEMS,
    Sample,
    bootstrapped,
    num_items,
    sample_of,
    two_level,
)
from xlt_ray.report.stats import summary

SEEDS = st.integers(0, 10**6)


@pytest.mark.parametrize(
    ("make", "num_seeds", "num_sentences", "spread"),
    [
        (right_or_wrong, 3, 200, 0.0),
        (right_or_wrong, 3, 200, 0.05),
        (right_or_wrong, 6, 1000, 0.02),
        (counted, 5, 300, 0.03),
        (right_or_wrong, 1, 200, 0.0),
    ],
)
def test_an_interval_over_seeds_and_items_holds_the_truth(
    make, num_seeds, num_sentences, spread
) -> None:
    random = np.random.default_rng(5)

    def sample(seeds: int, sentences: int) -> Sample:
        difficulty = random.uniform(-0.25, 0.25, sentences)
        return make(random, difficulty, random.normal(0, spread, seeds))

    truth = TRUE_F1 if make is counted else TRUE_ACCURACY
    held = []
    for _ in range(300):
        interval = two_level(["de"], {"de": sample(num_seeds, num_sentences)})
        assert interval is not None
        assert interval.method == ("two_level" if num_seeds > 1 else "items")
        held.append(interval.low <= truth <= interval.high)
    assert np.mean(held) > 0.92


def test_an_interval_over_seeds_alone_knows_nothing_of_the_test_set() -> None:
    """Ten seeds agree on a small test set that is harder or easier than the language is."""
    random = np.random.default_rng(6)
    held = {"seeds": 0, "both": 0}
    for _ in range(300):
        difficulty = random.choice([-0.28, 0.28], 100)
        items = right_or_wrong(random, difficulty, np.zeros(10))
        by_seeds, both = summary(items.scores.tolist()).interval, two_level(["de"], {"de": items})
        held["seeds"] += by_seeds is not None and by_seeds.low <= 0.7 <= by_seeds.high
        held["both"] += both is not None and both.low <= 0.7 <= both.high
    assert held["seeds"] < 240
    assert held["both"] > 276


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, num_seeds=st.integers(2, 6), size=st.integers(MIN_DRAWN_ITEMS, 60))
def test_it_is_never_narrower_than_over_seeds_or_over_items_alone(seed, num_seeds, size) -> None:
    random = np.random.default_rng(seed)
    items = right_or_wrong(
        random, random.uniform(-0.2, 0.2, size), random.normal(0, 0.1, num_seeds)
    )
    both = two_level(["de"], {"de": items})
    by_seeds = summary(items.scores.tolist()).interval
    mean = Sample(items.ids, items.points.mean(axis=0)[None], items.out_of[:1])
    by_items = two_level(["de"], {"de": mean})
    for part in (by_seeds, by_items):
        if part is not None:
            assert both is not None
            assert both.low <= part.low + 1e-9
            assert both.high >= part.high - 1e-9


def test_translations_of_one_sentence_are_one_item_of_a_mean() -> None:
    random = np.random.default_rng(7)
    difficulty = random.choice([-0.28, 0.28], 300)
    same, apart = (
        {
            code: right_or_wrong(random, difficulty, np.zeros(3), place * first)
            for place, code in enumerate(("de", "fr", "sw", "zh"))
        }
        for first in (0, 1000)
    )
    assert (num_items(list(same), same), num_items(list(apart), apart)) == (300, 1200)
    left, right = (two_level(list(side), side) for side in (same, apart))
    assert left is not None
    assert right is not None
    assert left.high - left.low > 1.3 * (right.high - right.low)
    held = 0
    for _ in range(200):
        difficulty = random.choice([-0.28, 0.28], 300)
        drawn = {c: right_or_wrong(random, difficulty, np.zeros(3)) for c in same}
        interval = two_level(list(drawn), drawn)
        held += interval is not None and interval.low <= 0.7 <= interval.high
    assert held > 180


@pytest.mark.parametrize("make", [right_or_wrong, counted])
def test_drawn_items_find_no_difference_between_equal_systems(make) -> None:
    random = np.random.default_rng(8)
    ps, held, powers = [], [], []
    for _ in range(150):
        difficulty = random.uniform(-0.25, 0.25, 200)
        first, second, better = (
            {"de": make(random, difficulty, np.full(2, skill))} for skill in (0.0, 0.0, 0.1)
        )
        (outcome,) = bootstrapped([["de"]], second, first, num_draws=400)
        (won,) = bootstrapped([["de"]], better, first, num_draws=400)
        assert outcome is not None
        assert won is not None
        ps.append(outcome.p)
        held.append(outcome.interval.low <= 0 <= outcome.interval.high)
        powers.append(won.p)
    assert np.mean(np.array(ps) <= 0.05) < 0.1
    assert np.mean(held) > 0.9
    assert np.mean(np.array(powers) <= 0.05) > 0.8


def test_a_system_against_itself_differs_in_nothing() -> None:
    random = np.random.default_rng(9)
    items = {"de": right_or_wrong(random, np.zeros(50), np.zeros(3))}
    (outcome,) = bootstrapped([["de"]], items, items)
    assert outcome is not None
    assert (outcome.p, outcome.interval.low, outcome.interval.high) == (1.0, 0.0, 0.0)
    assert two_level(["de"], items, items) is None


def test_draws_score_drawn_items_anew_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from xlt_ray.report import item_uncertainty

    random = np.random.default_rng(10)
    left, right = (
        {code: counted(random, np.zeros(size), np.zeros(2), first) for code, size, first in
         (("de", 40, 0), ("fr", 40, 0), ("sw", 25, 1000))}
        for _ in range(2)
    )  # fmt: skip
    means = [["de"], ["sw"], ["de", "fr", "sw"]]
    whole = bootstrapped(means, right, left, num_draws=30, seed=3)
    monkeypatch.setattr(item_uncertainty, "_NUMBERS_AT_ONCE", 65)
    assert bootstrapped(means, right, left, num_draws=30, seed=3) == whole
    # The same draws by hand, one at a time.
    draws = np.random.default_rng(3)
    ids = np.unique(np.concatenate([side.ids for side in left.values()]))
    differences: dict[str, list[float]] = {code: [] for code in left}
    for _ in range(30):
        drawn = ids[draws.integers(0, len(ids), (1, len(ids)))[0]]
        for code in left:
            values = []
            for side in (left[code], right[code]):
                places = [int(np.searchsorted(side.ids, i)) for i in drawn if i in side.ids]
                points, out_of = side.points[:, places].sum(1), side.out_of[:, places].sum(1)
                values.append((points / out_of).mean())
            differences[code].append(values[1] - values[0])
    for mean, found in zip(means, whole, strict=True):
        expected = np.quantile(np.mean([differences[c] for c in mean], axis=0), [0.025, 0.975])
        assert found is not None
        assert [found.interval.low, found.interval.high] == pytest.approx(expected)


def test_a_handful_of_items_has_neither_interval_nor_p() -> None:
    random = np.random.default_rng(11)
    few = {"yo": right_or_wrong(random, np.zeros(3), np.zeros(3))}
    other = {"yo": right_or_wrong(random, np.zeros(3), np.zeros(3))}
    assert two_level(["yo"], few) is None
    assert bootstrapped([["yo"]], few, other) == [None]


def test_seeds_are_put_in_one_order_and_other_items_are_no_sample() -> None:
    ids = np.array([5, 2, 9], np.uint64)
    parts = [
        (ids, np.array([1.0, 0, 0]), np.ones(3)),
        (ids[::-1], np.array([0.0, 1, 1]), np.ones(3)),
    ]
    sample = sample_of(parts)
    assert sample is not None
    assert sample.ids.tolist() == [2, 5, 9]
    assert sample.points.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert sample_of([parts[0], (ids + np.uint64(1), *parts[1][1:])]) is None
    assert sample_of([parts[0], (ids[:2], np.ones(2), np.ones(2))]) is None
