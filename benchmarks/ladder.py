"""What the ladder of dataset sizes costs and what it does to the scores.

Six doubling sizes of intermediate data are trained twice: each by itself with linear decay, and
as a ladder (``schedule: wsd``), where a larger size goes on from the trunk of a smaller one. The
score is accuracy on the source language's dev set of the intermediate task.

    python -m benchmarks.ladder
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from xlt_ray.config.search_space import draw
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.store.stage_path import path_of
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import task_for
from xlt_ray.sweep.workers import open_walk
from xlt_ray.training.loop import Committed

SIZES = (250, 500, 1000, 2000, 4000, 8000)
SEEDS = range(3)
SCHEDULES = {"linear": "linear", "wsd": "{method: wsd, warmup_examples: 128}"}
SWEEP = """
name: ladder
data: {source: toy}
model: toy:2x64
align:
  objective: code_switch_mlm
  steps: 1000
  batch_size: 48
  max_length: 32
  learning_rate: 3.0e-3
intermediate:
  task: toy-nli
  size: %(size)s
  batch_size: 16
  max_length: 32
  learning_rate: 1.0e-3
  seed: per_trial
  schedule: %(schedule)s
target: {task: toy-paraphrase, source_language: qaa}
search: {trials: 1}
"""


def train(schedule: str, size: int, seed: int, home: Home) -> tuple[int, float]:
    """Examples trained for one intermediate stage, and its dev accuracy."""
    text = SWEEP % {"size": size, "schedule": SCHEDULES[schedule]}
    sweep = sweep_of(parse_document(text, "ladder.yaml", ()))
    tree, _ = draw(sweep.space, lambda _: None)
    trial = sweep.trial(tree)
    path = path_of(trial, facts_of(sweep), seed=seed, shared_seed=0, sizes=SIZES)
    path = tuple(stage for stage in path if stage.kind not in ("target", "evaluate"))
    examples, accuracy = 0, 0.0
    events, _ = open_walk(task_for(0, trial, path, sweep, home))
    for event in events:
        if isinstance(event, Committed) and event.stage.kind in ("trunk", "intermediate"):
            examples += 0 if event.reused else event.record.num_examples
            if event.stage.kind == "intermediate":
                accuracy = event.record.history[-1]["metrics"]["accuracy"]
    return examples, accuracy


def main() -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    table = Table("size", "linear, separate", "wsd, ladder", "difference")
    totals = dict.fromkeys(SCHEDULES, 0)
    seconds = dict.fromkeys(SCHEDULES, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        # The alignment stage is the same for all: made before the clock starts.
        train("linear", SIZES[0], 99, home)
        for size in SIZES:
            scores: dict[str, list[float]] = {name: [] for name in SCHEDULES}
            for schedule in scores:
                began = time.monotonic()
                for seed in SEEDS:
                    examples, accuracy = train(schedule, size, seed, home)
                    totals[schedule] += examples
                    scores[schedule].append(100 * accuracy)
                seconds[schedule] += time.monotonic() - began
            differences = [b - a for a, b in zip(*scores.values(), strict=True)]
            table.add_row(
                f"{size:,}",
                *(f"{statistics.fmean(one):.1f} ± {statistics.stdev(one):.1f}"
                  for one in (*scores.values(), differences)),
            )  # fmt: skip
    Console(width=90).print(table)
    print(f"dev accuracy in %, mean ± standard deviation over {len(SEEDS)} seeds")
    largest = SIZES[-1] * len(SEEDS)
    for name, total in totals.items():
        print(f"{name}: {total:,} examples, {total / largest:.2f} x the largest size alone, "
              f"{seconds[name]:.0f} s")  # fmt: skip
    print(f"ratio of examples {totals['linear'] / totals['wsd']:.2f}, "
          f"of time {seconds['linear'] / seconds['wsd']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
