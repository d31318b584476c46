from __future__ import annotations

import numpy as np
import pytest

from xlt_ray.config.methods import AugmentRobust
from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.mixture_batches import NumberedBatches
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.sources.toy_world import toy_words
from xlt_ray.data.task import task_named
from xlt_ray.data.text.neighbours import (
    augmented_table,
    lexicon_neighbours,
    neighbour_lists,
    neighbours_digest,
)
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.errors import DataError

SENTENCES = [("a", "b", "c"), ("b",), ("c", "c")]
VOCABULARY = ["a", "b", "c", "x", "y", "z"]
LISTS = "a\tx\nb\tx\nb\ty\nb\tz y\n"
PARAPHRASE = task_named("toy-paraphrase")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "neighbours").mkdir()
    (tmp_path / "neighbours" / "en.tsv").write_text(LISTS)
    return tmp_path


@pytest.fixture
def copies(folder, make_tokenizer, cache_dir):
    """``copies(n)``: the augmented table of SENTENCES, as lists of words by sentence."""
    tokenizer = make_tokenizer(VOCABULARY)
    pipeline = TextPipeline(tokenizer, "t", 64, cache_dir)
    table = pipeline.encoded(SENTENCES, "s")

    def make(num_copies, seed=0, neighbours="lists"):
        settings = AugmentRobust(method="augment", copies=num_copies, neighbours=neighbours)
        return augmented_table(
            FilesSource(folder), "en", settings, table, SENTENCES, pipeline, seed
        )

    return make


def words_of(sentence, tokenizer):
    return tuple(
        " ".join(tokenizer.convert_ids_to_tokens(sentence.pieces[start:end].tolist()))
        for start, end in zip(sentence.starts, sentence.ends, strict=True)
    )


def test_a_word_is_drawn_evenly_from_itself_and_its_neighbours(copies, make_tokenizer):
    table, tokenizer = copies(3000), make_tokenizer(VOCABULARY)
    assert len(table) == 9000
    seen = [words_of(table[number], tokenizer) for number in range(0, 9000, 3)]
    for place, choices in enumerate((("a", "x"), ("b", "x", "y", "z y"), ("c",))):
        found, counts = np.unique([words[place] for words in seen], return_counts=True)
        assert sorted(found) == sorted(choices)
        assert np.abs(counts / 3000 - 1 / len(choices)).max() < 0.04
    assert len(set(seen)) == 8, "words are drawn by themselves"
    lone = [words_of(table[number], tokenizer) for number in range(2, 9000, 3)]
    assert set(lone) == {("c", "c")}, "a word without neighbours stays"


def test_a_copy_follows_from_seed_and_number_alone(copies):
    copied, again, other = copies(9), copies(9), copies(9, seed=1)
    numbers = list(range(27))
    first = [copied[number].pieces.tolist() for number in numbers]
    assert [again[number].pieces.tolist() for number in reversed(numbers)] == first[::-1]
    assert [other[number].pieces.tolist() for number in numbers] != first
    # More copies leave those there were as they are.
    more = copies(12)
    assert [more[number].pieces.tolist() for number in numbers] == first


def test_files_hold_neighbours_line_by_line(folder):
    source = FilesSource(folder)
    assert neighbour_lists(source, "en") == {"a": ("x",), "b": ("x", "y", "z y")}
    assert neighbour_lists(source, "de") == {}
    assert neighbours_digest(source, "de") == ""
    before = neighbours_digest(source, "en")
    (folder / "neighbours" / "en.tsv").write_text(LISTS + "c\tz\n")
    assert neighbours_digest(FilesSource(folder), "en") not in ("", before)
    (folder / "neighbours" / "en.tsv").write_text("a\tb\n\na b\n")
    with pytest.raises(DataError, match=r"en\.tsv:3: is not `word TAB neighbour`"):
        neighbour_lists(FilesSource(folder), "en")


