"""Sentence retrieval: read, split into sides, and scored as the papers do."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.data.sources.toy_world import PIVOT, TOY_LANGUAGES
from xlt_ray.data.task import task_named
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.data.types.retrieval import cosines, hits, ratio_margin
from xlt_ray.errors import DataError

TATOEBA = task_named("tatoeba")


def score(first, second):
    pairs = list(zip(np.asarray(first, float), np.asarray(second, float), strict=True))
    return kind_of(TATOEBA).score(Predictions("de", [None] * len(pairs), pairs))


def vectors(num, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(num, width))


@given(st.integers(1, 12), st.integers(0, 20))
def test_identical_sentences_are_all_found(num, seed):
    scores = score(vectors(num, seed=seed), vectors(num, seed=seed))
    assert {scores[metric] for metric in TATOEBA.metrics if metric != "margin_accuracy"} == {1.0}


@given(st.integers(2, 12), st.integers(0, 20))
def test_lengths_of_vectors_do_not_matter(num, seed):
    first, second = vectors(num, seed=seed), vectors(num, seed=seed + 100)
    stretched = second * np.linspace(0.5, 3, num)[:, None]
    assert score(first, second) == pytest.approx(score(first, stretched))


def test_directions_are_distinguished_and_averaged():
    # Both sentences are nearest to the second translation, each translation has its own.
    scores = score([[1, 0], [0.95, 0.15]], [[0.5, -1], [1, 0.1]])
    assert (scores["accuracy_into_pivot"], scores["accuracy_from_pivot"]) == (0.5, 1.0)
    assert scores["accuracy"] == 0.75


def test_a_margin_is_the_cosine_over_the_mean_of_the_neighbours():
    nearness = np.array([[0.9, 0.1, 0.5], [0.3, 0.8, 0.4], [0.2, 0.6, 0.7]])
    margin = ratio_margin(nearness, 2)
    mean_of_row, mean_of_column = (0.9 + 0.5) / 2, (0.8 + 0.6) / 2
    assert margin[0, 1] == pytest.approx(0.1 / ((mean_of_row + mean_of_column) / 2))


def test_a_margin_takes_from_what_is_near_to_everything():
    nearness = np.array([[0.8, 0.85, 0.1], [0.2, 0.9, 0.1], [0.1, 0.85, 0.8]])
    assert hits(nearness).tolist() == [0, 1, 0]
    assert hits(ratio_margin(nearness, 4)).tolist() == [1, 1, 1]


def test_what_is_as_near_as_another_is_not_found():
    assert score([[1, 0], [1, 0]], [[1, 0], [1, 0]])["accuracy"] == 0.0


def test_vectors_of_zeros_find_nothing_and_raise_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(score(np.zeros((3, 4)), np.zeros((3, 4))).values()) == {0.0}
    assert cosines(np.zeros((1, 2)), np.ones((1, 2))).tolist() == [[0.0]]


def test_files_are_pairs_without_ids(files):
    source = files(
        "retrieval/tatoeba/de.test.tsv", "source\ttarget\nGuten Tag\tGood day\n \tEmpty\nJa\tYes\n"
    )
    rows = source.read(TATOEBA, "de", "test")
    assert [(row.id, row.sentence, row.translation) for row in rows] == [
        ("2", "Guten Tag", "Good day"),
        ("4", "Ja", "Yes"),
    ]
    assert source.splits(TATOEBA)["de", "test"].num_examples == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a\tb\nx\ty\n", "lacks source, target"), ("source\ttarget\nx\n", ":2: has 1 columns")],
)
def test_a_broken_file_is_refused_with_its_line(files, text, complaint):
    with pytest.raises(DataError, match=complaint):
        files("retrieval/tatoeba/de.test.tsv", text).read(TATOEBA, "de", "test")


def test_toy_sentences_are_not_those_that_alignment_sees(toy):
    task = task_named("toy-retrieval")
    assert {language for language, _ in toy.splits(task)} == set(TOY_LANGUAGES) - {PIVOT}
    seen = set(toy.parallel(PIVOT).values())
    rows = {language: toy.read(task, language, "test") for language in ("qab", "qaf")}
    translations = [row.translation for row in rows["qab"]]
    assert translations == [row.translation for row in rows["qaf"]]
    assert len(set(translations)) == len(translations) == 400
    assert len(seen.intersection(translations)) < 8
    with pytest.raises(DataError):
        toy.read(task, PIVOT, "test")
