"""What every test starts from: a clean environment, a home of its own, a small made-up world."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from tests.command import xlt
from tests.database import database, postgres
from tests.objectstore import bucket
from xlt_ray.config.facts import Facts, LexiconFacts, ModelFacts, SplitFacts, TaskFacts
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home

__all__ = ["bucket", "database", "postgres", "xlt"]

FOREIGN = ("XLT_", "RAY_", "MLFLOW_")
LANGUAGES = ("qaa", "qab", "qac", "qad")


hypothesis.settings.register_profile(
    # A loaded machine is no failure, and a failure on one machine is one on all.
    "house", deadline=None, derandomize=True, database=None, max_examples=80
)  # fmt: skip
hypothesis.settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error:::xlt_ray")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XLT_HOME", str(tmp_path / "home"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The home that ``XLT_HOME`` names."""
    return Home(tmp_path / "home")


@pytest.fixture
def sweep_from() -> Callable[..., SweepSpec]:
    """``sweep_from(text, *overrides)`` reads a sweep that stands in ``f.yaml``."""

    def read(text: str, *overrides: str) -> SweepSpec:
        return sweep_of(parse_document(text, "f.yaml", overrides))

    return read


def _task(name: str, kind: str, train: dict[str, int], languages: tuple[str, ...]) -> TaskFacts:
    splits = {
        (language, "train"): SplitFacts(size, f"{name} {language} train")
        for language, size in train.items()
    }
    splits |= {
        (language, split): SplitFacts(50, f"{name} {language} {split}")
        for language in languages
        for split in ("dev", "test")
    }
    metrics = ("accuracy", "macro_f1")
    return TaskFacts(name, kind, 1, ("a", "b"), metrics, splits)  # type: ignore[arg-type]


@pytest.fixture
def facts() -> Facts:
    """Two models, three tasks, parallel text and a lexicon; no file stands behind them."""
    return Facts(
        models={
            "toy:2x64": ModelFacts("toy:2x64", 2, 64, 256, "weights of two layers"),
            "toy:4x64": ModelFacts("toy:4x64", 4, 64, 128, "weights of four layers"),
            "real": ModelFacts("real", 12, 768, 512, "weights of twelve layers"),
        },
        tasks={
            "nli": _task("nli", "pair", dict.fromkeys(LANGUAGES, 1000), LANGUAGES),
            "pairs": _task("pairs", "pair", {"qaa": 500}, LANGUAGES),
            "tags": _task("tags", "tag", {"qaa": 400, "qab": 300}, LANGUAGES),
        },
        parallel={language: f"parallel {language}" for language in LANGUAGES},
        lexicon={"qaa": LexiconFacts(("qac", "qab"), "lexicon qaa")},
    )
