"""What diagnostics of layers cost beside the training that they look at, in one run.

One training on toy data is made twice in this process, without diagnostics and with all of them
at its beginning and at its end. The encoder has the body of XLM-R base (12 layers x 768) with
random weights. A step costs the same however far apart evaluations lie, so the share of one
diagnosis is its time over that of the examples between two of them. Time of the CPU is given
besides, because a busy machine stretches the other. Both runs have to end in the same weights.

    python -m benchmarks.diagnostics [KEY=VALUE ...]
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import task_for
from xlt_ray.sweep.workers import open_walk
from xlt_ray.training import walk
from xlt_ray.training.engine import Engine

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
"""Examples between two evaluations: MNLI's 392,702 for one epoch have 98,000 with four of them."""
ALLOWED = 0.02
ASKED = "evaluate.diagnostics=[retrieval, cka, alignment]"


@dataclass
class Meter:
    """Wall and CPU seconds of each call."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **settings: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            answer = call(*args, **settings)
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.process_time() - cpu)
            return answer

        return measured


@dataclass(frozen=True)
class Outcome:
    """One training: its steps, its diagnoses, the digest of its weights."""

    steps: Meter
    diagnoses: Meter
    num_examples: int
    weights: str


@contextmanager
def measured(steps: Meter, diagnoses: Meter) -> Iterator[None]:
    """Within the block, steps of training and diagnoses are timed."""
    step, diagnose_with = Engine.step, walk.diagnose_with
    Engine.step = steps.of(step)  # type: ignore[method-assign]
    walk.diagnose_with = lambda *args: diagnoses.of(diagnose_with(*args))
    try:
        yield
    finally:
        Engine.step = step  # type: ignore[method-assign]
        walk.diagnose_with = diagnose_with


def train(home: Home, *overrides: str) -> Outcome:
    sweep = sweep_of(parse_document(SWEEP, "diagnostics.yaml", overrides))
    facts = facts_of(sweep)
    tree, _ = draw(
        sweep.space,
        lambda knob: extremes(knob.distribution)[0],
        facts.model_bounds,
    )
    trial = sweep.trial(tree)
    path = path_of(trial, facts, seed=0, shared_seed=0)
    steps, diagnoses = Meter(), Meter()
    with measured(steps, diagnoses):
        events, _ = open_walk(task_for(0, trial, path, sweep, home))
        for _ in events:
            pass
    digest = hashlib.sha256()
    for file in sorted(StageStore(home.stages).folder(path[-2].key).glob("*.safetensors")):
        digest.update(file.read_bytes())
    num_examples = sum(stage.num_examples for stage in path if stage.is_training)
    return Outcome(steps, diagnoses, num_examples, digest.hexdigest())


def main() -> None:
    overrides = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        # The first training of a process pays for imports and first uses: it counts for nothing.
        small = ("target.size=64", "target.evaluations=1")
        train(Home(Path(name) / "warm"), *overrides, *small, ASKED)
        plain = train(Home(Path(name) / "plain"), *overrides)
        asked = train(Home(Path(name) / "asked"), *overrides, ASKED)
    table = Table("", "wall, s", "CPU, s")

    def row(label: str, values: tuple[float, float], form: str = "{:.3f}") -> None:
        table.add_row(label, *(form.format(value) for value in values))

    example = tuple(sum(one) / plain.num_examples for one in (plain.steps.wall, plain.steps.cpu))
    once = tuple(statistics.median(one) for one in (asked.diagnoses.wall, asked.diagnoses.cpu))
    share = tuple(whole / one for whole, one in zip(once, example, strict=True))
    row(f"training of 1,000 examples, {len(plain.steps.wall)} steps in all", (
        1000 * example[0], 1000 * example[1]
    ))  # fmt: skip
    row(f"one diagnosis, median of {len(asked.diagnoses.wall)}", once)
    row("examples whose training takes as long", share, "{:,.0f}")
    for interval in INTERVALS:
        row(f"share at {interval:,} examples between evaluations", (
            share[0] / interval, share[1] / interval
        ), "{:.2%}")  # fmt: skip
    row(f"examples between evaluations for {ALLOWED:.0%}", (
        share[0] / ALLOWED, share[1] / ALLOWED
    ), "{:,.0f}")  # fmt: skip
    Console(width=90).print(table)
    print(f"equal weights with and without: {plain.weights == asked.weights}")


if __name__ == "__main__":
    main()
