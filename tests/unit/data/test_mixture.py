from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from xlt_ray.config.methods import ProportionalSampling, TemperatureSampling
from xlt_ray.config.mixture import Dataset, Mixture
from xlt_ray.data.batches.mixture_batches import (
    PART,
    MixedBatches,
    Part,
    mixed_batches,
    probabilities,
    shares,
)
from xlt_ray.data.batches.supervised import BatchSettings
from xlt_ray.modeling import multitask

PROPORTIONAL = ProportionalSampling()
TASKS = ("toy-choice", "toy-nli", "toy-tagging")


class Counted:
    """Batches that say which one they are."""

    def __init__(self, name):
        self.name = name

    def batch(self, step):
        return {"labels": np.array([self.name, step])}


def mixed(weights, seed=0):
    parts = [Part(Counted(number), 10 + number, weight) for number, weight in enumerate(weights)]
    return MixedBatches(parts, seed)


def mixture(*counts, cap=None, share=0.0):
    datasets = tuple(Dataset(f"task{place}", "en", count) for place, count in enumerate(counts))
    return Mixture(datasets, cap, share)


COUNTS = st.lists(st.integers(1, 10**6), min_size=2, max_size=6)
TEMPERATURES = st.floats(1.0, 100.0)


@given(COUNTS, TEMPERATURES, st.none() | st.integers(1, 10**6))
def test_probabilities_follow_the_counts_to_the_power_of_one_over_t(counts, temperature, cap):
    datasets = mixture(*counts, cap=cap)
    drawn = probabilities(
        datasets, TemperatureSampling(method="temperature", temperature=temperature)
    )
    counted = [count if cap is None else min(count, cap) for count in counts]
    assert drawn.sum() == pytest.approx(1)
    for (first, p), (other, q) in itertools.combinations(zip(counted, drawn, strict=True), 2):
        assert p / q == pytest.approx((first / other) ** (1 / temperature))


@given(COUNTS, st.none() | st.integers(1, 10**6))
def test_a_temperature_of_one_is_proportional(counts, cap):
    datasets = mixture(*counts, cap=cap)
    sampling = TemperatureSampling(method="temperature", temperature=1.0)
    assert probabilities(datasets, sampling) == pytest.approx(probabilities(datasets, PROPORTIONAL))


@given(COUNTS, TEMPERATURES, st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_larger_size_takes_from_no_dataset_less(counts, temperature, size, more):
    datasets = mixture(*counts)
    settings = TemperatureSampling(method="temperature", temperature=temperature)
    pairs = zip(
        shares(datasets, settings, size),
        shares(datasets, settings, size + more),
        counts,
        strict=True,
    )
    assert all(1 <= less <= larger <= there for less, larger, there in pairs)


@given(COUNTS, st.none() | st.integers(1, 10**6))
def test_all_examples_are_those_that_count(counts, cap):
    datasets = mixture(*counts, cap=cap)
    assert shares(datasets, PROPORTIONAL, datasets.size("all")) == datasets.counts


@pytest.mark.parametrize("seed", range(5))
def test_the_realised_mixture_is_within_its_binomial_interval(seed):
    weights = (0.6, 0.3, 0.1)
    batches, num_steps = mixed(weights, seed), 10_000
    drawn = np.bincount([batches.place(step)[0] for step in range(num_steps)], minlength=3)
    for number, weight in zip(drawn.tolist(), weights, strict=True):
        low, high = binom.interval(1 - 1e-6, num_steps, weight)
        assert low <= number <= high


def test_every_part_is_shown_batch_by_batch_without_a_gap():
    batches = mixed((0.6, 0.3, 0.1))
    seen = [batches.batch(step) for step in range(9000)]
    for number in range(3):
        own = [batch["labels"][1] for batch in seen if batch["labels"][0] == number]
        assert own == list(range(len(own)))
        assert {batch[PART].tolist()[0] for batch in seen if batch["labels"][0] == number} == {
            10 + number
        }


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=5), st.integers(0, 3))
def test_a_step_is_the_same_whatever_was_asked_before(steps, seed):
    asked = mixed((0.5, 0.5), seed)
    for step in steps:
        assert asked.place(step) == mixed((0.5, 0.5), seed).place(step)


def test_another_seed_draws_other_tasks():
    first, second = ([mixed((0.5, 0.5), seed).place(step) for step in range(50)] for seed in (0, 1))
    assert first != second


def test_data_and_network_call_the_number_of_a_head_alike():
    assert PART == multitask.PART


@pytest.fixture
def toy_mixture(toy, toy_pipeline):
    def make(size=60, seed=0, languages=("qaa",), source=toy, is_nested=False):
        datasets = tuple(Dataset(task, two, 1000) for task in TASKS for two in languages)
        settings = TemperatureSampling(method="temperature", temperature=5.0)
        return mixed_batches(
            source, Mixture(datasets), settings, size, None, toy_pipeline(48),
            BatchSettings(4, seed, is_nested=is_nested),
        )  # fmt: skip

    return make


def test_a_batch_of_tasks_is_of_one_task_and_names_its_head(toy_mixture):
    shapes = {}
    batches = toy_mixture()
    for step in range(30):
        batch = batches.batch(step)
        assert len(set(batch[PART].tolist())) == 1
        assert len(batch[PART]) == 4
        shapes.setdefault(batch[PART][0], set()).add(
            (batch["input_ids"].ndim, batch["labels"].ndim)
        )
    assert shapes == {0: {(3, 1)}, 1: {(2, 1)}, 2: {(2, 2)}}, "options, pairs, tags"


def test_each_task_shows_all_its_examples_before_one_comes_again(toy_mixture):
    batches, seen = toy_mixture(size=60), {}
    for step in range(40):
        batch = batches.batch(step)
        rows = seen.setdefault(int(batch[PART][0]), [])
        rows += [tuple(ids.ravel()[:48]) for ids in batch["input_ids"]]
    for number in range(3):
        assert len(seen[number]) >= 40, "two epochs of 20"
        first, second = ({_text(batch) for batch in seen[number][at : at + 20]} for at in (0, 20))
        assert first == second


def _text(row):
    """Without padding, whose length goes by the batch."""
    return tuple(piece for piece in row if piece)


def test_the_same_seed_gives_the_same_batches_and_another_one_others(toy_mixture):
    def row(batches):
        return [batches.batch(step)["input_ids"].tolist() for step in range(6)]

    assert row(toy_mixture(seed=3)) == row(toy_mixture(seed=3))
    assert row(toy_mixture(seed=3)) != row(toy_mixture(seed=4))


def test_nested_batches_of_a_smaller_size_are_those_of_a_larger(toy_mixture):
    small, large = (toy_mixture(size=size, is_nested=True) for size in (30, 900))
    for step in range(12):
        first, second = small.batch(step), large.batch(step)
        assert all(np.array_equal(first[name], second[name]) for name in first)


class Watched:
    """A source that notes which labels were read."""

    def __init__(self, source):
        self._source, self.read_splits = source, set()

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, task, language, split):
        self.read_splits.add((task.name, language, split))
        return self._source.read(task, language, split)


def test_a_mixture_opens_the_declared_training_sets_and_nothing_else(toy, toy_mixture):
    watched = Watched(toy)
    toy_mixture(languages=("qaa", "qac"), source=watched)
    assert watched.read_splits == {(task, two, "train") for task in TASKS for two in ("qaa", "qac")}
