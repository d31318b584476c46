"""Batches of like length: every row once an epoch, little padding, nothing but seed and step."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.length_pools import POOL, DrawnPools, by_length
from xlt_ray.data.batches.supervised import train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import task_named

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 8), st.integers(0, 3))
def test_every_row_is_in_one_batch_and_rows_of_a_batch_are_neighbours_by_length(
    lengths, batch_size, first, seed
):
    first = min(first, len(lengths))
    array = np.array(lengths)
    order = by_length(array, batch_size, np.random.default_rng(seed), first=first)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    num_batches = (len(lengths) - first) // batch_size
    end = first + num_batches * batch_size
    assert order[:first].tolist() == list(range(first))
    assert order[end:].tolist() == list(range(end, len(lengths)))
    batches = array[order[first:end]].reshape(num_batches, batch_size)
    for begin in range(0, num_batches, POOL):
        pool = batches[begin : begin + POOL]
        pool = pool[np.lexsort((pool[:, -1], pool[:, 0]))].ravel()
        assert (np.diff(pool) >= 0).all()


def test_batches_of_a_pool_come_in_random_order_and_follow_from_the_seed():
    lengths = np.arange(40 * 8)
    order = by_length(lengths, 8, np.random.default_rng(1))
    firsts = order.reshape(-1, 8)[:, 0].tolist()
    assert firsts != sorted(firsts)
    assert (order == by_length(lengths, 8, np.random.default_rng(1))).all()
    assert (order != by_length(lengths, 8, np.random.default_rng(2))).any()


def test_drawn_rows_are_the_same_in_any_order_of_steps_and_alike_in_length():
    def pools():
        return DrawnPools("s", 3, 16, lambda random: int(random.integers(1, 90)), lambda row: row)

    first, second = pools(), pools()
    steps = [130, 0, 64, 63, 1]
    found = {step: first.batch(step) for step in steps}
    assert found == {step: second.batch(step) for step in sorted(steps)}
    spreads = [max(row) - min(row) for row in map(first.batch, range(POOL))]
    assert max(spreads) < 15


def _batches(toy, pipeline, size=100, **options):
    access = LabelAccess("train", "toy-tagging", "qaa")
    return train_batches(toy, task_named("toy-tagging"), access, size, pipeline, 16, 3, **options)


def _rows(batch):
    return [tuple(row[row > 0].tolist()) for row in batch["input_ids"]]


def test_an_epoch_shows_every_example_once_also_in_batches_that_two_epochs_share(toy, toy_pipeline):
    batches = _batches(toy, toy_pipeline(64))
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


def test_nested_batches_are_those_of_a_larger_size(toy, toy_pipeline):
    small = _batches(toy, toy_pipeline(64), size=64, is_nested=True)
    large = _batches(toy, toy_pipeline(64), size=128, is_nested=True)
    assert [_rows(small.batch(step)) for step in range(4)] == [
        _rows(large.batch(step)) for step in range(4)
    ]
