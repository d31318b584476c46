"""Multiple choice: both shapes of a line, one row an option, the place of the right one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.conftest import decoded_with
from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.evaluation import eval_split
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import parse_task, task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.data.types.base import kind_of
from xlt_ray.errors import DataError

COPA, SOCIAL = task_named("xcopa"), task_named("socialiqa")
LINE = {"id": "a", "context": "c", "question": "q", "choices": ["x", "y", "z"], "label": 2}
COPA_LINE = {"premise": "p", "choice1": "x", "choice2": "y z", "question": "cause", "label": 0,
             "idx": 7, "changed": False}  # fmt: skip


TRAIN = "choice/socialiqa/en.train.jsonl"


def test_lines_with_a_list_of_choices_are_read(files):
    source = files(TRAIN, LINE, "", {**LINE, "label": 0}, {**LINE, "id": ""})
    first, second, third = source.read(SOCIAL, "en", "train")
    assert (first.id, second.id, third.id) == ("a", "a#2", "train3")
    assert (first.gold, second.gold, first.hidden().gold) == (2, 0, None)
    assert first.sentences() == (("c",), ("q", "x"), ("q", "y"), ("q", "z"))
    assert source.splits(SOCIAL)["en", "train"].num_examples == 3


def test_lines_of_copa_ask_for_cause_or_effect_in_words(files):
    source = files("choice/xcopa/et.test.jsonl", COPA_LINE, {**COPA_LINE, "question": "effect"})
    cause, effect = source.read(COPA, "et", "test")
    assert (cause.id, cause.gold) == ("7", 0)
    asked = ("What", "was", "the", "cause", "of", "this?")
    assert cause.sentences() == (("p",), (*asked, "x"), (*asked, "y", "z"))
    assert effect.question == "What happened as a result?"


@pytest.mark.parametrize(
    ("change", "first", "second"),
    [({"context": ""}, ("q",), ("x",)), ({"question": ""}, ("c",), ("x",))],
)
def test_what_is_missing_leaves_its_place_to_the_rest(files, change, first, second):
    (example,) = files(TRAIN, {**LINE, **change}).read(SOCIAL, "en", "train")
    assert example.sentences()[:2] == (first, second)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ({**LINE, "choices": ["x", "y"]}, "has 2 options, socialiqa has 3"),
        ({**LINE, "choices": ["x", " ", "z"]}, "an option is not text, or is empty"),
        ({**LINE, "label": 3}, "label 3 is not a place from 0 to 2"),
        ({**LINE, "label": True}, "label True is not a place"),
        ({**LINE, "context": "", "question": " "}, "neither context nor question"),
        ({**LINE, "context": ["c"]}, "context is not text"),
        ({**LINE, "question": "\ud83d"}, r"\\ud83d is half of a surrogate pair"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_broken_line_is_named(files, line, complaint):
    source = files(TRAIN, LINE, line)
    with pytest.raises(DataError, match=rf"en\.train\.jsonl:2: .*{complaint}"):
        source.read(SOCIAL, "en", "train")


def train(source, tokenizer, tmp_path, task=SOCIAL, hybrid=None, max_length=32):
    return train_batches(
        source, task, LabelAccess("train", task.name, "en"), "all",
        TextPipeline(tokenizer, "t", max_length, tmp_path / "cache"), BatchSettings(4, 0),
        hybrid=hybrid or Hybrid(),
    )  # fmt: skip


def test_every_option_stands_beside_its_context(files, make_tokenizer, tmp_path):
    tokenizer = make_tokenizer("cqxyz")
    batch = train(files(TRAIN, LINE), tokenizer, tmp_path).batch(0)
    assert batch["input_ids"].shape == (4, 3, 6)
    assert batch["labels"].tolist() == [2] * 4
    texts = [tokenizer.decode(ids[mask == 1]) for ids, mask in
             zip(batch["input_ids"][0], batch["attention_mask"][0], strict=True)]  # fmt: skip
    assert texts == [f"[CLS] c [SEP] q {option} [SEP]" for option in "xyz"]
    assert (batch["token_type_ids"][0, :, 3:6] == 1).all()


def test_a_long_context_is_cut_and_the_question_stays(files, make_tokenizer, tmp_path):
    source = files(TRAIN, {**LINE, "context": "c " * 50})
    batch = train(source, make_tokenizer("cqxyz"), tmp_path, max_length=16).batch(0)
    assert batch["input_ids"].shape == (4, 3, 16)
    assert [ids[-4:].tolist() for ids in batch["input_ids"][0]] == [
        [3, 6, option, 3] for option in (7, 8, 9)
    ]


def test_options_are_code_switched_by_themselves(files, make_tokenizer, tmp_path):
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon" / "en-de.tsv").write_text("x\tX\nc\tC\n")
    tokenizer, hybrid = make_tokenizer("cqxyzXC"), Hybrid(ratio=1.0)
    batches = train(files(TRAIN, LINE), tokenizer, tmp_path, hybrid=hybrid)
    ids = np.concatenate([batches.batch(step)["input_ids"] for step in range(8)])
    assert {tuple(row) for row in ids[:, :, 1]} == {(5, 5, 5), (11, 11, 11)}
    assert {tuple(row) for row in ids[:, :, 4]} == {(7, 8, 9), (10, 8, 9)}


def test_evaluation_decodes_to_the_place_of_an_option(files, make_tokenizer, tmp_path):
    lines = [{**LINE, "id": n, "label": n % 3} for n in range(7)]
    source = files("choice/socialiqa/en.dev.jsonl", *lines)
    split = eval_split(
        source, SOCIAL, LabelAccess("select", "socialiqa", "en"), "en", "dev", "all",
        TextPipeline(make_tokenizer("cqxyz"), "t", 16, tmp_path / "cache"),
    )  # fmt: skip
    decoded = decoded_with(split, lambda batch: batch["labels"])
    assert decoded == list(split.gold) == [n % 3 for n in range(7)]
    assert split.score(decoded) == {"accuracy": 1.0}
    assert split.score([0] * 7) == {"accuracy": pytest.approx(3 / 7)}


CHOICE = "name: x\nkind: choice\nversion: 1\ntitle: T\nmetrics: [accuracy]\nsource: toy\n"


@pytest.mark.parametrize("options", ["", "options: 1\n"])
def test_a_choice_task_says_how_many_options_there_are(options):
    assert parse_task(CHOICE + "options: 4\n", "x.yaml").options == 4
    with pytest.raises(DataError, match="options: only for the kind choice"):
        parse_task(CHOICE + options, "x.yaml")


def test_a_whole_character_may_be_written_as_two_halves(files):
    (example,) = files(TRAIN, {**LINE, "question": "\U0001f600"}).read(SOCIAL, "en", "train")
    assert example.question == "\U0001f600"


@pytest.mark.parametrize("label", ["²", "x", "-1", "3"])
def test_a_label_of_a_row_is_a_place_or_is_refused(label):
    row = {"context": "c", "options": ["x", "y", "z"], "label": label}
    with pytest.raises(DataError, match=r"a:7: label .* is not a place from 0 to 2"):
        kind_of(SOCIAL).of_row(row, "r", Path("a"), 7)
