"""The sweep that is run: its file, the facts of its models and tasks, its scores, its watcher."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from xlt_ray.config.facts import Facts, ModelFacts, SplitFacts, TaskFacts
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.ledger import TrialView
from xlt_ray.store.record import Score
from xlt_ray.sweep.tasks import Report

SWEEP = """
name: scale
data: {source: toy}
model: {choice: [toy:2x64, toy:4x64]}
intermediate:
  task: pairs
  size: {choice: [50, 100, 150, 200, 250, 300, 350, 400, 450, 500]}
  learning_rate: {choice: [1e-5, 2e-5, 3e-5, 5e-5, 1e-4]}
target:
  task: nli
  source_language: qaa
  learning_rate: {float: [1e-5, 1e-3], log: true}
  hybrid: {ratio: {float: [0.0, 1.0]}}
  fusion:
    choice:
      - {method: none}
      - {method: dlfa, layer: {int: [0, num_layers - 1]}}
"""
"""A hundred intermediate stages; every trial has a target stage of its own."""
LANGUAGES = ("qaa", "qab", "qac", "qad")
NUM_EVALUATIONS = 4
"""Of a target stage on its way."""


def the_facts() -> Facts:
    """Two models and two tasks; no file stands behind them."""

    def task(name: str, size: int) -> TaskFacts:
        splits = {
            (language, "train"): SplitFacts(size, f"{name} {language} train")
            for language in LANGUAGES
        }
        for language, split in itertools.product(LANGUAGES, ("dev", "test")):
            splits[language, split] = SplitFacts(50, f"{name} {language} {split}")
        return TaskFacts(name, "pair", 1, ("a", "b"), ("accuracy",), splits)  # type: ignore[arg-type]

    return Facts(
        models={
            f"toy:{depth}x64": ModelFacts(f"toy:{depth}x64", depth, 64, 256, f"weights {depth}")
            for depth in (2, 4)
        },
        tasks={"nli": task("nli", 1000), "pairs": task("pairs", 500)},
        parallel={},
        lexicon={},
    )


def the_sweep(overrides: Sequence[str]) -> SweepSpec:
    return sweep_of(parse_document(SWEEP, "scale.yaml", overrides))


class Silent:
    """A watcher that counts what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begun(self, view: TrialView) -> None: ...

    def reported(self, view: TrialView, report: Report) -> None: ...

    def finished(self, view: TrialView) -> None: ...

    def warned(self, message: str) -> None:
        self.warnings.append(message)


def scores_of(value: float) -> tuple[Score, ...]:
    return (
        Score("nli", "qaa", "dev", "accuracy", value, 50),
        *(Score("nli", language, "test", "accuracy", value * 0.9, 50) for language in LANGUAGES),
    )
