"""Sweep files as text: YAML 1.2 scalars, places of keys, overrides."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from xlt_ray.config.yaml import Document, Place, as_yaml, parse_document, read_document
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
    assert parsed("a: 1", "a=").tree == {"a": None}
    assert parsed("a: {x: 1}\nb: {x: 2}").tree == {"a": {"x": 1}, "b": {"x": 2}}
    assert parsed(f"a: {2**63 - 1}").tree == {"a": 2**63 - 1}
    assert parsed("languages: [en, no, de]").tree["languages"] == ["en", "no", "de"]


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


def test_an_alias_is_as_deep_as_what_it_stands_for() -> None:
    chain = "".join(f"k{n}: &k{n} {'[' * 9}*k{n - 1}{']' * 9}\n" for n in range(1, 9))
    error = refused(f"k0: &k0 [1]\n{chain}")
    assert "nested too deeply" in error.problem
    assert error.line == 6, "the anchor that is too deep where it is used again"
    assert parsed(f"k0: &k0 [1]\n{chain.partition('k6:')[0]}")


def test_a_byte_order_mark_and_windows_line_ends_are_ignored() -> None:
    document = parsed("\ufeffa: 1\r\nb: x\r\n")
    assert document.tree == {"a": 1, "b": "x"}
    assert document.place("b").line == 2


@pytest.mark.parametrize(
    ("text", "overrides", "place", "key", "says"),
    [
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", (), ("f.yaml", 4), "a.b", "is here and on line 2"),
        ("a: &x\n  b: *x\n", (), ("f.yaml", 1), "a.b", "an anchor contains itself"),
        ("a: !secret x", (), ("f.yaml", 1), "a", "the tag !secret is not allowed"),
        ("? [a, b]\n: 1", (), ("f.yaml", 1), "", "plain text"),
        ("a: &a [1]\nb: {<<: *a}", (), ("f.yaml", 2), "b", "merges the keys of a mapping"),
        ("a: {<<: 3}", (), ("f.yaml", 1), "a", "merges the keys of a mapping"),
        ("a: &a\n  <<: *a", (), ("f.yaml", 1), "a", "an anchor contains itself"),
        ("a: &a {x: 1}\nb: {<<: *a, x: 1, x: 2}", (), ("f.yaml", 2), "b.x", "is here and on line"),
        (f"a: 1\nb: [{2**63}]", (), ("f.yaml", 2), "b.0", "a number with 19 digits"),
        (f"a: 1\nb: [-{2**63}]", (), ("f.yaml", 2), "b.0", "a number with 19 digits"),
        (f"a: 1\nb: [1{'0' * 400}]", (), ("f.yaml", 2), "b.0", "a number with 401 digits"),
        (
            "model: xlmr",
            ("model.name=x",),
            ("command line", None),
            "model.name",
            "is 'xlmr' and has",
        ),
        ("a: [1, 2]", ("a.0.b=3",), ("command line", None), "a.0.b", "has no key"),
        ("a: 1", ("a=[1",), ("command line", 1), "", "is not valid YAML"),
        ("a: 1", ("search.trials",), ("command line", None), "", "write KEY=VALUE"),
        ("a: 1", ("=3",), ("command line", None), "", "write KEY=VALUE"),
        ("a: 1", (" = 3",), ("command line", None), "", "write KEY=VALUE"),
    ],
)
def test_what_cannot_be_read_is_refused_where_it_is(
    text: str, overrides: tuple[str, ...], place: tuple[str, int | None], key: str, says: str
) -> None:
    error = refused(text, *overrides)
    assert (error.file, error.line) == place
    assert error.key == key
    assert says in str(error)


def test_a_file_has_the_keys_of_its_bases_where_it_gives_none(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/root.yaml").write_text("a: {x: 1, y: {choice: [1, 2]}}\nlist: [1, 2]\n")
    (tmp_path / "shared/middle.yaml").write_text(
        "base: root.yaml\nb: 1\nm: {method: p, size: 3}\nn: {method: p, size: 3}\n"
    )
    file = tmp_path / "leaf.yaml"
    file.write_text(
        "base: shared/middle.yaml\na: {z: 3, y: {int: [1, 4]}}\nlist: [3]\n"
        "m: {method: q}\nn: {method: p, steps: 4}\n"
    )
    document = read_document(file, ["b=2"])
    assert document.tree == {
        "a": {"x": 1, "y": {"int": [1, 4]}, "z": 3},
        "list": [3],
        "b": 2,
        "m": {"method": "q"},
        "n": {"method": "p", "size": 3, "steps": 4},
    }
    root = str(tmp_path / "shared/root.yaml")
    assert document.place("a.x") == Place(root, 1)
    assert document.place("a.z") == Place(str(file), 2)
    assert document.place("a.y.choice") == Place(str(file), 2)
    assert document.place("list.1") == Place(str(file), 3)
    assert document.place("n.size") == Place(str(tmp_path / "shared/middle.yaml"), 4)
    assert read_document({"base": root, "list": []}).tree["a"]["x"] == 1


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ("back.yaml", "back.yaml:2: base: .*leaf.yaml leads back to this file"),
        ("leaf.yaml", "leaf.yaml:2: base: .*leaf.yaml leads back to this file"),
        ("bock.yaml", "leaf.yaml:2: base: no such sweep file .*bock.yaml"),
        ("[back.yaml]", "leaf.yaml:2: base: .* is not a path"),
        ("broken.yaml", "broken.yaml:2: is not valid YAML"),
    ],
)
def test_a_base_that_cannot_be_followed_is_refused(tmp_path: Path, base: str, problem: str) -> None:
    file = tmp_path / "leaf.yaml"
    file.write_text(f"name: leaf\nbase: {base}\n")
    (tmp_path / "back.yaml").write_text("a: 1\nbase: leaf.yaml\n")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    with pytest.raises(SpecError, match=problem):
        read_document(file)


def test_overrides_add_and_remove() -> None:
    text = "a: {x: 1, list: [{p: 1}]}\nb: null\n"
    document = parsed(text, "+a.list={p: 2}", "+a.y=2", "+b=3", "~a.x")
    assert document.tree == {"a": {"list": [{"p": 1}, {"p": 2}], "y": 2}, "b": 3}
    assert document.place("a.list.0.p") == Place("f.yaml", 1)
    assert document.place("a.list.1.p") == Place("command line")
    assert parse_document(text, "f", {"~a": None, "+c": [1]}).tree == {"b": None, "c": [1]}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("+a.x=2", "a.x: has the value 1 already"),
        ("~a.w", "a.w: cannot be removed"),
        ("~a.x=1", "is not an override"),
        ("+a.x", "is not an override"),
        ("~", "is not an override"),
    ],
)
def test_overrides_that_cannot_add_or_remove_are_refused(override: str, problem: str) -> None:
    assert problem in str(refused("a: {x: 1}", override))


def test_what_is_written_is_read_as_the_same() -> None:
    tree = {
        "text": ["no", "1e-5", "010", "~", "true", "=", "<<", "a: b", "", "ünï\n", "2024-01-31"],
        "values": [None, True, 3, 1e-5, math.inf, {}, [], {"no": {"x": [{"y": 1}]}}],
    }
    assert parsed(as_yaml(tree)).tree == tree
