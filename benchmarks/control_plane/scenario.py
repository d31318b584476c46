"""The sweep that is run: its file, the facts of its models and tasks, its scores, its MLflow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from xlt_ray.config.facts import Facts, ModelFacts, SplitFacts, TaskFacts
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, TrialView
from xlt_ray.store.record import Score
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.tasks import Planner, Report
from xlt_ray.tracking import LedgerSnapshot, MlflowSync, Tracker
from xlt_ray.tracking.sync import Job

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
"""Of a target stage."""


def make_facts() -> Facts:
    """Two models and two tasks, without files."""

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


def make_sweep(overrides: Sequence[str]) -> SweepSpec:
    return sweep_of(parse_document(SWEEP, "scale.yaml", overrides))


class QuietReporter:
    """Shows nothing, and keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def preparing(self, step: str) -> None: ...

    def continues(self, trials: Sequence[TrialView]) -> None: ...

    def begun(self, view: TrialView) -> None: ...

    def reported(self, view: TrialView, report: Report) -> None: ...

    def finished(self, view: TrialView) -> None: ...

    def timed(self, line: str) -> None: ...

    def warned(self, message: str) -> None:
        self.warnings.append(message)


class NoMlflow(MlflowSync):
    """Accepts every update at once."""

    def _is_answered(self, job: Job) -> bool:
        if isinstance(job, int):
            with self._changed:
                self._reply(self._trials[job].view, f"{job:032x}")
        return True


def sync_of(
    mlflow: str, sweep: SweepSpec, facts: Facts, home: Home, ledger: Ledger, store: StageStore
) -> MlflowSync:
    """MLflow with its SQLite database, or with ``none`` a substitute."""
    kind = MlflowSync if mlflow == "sqlite" else NoMlflow
    tracker = Tracker(home, sweep.name, None, ledger.identity)
    config_and_path = Planner(sweep, facts).config_and_path
    return kind(tracker, store, LedgerSnapshot.of(ledger), sweep.resolved(), config_and_path)


def scores_of(value: float) -> tuple[Score, ...]:
    return (
        Score("nli", "qaa", "dev", "accuracy", value, 50),
        *(Score("nli", language, "test", "accuracy", value * 0.9, 50) for language in LANGUAGES),
    )
