"""Ranking: lines read and refused, training rows, and mean average precision to the number."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.metrics import average_precision_score

from xlt_ray.config.trial import Hybrid, Ranking
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.toy_world import TOY_LANGUAGES
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import Sentence
from xlt_ray.data.types import ranking
from xlt_ray.data.types.base import Frame, Predictions, kind_of, read_inputs
from xlt_ray.data.types.ranking import RankingExample, Wanted, ranked
from xlt_ray.errors import DataError

LAREQA, TOY = task_named("lareqa"), task_named("toy-ranking")
NUM_NEGATIVES = Ranking().negatives


def precision_of(*nearness, right, cutoff=20):
    """Of one query whose products with the candidates are ``nearness``."""
    order = ranked(np.ones((1, 1)), np.array(nearness, float)[:, None], [right], cutoff)
    return order.precisions[0], order.firsts[0]


@pytest.mark.parametrize(
    ("nearness", "right", "cutoff", "expected"),
    [
        ((3, 2, 1), [0], 20, (1, 1)),
        ((3, 2, 1), [2], 20, (1 / 3, 0)),
        ((4, 3, 2, 1), [0, 2], 20, ((1 + 2 / 3) / 2, 1)),
        ((4, 3, 2, 1), [1, 3], 20, ((1 / 2 + 2 / 4) / 2, 0)),
        # What is below the cutoff counts nothing, and no more can be found than it lets through.
        ((4, 3, 2, 1), [1, 3], 3, ((1 / 2) / 2, 0)),
        ((4, 3, 2, 1), [0, 1, 2, 3], 2, (1, 1)),
        ((4, 3, 2, 1), [3], 3, (0, 0)),
        # A wrong one that is as near comes first; right ones among themselves do not matter.
        ((2, 2, 1), [0], 20, (1 / 2, 0)),
        ((2, 2, 1), [0, 1], 20, (1, 1)),
        ((2, 2, 2), [0, 1], 20, ((1 / 2 + 2 / 3) / 2, 0)),
    ],
)
def test_average_precision_by_hand(nearness, right, cutoff, expected):
    assert precision_of(*nearness, right=right, cutoff=cutoff) == pytest.approx(expected)


def test_what_is_no_number_ranks_last():
    assert precision_of(np.nan, 1, right=[0]) == pytest.approx((1 / 2, 0))
    assert precision_of(1, np.nan, right=[0]) == pytest.approx((1 / 2, 0))


@given(st.data())
def test_with_everything_ranked_it_is_scikit_learns(data):
    num = data.draw(st.integers(1, 12))
    nearness = np.array(data.draw(st.permutations(range(num))), float)
    right = sorted(data.draw(st.sets(st.integers(0, num - 1), min_size=1)))
    found, first = precision_of(*nearness, right=right, cutoff=num + data.draw(st.integers(0, 5)))
    assert found == pytest.approx(average_precision_score(np.isin(range(num), right), nearness))
    assert first == (int(nearness.argmax()) in right)


@given(st.integers(1, 9), st.integers(0, 20))
def test_blocks_of_queries_change_nothing(num, seed):
    random = np.random.default_rng(seed)
    queries, pool = random.integers(-3, 4, (num, 3)), random.integers(-3, 4, (7, 3))
    right = [sorted(set(random.integers(0, 7, random.integers(0, 4)).tolist())) for _ in queries]
    whole = ranked(queries, pool, right, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_NUMBERS_AT_ONCE", 14)
        for first, second in zip(ranked(queries, pool, right, 5), whole, strict=True):
            assert (first == second).all()


def test_memory_does_not_grow_with_queries_times_pool():
    pool = np.random.default_rng(0).normal(size=(100_000, 2)).astype(np.float32)
    queries = np.ones((400, 2), np.float32)
    tracemalloc.start()
    try:
        ranked(queries, pool, [[7]] * len(queries), 20)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All products at once would be 160 MB.
    assert most < 50e6


def wanted(name, language="", *relevant):
    return Wanted(name, language, relevant)


AXES = np.eye(3)
GOLD = [wanted("q", "", "a", "b"), wanted("a", "de"), wanted("b", "en"), wanted("c", "en")]
NEAR = [np.array([0.5, 1.0, 0.9]), *AXES]


def score(gold, queries, candidates, task=LAREQA, language="en"):
    return kind_of(task).score(
        Predictions(language, gold, list(zip(queries, candidates, strict=True)))
    )


def test_the_pool_is_every_candidate_and_its_own_part_that_in_the_language():
    scores = score(GOLD, [NEAR[0], None, None, None], [None, *AXES])
    # In the order b, c, a; in English alone b, c; in German a.
    assert scores == pytest.approx(
        {"map_at_20": (1 + 2 / 3) / 2, "map_at_20_own": 1.0, "accuracy": 1.0}
    )
    assert list(scores) == list(LAREQA.metrics)
    assert score(GOLD, [-NEAR[0], None, None, None], [None, *AXES], language="de") == pytest.approx(
        {"map_at_20": (1 + 2 / 3) / 2, "map_at_20_own": 1.0, "accuracy": 1.0}
    )
    # Without a right candidate in the language there is nothing to be found there.
    assert "map_at_20_own" not in score(GOLD, [NEAR[0], *[None] * 3], [None, *AXES], language="sw")


def test_a_candidate_of_a_querys_own_line_is_right():
    gold = [wanted("p"), wanted("q")]
    assert score(gold, AXES[:2], AXES[:2])["map_at_20"] == 1
    assert score(gold, AXES[:2], AXES[1::-1])["map_at_20"] == 0.5


def test_a_query_without_a_right_candidate_in_the_pool_is_not_scored():
    gold = [wanted("p", "", "gone"), wanted("q", "en")]
    assert score(gold, [AXES[0], AXES[1]], [None, AXES[1]])["accuracy"] == 1


def test_lengths_of_vectors_do_not_matter_and_zeros_find_nothing():
    gold = [wanted("p"), wanted("q")]
    assert score(gold, 9 * AXES[:2], 0.1 * AXES[:2])["accuracy"] == 1
    assert score(gold, 0 * AXES[:2], AXES[:2])["accuracy"] == 0


def test_a_query_without_a_pool_scores_nothing():
    assert score([wanted("q", "", "a")], [AXES[0]], [None]) == {}


QUERY = {"id": "q7", "query": " Wer? ", "relevant": ["a7", 8]}
ANSWERS = [{"id": "a7", "candidate": "Ada.", "language": "en"}, {"id": 8, "candidate": "Sie."}]


TEST = "retrieval/lareqa/de.test.jsonl"


def test_lines_are_queries_candidates_or_both(files):
    source = files(TEST, QUERY, *ANSWERS)
    rows = source.read(LAREQA, "de", "test")
    assert list(rows) == [
        RankingExample("q7", "Wer?", "", "", ("a7", "8")),
        RankingExample("a7", "", "Ada.", "en", ()),
        RankingExample("8", "", "Sie.", "", ()),
    ]
    assert source.splits(LAREQA)["de", "test"].num_examples == 3
    assert rows[0].gold == wanted("q7", "", "a7", "8")
    assert rows[0].hidden() == replace(rows[0], relevant=None)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ((QUERY,), r":1: relevant: no line 'a7' has a candidate"),
        ((*ANSWERS, QUERY, QUERY), r":4: id 'q7' is repeated"),
        (({"query": "Wer?"},), r":1: has no id"),
        (({"id": 1, "query": " "},), r":1: has neither query nor candidate"),
        (({"id": 1, "query": ["Wer?"]},), r":1: query is not text"),
        (
            ({"id": 1, "candidate": "x", "relevant": ["1"]},),
            r":1: relevant: no query has these ids",
        ),
        (({"id": 1, "query": "x", "relevant": "1"},), r":1: relevant is not a list of ids"),
        (("{",), r":1: is not JSON"),
        (("[1]",), r":1: is not a JSON object"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(files, rows, complaint):
    with pytest.raises(DataError, match=complaint):
        files(TEST, *rows).read(LAREQA, "de", "test")


def test_what_is_trained_on_is_a_query_with_its_candidate(files):
    both = {"id": 1, "query": "Wer?", "candidate": "Ada."}
    source = files("retrieval/lareqa/de.train.jsonl", both, ANSWERS[0])
    with pytest.raises(DataError, match=r":2: has no query; .*right for it"):
        source.read(LAREQA, "de", "train")


def test_rows_of_a_data_set_are_read_alike(tmp_path):
    row = {"query": "Wer?", "candidate": None, "language": None, "relevant": ["a"]}
    assert kind_of(LAREQA).of_row(row, "q", tmp_path, 1) == RankingExample(
        "q", "Wer?", "", "", ("a",)
    )
    assert kind_of(LAREQA).of_row({"query": "", "candidate": ""}, "q", tmp_path, 1) is None


def test_single_rows_have_no_prediction(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps(ANSWERS[0]))
    with pytest.raises(DataError, match="a single row has no prediction"):
        read_inputs(tmp_path / "x.jsonl", LAREQA)


def sentence(*pieces):
    return Sentence(np.array(pieces, np.int32), np.arange(1, len(pieces) + 1, dtype=np.int32))


def trained(*candidates, plain=None, negatives=NUM_NEGATIVES):
    """First pieces of a batch's rows; ``plain``: the candidates in the source language."""
    rows, own = (
        [(sentence(90 + place), sentence(number)) for place, number in enumerate(side)]
        for side in (candidates, plain or candidates)
    )
    items = kind_of(TOY).train_items(rows, own, [], Frame(None, 16, negatives), ("x", 0))
    return [[int(sentence.pieces[0]) for sentence in item] for _, item in items]


