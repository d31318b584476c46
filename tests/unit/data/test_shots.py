"""Which examples the shots are, and which access opens them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.data.batches.supervised import BatchSettings, shot_batches, shot_places
from xlt_ray.data.label_access import LabelAccess, labelled, texts
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.errors import DataError, ForbiddenLabels

TASK = task_named("toy-tagging")
FEW = LabelAccess("few_shot", TASK.name, "qaa", "qab")


@given(st.integers(1, 500), st.integers(0, 9), st.data())
def test_fewer_shots_of_a_sample_are_the_first_of_more(number, sample, data):
    many = data.draw(st.integers(1, number))
    few = data.draw(st.integers(1, many))
    places = shot_places(number, many, sample)
    assert places.tolist()[:few] == shot_places(number, few, sample).tolist()
    assert len(set(places.tolist())) == many
    assert set(places.tolist()) <= set(range(number))


def test_samples_differ():
    samples = {tuple(shot_places(100, 5, sample).tolist()) for sample in range(5)}
    assert len(samples) == 5


def test_few_shot_training_opens_one_language_and_never_its_test_set(toy):
    for language, split in itertools.product(("qaa", "qab", "qac"), ("train", "dev", "test")):
        if (language, split) in {("qab", "train"), ("qab", "dev")}:
            assert all(example.tags for example in labelled(toy, FEW, TASK, language, split))
        else:
            with pytest.raises(ForbiddenLabels, match=f"toy-tagging/{language}/{split}"):
                labelled(toy, FEW, TASK, language, split)
        with pytest.raises(ForbiddenLabels):
            texts(toy, FEW, TASK, language, split)


def test_the_evaluation_after_few_shots_reads_no_dev_set_that_they_may_come_from(toy):
    access = LabelAccess("evaluate", TASK.name, "qaa", "qab")
    with pytest.raises(ForbiddenLabels, match="toy-tagging/qab/dev"):
        labelled(toy, access, TASK, "qab", "dev")
    for language, split in (("qaa", "dev"), ("qaa", "test"), ("qab", "test")):
        assert labelled(toy, access, TASK, language, split)


def test_a_batch_that_is_larger_than_the_shots_shows_each_alike(toy, toy_pipeline):
    batches = shot_batches(
        toy, TASK, FEW, "dev", 5, 0, toy_pipeline(32), BatchSettings(10, 0)
    )  # fmt: skip
    assert batches.num_examples == 5
    rows = [row.tobytes() for row in batches.batch(0)["input_ids"]]
    assert {rows.count(row) for row in rows} == {2}
    again = batches.batch(0)
    assert all(np.array_equal(again[name], array) for name, array in batches.batch(0).items())


def test_more_shots_than_there_are_examples_are_refused(toy, toy_pipeline):
    with pytest.raises(DataError, match="shots were requested"):
        shot_batches(
            toy, TASK, FEW, "dev", 10**6, 0, toy_pipeline(32), BatchSettings(10, 0)
        )  # fmt: skip


def test_shots_are_whole_and_else_those_of_the_other_languages(make_tokenizer, tmp_path):
    """Of translated dev sets; that of de has rows that are not translated."""
    task, folder = task_named("pawsx"), tmp_path / "pairs" / "pawsx"
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer([*(f"w{number}" for number in range(30)), "b"])
    first_word = tokenizer.convert_tokens_to_ids("w0")
    shown = {}
    for language in ("de", "es"):
        rows = [
            f"{n}\t{'NS' if language == 'de' and n % 3 == 0 else f'w{n}'}\tb\t{n % 2}\n"
            for n in range(30)
        ]
        text = "id\tsentence1\tsentence2\tlabel\n" + "".join(rows)
        (folder / f"{language}.dev.tsv").write_text(text)
        access = LabelAccess("few_shot", task.name, "en", language)
        batches = shot_batches(
            FilesSource(tmp_path), task, access, "dev", 8, 0,
            TextPipeline(tokenizer, "words", 32, tmp_path / "cache"), BatchSettings(8, 0),
        )  # fmt: skip
        shown[language] = set((batches.batch(0)["input_ids"][:, 1] - first_word).tolist())
    assert len(shown["de"]) == len(shown["es"]) == 8
    assert all(number % 3 for number in shown["de"])
    assert {number for number in shown["es"] if number % 3} <= shown["de"]
