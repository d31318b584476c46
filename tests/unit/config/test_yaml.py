"""Sweep files as text: YAML 1.2 scalars, places of keys, overrides."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from xlt_ray.config.yaml import Document, Place, parse_document, read_document
from xlt_ray.errors import SpecError


def parsed(text: str, *overrides: str) -> Document:
    return parse_document(text, "f.yaml", overrides)


def refused(text: str, *overrides: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parsed(text, *overrides)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("010", 10),
        ("0x10", "0x10"),
        ("0o10", "0o10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("1e-5", 1e-5),
        ("1E3", 1000.0),
        ("-3", -3),
        ("+4", 4),
        ("1.", 1.0),
        (".5", 0.5),
        ("1.5", 1.5),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("~", None),
        ("null", None),
        ("", None),
        ("2024-01-31", "2024-01-31"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("toy:2x64", "toy:2x64"),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parsed(f"key: {text}").tree["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(parsed("key: .nan").tree["key"])


def test_norwegian_stays_in_a_list_of_languages() -> None:
    assert parsed("languages: [en, no, de]").tree["languages"] == ["en", "no", "de"]


def test_a_repeated_key_is_refused_with_both_lines() -> None:
    error = refused("a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert (error.line, error.key) == (4, "a.b")
    assert "line 2" in error.problem


def test_the_same_key_may_stand_in_two_places() -> None:
    assert parsed("a: {x: 1}\nb: {x: 2}").tree == {"a": {"x": 1}, "b": {"x": 2}}


def test_every_key_remembers_its_line() -> None:
    document = parsed("a:\n  b: 1\n  list:\n    - x\n    - y: 2\n")
    lines = {key: place.line for key, place in document.places.items()}
    assert lines == {"a": 1, "a.b": 2, "a.list": 3, "a.list.0": 4, "a.list.1": 5, "a.list.1.y": 5}


def test_a_missing_key_stands_where_its_parent_stands() -> None:
    assert parsed("x: 1\na:\n  b: 1").place("a.c.d") == Place("f.yaml", 2)
    assert parsed("x: 1").place("a") == Place("f.yaml", None)


def test_anchors_stand_for_what_they_name() -> None:
    document = parsed("a: &x {b: 1}\nc: *x\n")
    assert document.tree == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.place("c").line == 2


def test_an_anchor_within_itself_is_refused() -> None:
    assert "contains itself" in refused("a: &x\n  b: *x\n").problem


@pytest.mark.parametrize(
    "text",
    ["a: [1", "a: 'x", "a: b: c", "\ta: 1", "a: @x", "a: 1\n---\nb: 2", "a: *nowhere", "a: \x01"],
)
def test_what_is_not_yaml_is_refused_in_one_line(text: str) -> None:
    error = refused(text)
    assert "is not valid YAML" in error.problem
    assert "\n" not in str(error)
    assert error.file == "f.yaml"


@pytest.mark.parametrize("text", ["", "- a\n- b", "just text", "42", "# nothing"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert "is not a mapping" in refused(text).problem


def test_tags_are_refused() -> None:
    assert "tag" in refused("a: !secret x").problem


def test_keys_are_plain_text() -> None:
    assert "plain text" in refused("? [a, b]\n: 1").problem


def test_an_override_replaces_a_value() -> None:
    document = parsed("search: {trials: 10}\n", "search.trials=3")
    assert document.tree["search"]["trials"] == 3
    assert document.place("search.trials") == Place("command line")


def test_an_override_makes_the_blocks_that_it_needs() -> None:
    tree = parsed("a: 1\nb: null\n", "x.y.z=1", "b.c=no").tree
    assert tree == {"a": 1, "b": {"c": "no"}, "x": {"y": {"z": 1}}}


def test_an_override_may_be_a_block_or_a_list() -> None:
    document = parsed("a: {old: 1}", "a={b: [1, {c: 2}]}")
    assert document.tree == {"a": {"b": [1, {"c": 2}]}}
    assert document.place("a.b.1.c") == Place("command line")
    assert document.place("a.old") == Place("command line")


def test_later_overrides_win_and_values_may_hold_an_equals_sign() -> None:
    assert parsed("a: 1", "a=2", "a=x=y").tree == {"a": "x=y"}


def test_an_empty_override_is_null() -> None:
    assert parsed("a: 1", "a=").tree == {"a": None}


def test_an_override_below_a_scalar_is_refused() -> None:
    error = refused("model: xlmr", "model.name=x")
    assert (error.file, error.key) == ("command line", "model.name")
    assert "'xlmr'" in error.problem


def test_an_override_into_a_list_is_refused() -> None:
    assert "has no key" in refused("a: [1, 2]", "a.0.b=3").problem


@pytest.mark.parametrize("override", ["search.trials", "=3", " = 3"])
def test_a_malformed_override_is_refused(override: str) -> None:
    error = refused("a: 1", override)
    assert error.file == "command line"
    assert "KEY=VALUE" in error.remedy


def test_an_override_that_is_not_yaml_is_refused() -> None:
    assert refused("a: 1", "a=[1").file == "command line"


def test_a_file_that_is_not_there_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("a: 1")
    with pytest.raises(SpecError, match=r"no such sweep file.*other\.yaml"):
        read_document(tmp_path / "sweep.yaml")


def test_a_folder_is_no_sweep_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_document(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(SpecError, match=r"x\.yaml:1: is not UTF-8; save"):
        read_document(tmp_path / "x.yaml")


def test_merged_keys_are_those_of_a_mapping_and_give_way_to_its_own() -> None:
    document = parsed("a: &a {x: 1, y: 2}\nb: &b {y: 3}\nc: {y: 4, <<: *a}\nd: {<<: [*b, *a]}")
    assert document.tree["c"] == {"x": 1, "y": 4}
    assert document.tree["d"] == {"x": 1, "y": 3}
    assert document.place("c.y").line == 3
    assert document.place("c.x").line == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [1]\nb: {<<: *a}", "merges the keys of a mapping"),
        ("a: {<<: 3}", "merges the keys of a mapping"),
        ("a: &a\n  <<: *a", "an anchor contains itself"),
        ("a: &a {x: 1}\nb: {<<: *a, x: 1, x: 2}", "this key is here and on line"),
    ],
)
def test_what_cannot_be_merged_is_refused(text: str, says: str) -> None:
    assert says in refused(text).problem


def test_an_alias_is_as_deep_as_what_it_stands_for() -> None:
    chain = "".join(f"k{n}: &k{n} {'[' * 9}*k{n - 1}{']' * 9}\n" for n in range(1, 9))
    error = refused(f"k0: &k0 [1]\n{chain}")
    assert "nested too deeply" in error.problem
    assert error.line == 6, "the anchor that is too deep where it is used again"
    assert parsed(f"k0: &k0 [1]\n{chain.partition('k6:')[0]}")


@pytest.mark.parametrize("text", [str(2**63), f"-{2**63}", "1" + "0" * 400])
def test_a_whole_number_that_nothing_can_hold_is_refused(text: str) -> None:
    error = refused(f"a: 1\nb: [{text}]")
    assert (error.key, error.line) == ("b.0", 2)
    assert f"a number with {len(text.lstrip('-'))} digits" in error.problem
    assert parsed(f"a: {2**63 - 1}").tree == {"a": 2**63 - 1}


def test_a_byte_order_mark_and_windows_line_ends_are_ignored() -> None:
    document = parsed("\ufeffa: 1\r\nb: x\r\n")
    assert document.tree == {"a": 1, "b": "x"}
    assert document.place("b").line == 2
