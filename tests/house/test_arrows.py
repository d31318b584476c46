"""Which room may import which: the table of the architecture, read from the imports themselves."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import xlt_ray

PACKAGE = Path(xlt_ray.__file__).parent

ROOMS = {
    "redact": set(),
    "files": set(),
    "versions": set(),
    "errors": {"redact"},
    "home": {"errors", "files"},
    "config": {"errors", "home"},
    "store": {"errors", "home", "config", "files"},
    "ledger": {"errors", "home", "config", "store", "files"},
    "data": {"errors", "home", "config", "files"},
    "modeling": {"errors", "home", "config"},
    "training": {"errors", "home", "config", "store", "data", "modeling", "versions", "files"},
    "tracking": {"redact", "errors", "home", "config", "store", "ledger", "versions", "files"},
    "report": {"redact", "errors", "home", "config", "store", "ledger", "versions", "files"},
    "sweep": {
        "redact", "errors", "home", "config", "store", "ledger", "data", "modeling", "training",
        "tracking", "versions",
    },
    "api": {"errors", "home", "config", "store", "ledger", "report", "sweep"},
    "cli": {
        "redact", "errors", "home", "config", "store", "ledger", "data", "training", "tracking",
        "report", "sweep", "files", "api",
    },
    "__main__": {"cli"},
}  # fmt: skip
"""Room -> rooms that it may import."""

ONLY_IN = {
    "data": {"read_facts", "workers"},
    "modeling": {"read_facts"},
    "training": {"runner", "stage_worker", "trainable", "workers"},
}
"""Rooms that ``sweep`` touches in these modules alone."""

HEAVY = {
    "ray": {"sweep"},
    "mlflow": {"tracking"},
    "deepspeed": {"training"},
    "optuna": {"ledger", "report"},
    "sqlalchemy": {"ledger"},
    "torch": {"modeling", "training", "sweep"},
    "transformers": {"modeling", "sweep"},
    "tokenizers": {"data", "modeling"},
    "peft": {"modeling"},
    "safetensors": {"store", "modeling", "training"},
    "datasets": {"data"},
    "scipy": {"data", "ledger", "report"},
    "sklearn": {"data"},
    "seqeval": {"data"},
    "pandas": {"report"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "fsspec": {"store"},
    "psutil": {"store", "sweep", "training"},
    "pydantic": {"config", "data", "report"},
    "yaml": {"config", "data"},
    "typer": {"cli"},
    "rich": {"cli"},
}
"""Library -> the rooms that may import it."""

MODULES = sorted(PACKAGE.rglob("*.py"))


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Dotted names that a module imports anywhere in it, but for types only."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    types_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(tree):
        if node in types_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[tuple[str, Path]]:
    return [(room_of(path), path) for path in MODULES if path != PACKAGE / "__init__.py"]


def test_every_room_is_in_the_table() -> None:
    assert {room for room, _ in modules()} == set(ROOMS)


def test_the_table_has_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(ROOMS):
        ready = {room for room, allowed in ROOMS.items() if room not in done and allowed <= done}
        assert ready, f"a circle among {set(ROOMS) - done}"
        done |= ready


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for its_room, path in modules()
        if its_room == room
        for name in imports(path)
        if name.startswith("xlt_ray.") and name.split(".")[1] not in {room, *ROOMS[room]}
    ]
    assert not wrong


def test_sweep_touches_heavy_rooms_in_few_modules() -> None:
    wrong = [
        f"{path.name} imports {name}"
        for room, path in modules()
        if room == "sweep"
        for name in imports(path)
        if name.startswith("xlt_ray.") and path.stem not in ONLY_IN.get(name.split(".")[1], MODULES)
        if name.split(".")[1] in ONLY_IN
    ]
    assert not wrong


@pytest.mark.parametrize("library", HEAVY)
def test_a_library_is_imported_in_its_rooms_only(library: str) -> None:
    users = {
        room
        for room, path in modules()
        for name in imports(path)
        if name.partition(".")[0] == library
    }
    assert users <= HEAVY[library]


def test_deepspeed_is_known_to_two_modules() -> None:
    users = {
        path.name
        for room, path in modules()
        if room == "training"
        for name in imports(path)
        if name.partition(".")[0] == "deepspeed"
    }
    assert users <= {"deepspeed_engine.py", "process_group.py"}
    assert users
