from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_ray.data.text.pipeline import Part, Sentence, Template, collate
from xlt_ray.errors import DataError

TEMPLATE = Template(
    single=(Part(None, (2,), 0), Part(0, (), 0), Part(None, (3,), 0)),
    pair=(
        Part(None, (2,), 0), Part(0, (), 0), Part(None, (3,), 0),
        Part(1, (), 1), Part(None, (3,), 1),
    ),
    pad_id=0,
    mask_id=4,
    special_ids=frozenset({0, 1, 2, 3, 4}),
    num_pieces=1000,
)  # fmt: skip


def sentence(length, begin=10):
    return Sentence(np.arange(begin, begin + length, dtype=np.int32), np.arange(1, length + 1))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(8, 40))
def test_a_pair_loses_from_its_longer_sentence_and_never_exceeds_the_limit(first, second, limit):
    batch, [(left, right)] = collate([(sentence(first), sentence(second, 100))], TEMPLATE, limit)
    kept = (left.stop - left.start, right.stop - right.start)
    room = limit - 3
    assert sum(kept) == min(first + second, room)
    assert batch["input_ids"].shape[1] <= limit
    assert batch["attention_mask"].sum() == sum(kept) + 3
    if kept[0] < first:
        assert kept[0] >= min(kept[1], room // 2)
    if kept[1] < second:
        assert kept[1] >= min(kept[0], room // 2)
    assert batch["input_ids"][0, left].tolist() == list(range(10, 10 + kept[0]))
    assert batch["input_ids"][0, right].tolist() == list(range(100, 100 + kept[1]))


def test_a_batch_is_as_long_as_its_longest_row_up_to_the_limit():
    rows = [(sentence(length),) for length in (1, 7, 30)]
    lengths = [collate(rows[:end], TEMPLATE, 20)[0]["input_ids"].shape[1] for end in (1, 2, 3)]
    assert lengths == [3, 9, 20]


def test_padding_is_masked_and_types_mark_the_second_sentence():
    batch, _ = collate([(sentence(1), sentence(2)), (sentence(4), sentence(5))], TEMPLATE, 32)
    assert batch["attention_mask"].sum(1).tolist() == [6, 12]
    assert batch["input_ids"][0, 6:].tolist() == [0] * 6
    assert batch["token_type_ids"][0].tolist() == [0, 0, 0, 1, 1, 1] + [0] * 6


def test_a_limit_without_room_for_words_is_refused():
    with pytest.raises(DataError, match="leaves no room"):
        collate([(sentence(3), sentence(3))], TEMPLATE, 4)
