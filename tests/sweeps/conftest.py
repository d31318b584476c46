"""Real sweeps on toy data: the command line as users call it, with real Ray, Optuna and MLflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

XLT = Path(sys.executable).with_name("xlt")

SMALL = """
name: small
data: {source: toy}
model: toy:2x32
intermediate:
  task: toy-nli
  size: 64
  batch_size: 32
  max_length: 32
  learning_rate: 1e-3
target:
  task: toy-paraphrase
  source_language: qaa
  size: 128
  epochs: 2
  batch_size: 16
  max_length: 32
  learning_rate: 1e-3
  fusion: {method: dlfa, layer: {int: [0, num_layers - 1]}}
  hybrid: {ratio: {choice: [0.0, 0.5]}}
evaluate: {languages: [qab], examples: 40}
search: {sampler: grid, trials: 4}
"""


@dataclass(frozen=True)
class Place:
    """A home, a sweep file in it, and the command line on both."""

    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment, beside those of every command."""

    @property
    def sweep(self) -> Path:
        return self.root / "small.yaml"

    @property
    def home(self) -> Path:
        return self.root / "home"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        # Ray lets its workers yield to everything else, which a busy machine would make endless.
        own = {"XLT_HOME": str(self.home), "RAY_worker_niceness": "0"}
        return {**kept, **own, **self.variables}

    def xlt(self, *arguments: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(XLT), *arguments],
            env=self.environment(),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that is not waited for; its output goes to ``log.txt``."""
        with (self.root / "log.txt").open("a") as log:
            return subprocess.Popen(
                [str(XLT), *arguments],
                env=self.environment(),
                cwd=self.root,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def log(self) -> str:
        """What commands that were not waited for have printed so far."""
        file = self.root / "log.txt"
        return file.read_text() if file.exists() else ""

    def trials(self, name: str = "small") -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.xlt("trials", name, "--json").stdout)
        return listed

    def runs(self) -> list[Any]:
        """The MLflow runs of all trials of this home."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return [
            run
            for run in client.search_runs(experiments, max_results=1000)
            if run.data.tags["xlt.kind"] == "trial"
        ]

    def stage_keys(self) -> set[str]:
        folder = self.home / "stages"
        return {file.parent.name for file in folder.glob("*/record.json")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "small.yaml").write_text(SMALL)
    return Place(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place in which the small sweep has run to its end; each test process has its own copy."""
    own = tmp_path_factory.mktemp("finished")
    is_alone = "PYTEST_XDIST_WORKER" not in os.environ
    first = (own.parent if is_alone else own.parent.parent) / "ran"
    with FileLock(f"{first}.lock"):
        if not first.exists():
            (own / "small.yaml").write_text(SMALL)
            run = Place(own).xlt("run", "small.yaml")
            assert run.returncode == 0, run.stdout + run.stderr
            shutil.copytree(own, first)
            return Place(own)
    shutil.copytree(first, own, dirs_exist_ok=True)
    return Place(own)
