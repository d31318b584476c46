"""Files are nouns that own something, say what in their first line, and stay readable."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import xlt_ray

PACKAGE = Path(xlt_ray.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMELESS = {"utils", "util", "helpers", "common", "manager", "base", "core", "misc"}
MAX_LINES = 400
LONGER: dict[str, int] = {}
"""One class over one Optuna study; in two modules, Optuna would be known to both."""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name_of(path) for path in MODULES if path.stem in NAMELESS]
    assert not [name_of(path) for path in PACKAGE.rglob("*") if path.name in NAMELESS]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_with_content_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_longer_than_one_reads(path: Path) -> None:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= LONGER.get(name_of(path), MAX_LINES)
