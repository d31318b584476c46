"""Mining: lines read and refused, candidates and thresholds against a plain reference."""

from __future__ import annotations

import re
import sys
import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.sources.toy_world import PIVOT, TOY_LANGUAGES
from xlt_ray.data.task import task_named
from xlt_ray.data.types import mining
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.data.types.mining import (
    Judged,
    MiningExample,
    Near,
    best_threshold,
    candidates,
    judged,
    measures,
    nearest_of,
)
from xlt_ray.errors import DataError

BUCC, TOY = task_named("bucc-mining"), task_named("toy-mining")
KIND = kind_of(BUCC)
DOCS = Path(__file__).parents[3] / "docs"


def vectors(num, seed, width=3):
    return np.random.default_rng(seed).normal(size=(num, width))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plainly_mined(first, second, k, scoring):
    """The same from the whole matrix, loop by loop as the benchmark's script has it."""
    cos = unit(first) @ unit(second).T
    near = [sorted(range(len(second)), key=lambda j: -cos[i, j])[:k] for i in range(len(first))]
    back = [sorted(range(len(first)), key=lambda i: -cos[i, j])[:k] for j in range(len(second))]
    mean = [np.mean([cos[i, j] for j in row]) for i, row in enumerate(near)]
    mean_back = [np.mean([cos[i, j] for i in row]) for j, row in enumerate(back)]

    def score(i, j):
        if scoring == "cosine":
            return cos[i, j]
        both = (mean[i] + mean_back[j]) / 2
        return cos[i, j] / both if both > 0 else 0.0

    found = [max((score(i, j), i, j) for j in row) for i, row in enumerate(near)]
    found += [max((score(i, j), i, j) for i in row) for j, row in enumerate(back)]
    kept: list[tuple[float, int, int]] = []
    for value, i, j in sorted(found, reverse=True):
        if value > 0 and not any(i == first or j == second for _, first, second in kept):
            kept.append((value, i, j))
    return kept


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6),
    st.sampled_from(["margin", "cosine"]), st.integers(1, 40),
)  # fmt: skip
def test_candidates_are_those_of_the_plain_reference(num, other, k, seed, scoring, at_once):
    first, second = vectors(num, seed), vectors(other, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "_NUMBERS_AT_ONCE", at_once)
        mined = candidates(nearest_of(first, second, k), nearest_of(second, first, k), scoring)
    expected = plainly_mined(first, second, k, scoring)
    # As pairs, because with one neighbour all that are each other's have the same score.
    assert {(i, j) for i, j in mined.pairs.tolist()} == {(i, j) for _, i, j in expected}
    assert mined.scores == pytest.approx([value for value, _, _ in expected])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_no_sentence_is_used_twice_and_scores_fall(num, other, seed):
    first, second = vectors(num, seed), vectors(other, seed + 1)
    mined = candidates(nearest_of(first, second, 4), nearest_of(second, first, 4), "margin")
    for side in mined.pairs.T.tolist():
        assert len(set(side)) == len(side)
    assert (np.diff(mined.scores) <= 0).all()
    assert (mined.scores > 0).all()


def test_a_ratio_is_the_cosine_over_the_mean_of_both_neighbourhoods():
    forward = Near(np.array([[1, 0], [1, 0]]), np.array([[0.9, 0.5], [0.8, 0.2]]))
    backward = Near(np.array([[0, 1], [0, 1]]), np.array([[0.5, 0.2], [0.9, 0.8]]))
    mined = candidates(forward, backward, "margin")
    # 0 with 0 by 0.5 / ((0.7 + 0.35) / 2), and 1 with 1 by 0.8 / ((0.5 + 0.85) / 2).
    assert mined.pairs.tolist() == [[1, 1], [0, 0]]
    assert mined.scores == pytest.approx([0.8 / 0.675, 0.5 / 0.525])
    # By the cosine the second, which is near to both, goes to the nearer one.
    assert candidates(forward, backward, "cosine").pairs.tolist() == [[0, 1]]


def test_of_equally_near_ones_the_earlier_counts():
    same = np.ones((3, 2))
    assert nearest_of(same[:1], same, 2).numbers.tolist() == [[0, 1]]
    mined = candidates(nearest_of(same, same, 3), nearest_of(same, same, 3), "cosine")
    assert mined.pairs.tolist() == [[0, 0]]


def test_what_is_no_number_or_nothing_is_never_mined():
    broken = np.array([[np.nan, 1.0], [0.0, 0.0], [1.0, 0.0]])
    fine = np.array([[1.0, 0.1], [0.5, 0.5]])
    for first, second in ((broken, fine), (fine, broken)):
        near = nearest_of(first, second, 4), nearest_of(second, first, 4)
        for scoring in ("margin", "cosine"):
            (pair,) = candidates(*near, scoring).pairs.tolist()
            assert 2 in pair


