from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_ray.data.sampling import Rng, digest_of, first_of, order
from xlt_ray.errors import DataError


def test_names_are_distinguished_by_type_and_border():
    digests = [
        digest_of(*parts) for parts in [("ab", "c"), ("a", "bc"), (1,), ("1",), (1.0,), (b"1",)]
    ]
    assert len(set(digests)) == len(digests)


def test_rng_draws_all_values_and_only_those():
    rng = Rng("values")
    assert {rng.below(5) for _ in range(500)} == set(range(5))
    assert sorted(rng.shuffled(range(20))) == list(range(20))
    assert {rng.pick("abc") for _ in range(100)} == set("abc")


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_sizes_are_nested_and_all_is_everything(num_examples, data):
    large = data.draw(st.integers(1, num_examples))
    small = data.draw(st.integers(1, large))
    assert list(first_of(num_examples, large)[:small]) == list(first_of(num_examples, small))
    assert sorted(first_of(num_examples, "all")) == list(range(num_examples))


def test_the_shuffle_mixes_and_differs_by_how_much_there_is():
    assert list(order(100)) != list(range(100))
    assert list(order(100)) != [place for place in order(101) if place < 100]


def test_asking_for_more_than_there_is_says_how_much_there_is():
    with pytest.raises(
        DataError, match=r"train: 11 examples were requested, but there are only 10"
    ):
        first_of(10, 11, task="nli", language="en")