def test_neighbours_of_a_toy_word_are_its_other_forms(toy):
    neighbours = neighbour_lists(toy, "qab")
    for forms in toy_words(0)["qab"].values():
        for form in forms:
            assert set(neighbours.get(form, ())) == set(forms) - {form}
    assert neighbours_digest(ToySource(1), "qab") != neighbours_digest(toy, "qab")
    assert neighbour_lists(toy, "xx") == {}


def test_neighbours_of_a_lexicon_are_translations(toy, folder):
    words = toy_words(0)
    neighbours = lexicon_neighbours(toy, "qaa")
    word = words["qaa"]["dog"][0]
    spelt = {words[code]["dog"][0] for code in words} - {word}
    assert set(neighbours[word]) <= spelt
    assert all(word not in others for word, others in neighbours.items())
    assert lexicon_neighbours(FilesSource(folder), "en") == {}


def test_augmentation_without_neighbours_says_what_to_add(copies, folder):
    with pytest.raises(DataError, match=r"neighbours/en\.tsv .*lexicon/en-TARGET\.tsv"):
        copies(2, neighbours="lexicon")
    (folder / "neighbours" / "en.tsv").unlink()
    with pytest.raises(DataError, match="needs neighbours of words"):
        copies(2)


@pytest.fixture
def train(toy, toy_pipeline):
    def make(augment=None, hybrid=None, size=40):
        access = LabelAccess("train", PARAPHRASE.name, "qaa")
        return train_batches(
            toy, PARAPHRASE, access, size, toy_pipeline(64), BatchSettings(20, 3),
            hybrid=hybrid or Hybrid(), augment=augment,
        )  # fmt: skip

    return make


def rows_of(batches, num_steps):
    return [
        (tuple(piece for piece in ids.tolist() if piece), int(label))
        for step in range(num_steps)
        for ids, label in zip(
            *(batches.batch(step)[name] for name in ("input_ids", "labels")), strict=True
        )
    ]


def test_an_epoch_shows_every_copy_once_with_its_label(train, toy_tokenizer):
    augment = AugmentRobust(method="augment", copies=3)
    batches = train(augment)
    assert (batches.num_examples, batches.num_steps(1)) == (120, 6)
    concept = {form: gloss for gloss, forms in toy_words(0)["qaa"].items() for form in forms}

    def meaning(row):
        ids, label = row
        words = toy_tokenizer.convert_ids_to_tokens([piece for piece in ids if piece])
        return (*(concept.get(word, word) for word in words), label)

    plain = sorted(meaning(row) for row in rows_of(train(), 2))
    copies = sorted(meaning(row) for row in rows_of(batches, 6))
    assert copies == sorted(3 * plain), "synonyms change words, never meanings or labels"
    texts = {ids for ids, _ in rows_of(batches, 6)}
    assert len(texts) > 80
    again = rows_of(batches, 12)
    assert sorted(again[:120]) == sorted(again[120:]), "a copy is the same in every epoch"
    assert again[:120] != again[120:]


def test_cross_lingual_batches_keep_their_words(train):
    augment, always = AugmentRobust(method="augment", copies=2), Hybrid(ratio=1.0)
    known = {
        tuple(piece for piece in ids if piece) for ids, _ in rows_of(train(hybrid=always), 400)
    }
    crossed = {
        tuple(piece for piece in ids if piece)
        for ids, _ in rows_of(train(augment, hybrid=always), 2)
    }
    assert len(crossed & known) > 0.7 * len(crossed), "of 30 pairs of languages 20 are drawn"


def test_rows_get_numbers_from_seed_and_step_alone(train):
    numbered, other = NumberedBatches(train(), 5), NumberedBatches(train(), 6)
    batch, again = numbered.batch(3), NumberedBatches(train(), 5).batch(3)
    assert np.array_equal(batch["noise_seed"], again["noise_seed"])
    assert len(set(batch["noise_seed"].tolist())) == 20
    assert not np.array_equal(batch["noise_seed"], other.batch(3)["noise_seed"])
    assert not np.array_equal(batch["noise_seed"], numbered.batch(4)["noise_seed"])
    assert {name: batch[name].tolist() for name in batch if name != "noise_seed"} == {
        name: array.tolist() for name, array in train().batch(3).items()
    }
