"""What ``max_length`` takes away is reported beside the score, for every kind of task."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.conftest import decoded_with
from xlt_ray.data.batches.evaluation import EvalSplit
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import encode_words, template_of
from xlt_ray.data.types.base import Frame
from xlt_ray.data.types.choice import ChoiceExample
from xlt_ray.data.types.pair import PairExample
from xlt_ray.data.types.retrieval import RetrievalExample
from xlt_ray.data.types.span import Answer, SpanExample

WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    """One piece a word."""
    return make_tokenizer(WORDS)


def split_of(tokenizer, task, examples, max_length):
    words = [sentence for example in examples for sentence in example.sentences()]
    table = encode_words(words, tokenizer, with_places=task.kind == "span")
    return EvalSplit(task, "de", Frame(template_of(tokenizer), max_length), table, tuple(examples))


def text(length: int) -> str:
    return " ".join(WORDS[:length])


@pytest.mark.parametrize(
    ("task", "example", "length"),
    [
        # The longest row of two numbers of words, with its special pieces.
        ("pawsx", lambda m, n: PairExample("a", text(m), text(n), "0"), lambda m, n: m + n + 3),
        (
            "xcopa",
            lambda m, n: ChoiceExample("a", text(m), text(2), (text(1), text(n)), 0),
            lambda m, n: m + 2 + n + 3,
        ),
        (
            "tatoeba",
            lambda m, n: RetrievalExample("a", text(m), text(n)),
            lambda m, n: max(m, n) + 2,
        ),
    ],
)
def test_an_example_is_cut_where_a_row_has_no_room_for_it(tokenizer, task, example, length):
    lengths = [(3, 7), (9, 4), (1, 1)]
    examples = [example(*length) for length in lengths]
    for max_length in range(9, 20):
        split = split_of(tokenizer, task_named(task), examples, max_length)
        assert split.cut == np.mean([length(*parts) > max_length for parts in lengths])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.integers(0, 29), st.integers(1, 6)), min_size=1, max_size=6
    ),
    st.integers(6, 16),
    st.integers(1, 5),
)
def test_questions_that_are_cut_are_those_that_perfect_logits_cannot_answer(
    tokenizer, drawn, max_length, max_answer
):
    task = task_named("xquad")
    task = task.model_copy(
        update={"spans": task.spans.model_copy(update={"max_answer": max_answer})}
    )
    examples = []
    for number, (length, begin, width) in enumerate(drawn):
        begin = min(begin, length - 1)
        passage = WORDS[:length]
        answer = " ".join(passage[begin : begin + width])
        place = len(" ".join([*passage[:begin], ""]))
        examples.append(SpanExample(str(number), "w0", " ".join(passage), (Answer(answer, place),)))
    split = split_of(tokenizer, task, examples, max_length)

    def perfect(batch):
        logits = np.zeros((len(batch["labels"]), 2, batch["input_ids"].shape[1]))
        for row, (first, last) in enumerate(batch["labels"].tolist()):
            if first:
                logits[row, 0, first] = logits[row, 1, last] = 1.0
        return logits

    decoded = decoded_with(split, perfect)
    given = [
        predicted in right
        for predicted, right in zip(split.predictions(decoded), split.gold, strict=True)
    ]
    assert split.cut == pytest.approx(1 - np.mean(given))
