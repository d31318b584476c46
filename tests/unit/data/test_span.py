"""Spans of passages: windows, labels, answers, in scripts with and without spaces."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import SPECIAL, decoded_with, word_tokenizer
from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.evaluation import EvalBatches, eval_split
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import parse_task, task_named
from xlt_ray.data.text.pipeline import TextPipeline, encode_words, template_of
from xlt_ray.data.types.base import Frame, kind_of
from xlt_ray.data.types.span import Answer, BestSpan, SpanExample
from xlt_ray.errors import DataError

TEXTS = {
    "en": ("Who came first?", "In  1066 the\nNormans (of Normandy) came, saw and stayed.",
           ["the\nNormans", "Normandy", "1066", "stayed."]),
    "th": ("เมืองหลวงคืออะไร", "ประเทศไทยมีเมืองหลวงคือกรุงเทพมหานคร และมีประชากรมากกว่าสิบล้านคน",
           ["กรุงเทพมหานคร", "สิบล้าน", "คน"]),
    "zh": ("北京大学在哪里？", "北京大学成立于1898年，位于北京市海淀区。",
           ["1898年", "北京市海淀区", "北京大学", "京"]),
    "ar": ("من كتب الكتاب؟", "كتب الكاتبُ الكتابَ في القاهرة، ثم سافر.",
           ["القاهرة", "الكتابَ", "سافر"]),
    "hi": ("राजधानी क्या है?", "भारत की राजधानी नई दिल्ली है। यहाँ संसद भवन है।",
           ["नई दिल्ली", "संसद भवन", "भारत"]),
}  # fmt: skip
TASK = task_named("xquad")
SAID = [(language, answer) for language, (_, _, answers) in TEXTS.items() for answer in answers]


def trained(name):
    """A tokenizer of nearly single characters, as three families cut them."""
    trainer = {"special_tokens": SPECIAL, "vocab_size": 60, "show_progress": False}
    if name == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(**trainer)
    elif name == "metaspace":
        backend = Tokenizer(models.BPE(unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(**trainer)
    else:
        backend = Tokenizer(models.BPE(unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(**trainer, initial_alphabet=alphabet)
    backend.train_from_iterator([text for texts in TEXTS.values() for text in texts[:2]], trainer)
    cls, sep = backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


@pytest.fixture(scope="module", params=["wordpiece", "metaspace", "bytes"])
def tokenizer(request):
    return trained(request.param)


def example(language, answer):
    question, passage, _ = TEXTS[language]
    return SpanExample("q", question, passage, (Answer(answer, passage.index(answer)),))


def row_of(example, tokenizer):
    return tuple(encode_words(example.sentences(), tokenizer, with_places=True))


@pytest.mark.parametrize(("language", "answer"), SAID)
def test_what_is_labelled_is_decoded_as_the_answer(tokenizer, language, answer):
    question, label = example(language, answer), kind_of(TASK).numbers(example(language, answer))
    row = row_of(question, tokenizer)
    # Parts are twice as long as the answer and begin every half: one of them holds it whole.
    begins = row[1].places[:, 0]
    longest = int(((begins >= label[0]) & (begins < label[1])).sum())
    frame = Frame(template_of(tokenizer), 3 + 8 + 2 * longest)
    spans = TASK.spans.model_copy(update={"max_question": 8, "max_answer": longest})
    task = TASK.model_copy(update={"spans": spans})
    there = kind_of(task).items(row, frame)
    assert len(there) > 1
    batch = kind_of(TASK).batch(there, [label] * len(there), frame)
    holders = [number for number, span in enumerate(batch["labels"]) if span.any()]
    assert holders
    scores = np.zeros((*batch["labels"].shape, batch["input_ids"].shape[1]))
    for number in holders:
        scores[number, [0, 1], batch["labels"][number]] = 5.0
    decoded = kind_of(task).decode(there, scores, frame)
    assert kind_of(TASK).joined(question, decoded) == answer
    for number in holders:
        assert kind_of(TASK).joined(question, decoded[number : number + 1]) == answer


@pytest.mark.parametrize("language", TEXTS)
def test_pieces_keep_their_place_in_the_text(tokenizer, language):
    question = example(language, TEXTS[language][2][0])
    solid = "".join(question.passage.split())
    places = row_of(question, tokenizer)[1].places
    assert (np.diff(places, axis=0) >= 0).all()
    covered = {at for begin, end in places.tolist() for at in range(begin, end)}
    assert covered == set(range(len(solid)))


def test_a_word_that_the_tokenizer_drops_keeps_its_place():
    backend = trained("wordpiece").backend_tokenizer
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    (sentence,) = encode_words([["a", "\u200b\u200b", "d"]], tokenizer, with_places=True)
    assert sentence.places.tolist() == [[0, 1], [1, 3], [3, 4]]
    assert sentence.ends.tolist() == [1, 2, 3]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 120), st.integers(1, 60), st.integers(12, 60), st.integers(0, 200))
def test_windows_cover_the_passage_and_overlap_as_reported(length, asked, max_length, overlap):
    tokenizer = WORDS
    words = [f"w{n}" for n in range(length + 1)]
    question = SpanExample("q", " ".join(["q"] * asked), " ".join(words), ())
    task = TASK.model_copy(update={"spans": TASK.spans.model_copy(update={"overlap": overlap})})
    row = tuple(encode_words(question.sentences(), tokenizer, with_places=True))
    there = kind_of(task).items(row, Frame(template_of(tokenizer), max_length))
    room = max_length - 3
    kept = len(there[0].question.pieces)
    assert kept == min(asked, 64, room // 2)
    parts = [window.part.places[:, 0].tolist() for window in there]
    begins = row[1].places[:, 0].tolist()
    assert sorted({at for part in parts for at in part}) == begins
    size = room - kept
    for before, after in pairwise(parts):
        assert len(before) == size
        assert len(set(before) & set(after)) == min(overlap, size // 2)
    assert max(len(part) for part in parts) <= size


WORDS = word_tokenizer(["q", *(f"w{n}" for n in range(200))])


def squad(questions, passage):
    return json.dumps({"version": "1.1", "data": [{"title": "T", "paragraphs": [
        {"context": passage, "qas": questions}]}]})  # fmt: skip


PASSAGE = " ".join(f"w{n}" for n in range(100))


def asked(name, text, at=None):
    begin = PASSAGE.index(f"{text} ") if at is None else at
    return {"id": name, "question": "q w3", "answers": [{"text": text, "answer_start": begin}]}


TRAIN = "qa/xquad/en.train.json"


def test_questions_are_read_with_all_their_answers(files):
    two = asked("a", "w7 w8")
    two["answers"].append({"text": "w9", "answer_start": PASSAGE.index("w9 ")})
    source = files(TRAIN, squad([two, asked("a", "w50")], PASSAGE))
    first, second = source.read(TASK, "en", "train")
    assert (first.id, second.id) == ("a", "a#2")
    assert first.gold == ("w7 w8", "w9")
    assert kind_of(TASK).numbers(first).tolist() == [14, 18]
    assert first.hidden().gold is None
    assert source.splits(TASK)["en", "train"].num_examples == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "Invalid JSON"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', r"data\.0\.paragraphs\.0\.context"),
        (squad([asked("a", "w7", at=0)], PASSAGE), "question a: 'w7' is not at 0"),
        (squad([{"id": "a", "question": "q", "answers": []}], PASSAGE), "has_unanswerable: true"),
        (squad([asked("a", "w0", at=0)], " "), "passage is empty"),
    ],
)
def test_a_broken_file_is_named_with_its_place(files, content, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        files(TRAIN, content).read(TASK, "en", "train")
    assert "en.train.json" in str(caught.value)


def batches_of(source, tmp_path, max_length=32, seed=0, size="all", hybrid=None):
    access = LabelAccess("train", "xquad", "en")
    pipeline = TextPipeline(WORDS, "w", max_length, tmp_path / "cache")
    settings = BatchSettings(64, seed)
    return train_batches(source, TASK, access, size, pipeline, settings, hybrid=hybrid or Hybrid())


def test_half_of_the_training_windows_and_more_hold_the_answer(files, tmp_path):
    source = files(TRAIN, squad([asked("a", "w50 w51")], PASSAGE))
    labels = np.concatenate(
        [batches_of(source, tmp_path).batch(step)["labels"] for step in range(20)]
    )
    holds = labels.any(axis=1)
    # Windows of 27 words begin every 14: two of seven hold both words.
    assert 0.5 < holds.mean() < 0.75
    batch = batches_of(source, tmp_path).batch(3)
    for ids, (first, last) in zip(batch["input_ids"], batch["labels"], strict=True):
        if first:
            assert WORDS.decode(ids[first : last + 1]) == "w50 w51"
        else:
            assert last == 0
    again = batches_of(source, tmp_path).batch(3)
    assert all((batch[name] == again[name]).all() for name in batch)


def test_a_short_passage_is_one_window(files, tmp_path):
    source = files(TRAIN, squad([asked("a", "w50 w51")], PASSAGE))
    batch = batches_of(source, tmp_path, max_length=128).batch(0)
    assert batch["labels"].all()


def test_only_the_question_is_code_switched(files, tmp_path):
    files("lexicon/en-de.tsv", "w3\tw103\nw50\tw150\n")
    source = files(TRAIN, squad([asked("a", "w50 w51")], PASSAGE))
    hybrid = Hybrid(ratio=1.0)
    batch = batches_of(source, tmp_path, max_length=128, hybrid=hybrid).batch(0)
    words = [WORDS.decode(ids, skip_special_tokens=True).split() for ids in batch["input_ids"]]
    assert {row[1] for row in words} == {"w3", "w103"}
    assert {" ".join(row[2:]) for row in words} == {PASSAGE}


def test_every_window_of_every_question_is_predicted_once(files, tmp_path):
    questions = [asked("a", "w50 w51"), asked("b", "w2"), asked("c", "w98")]
    source = files("qa/xquad/en.test.json", squad(questions, PASSAGE))
    split = eval_split(
        source,
        TASK,
        LabelAccess("evaluate", "xquad", "en"),
        "en",
        "test",
        "all",
        TextPipeline(WORDS, "w", 32, tmp_path / "cache"),
    )

    def perfect(batch):
        scores = np.zeros((*batch["labels"].shape, batch["input_ids"].shape[1]))
        for row, label in enumerate(batch["labels"]):
            scores[row, [0, 1], label] = 5.0
        return scores

    decoded = decoded_with(split, perfect)
    assert split.num_items == 3 * 7
    assert len(EvalBatches([split], 4)) == 6
    assert split.score(decoded) == {"f1": 1.0, "em": 1.0}


V2 = parse_task(
    "name: squad2\nkind: span\nversion: 1\ntitle: T\nmetrics: [f1, em]\nsource: files\n"
    "folder: qa/squad2\nformat: json\nspans: {has_unanswerable: true, null_threshold: 1.0}\n",
    "squad2.yaml",
)


def test_unanswerable_questions_are_read_and_trained_as_none(files):
    impossible = {"id": "a", "question": "q", "is_impossible": True, "answers": []}
    source = files("qa/squad2/en.train.json", squad([impossible], PASSAGE))
    (question,) = source.read(V2, "en", "train")
    assert question.gold == ("",)
    assert kind_of(V2).numbers(question).tolist() == [-1, -1]
    frame = Frame(template_of(WORDS), 32)
    there = kind_of(V2).items(row_of(question, WORDS), frame)
    assert (
        not kind_of(V2)
        .batch(there, [kind_of(V2).numbers(question)] * len(there), frame)["labels"]
        .any()
    )


def test_none_is_said_where_it_beats_the_best_span_of_all_windows():
    question = SpanExample("q", "q", "w1 w2", ())

    def answer(task, *found):
        return kind_of(task).joined(
            question, [BestSpan(score, 0, 2, none) for score, none in found]
        )

    assert answer(V2, (1.0, 3.0), (0.0, 2.5)) == ""
    assert answer(V2, (1.0, 3.0), (0.0, 2.0)) == "w1"  # better by no more than the threshold
    assert answer(V2, (1.0, 3.0), (2.0, 3.0)) == "w1"
    assert answer(TASK, (1.0, 99.0)) == "w1"


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_best_span_is_the_best_of_all_that_are_short_enough(length, longest, seed):
    words = [f"w{n}" for n in range(length)]
    question = SpanExample("q", "q", " ".join(words), ())
    spans = TASK.spans.model_copy(update={"max_answer": longest})
    task = TASK.model_copy(update={"spans": spans})
    frame = Frame(template_of(WORDS), 64)
    (window,) = kind_of(task).items(row_of(question, WORDS), frame)
    scores = np.random.default_rng(seed).normal(size=(1, 2, 3 + 1 + length))
    (decoded,) = kind_of(task).decode([window], scores, frame)
    begins, ends = scores[0, :, 3:-1]
    allowed = [(first, last) for first in range(length) for last in
               range(first, min(first + longest, length))]  # fmt: skip
    first, last = max(allowed, key=lambda span: begins[span[0]] + ends[span[1]])
    assert decoded.score == pytest.approx(begins[first] + ends[last])
    assert kind_of(task).joined(question, [decoded]) == " ".join(words[first : last + 1])
    assert decoded.none == pytest.approx(scores[0, :, 0].sum())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"answers": [{"text": "she"}]}, "data:3: its answers are not a text and an answer_start"),
        ({"answers": {"text": ["she"], "answer_start": [None]}}, "data:3: its answers are not"),
        ({"answers": {"text": ["she"], "answer_start": []}}, "data:3: its answers are not"),
        ({"answers": ["she"]}, "data:3: its answers are not"),
        ({"question": None}, "question q: its text or its passage is empty"),
        ({"passage": None}, "question q: its text or its passage is empty"),
    ],
)
def test_a_row_of_another_form_is_named(change, complaint):
    row = {"question": "who ?", "passage": "she did", "answers": {"text": ["she"],
           "answer_start": [0]}}  # fmt: skip
    assert kind_of(TASK).of_row(row, "q", Path("data"), 3).gold == ("she",)
    if change.get("passage", "") is None:
        change = {**change, "answers": None}
    with pytest.raises(DataError, match=complaint):
        kind_of(TASK).of_row({**row, **change}, "q", Path("data"), 3)