def test_wrong_candidates_are_others_of_the_batch_that_read_differently():
    rows = trained(1, 2, 3, 1)
    assert [row[:2] for row in rows] == [[90, 1], [91, 2], [92, 3], [93, 1]]
    for row, others in zip(rows, ({2, 3}, {1, 3}, {1, 2}, {2, 3}), strict=True):
        assert len(row) == 2 + NUM_NEGATIVES
        assert set(row[2:]) == others
    many = trained(*range(30))
    assert all(len(set(row[1:])) == 1 + NUM_NEGATIVES for row in many)
    assert trained(*range(30)) == many


@pytest.mark.parametrize("negatives", [1, 3, 15])
def test_a_row_has_as_many_wrong_candidates_as_are_asked(negatives):
    for row in trained(*range(16), negatives=negatives):
        assert len(row) == 2 + negatives
        assert len(set(row[1:])) == 1 + negatives


def test_a_candidate_that_is_the_same_in_another_language_is_no_wrong_one():
    # Rows 0 and 3 have one answer, in two languages.
    rows = trained(1, 2, 3, 41, plain=(1, 2, 3, 1))
    for row, others in zip(rows, ({2, 3}, {1, 3, 41}, {1, 2, 41}, {2, 3}), strict=True):
        assert set(row[2:]) == others


