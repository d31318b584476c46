"""Pairs in two languages: joined by id, nothing lost without being counted, labels agreed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.data.batches.evaluation import EvalBatches, eval_split, joined
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.data.types.pair import PairExample
from xlt_ray.errors import DataError, ForbiddenLabels

HEADER = "id\tsentence1\tsentence2\tlabel\n"


def rows(ids, language):
    return [PairExample(id_, f"{language} a {id_}", f"{language} b {id_}", id_[-1]) for id_ in ids]


ids = st.lists(st.integers(0, 30).map(str), unique=True)


@given(ids, ids)
def test_rows_of_both_languages_are_joined_and_all_others_counted(first, second):
    shared = [place for place in first if place in second]
    if not shared:
        with pytest.raises(DataError, match="no row in common"):
            joined(rows(first, "x"), rows(second, "y"))
        return
    pairs = joined(rows(first, "x"), rows(second, "y"))
    assert [example.id for example in pairs.examples] == shared
    assert {(example.first, example.second) for example in pairs.examples} == {
        (f"x a {place}", f"y b {place}") for place in shared
    }
    assert pairs.num_dropped == len({*first} ^ {*second})
    assert [(first[a], second[b]) for a, b in pairs.places] == [(place, place) for place in shared]


def test_a_row_that_is_labelled_otherwise_is_no_translation():
    other = [PairExample("1", "c", "d", "0")]
    with pytest.raises(DataError, match="one id must mean the same example") as caught:
        joined(rows(["1"], "x"), other, task="t", language="x:y")
    assert "'1'" in str(caught.value)
    assert "x:y" in str(caught.value)


@pytest.fixture
def folder(tmp_path):
    """Two languages: a row that is not translated, an empty one, one that is in de alone."""
    place = tmp_path / "pairs" / "pawsx"
    place.mkdir(parents=True)
    (place / "en.test.tsv").write_text(
        HEADER + "1\ta b\tc\t1\n2\td\te\t0\n3\tf\tg\t1\n4\th\ti\t0\n", encoding="utf-8"
    )
    (place / "de.test.tsv").write_text(
        HEADER + "4\tH\tI\t0\n2\tD\tNS\t0\n3\tF\t \t1\n1\tA B\tC C\t1\n9\tX\tY\t0\n",
        encoding="utf-8",
    )
    return FilesSource(tmp_path)


def split_of(source, language, tokenizer, cache, limit="all", purpose="evaluate"):
    access, pipeline = LabelAccess(purpose, "pawsx", "en"), TextPipeline(tokenizer, "l", 16, cache)
    return eval_split(source, task_named("pawsx"), access, language, "test", limit, pipeline)


@pytest.fixture
def letters(make_tokenizer):
    return make_tokenizer([*"abcdefghiABCDEFGHIXY"])


def test_placeholders_and_empty_sentences_are_dropped_and_counted(folder, letters, tmp_path):
    split = split_of(folder, "en:de", letters, tmp_path)
    assert split.language == "en:de"
    assert [(example.id, example.first, example.second) for example in split.examples] == [
        ("1", "a b", "C C"),
        ("4", "h", "I"),
    ]
    assert split.num_dropped == 3


def test_pieces_are_those_of_the_sentences_of_either_language(folder, letters, tmp_path):
    split = split_of(folder, "de:en", letters, tmp_path)
    (batch,) = EvalBatches([split], 8)
    shown = {}
    for number, row in zip(batch.numbers.tolist(), batch.arrays["input_ids"].tolist(), strict=True):
        words = [letters.convert_ids_to_tokens(piece) for piece in row]
        shown[split.examples[number].id] = [word for word in words if not word.startswith("[")]
    assert shown == {"4": ["H", "i"], "1": ["A", "B", "c"]}


def test_a_language_with_itself_is_the_language(toy, toy_pipeline):
    task, access = task_named("toy-nli"), LabelAccess("evaluate", "toy-nli", "qaa")
    pair, alone = (
        eval_split(toy, task, access, language, "test", 40, toy_pipeline(24))
        for language in ("qab:qab", "qab")
    )
    assert pair.examples == alone.examples
    for batch, other in zip(EvalBatches([pair], 16), EvalBatches([alone], 16), strict=True):
        assert batch.numbers.tolist() == other.numbers.tolist()
        assert all((batch.arrays[name] == array).all() for name, array in other.arrays.items())


def test_a_limit_is_of_joined_rows(folder, letters, tmp_path):
    split = split_of(folder, "en:de", letters, tmp_path, limit=1)
    assert [example.id for example in split.examples] == ["1"]


def test_training_may_not_open_pairs(folder, letters, tmp_path):
    with pytest.raises(ForbiddenLabels):
        split_of(folder, "en:de", letters, tmp_path, purpose="train")
