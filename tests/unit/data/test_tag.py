"""Long sentences of tags: split at words as the benchmark splits them, and put together again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.conftest import decoded_with
from xlt_ray.data.batches.evaluation import EvalBatches, EvalSplit
from xlt_ray.data.batches.supervised import BatchSettings, TrainBatches
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import IGNORED, Encoded, Sentence, template_of
from xlt_ray.data.types.base import Frame, kind_of
from xlt_ray.data.types.tag import TagExample

TASK = task_named("ner-panx")
SPECIAL = 2
"""Special pieces of a row."""
FERTILITY = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=8)
"""Pieces of every word of every sentence."""


@pytest.fixture(scope="module")
def template(make_tokenizer):
    return template_of(make_tokenizer(["w"]))


def sentences_of(fertility: list[list[int]]) -> list[Sentence]:
    """Every piece of the whole is another number, so that none can be taken for another."""
    found, first = [], 10
    for lengths in fertility:
        ends = np.cumsum(lengths).astype(np.int32)
        found.append(Sentence(np.arange(first, first + ends[-1], dtype=np.int32), ends))
        first += int(ends[-1])
    return found


def examples_of(fertility: list[list[int]], seed: int = 0) -> tuple[TagExample, ...]:
    random = np.random.default_rng(seed)
    return tuple(
        TagExample(
            str(number),
            tuple(f"w{place}" for place in range(len(lengths))),
            tuple(random.choice(TASK.labels, len(lengths)).tolist()),
        )
        for number, lengths in enumerate(fertility)
    )


def split_as_the_benchmark_does(lengths: list[int], room: int) -> list[list[int]]:
    """XTREME's ``{panx,udpos}_tokenize_preprocess``, written anew: words of every part.

    It counts the pieces of the words so far, and begins a new sentence with the word that would
    make them too many. A word that is longer than a row is one unknown piece there; here it has a
    row to itself, so it counts as all the room there is.
    """
    parts: list[list[int]] = [[]]
    so_far = 0
    for word, length in enumerate(lengths):
        counted = min(length, room)
        if so_far + counted > room:
            parts.append([])
            so_far = 0
        parts[-1].append(word)
        so_far += counted
    return parts


@given(FERTILITY, st.integers(3, 20))
def test_sentences_are_split_before_the_word_that_has_no_room(template, fertility, max_length):
    frame = Frame(template, max_length)
    for lengths, sentence in zip(fertility, sentences_of(fertility), strict=True):
        found = [
            list(range(part.words.start, part.words.stop))
            for part in kind_of(TASK).items((sentence,), frame)
        ]
        assert found == split_as_the_benchmark_does(lengths, max_length - SPECIAL)
        assert [word for part in found for word in part] == list(range(len(lengths)))


@settings(deadline=None)
@given(FERTILITY, st.integers(3, 20), st.integers(1, 5))
def test_every_word_is_predicted_and_gold_comes_back_whole(
    template, fertility, max_length, batch_size
):
    examples = examples_of(fertility)
    split = EvalSplit(TASK, "de", Frame(template, max_length), sentences_of(fertility), examples)
    batches = EvalBatches([split], batch_size)
    assert all(batch.arrays["input_ids"].shape[1] <= max_length for batch in batches)
    decoded = decoded_with(split, lambda batch: np.maximum(batch["labels"], 0), batch_size)
    assert split.predictions(decoded) == list(split.gold)
    # What is cut is reported: words that no row can hold.
    words = [length for lengths in fertility for length in lengths]
    assert split.cut == pytest.approx(np.mean([word > max_length - SPECIAL for word in words]))


@settings(deadline=None)
@given(FERTILITY, st.integers(3, 20), st.integers(0, 3))
def test_a_pass_over_the_training_set_asks_every_word_once(template, fertility, max_length, seed):
    examples, sentences = examples_of(fertility, seed), sentences_of(fertility)
    columns: list[np.ndarray] = []
    for arrays in zip(*((sentence.pieces, sentence.ends) for sentence in sentences), strict=True):
        columns += [np.concatenate(arrays), np.cumsum([0, *(len(array) for array in arrays)])]
    batches = TrainBatches(
        TASK, Frame(template, max_length), Encoded(columns), examples, np.arange(len(examples)),
        BatchSettings(len(examples), seed),
    )  # fmt: skip
    batch = batches.batch(0)
    asked = batch["labels"] != IGNORED
    found = dict(
        zip(batch["input_ids"][asked].tolist(), batch["labels"][asked].tolist(), strict=True)
    )
    assert asked.sum() == len(found)
    assert found == {
        int(sentence.pieces[start]): TASK.number_of(tag)
        for sentence, example in zip(sentences, examples, strict=True)
        for start, tag in zip(sentence.starts.tolist(), example.tags, strict=True)
    }
    assert batches.num_steps(3) == 3


@given(FERTILITY)
def test_where_nothing_is_too_long_a_sentence_is_one_row(template, fertility):
    frame = Frame(template, max(sum(lengths) for lengths in fertility) + SPECIAL)
    sentences = sentences_of(fertility)
    rows = [(sentence,) for sentence in sentences]
    items = kind_of(TASK).train_items(rows, rows, [], frame, ("x", 0))
    assert [place for place, _ in items] == list(range(len(rows)))
    assert all(part.sentence is row[0] for (_, part), row in zip(items, rows, strict=True))


def test_an_entity_that_a_split_goes_through_is_scored_whole(template):
    """As XTREME scores what ``run_tag.py`` writes: lines of one sentence, whatever was split."""
    example = TagExample("x", ("Ada", "Byron", "King"), ("B-PER", "I-PER", "I-PER"))
    split = EvalSplit(TASK, "de", Frame(template, 6), sentences_of([[2, 2, 2]]), (example,))
    decoded = decoded_with(split, lambda batch: np.maximum(batch["labels"], 0))
    assert decoded == [("B-PER", "I-PER"), ("I-PER",)]
    assert split.score(decoded)["conll_f1"] == 1.0