def test_without_other_candidates_the_own_one_stands_for_them():
    assert trained(5) == [[90, *[5] * (1 + NUM_NEGATIVES)]]


def test_toy_queries_have_a_right_candidate_in_every_language(toy):
    rows = toy.read(TOY, "qab", "test")
    languages = list(TOY_LANGUAGES)
    assert [row.language for row in rows[: len(languages)]] == languages
    (query,) = [row for row in rows[: len(languages)] if row.query]
    assert query.language == "qab"
    assert {query.id, *query.relevant} == {row.id for row in rows[: len(languages)]}
    other = toy.read(TOY, "qae", "test")
    assert [row.candidate for row in other] == [row.candidate for row in rows]
    assert all(row.query and not row.relevant for row in toy.read(TOY, "qab", "train"))


@pytest.fixture(scope="module")
def languages_of(toy):
    """Query, or candidate, of training -> languages that it may be in, and its examples."""
    texts = ({}, {})
    for language in TOY_LANGUAGES:
        for row in toy.read(TOY, language, "train"):
            for side, text in zip(texts, (row.query, row.candidate), strict=True):
                codes, names = side.setdefault(text, (set(), set()))
                codes.add(language)
                names.add(row.id)
    return texts


def described(batch, tokenizer, languages_of):
    """By row: languages and examples of its query, and of each of its candidates."""
    queries, candidates = languages_of
    rows = []
    for row in batch["input_ids"]:
        texts = [" ".join(tokenizer.convert_ids_to_tokens(ids[ids > 4].tolist())) for ids in row]
        rows.append([queries[texts[0]], *(candidates[text] for text in texts[1:])])
    return rows


@pytest.fixture
def ranking_batches(toy, toy_pipeline):
    """``ranking_batches(hybrid)``: training batches of 16 queries and their candidates."""
    access = LabelAccess("train", "toy-ranking", "qaa")
    return lambda hybrid: train_batches(
        toy, TOY, access, 40, toy_pipeline(24), BatchSettings(16, 0), hybrid=hybrid
    )


def test_crossed_rows_have_query_and_candidate_in_two_languages(
    ranking_batches, toy_tokenizer, languages_of
):
    crossed, plain = (ranking_batches(Hybrid(ratio=ratio)) for ratio in (1.0, 0.0))
    pairs = Counter()
    for step in range(150):
        rows, own = (
            described(batches.batch(step), toy_tokenizer, languages_of)
            for batches in (crossed, plain)
        )
        for (query, right, *wrong), (same, *_) in zip(rows, own, strict=True):
            assert query[1] & right[1] & same[1], "the same examples, in their order"
            assert not any(text[1] & right[1] for text in wrong)
            if len(query[0]) == len(right[0]) == 1:
                pairs[min(query[0]), min(right[0])] += 1
        assert not set.intersection(*(text[0] for row in rows for text in row)), (
            "languages are mixed"
        )
    assert all(first != second for first, second in pairs)
    assert set(pairs) == set(permutations(TOY_LANGUAGES, 2))
    assert chisquare(list(pairs.values())).pvalue > 1e-4, "uniform over ordered pairs"


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_training_batches_hold_a_query_and_its_candidates(ranking_batches, ratio):
    batches = ranking_batches(Hybrid(ratio=ratio))
    batch = batches.batch(3)
    assert batch["input_ids"].shape[:2] == (16, 2 + NUM_NEGATIVES)
    assert batch["labels"].tolist() == [0] * 16
    again = batches.batch(3)
    assert all(np.array_equal(batch[name], again[name]) for name in batch)