def test_memory_does_not_grow_with_the_product_of_both_sides(monkeypatch):
    monkeypatch.setattr(mining, "_NUMBERS_AT_ONCE", 2**16)
    first = np.ones((3000, 2), np.float32)
    tracemalloc.start()
    nearest_of(first, first, 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3000 * 3000 * 4 / 4


GRID = st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=12)


def found_of(rows, more=0):
    rows = sorted(rows, key=lambda row: -row[0])
    is_right = np.array([right for _, right in rows], bool)
    return Judged(np.array([score / 7 for score, _ in rows]), is_right, int(is_right.sum()) + more)


@given(GRID, st.integers(0, 4))
def test_no_threshold_is_better_than_the_one_that_is_chosen(rows, more):
    judged_pairs = found_of([*rows, (9, True)], more)
    chosen = measures(judged_pairs, best_threshold(judged_pairs))["f1"]
    every = [0.0, *(judged_pairs.scores - 1e-9), *(judged_pairs.scores + 1e-9)]
    assert chosen == max(measures(judged_pairs, threshold)["f1"] for threshold in every)


def test_without_a_pair_to_be_found_nothing_is_defined():
    assert measures(found_of([(3, False)]), 0.0) == {}


@given(GRID, st.integers(0, 4))
def test_measures_are_those_of_sets(rows, more):
    judged_pairs = found_of([*rows, (9, True)], more)
    for threshold in (0.0, 0.3, 0.5, 2.0):
        taken = {place for place, score in enumerate(judged_pairs.scores) if score >= threshold}
        right = taken & set(np.flatnonzero(judged_pairs.is_right).tolist())
        precision = len(right) / len(taken) if right else 0.0
        recall = len(right) / judged_pairs.num_gold if right else 0.0
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        expected = {"f1": f1, "precision": precision, "recall": recall}
        assert measures(judged_pairs, threshold) == pytest.approx(expected)


def test_a_threshold_is_midway_between_two_candidates():
    judged_pairs = Judged(np.array([0.9, 0.8, 0.4, 0.3]), np.array([True, True, False, False]), 2)
    assert best_threshold(judged_pairs) == pytest.approx(0.6)
    assert best_threshold(Judged(np.array([0.9]), np.array([True]), 1)) == 0.9
    # Where none is right all are taken.
    assert best_threshold(Judged(np.array([0.9]), np.array([False]), 1)) == 0.0
    assert best_threshold(Judged(np.zeros(0), np.zeros(0, bool), 1)) == 0.0
    close = np.array([1.0, np.nextafter(1.0, 0.0)])
    assert best_threshold(Judged(close, np.array([True, False]), 1)) == 1.0


