"""The walks of the architecture can be followed: files, functions and counts are right."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.test_arrows import ROOMS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "xlt_ray"
TEXT = (ROOT / "docs" / "architecture.md").read_text()
MAX_WORDS = 1100
STEP = re.compile(r"`([\w/]+\.\w+)(?:: ([\w.]+))?`")
"""``path.py: function`` or ``path.py``, below the package."""
WALKS = {
    section.partition("\n")[0]: section.partition("\n## ")[0]
    for section in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]
}


def definitions(path: Path) -> set[str]:
    """Functions and classes at the top of a module, and methods as ``Class.method``."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{member.name}"
                for member in node.body
                if isinstance(member, ast.FunctionDef)
            }
    return names


def test_it_fits_two_pages() -> None:
    assert len(TEXT.split()) <= MAX_WORDS


def test_four_walks_are_written_down() -> None:
    assert len(WALKS) == 4


@pytest.mark.parametrize("walk", WALKS)
def test_functions_of_a_walk_exist(walk: str) -> None:
    steps = STEP.findall(WALKS[walk])
    assert sum(bool(function) for _, function in steps) >= 4
    for path, function in steps:
        file = PACKAGE / path
        assert file.is_file(), path
        assert not function or function in definitions(file), f"{path}: {function}"


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_has_as_many_files_as_its_title_says(walk: str) -> None:
    files = {path for path, _ in STEP.findall(WALKS[walk])}
    assert walk.endswith(f": {len(files)} files")


@pytest.mark.parametrize("name", ["architecture.md", "decisions.md"])
def test_files_that_are_named_exist(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    rooms = "|".join(ROOMS)
    for path in re.findall(rf"`((?:{rooms})/[\w/]+\.\w+)", text):
        assert (PACKAGE / path).is_file(), path


def test_the_table_of_rooms_has_every_room_after_those_that_it_imports() -> None:
    table = TEXT.partition("## Rooms")[2].partition("## Four walks")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(ROOMS)
    for room in listed:
        group = next(row for row in rows if f"`{room}`" in row)
        above = {*listed[: listed.index(room)], *re.findall(r"`(\w+)`", group)}
        assert ROOMS[room] <= above, room
