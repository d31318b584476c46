"""What the documents show is there and works: commands, options, sweeps, examples."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from xlt_ray.cli import app
from xlt_ray.config.sweep import load_sweep, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.task import parse_task

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "cluster" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def blocks(document: Path, language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.S | re.M)
    return [content for name, content in blocks if name == language]


def commands(text: str) -> list[list[str]]:
    """Every ``xlt`` command line of a text, continued lines joined, comments cut."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^[# ]*(?:\.venv/bin/)?(xlt [^#\n`]+)", joined, re.M)
    return [shlex.split(line) for line in lines]


SHOWN = [
    (document.name, command)
    for document in [*DOCUMENTS, *SWEEPS, *sorted((ROOT / "xlt_ray" / "cli").glob("*.py"))]
    for block in (
        blocks(document, "") + blocks(document, "sh")
        if document.suffix == ".md"
        else [re.sub(r"\[dim\]|\[/\]", "", document.read_text())]
    )
    for command in commands(block)
]


def test_documents_show_commands() -> None:
    assert len(SHOWN) > 20, SHOWN


@pytest.mark.parametrize(("document", "command"), SHOWN, ids=lambda shown: str(shown)[:60])
def test_every_command_shown_exists_with_its_options(document: str, command: list[str]) -> None:
    verbs = get_command(app).commands  # type: ignore[attr-defined]
    assert command[1] in verbs, f"{document}: {' '.join(command)}"
    parameters = verbs[command[1]].params
    known = {name for parameter in parameters for name in parameter.opts}
    for part in command[2:]:
        if part.startswith("-"):
            assert part in known, f"{document}: {' '.join(command)}"


@pytest.mark.parametrize("name", ["README.md", "docs/failures.md"])
def test_sweeps_shown_are_valid(name: str) -> None:
    shown = blocks(ROOT / name, "yaml")
    assert shown
    for text in shown:
        assert sweep_of(parse_document(text, name)).name


@pytest.mark.parametrize("file", SWEEPS, ids=lambda path: path.name)
def test_every_sweep_of_the_repository_is_valid_and_named_like_its_file(file: Path) -> None:
    assert load_sweep(str(file)).name == file.stem


def test_files_that_documents_link_to_are_there() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_paths_that_documents_name_are_there() -> None:
    for document in DOCUMENTS:
        for path in re.findall(r"`((?:xlt_ray|tests|sweeps|cluster|docs)/[\w/.-]+)`",
                               document.read_text()):  # fmt: skip
            assert (ROOT / path).exists(), f"{document.name}: {path}"


def test_task_of_the_extending_guide_is_a_task() -> None:
    text = blocks(ROOT / "docs" / "extending.md", "yaml")[0]
    assert parse_task(text, "topic.yaml").labels == ("same", "different")
