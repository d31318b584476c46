"""Words of text are found in lists that write them otherwise; what covers nothing is refused."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.config.methods import AugmentRobust
from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.data.text.lexicon import Lookup
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.errors import DataError

PAWS = task_named("pawsx")
FORMS = {
    "composed": lambda word: unicodedata.normalize("NFC", word),
    "decomposed": lambda word: unicodedata.normalize("NFD", word),
    "capital": str.upper,
    "lower": str.lower,
}


@pytest.mark.parametrize("listed", FORMS)
@pytest.mark.parametrize("written", FORMS)
@pytest.mark.parametrize("around", ["{}", "{},", "«{}»", "({})!", "…{}"])
def test_a_word_is_found_however_it_is_written(listed: str, written: str, around: str) -> None:
    key = FORMS[listed]("Café")
    entry = Lookup([key]).find(around.format(FORMS[written]("Café")))
    assert entry is not None
    assert entry.keys == (key,)
    assert f"{entry.prefix}x{entry.suffix}" == around.format("x")


def test_what_is_written_alike_comes_first() -> None:
    lookup = Lookup(["essen", "Essen", "U.S.", "us", "US"])
    assert [lookup.find(word).keys for word in ("Essen", "essen", "ESSEN", "U.S.", "Us")] == [
        ("Essen",), ("essen",), ("essen",), ("U.S.",), ("us",),
    ]  # fmt: skip
    assert Lookup(["Essen", "eSSen"]).find("ESSEN").keys == ("Essen", "eSSen")
    assert Lookup(["essen"], ignores_case=False).find("Essen") is None


@given(st.text(max_size=6), st.lists(st.text(max_size=4), max_size=4))
def test_what_is_found_stands_in_the_word(word: str, words: list[str]) -> None:
    entry = Lookup(words).find(word)
    whole = unicodedata.normalize("NFC", word)
    if entry is not None:
        core = whole[len(entry.prefix) : len(whole) - len(entry.suffix)]
        assert entry.prefix + core + entry.suffix == whole
        assert all(unicodedata.normalize("NFC", key).lower() == core.lower() for key in entry.keys)


@pytest.fixture
def train(tmp_path, make_tokenizer):
    """Training batches on one pair of sentences, with the lists that are given."""

    def made(text: str, lists: dict[str, str], **how):
        folder = tmp_path / "pairs" / "pawsx"
        folder.mkdir(parents=True)
        (folder / "en.train.tsv").write_text(
            f"id\tsentence1\tsentence2\tlabel\n1\t{text}\t{text}\t1\n", encoding="utf-8"
        )
        for name, content in lists.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
        words = ["der", "Hund,", "Café", "hound,", "dog,", "the", "Hund"]
        tokenizer = make_tokenizer([unicodedata.normalize("NFC", word) for word in words])
        batches = train_batches(
            FilesSource(tmp_path), PAWS, LabelAccess("train", "pawsx", "en"), "all",
            TextPipeline(tokenizer, "t", 16, tmp_path / "cache"), BatchSettings(64, 0), **how,
        )  # fmt: skip
        ids = batches.batch(0)["input_ids"]
        return {tokenizer.convert_ids_to_tokens(int(id_)) for id_ in np.unique(ids) if int(id_) > 3}

    return made


def test_words_with_punctuation_are_switched_and_keep_it(train) -> None:
    decomposed = unicodedata.normalize("NFD", "Café")
    lexicon = {"lexicon/en-de.tsv": f"THE\tder\ndog\tHund\ncoffee\t{decomposed}\n"}
    pieces = train("the dog, Coffee", lexicon, hybrid=Hybrid(ratio=1.0))
    assert {"der", "Hund,", unicodedata.normalize("NFC", "Café")} <= pieces
    assert "Hund" not in pieces


def test_a_lexicon_of_other_words_is_refused(train) -> None:
    with pytest.raises(DataError, match="no word of the training text") as caught:
        train("the dog, sat", {"lexicon/en-de.tsv": "Katze\tcat\n"}, hybrid=Hybrid(ratio=1.0))
    assert "pawsx" in str(caught.value)


def test_neighbours_are_found_by_composition_and_without_punctuation(train) -> None:
    augment = AugmentRobust(method="augment", copies=2)
    lists = {"neighbours/en.tsv": "dog\thound\n"}
    assert "hound," in train("the dog,", lists, augment=augment)


@pytest.mark.parametrize("word", ["Dog", "cat"])
def test_neighbours_of_other_words_are_refused_and_capitals_are_others(train, word) -> None:
    augment = AugmentRobust(method="augment", copies=2)
    with pytest.raises(DataError, match="no word of the training text has a neighbour"):
        train(f"the {word},", {"neighbours/en.tsv": "dog\thound\n"}, augment=augment)
