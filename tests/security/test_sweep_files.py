"""A sweep file may come from anybody: nothing in it is executed, and it takes no machine down."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.test_cli import TEXT
from xlt_ray.config.sweep import SweepSpec, is_name
from xlt_ray.config.yaml import MAX_BYTES, parse_document, read_document
from xlt_ray.errors import LedgerError, SpecError, SpecErrors
from xlt_ray.home import Home
from xlt_ray.ledger import load_ledger


@pytest.mark.parametrize(
    "value",
    [
        '!!python/object/apply:os.system ["touch {mark}"]',
        "!!python/object/new:os.system [touch {mark}]",
        "!!python/name:os.system x",
        "!!python/module:os x",
        "!!python/object:subprocess.Popen {args: touch {mark}}",
        "!include {mark}",
        "!env HOME",
        '!foo "quoted"',
        "!foo [1, 2]",
        "!foo {a: 1}",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "[!!python/tuple [1, 2]]",
        "{a: !!omap [b: 1]}",
    ],
)
def test_no_tag_does_anything(value: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(SpecError, match=r"f\.yaml:2: .*the tag .* is not allowed"):
        parse_document(f"name: x\nmodel: {value.replace('{mark}', str(mark))}\n", "f.yaml")
    with pytest.raises(SpecError, match=r"command line.*the tag .* is not allowed"):
        parse_document(TEXT, "f.yaml", [f"model={value.replace('{mark}', str(mark))}"])
    assert not mark.exists()


def bomb(levels: int) -> str:
    """Aliases of aliases: nine times as many values with each level."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)
    ]
    return "\n".join(lines)


def test_an_alias_bomb_is_refused_before_it_goes_off() -> None:
    # As text it is a few lines; in memory it would be 9^40 values.
    with pytest.raises(
        SpecError, match=r"has more than 100,000 values, including those of aliases"
    ):
        parse_document(bomb(40), "f.yaml")
    assert parse_document(bomb(3), "f.yaml").tree["a0"] == ["x"] * 9


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a [&b [*a, *b]]"])
def test_an_anchor_in_itself_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="an anchor contains itself"):
        parse_document(text, "f.yaml")


@pytest.mark.parametrize("depth", [60, 500, 5000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_what_is_nested_too_deeply_is_refused(depth: int, pair: str) -> None:
    inner = "" if pair == "[]" else "k: "
    text = "a: " + (pair[0] + inner) * depth + "1" + pair[1] * depth
    with pytest.raises(SpecError, match="is nested too deeply"):
        parse_document(text, "f.yaml")


def test_a_number_without_end_is_refused() -> None:
    with pytest.raises(SpecError, match="a number with 10,000 digits"):
        parse_document("a: " + "9" * 10_000, "f.yaml")


def test_a_file_that_is_no_sweep_file_by_its_size_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_bytes(b"a: 1\n" + b"#" * MAX_BYTES)
    with pytest.raises(SpecError, match="is larger than a megabyte"):
        read_document(file)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero")
def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(SpecError, match="is larger than a megabyte"):
        read_document("/dev/zero")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_as_bad_input(text: str) -> None:
    with contextlib.suppress(SpecError):
        parse_document(text, "f.yaml")


ODD = ["../../x", "a/b", "/etc/x", ".", "..", ".hidden", "-rf", "a b", "x\ny", "x\n", "", "ü",
       "a" * 81, "$(id)", "a;b", "a\\b", "a\0b"]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_could_be_a_path_or_a_command_is_refused(
    sweep_from: Callable[..., SweepSpec], name: str, home: Home
) -> None:
    assert not is_name(name)
    if "\0" not in name:
        quoted = '"' + name.replace("\\", "\\\\").replace("\n", "\\n") + '"'
        with pytest.raises(SpecErrors, match="a name consists of at most 80 letters, digits"):
            sweep_from(TEXT.replace("name: small", f"name: {quoted}"))
    with pytest.raises(LedgerError, match="is not the name of a sweep"):
        load_ledger(home, name)


def test_a_name_of_another_home_is_not_read(home: Home, tmp_path: Path) -> None:
    (tmp_path / "secret.url").write_text("sqlite:///elsewhere.db")
    home.ledgers.mkdir(parents=True)
    with pytest.raises(LedgerError, match="is not the name of a sweep"):
        load_ledger(home, os.path.relpath(tmp_path / "secret", home.ledgers))