def side(language, *rows):
    """Lines and vectors: an id, its text, its gold, its angle in degrees."""
    wanted = [
        MiningExample(name, language, text, tuple(gold.split())) for name, text, gold, _ in rows
    ]
    angles = np.radians([angle for *_, angle in rows])
    return wanted, list(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def both(first, second):
    return first[0] + second[0], first[1] + second[1]


def test_the_threshold_of_the_dev_set_is_applied_to_the_test_set():
    # Dev: the pair at 0 degrees is right, the one 20 degrees apart is not.
    dev = both(
        side("de", ("d1", "a", "e1", 0), ("d2", "b", "", 50)),
        side("en", ("e1", "A", "", 0), ("e2", "B", "", 70)),
    )
    # Test: its gold pair is as far apart as dev's wrong one, so that it is not taken.
    test = both(
        side("de", ("d1", "a", "", 0), ("d2", "b", "e2", 50)),
        side("en", ("e1", "A", "", 0), ("e2", "B", "", 70)),
    )
    own = KIND.score(Predictions("de", *test))
    tuned = KIND.score(Predictions("de", *test, dev))
    assert list(tuned) == list(BUCC.metrics)
    assert (own["f1_cosine"], own["recall_cosine"]) == (pytest.approx(2 / 3), 1.0)
    assert tuned["f1_cosine"] == 0.0
    assert KIND.score(Predictions("de", *dev, dev)) == KIND.score(Predictions("de", *dev))


def test_sentences_of_the_same_text_are_one_and_count_for_nothing():
    rows = both(
        side("de", ("d1", "a", "e1", 0), ("d2", "twice", "e2", 40), ("d3", "twice", "", 40)),
        side("en", ("e1", "A", "", 1), ("e2", "B", "", 41)),
    )
    scores = judged("en", *rows)["cosine"]
    assert (scores.is_right.tolist(), scores.num_gold) == ([True], 2)
    # On either line of a pair, and on both, the gold list says the same.
    turned = both(side("de", ("d1", "a", "", 0)), side("en", ("e1", "A", "d1", 1)))
    assert judged("en", *turned)["margin"].num_gold == 1
    twice = both(side("de", ("d1", "a", "e1", 0)), side("en", ("e1", "A", "d1", 1)))
    assert judged("en", *twice)["margin"].num_gold == 1


def test_a_pair_of_which_a_sentence_is_cut_off_is_not_asked_for():
    rows = both(side("de", ("d1", "a", "e1 e9", 0)), side("en", ("e1", "A", "", 0)))
    assert KIND.score(Predictions("de", *rows))["recall"] == 1.0


def test_nothing_to_mine_scores_nothing():
    assert KIND.score(Predictions("de", *side("de", ("d1", "a", "", 0)))) == {}


GERMAN = {"id": "de-1", "language": "de", "sentence": " Guten Tag ", "gold": ["en-2"]}
ENGLISH = [
    {"id": "en-1", "language": "en", "sentence": "Yes"},
    {"id": "en-2", "language": "en", "sentence": "Good day"},
]


TEST = "retrieval/bucc/de.test.jsonl"


def test_sentences_of_both_sides_come_by_turns(files):
    source = files(TEST, *ENGLISH, GERMAN)
    assert list(source.read(BUCC, "de", "test")) == [
        MiningExample("de-1", "de", "Guten Tag", ("en-2",)),
        MiningExample("en-1", "en", "Yes", ()),
        MiningExample("en-2", "en", "Good day", ()),
    ]
    assert source.splits(BUCC)["de", "test"].num_examples == 3


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ((GERMAN,), r":1: gold: no line 'en-2' has a sentence of the other language"),
        ((GERMAN, {**ENGLISH[1], "language": "de"}), r":1: gold: no line 'en-2'"),
        ((*ENGLISH, GERMAN, GERMAN), r":4: id 'de-1' is repeated"),
        ((*ENGLISH, {**GERMAN, "language": "fr"}), r":3: language 'fr' is neither de nor en"),
        (({"language": "de", "sentence": "x"},), r":1: has no id"),
        (({"id": 1, "language": "de", "sentence": " "},), r":1: has no sentence"),
        (({**GERMAN, "sentence": ["x"]},), r":1: sentence is not text"),
        (({**GERMAN, "gold": "en-2"},), r":1: gold is not a list of ids"),
        ((*ENGLISH,), r"no line has gold"),
        (("{",), r":1: is not JSON"),
    ],
)
def test_a_broken_file_is_refused_before_anything_is_trained(files, rows, complaint):
    source = files(TEST, *rows)
    with pytest.raises(DataError, match=complaint):
        source.read(BUCC, "de", "test")
    with pytest.raises(DataError, match=complaint):
        source.splits(BUCC)


def test_rows_of_a_data_set_are_read_alike(tmp_path):
    row = {"sentence": "Ja", "language": "de", "gold": None}
    assert KIND.of_row(row, "d", tmp_path, 1) == MiningExample("d", "de", "Ja", ())
    assert KIND.of_row({"sentence": None, "language": "de"}, "d", tmp_path, 1) is None


def test_the_files_of_the_workshop_become_ours_as_the_document_says(tmp_path, monkeypatch):
    text = (DOCS / "tasks.md").read_text().partition("### BUCC\n")[2]
    (code,) = re.findall(r"^```python\n(.*?)^```", text.partition("\n### ")[0], re.S | re.M)
    sentences = {
        "": "{0}-1\tEins\n{0}-2\tZwei\u2028 zwei\n",
        "en": "en-1\tTwo\n",
        "gold": "{0}-2\ten-1\n",
    }
    for language, part in product(("de", "fr", "ru", "zh"), ("sample", "training")):
        folder = tmp_path / f"{language}-en"
        folder.mkdir(exist_ok=True)
        for end, lines in sentences.items():
            file = folder / f"{language}-en.{part}.{end or language}"
            file.write_text(lines.format(language), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["convert", str(tmp_path), str(tmp_path / "root")])
    exec(compile(code, "tasks.md", "exec"), {})
    source = FilesSource(tmp_path / "root")
    assert set(source.splits(BUCC)) == set(product(("de", "fr", "ru", "zh"), ("dev", "test")))
    assert list(source.read(BUCC, "ru", "dev")) == [
        MiningExample("ru-1", "ru", "Eins", ()),
        MiningExample("en-1", "en", "Two", ()),
        MiningExample("ru-2", "ru", "Zwei\u2028 zwei", ("en-1",)),
    ]


def test_half_of_the_toy_sentences_have_a_translation(toy):
    assert {language for language, _ in toy.splits(TOY)} == set(TOY_LANGUAGES) - {PIVOT}
    for split, size in (("dev", 240), ("test", 400)):
        rows = toy.read(TOY, "qab", split)
        by_side = [[row for row in rows if row.language == language] for language in ("qab", PIVOT)]
        assert [len(side) for side in by_side] == [size // 2] * 2
        assert len({row.id for row in rows}) == size
        named = {name for row in rows for name in row.translations}
        assert abs(len(named) - size / 4) <= 1
        assert named <= {row.id for row in by_side[1]}
    seen = set(toy.parallel(PIVOT).values())
    assert len([row for row in rows if row.sentence in seen]) < 8
