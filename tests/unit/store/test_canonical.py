"""Equal values give equal text, on every machine and however they were built."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.store.canonical import canonical, canonical_text, differences, digest

plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def rebuilt(value: Any) -> Any:
    """An equal value of other types: tuples for lists, keys the other way round."""
    if isinstance(value, list):
        return tuple(rebuilt(one) for one in value)
    if isinstance(value, dict):
        return {key: rebuilt(value[key]) for key in reversed(list(value))}
    return value


@given(plain)
def test_order_of_keys_and_kind_of_sequence_do_not_matter(value: Any) -> None:
    assert digest(rebuilt(value)) == digest(value)


@given(plain)
def test_what_was_kept_as_json_has_the_same_digest(value: Any) -> None:
    assert digest(json.loads(json.dumps(canonical(value)))) == digest(value)


@given(plain, plain)
def test_only_equal_texts_have_equal_digests(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (canonical_text(one) == canonical_text(other))


@given(plain)
def test_the_text_is_one_line_that_holds_the_value(value: Any) -> None:
    text = canonical_text(value)
    assert "\n" not in text
    assert json.loads(text) == canonical(value)


def test_types_are_told_apart() -> None:
    values = [1, 1.0, True, "1", [1], {"1": 1}, None, "None", 0, False, ""]
    assert len({digest(value) for value in values}) == len(values)


def test_sets_are_sorted() -> None:
    assert canonical_text({"b", "a"}) == canonical_text(frozenset({"a", "b"})) == '["a","b"]'


def test_another_process_computes_the_same_digest() -> None:
    value = {"languages": {"no", "en", "fi"}, "rate": 1e-5, "x": [None, True, "é"]}
    code = f"from xlt_ray.store.canonical import digest; print(digest({value!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == digest(value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": {"b": object()}}, "a.b: object"),
        ({"a": [0, b"x"]}, "a.1: bytes"),
        ({"a": float("nan")}, "a: nan"),
        ([float("inf")], "0: inf"),
        ({"a": {1: 2}}, "a: the key 1"),
        (1 + 2j, "value: complex"),
    ],
)
def test_what_has_no_canonical_form_is_refused_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(TypeError, match=rf"^\.?{place}"):
        canonical(value)


@given(plain, plain)
def test_differences_are_none_exactly_where_values_are_equal(one: Any, other: Any) -> None:
    assert differences(one, one) == []
    if differences(one, other) == []:
        assert without_nulls(one) == without_nulls(other)


def without_nulls(value: Any) -> Any:
    """An absent key and one that is null say the same."""
    if isinstance(value, dict):
        return {
            key: left
            for key, below in value.items()
            if (left := without_nulls(below)) not in (None, {})
        }
    return value


def test_differences_name_dotted_paths() -> None:
    one = {"a": {"b": 1, "c": [1, 2]}, "d": 0}
    other = {"a": {"b": 2, "c": [1, 3]}, "e": 0}
    assert differences(one, other) == [
        ("a.b", 1, 2),
        ("a.c", [1, 2], [1, 3]),
        ("d", 0, None),
        ("e", None, 0),
    ]
