"""Equal values give equal text on every machine, and lines carry valid checksums."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xlt_ray.store.canonical import (
    CHECKSUM,
    canonical,
    canonical_text,
    differences,
    digest,
    digest_of_json,
    is_whole,
    sealed,
    unsealed,
    with_checksum,
)

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
        return tuple(rebuilt(item) for item in value)
    if isinstance(value, dict):
        return {key: rebuilt(value[key]) for key in reversed(list(value))}
    return value


@given(plain)
def test_order_of_keys_and_kind_of_sequence_do_not_matter(value: Any) -> None:
    assert digest(rebuilt(value)) == digest(value)


@given(plain)
def test_a_value_read_from_json_has_the_same_digest(value: Any) -> None:
    parsed = json.loads(json.dumps(canonical(value)))
    assert digest(parsed) == digest_of_json(parsed) == digest(value)


def test_parsed_json_with_a_number_that_is_not_finite_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of_json(json.loads('{"a": NaN}'))


@given(plain, plain)
def test_only_equal_texts_have_equal_digests(first: Any, second: Any) -> None:
    assert (digest(first) == digest(second)) == (canonical_text(first) == canonical_text(second))


@given(plain)
def test_the_text_is_one_line_that_holds_the_value(value: Any) -> None:
    text = canonical_text(value)
    assert "\n" not in text
    assert json.loads(text) == canonical(value)


def test_values_of_different_types_have_different_digests() -> None:
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
def test_a_value_without_canonical_form_is_refused_with_its_path(value: Any, place: str) -> None:
    with pytest.raises(TypeError, match=rf"^\.?{place}"):
        canonical(value)


@given(plain, plain)
def test_differences_are_none_exactly_where_values_are_equal(first: Any, second: Any) -> None:
    assert differences(first, first) == []
    if differences(first, second) == []:
        assert without_nulls(first) == without_nulls(second)


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
    first = {"a": {"b": 1, "c": [1, 2]}, "d": 0}
    second = {"a": {"b": 2, "c": [1, 3]}, "e": 0}
    assert differences(first, second) == [
        ("a.b", 1, 2),
        ("a.c", [1, 2], [1, 3]),
        ("d", 0, None),
        ("e", None, 0),
    ]


# -- sealed mappings ------------------------------------------------------------------------

mappings = st.dictionaries(st.text("abtz", min_size=1), plain, min_size=1, max_size=4)


@given(mappings)
def test_a_sealed_mapping_is_read_again_also_as_earlier_versions_wrote_it(
    value: dict[str, Any],
) -> None:
    content = sealed(value)
    assert unsealed(content) == (canonical(value), True)
    assert json.loads(content)["sha256"] == digest(value)
    earlier = json.dumps({**value, "sha256": digest(value)}, indent=1, ensure_ascii=False)
    assert unsealed(earlier.encode()) == (value, True)


@given(mappings, st.data())
def test_a_sealed_mapping_of_which_a_byte_was_changed_is_altered_or_no_json(
    value: dict[str, Any], data: st.DataObject
) -> None:
    content = bytearray(sealed(value))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    try:
        _, is_unaltered = unsealed(bytes(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    assert not is_unaltered


# -- lines with checksums -------------------------------------------------------------------

loose = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
lines = st.dictionaries(st.text(), loose, max_size=5).filter(lambda line: CHECKSUM not in line)


@settings(max_examples=50)
@given(line=lines)
def test_a_line_is_whole_after_it_was_written_and_read(line: dict[str, Any]) -> None:
    read = json.loads(json.dumps(with_checksum(line)))
    assert is_whole(read)
    # The checksum is that of the line as it is read.
    content = json.dumps(json.loads(json.dumps(line)), sort_keys=True)
    assert read[CHECKSUM] == f"{zlib.crc32(content.encode()):08x}"


@given(line=lines, name=st.text(), value=loose)
def test_a_line_that_was_changed_is_not_whole(line: dict[str, Any], name: str, value: Any) -> None:
    assume(name != CHECKSUM)
    read = json.loads(json.dumps(with_checksum(line)))
    changed = json.loads(json.dumps({**read, name: value}))
    assume(json.dumps(changed) != json.dumps(read))
    assert not is_whole(changed)


def test_a_line_without_a_checksum_counts_as_whole() -> None:
    assert is_whole({"op_code": 1})
