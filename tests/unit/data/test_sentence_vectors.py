"""Kinds whose predictions are vectors of sentences: every sentence that is there is an item."""

from __future__ import annotations

import pytest

from tests.unit.data.conftest import counts_of_pieces, decoded_with
from xlt_ray.data.batches.evaluation import eval_split
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.task import task_named


@pytest.mark.parametrize("batch_size", [4, 7])
@pytest.mark.parametrize(
    ("name", "num_examples", "num_items"),
    [("toy-retrieval", 5, 10), ("toy-ranking", 12, 12 + 2), ("toy-mining", 20, 20)],
)
def test_every_sentence_is_an_item_whatever_the_batches(
    toy, toy_tokenizer, toy_pipeline, name, num_examples, num_items, batch_size
):
    task = task_named(name)
    split = eval_split(
        toy, task, LabelAccess("evaluate", name, "qaa"), "qab", "test", num_examples,
        toy_pipeline(24),
    )  # fmt: skip
    assert split.num_items == num_items
    decoded = decoded_with(split, counts_of_pieces, batch_size)
    for example, predicted in zip(split.examples, split.predictions(decoded), strict=True):
        vectors = predicted if isinstance(predicted, tuple) else (predicted,)
        for words, vector in zip(example.sentences(), vectors, strict=True):
            assert (vector is None) == (not words)
            if words:
                numbers = toy_tokenizer.convert_tokens_to_ids(list(words))
                # Padding aside, which says how long the others of the batch are.
                assert vector.sum() - vector[toy_tokenizer.pad_token_id] == len(words) + 2
                assert all(vector[number] for number in numbers)
    assert set(split.score(decoded)) == set(task.metrics)
