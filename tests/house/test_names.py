"""Files are nouns that own something, have a name of their own, and say what they own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import xlt_ray

PACKAGE = Path(xlt_ray.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMELESS = {"utils", "util", "helpers", "common", "manager", "core", "misc"}
SHARED = {"__init__", "base"}
"""Names of files that a reader expects in more than one folder."""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name_of(path) for path in MODULES if path.stem in NAMELESS]
    assert not [name_of(path) for path in PACKAGE.rglob("*") if path.name in NAMELESS]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_with_content_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)


def test_a_file_name_stands_for_one_file() -> None:
    stems = [path.stem for path in MODULES if path.stem not in SHARED]
    assert sorted(set(stems)) == sorted(stems)
