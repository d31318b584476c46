"""Batches of like length: every row once an epoch, little padding, nothing but seed and step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.length_pools import POOL, WEIGHT, DrawnPools, by_length
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import task_named

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 8), st.integers(0, 3), st.booleans())
def test_every_row_is_in_one_batch_and_rows_of_a_batch_are_neighbours_by_length(
    lengths, batch_size, first, seed, is_by_pieces
):
    first = min(first, len(lengths))
    array, random = np.array(lengths), np.random.default_rng(seed)
    order, bounds = by_length(array, batch_size, random, first=first, is_by_pieces=is_by_pieces)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    num_batches = (len(lengths) - first) // batch_size
    end = first + num_batches * batch_size
    assert order[:first].tolist() == list(range(first))
    assert order[end:].tolist() == list(range(end, len(lengths)))
    assert (bounds[0], bounds[-1], len(bounds)) == (first, end, num_batches + 1)
    batches = [array[order[begin:stop]] for begin, stop in pairwise(bounds)]
    assert all(len(rows) == batch_size or is_by_pieces for rows in batches)
    for begin in range(0, num_batches, POOL):
        pool = sorted(batches[begin : begin + POOL], key=lambda rows: (rows[0], rows[-1]))
        assert (np.diff(np.concatenate(pool)) >= 0).all()
        assert sum(map(len, pool)) == batch_size * len(pool)
        if is_by_pieces and max(map(len, pool)) > 1:
            # A cut is at most one row away from equal sums, unless parts would be empty.
            mean = sum(map(sum, pool)) / len(pool)
            assert max(sum(rows) for rows in pool if len(rows) > 1) <= mean + 2 * array.max()


def test_batches_of_a_pool_come_in_random_order_and_follow_from_the_seed():
    lengths = np.arange(40 * 8)
    order = by_length(lengths, 8, np.random.default_rng(1)).places
    firsts = order.reshape(-1, 8)[:, 0].tolist()
    assert firsts != sorted(firsts)
    assert (order == by_length(lengths, 8, np.random.default_rng(1)).places).all()
    assert (order != by_length(lengths, 8, np.random.default_rng(2)).places).any()


@pytest.mark.parametrize("is_by_pieces", [False, True])
def test_drawn_rows_are_the_same_in_any_order_of_steps_and_alike_in_length(is_by_pieces):
    def pools():
        return DrawnPools(
            "s",
            3,
            16,
            lambda random: int(random.integers(1, 90)),
            lambda row: row,
            is_by_pieces=is_by_pieces,
        )

    first, second = pools(), pools()
    steps = [130, 0, 64, 63, 1]
    found = {step: first.batch(step) for step in steps}
    assert found == {step: second.batch(step) for step in sorted(steps)}
    batches = list(map(first.batch, range(POOL)))
    assert sum(map(len, batches)) == 16 * POOL
    # By pieces, the rows of a batch may be as many as there are very short ones.
    assert np.median([max(row) - min(row) for row in batches]) < 3
    if is_by_pieces:
        assert np.ptp([sum(row) for row in batches]) < 2 * 90


def _batches(toy, pipeline, size=100, **options):
    access = LabelAccess("train", "toy-tagging", "qaa")
    hybrid, settings = options.pop("hybrid", Hybrid()), BatchSettings(16, 3, **options)
    task = task_named("toy-tagging")
    return train_batches(toy, task, access, size, pipeline, settings, hybrid=hybrid)


def _rows(batch):
    return [tuple(row[row > 0].tolist()) for row in batch["input_ids"]]


@pytest.mark.parametrize("is_by_pieces", [False, True])
def test_an_epoch_shows_every_example_once_also_in_batches_that_two_epochs_share(
    toy, toy_pipeline, is_by_pieces
):
    batches = _batches(toy, toy_pipeline(64), is_by_pieces=is_by_pieces)
    rows = [row for step in range(25) for row in _rows(batches.batch(step))]
    epochs = [sorted(rows[begin : begin + 100]) for begin in range(0, 400, 100)]
    assert len(epochs) == 4
    assert all(epoch == epochs[0] for epoch in epochs)


def test_the_examples_of_a_step_are_the_same_whatever_share_is_cross_lingual(toy, toy_pipeline):
    plain, crossed = (
        _batches(toy, toy_pipeline(64), hybrid=Hybrid(ratio=ratio)) for ratio in (0.0, 0.5)
    )
    for step in range(8):
        first, second = plain.batch(step)["labels"], crossed.batch(step)["labels"]
        assert (first != -100).sum() == (second != -100).sum()


def test_batches_by_pieces_have_more_short_rows_and_weigh_as_many_as_they_have(toy, toy_pipeline):
    by_rows, by_pieces = (
        _batches(toy, toy_pipeline(64), size="all", hybrid=Hybrid(ratio=0.3), is_by_pieces=choice)
        for choice in (False, True)
    )
    steps = range(by_pieces.num_examples // 16)
    plain = [by_rows.batch(step) for step in steps]
    # Some other order of steps, as after an interruption.
    batches = {step: by_pieces.batch(step) for step in reversed(steps)}
    assert all(len(batch["labels"]) == 16 and WEIGHT not in batch for batch in plain)
    assert sum(len(batch["labels"]) for batch in batches.values()) == 16 * len(steps)
    for step, batch in batches.items():
        assert batch[WEIGHT] == len(batch["labels"]) / 16 == len(by_pieces.crossed(step)) / 16
    cells = [batch["input_ids"].size for batch in batches.values()]
    assert np.std(cells) < 0.5 * np.std([batch["input_ids"].size for batch in plain])


def test_nested_batches_are_those_of_a_larger_size(toy, toy_pipeline):
    small = _batches(toy, toy_pipeline(64), size=64, is_nested=True)
    large = _batches(toy, toy_pipeline(64), size=128, is_nested=True)
    assert [_rows(small.batch(step)) for step in range(4)] == [
        _rows(large.batch(step)) for step in range(4)
    ]
