"""Mistakes are caught before anything starts, and what is right is not taken for one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.command import CommandResult, Xlt
from tests.mistakes.table import MISTAKES, Mistake
from tests.mistakes.workplace import Workplace, build

CAUGHT = 0.97
"""Share of the mistakes that end before anything starts, with a message that helps."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built")
    build(root)
    return root


@pytest.fixture
def place(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A copy of the folder, in which the shell stands, without a network."""
    from huggingface_hub import constants

    from xlt_ray.sweep import runner

    def begun(*_: object) -> None:
        pytest.fail("something was started")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(runner, "_tune", begun)
    root = tmp_path / "work"
    shutil.copytree(built, root)
    shutil.move(root / "home", tmp_path / "home")
    monkeypatch.chdir(root)
    return Workplace(root, monkeypatch)


def shortcomings(result: CommandResult, mistake: Mistake) -> list[str]:
    """What is wrong with what a command printed for a mistake; nothing where it was caught."""
    text = result.err.lower()
    missing = [f"exit code {result.code}"] if result.code != (0 if mistake.warned else 2) else []
    if mistake.warned:
        text = "".join(
            line for line in result.out.splitlines() if line.startswith("warning: ")
        ).lower()
    missing += ["a traceback"] if "traceback" in text else []
    return missing + [f"no {wanted!r}" for wanted in mistake.wants if wanted.lower() not in text]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_caught_before_anything_starts(
    xlt: Xlt, place: Workplace, mistake: Mistake
) -> None:
    mistake.change(place)
    result = xlt(*place.command)
    missing = shortcomings(result, mistake)
    if mistake.missed:
        assert missing, "it is caught now: take away what it says of being missed"
        pytest.xfail(mistake.missed)
    assert not missing, (missing, result)
    assert not list(place.root.parent.glob("home/stages/*")), "a stage was made"


def test_the_list_is_long_and_nearly_all_of_it_is_caught() -> None:
    names = [mistake.name for mistake in MISTAKES]
    missed = [mistake.name for mistake in MISTAKES if mistake.missed]
    assert len(names) == len(set(names)) >= 130
    assert len(names) - len(missed) >= CAUGHT * len(names), missed


VALID = Path(__file__).with_name("valid.yaml").read_text(encoding="utf-8").split("\n---\n")[1:]


@pytest.mark.parametrize(
    "text", VALID, ids=lambda text: "".join(re.findall('name"?: (.*)', text)[:1])
)
def test_a_valid_sweep_passes_without_a_warning(xlt: Xlt, place: Workplace, text: str) -> None:
    for variable in re.findall(r"^# set: (.*)$", text, re.M):
        place.environment.setenv(*variable.split("=", 1))
    (file,) = re.findall(r"^# file: (.*)$", text, re.M) or ["valid.yaml"]
    place.write(file, text)
    result = xlt("check", file)
    assert (result.code, result.err) == (0, "")
    assert ": ok, at most " in result.out
    assert "warning: " not in result.out


def test_sixty_sweep_files_are_valid() -> None:
    assert len(set(VALID)) == len(VALID) >= 60
