"""What diagnostics of layers cost beside the training that they look at, in one run.

One training on toy data is made twice in this process, without diagnostics and with all of them
at its beginning and at its end. The encoder has the body of XLM-R base (12 layers x 768) with
random weights. The share of one diagnosis is its time over that of the examples between two
evaluations. A busy machine stretches wall time, so CPU time is printed, too. Both runs must end
with the same weights.

    python -m benchmarks.diagnostics [KEY=VALUE ...]
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.common import Spent, make_stages, print_table, timed
from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import task_for
from xlt_ray.training import walk
from xlt_ray.training.deepspeed_engine import Engine

SWEEP = """
name: diagnostics
data: {source: toy}
model: toy:12x768
target:
  task: toy-nli
  source_language: qaa
  size: 640
  epochs: 1
  batch_size: 32
  max_length: 32
  learning_rate: 3.0e-5
  evaluations: 1
evaluate: {languages: [qab, qac, qad, qae, qaf], examples: 50}
search: {trials: 1}
"""
INTERVALS = (10_000, 30_000, 100_000)
"""Examples between two evaluations: one epoch of MNLI has 98,000 with four evaluations."""
ALLOWED = 0.02
DIAGNOSTICS = "evaluate.diagnostics=[retrieval, cka, alignment]"


@dataclass(frozen=True)
class Outcome:
    """One training: its steps, its diagnoses, the digest of its weights."""

    steps: list[Spent]
    diagnoses: list[Spent]
    num_examples: int
    weights: str


def measured(call: Callable[..., Any], log: list[Spent]) -> Callable[..., Any]:
    """The call, which then logs what it takes."""

    def timed_call(*arguments: Any, **settings: Any) -> Any:
        result, spent = timed(partial(call, *arguments, **settings), time.process_time)
        log.append(spent)
        return result

    return timed_call


def train(home: Home, *overrides: str) -> Outcome:
    sweep = sweep_of(parse_document(SWEEP, "diagnostics.yaml", overrides))
    facts = facts_of(sweep)
    tree, _ = draw(
        sweep.space, lambda parameter: extremes(parameter.distribution)[0], facts.model_bounds
    )
    trial = sweep.trial(tree)
    path = path_of(trial, facts, seed=0, shared_seed=0)
    steps: list[Spent] = []
    diagnoses: list[Spent] = []
    diagnose_with = walk.diagnose_with
    with (
        patch.object(Engine, "step", measured(Engine.step, steps)),
        patch.object(walk, "diagnose_with",
                     lambda *arguments: measured(diagnose_with(*arguments), diagnoses)),
    ):  # fmt: skip
        list(make_stages(task_for(0, trial, path, sweep, home)))
    digest = hashlib.sha256()
    for file in sorted(StageStore(home.stages).folder(path[-2].key).glob("*.safetensors")):
        digest.update(file.read_bytes())
    num_examples = sum(stage.num_examples for stage in path if stage.is_training)
    return Outcome(steps, diagnoses, num_examples, digest.hexdigest())


def main() -> None:
    overrides = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        # The first training of a process pays for imports and first uses, so it does not count.
        small = ("target.size=64", "target.evaluations=1")
        train(Home(Path(name) / "warm"), *overrides, *small, DIAGNOSTICS)
        plain = train(Home(Path(name) / "plain"), *overrides)
        diagnosed = train(Home(Path(name) / "diagnosed"), *overrides, DIAGNOSTICS)
    columns = []
    for clock in ("wall", "cpu"):
        example = sum(getattr(step, clock) for step in plain.steps) / plain.num_examples
        once = statistics.median(getattr(diagnosis, clock) for diagnosis in diagnosed.diagnoses)
        share = once / example
        columns.append([
            f"{1000 * example:.3f}", f"{once:.3f}", f"{share:,.0f}",
            *(f"{share / interval:.2%}" for interval in INTERVALS), f"{share / ALLOWED:,.0f}",
        ])  # fmt: skip
    labels = [
        f"training of 1,000 examples, {len(plain.steps)} steps in all",
        f"one diagnosis, median of {len(diagnosed.diagnoses)}",
        "examples whose training takes as long",
        *(f"share at {interval:,} examples between evaluations" for interval in INTERVALS),
        f"examples between evaluations for {ALLOWED:.0%}",
    ]
    print_table(("", "wall, s", "CPU, s"), list(zip(labels, *columns, strict=True)))
    print(f"equal weights with and without: {plain.weights == diagnosed.weights}")


if __name__ == "__main__":
    main()
