"""Hybrid batches: how many, how large, of which languages."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.crosslingual import Translated
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.sources.toy_world import toy_words
from xlt_ray.data.task import task_named
from xlt_ray.data.text import lexicon
from xlt_ray.data.text.code_switching import SwitchableTable, weighted
from xlt_ray.data.text.pipeline import TextPipeline, encode_words
from xlt_ray.errors import DataError

PARAPHRASE, TAGGING = "toy-paraphrase", "toy-tagging"
BATCH = 16


@pytest.fixture(scope="module")
def train(toy, toy_pipeline):
    @cache
    def make(hybrid, seed=3, task=PARAPHRASE):
        access = LabelAccess("train", task, "qaa")
        return train_batches(
            toy, task_named(task), access, 64, toy_pipeline(64), BatchSettings(BATCH, seed),
            hybrid=hybrid,
        )  # fmt: skip

    return make


def same(first, other):
    return first.keys() == other.keys() and all(
        np.array_equal(first[key], other[key]) for key in first
    )


@settings(max_examples=12)
@given(
    ratio=st.floats(0.0, 1.0),
    mixing=st.sampled_from(["per_batch", "in_batch"]),
    seed=st.integers(0, 9),
)
def test_the_realised_ratio_lies_in_its_binomial_interval(train, ratio, mixing, seed):
    batches = train(Hybrid(ratio=ratio, mixing=mixing), seed=seed)
    crossed = np.array([batches.crossed(step) for step in range(400)])
    if mixing == "per_batch":
        assert (crossed == crossed[:, :1]).all(), "a batch is crossed as a whole"
        crossed = crossed[:, 0]
    low, high = binom.interval(1 - 1e-6, crossed.size, ratio)
    assert low <= crossed.sum() <= high


@pytest.mark.parametrize(
    "hybrid",
    [
        Hybrid(ratio=0.5, mixing="in_batch"),
        Hybrid(ratio=0.5, pairs="by_size"),
        Hybrid(ratio=0.5, batch_scale=1.5),
        Hybrid(ratio=0.5, batch_scale=0.25, languages=("qab",)),
    ],
    ids=str,
)
@pytest.mark.parametrize("task", [PARAPHRASE, TAGGING])
def test_a_batch_follows_from_seed_and_step_alone(train, task, hybrid):
    first = train(hybrid, task=task)
    forwards = [first.batch(step) for step in range(8)]
    train.cache_clear()
    again = train(hybrid, task=task)
    for step in reversed(range(8)):
        assert same(again.batch(step), forwards[step])


def rows_of(batch):
    return [tuple(row[row > 0].tolist()) for row in batch["input_ids"]]


def test_pairs_are_switched_by_a_lexicon_where_that_is_asked(train):
    plain, switched = train(Hybrid()), train(Hybrid(ratio=1.0, text="switched"))
    translated, either = (train(Hybrid(ratio=1.0, text=text)) for text in ("translated", "auto"))
    for step in range(4):
        assert same(translated.batch(step), either.batch(step))
        first, second = plain.batch(step), switched.batch(step)
        assert (first["labels"] == second["labels"]).all()
        kept = first["input_ids"] == second["input_ids"][:, : first["input_ids"].shape[1]]
        share = kept[first["input_ids"] > 4].mean()
        assert 0.2 < share < 0.9, "some words are switched, the others stay in their places"


def test_in_a_mixed_batch_the_rest_is_in_the_source_language(train):
    mixed, never = train(Hybrid(ratio=0.5, mixing="in_batch")), train(Hybrid())
    num_changed = 0
    for step in range(6):
        first, second = mixed.batch(step), never.batch(step)
        assert (first["labels"] == second["labels"]).all()
        crossed = mixed.crossed(step).tolist()
        assert 0 < sum(crossed) < BATCH
        for own, plain, is_crossed in zip(rows_of(first), rows_of(second), crossed, strict=True):
            assert is_crossed or own == plain
            num_changed += own != plain
    assert num_changed > 30


@pytest.mark.parametrize(("scale", "rows"), [(0.25, 4), (1.0, 16), (1.5, 24), (0.001, 1)])
def test_a_cross_lingual_batch_is_scaled_and_others_are_not(train, scale, rows):
    scaled, plain = train(Hybrid(ratio=0.5, batch_scale=scale)), train(Hybrid(ratio=0.5))
    never = train(Hybrid())
    for step in range(10):
        first, second = scaled.batch(step), plain.batch(step)
        is_crossed = bool(plain.crossed(step).any())
        assert len(first["labels"]) == (rows if is_crossed else BATCH)
        shown = min(rows, BATCH)
        assert (first["labels"][:shown] == second["labels"][:shown]).all()
        if is_crossed and rows > BATCH:
            following = never.batch(step + 1)["labels"]
            assert (first["labels"][BATCH:] == following[: rows - BATCH]).all()


def languages_in(batch, texts, tokenizer):
    """By row: the languages that its words can be of."""
    return [
        {language for language, words in texts.items()
         if set(tokenizer.convert_ids_to_tokens([piece for piece in row if piece > 4])) <= words}
        for row in rows_of(batch)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def words_of():
    """Words of the toy languages."""
    return {language: {form for forms in words.values() for form in forms}
            for language, words in toy_words(0).items()}  # fmt: skip


@pytest.mark.parametrize("languages", [None, ("qab", "qad")])
def test_uniform_batches_are_each_in_one_language_and_all_alike(
    train, toy_tokenizer, words_of, languages
):
    """X-X-mono of arXiv 2408.10536."""
    hybrid = Hybrid(mono="uniform", languages=languages or "all")
    uniform, source = train(hybrid), train(Hybrid())
    drawn = Counter()
    for step in range(240):
        first, second = uniform.batch(step), source.batch(step)
        assert (first["labels"] == second["labels"]).all(), "the same examples in the same order"
        of_rows = languages_in(first, words_of, toy_tokenizer)
        common = set.intersection(*of_rows)
        assert common, "a batch is in one language"
        assert same(first, second) == ("qaa" in common)
        drawn[min(common)] += 1
    assert set(drawn) == {"qaa", *(languages or set(words_of))}
    assert chisquare(list(drawn.values())).pvalue > 1e-4


@pytest.mark.parametrize("ratio", [0.4, 0.5])
def test_hybrid_batches_of_the_paper_are_of_two_kinds(train, toy_tokenizer, words_of, ratio):
    """With 1 - ratio in one language, any of them; else every pair in two."""
    batches = train(Hybrid(ratio=ratio, mono="uniform"), seed=11)
    drawn = set()
    for step in range(120):
        of_rows = languages_in(batches.batch(step), words_of, toy_tokenizer)
        if batches.crossed(step).all():
            assert not all(of_rows), "words of two languages stand in a row"
        else:
            assert set.intersection(*of_rows)
            drawn |= set.intersection(*of_rows)
    assert drawn == set(words_of)


@pytest.mark.parametrize("mixing", ["per_batch", "in_batch"])
def test_a_uniform_batch_follows_from_seed_and_step_alone(train, mixing):
    hybrid = Hybrid(ratio=0.3, mono="uniform", mixing=mixing)
    first = train(hybrid)
    forwards = [first.batch(step) for step in range(8)]
    train.cache_clear()
    again = train(hybrid)
    for step in reversed(range(8)):
        assert same(again.batch(step), forwards[step])
    other = train(hybrid, seed=4)
    assert not all(same(other.batch(step), forwards[step]) for step in range(8))


def test_words_are_not_switched_for_a_uniform_batch(train):
    for hybrid in (Hybrid(mono="uniform", text="switched"), Hybrid(mono="uniform", ratio=0.5)):
        with pytest.raises(DataError, match="translated row by row"):
            train(hybrid, task=TAGGING if hybrid.ratio else PARAPHRASE)


def test_neutral_settings_leave_every_batch_as_it_is(train):
    named = Hybrid(ratio=0.5, languages="all", pairs="uniform", mixing="per_batch", batch_scale=1.0)
    for task in (PARAPHRASE, TAGGING):
        first, second = train(Hybrid(ratio=0.5), task=task), train(named, task=task)
        assert all(same(first.batch(step), second.batch(step)) for step in range(5))


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_weighted_draw_falls_where_its_share_is(weights, draw):
    place = weighted(np.arange(len(weights)), np.array(weights), draw)
    shares = np.cumsum(weights) / np.sum(weights)
    assert draw <= shares[place] + 1e-9
    assert place == 0 or draw >= shares[place - 1] - 1e-9


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("uniform", {"aa": 1 / 3, "bb": 1 / 3, "cc": 1 / 3}),
        ("by_size", {"aa": 4 / 7, "bb": 2 / 7, "cc": 1 / 7}),
    ],
)
def test_languages_of_a_pair_are_drawn_alike_or_by_their_examples(
    make_tokenizer, cache_dir, pairs, expected
):
    words = [f"{code}{side}" for code in expected for side in "xy"]
    tokenizer = make_tokenizer(words)
    ids, tables = {}, {}
    for code, size in zip(expected, (8, 4, 2), strict=True):
        ids[code] = [f"r{number}" for number in range(size)]
        sentences = [[f"{code}{side}"] for _ in range(size) for side in "xy"]
        pipeline = TextPipeline(tokenizer, "h", 64, cache_dir)
        tables[code] = pipeline.encoded(sentences, f"hybrid {code}")
    crossing = Translated(Hybrid(pairs=pairs), "aa", tables, ids)
    random = np.random.default_rng(0)
    drawn = [
        tuple(
            tokenizer.convert_ids_to_tokens(int(sentence.pieces[0]))[:2]
            for sentence in crossing.row(0, random)
        )
        for _ in range(6000)
    ]
    assert all(first != second for first, second in drawn)
    for code, share in expected.items():
        assert abs(np.mean([left == code for left, _ in drawn]) - share) < 0.03
        # The second language has its share of what the first one leaves.
        left = sum(first * share / (1 - first) for name, first in expected.items() if name != code)
        assert abs(np.mean([other == code for _, other in drawn]) - left) < 0.03
    assert crossing.num_languages == 3
    for place, there in ((0, ("aa", "bb", "cc")), (3, ("aa", "bb")), (7, ("aa",))):
        for number, code in enumerate(expected):
            row = crossing.row_in(number, place)
            assert (row is not None) == (code in there)
            if row is not None:
                pieces = [
                    tokenizer.convert_ids_to_tokens(int(sentence.pieces[0])) for sentence in row
                ]
                assert pieces == [f"{code}x", f"{code}y"]
    lone = crossing.row(7, random)
    assert {tokenizer.convert_ids_to_tokens(int(sentence.pieces[0])) for sentence in lone} == {
        "aax",
        "aay",
    }


@pytest.mark.parametrize(("is_by_size", "share"), [(False, 1 / 2), (True, 3 / 4)])
def test_languages_of_a_switched_word_are_drawn_alike_or_by_their_word_lists(
    tmp_path, make_tokenizer, is_by_size, share
):
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon" / "en-de.tsv").write_text("a\tx\nb\tx\nc\tx\n")
    (tmp_path / "lexicon" / "en-fr.tsv").write_text("a\ty\n")
    tokenizer = make_tokenizer(["a", "b", "c", "x", "y"])
    pipeline = TextPipeline(tokenizer, "t", 64, tmp_path / "k")
    encoded, source = pipeline.encoded([["a"]], "a"), FilesSource(tmp_path)
    table = SwitchableTable(
        encoded, [["a"]], source, "en", ("de", "fr"), pipeline, is_by_size=is_by_size
    )
    random = np.random.default_rng(0)
    drawn = [
        tokenizer.convert_ids_to_tokens(int(table.switched(0, 1.0, random).pieces[0]))
        for _ in range(3000)
    ]
    assert set(drawn) == {"x", "y"}
    assert abs(drawn.count("x") / 3000 - share) < 0.03


def test_the_vocabulary_has_translations_with_the_punctuation_of_the_text(
    tmp_path, make_tokenizer, monkeypatch
):
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon" / "en-de.tsv").write_text("a\tx\nc\ty\n")
    tokenizer = make_tokenizer(["a", "b", "c", "x", "x,", "y", "z"])
    pipeline = TextPipeline(tokenizer, "t", 64, tmp_path / "k")
    words = [["a,", "b", "a"]]
    encoded, source = pipeline.encoded(words, "a"), FilesSource(tmp_path)
    table = SwitchableTable(encoded, words, source, "en", ("de",), pipeline)
    vocabulary = set(table.vocabulary().tolist())
    random = np.random.default_rng(0)
    shown = {id_ for _ in range(50) for id_ in table.switched(0, 0.5, random).pieces.tolist()}
    assert shown == set(encoded.vocabulary().tolist()) | {
        id_ for sentence in encode_words([["x,", "x"]], tokenizer) for id_ in sentence.pieces
    }
    assert shown <= vocabulary
    assert tokenizer.convert_tokens_to_ids("z") not in vocabulary
    monkeypatch.setattr(lexicon, "MOST_FURTHER", 0)
    table = SwitchableTable(encoded, words, source, "en", ("de",), pipeline)
    assert table.vocabulary() is None


def test_by_size_words_are_still_translations(train, toy_tokenizer):
    batches = train(Hybrid(ratio=1.0, pairs="by_size", languages=("qae",)), task=TAGGING)
    known = {
        form for code in ("qaa", "qae") for forms in toy_words(0)[code].values() for form in forms
    }
    for row in rows_of(batches.batch(0)):
        assert {toy_tokenizer.convert_ids_to_tokens(piece) for piece in row if piece > 4} <= known
