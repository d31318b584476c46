"""What the ladder of dataset sizes costs, and what it does to the scores.

Doubling sizes of intermediate data are trained twice: each by itself with linear decay, and as a
ladder (``schedule: wsd``), on which a larger size continues the trunk of a smaller one. The score
is accuracy on the source language's dev set of the intermediate task.

    python -m benchmarks.ladder [NUM_SIZES]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.common import Spent, make_stages, print_table, timed
from xlt_ray.config.search_space import draw
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.store.stage_path import path_of
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import task_for

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


def train(
    schedule: str, size: int, seed: int, sizes: tuple[int, ...], home: Home
) -> tuple[int, float]:
    """Examples trained for one intermediate stage, and its dev accuracy in %."""
    text = SWEEP % {"size": size, "schedule": SCHEDULES[schedule]}
    sweep = sweep_of(parse_document(text, "ladder.yaml", ()))
    trial = sweep.trial(draw(sweep.space, lambda _: None)[0])
    path = path_of(trial, facts_of(sweep), seed=seed, shared_seed=0, sizes=sizes)
    path = tuple(stage for stage in path if stage.kind not in ("target", "evaluate"))
    *trunks, stage = [
        event
        for event in make_stages(task_for(0, trial, path, sweep, home))
        if event.stage.kind in ("trunk", "intermediate")
    ]
    examples = sum(event.record.num_examples for event in (*trunks, stage) if not event.reused)
    return examples, 100 * stage.record.history[-1]["metrics"]["accuracy"]


def main() -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    sizes = SIZES[: int(sys.argv[1])] if sys.argv[1:] else SIZES
    totals, spent = dict.fromkeys(SCHEDULES, 0), dict.fromkeys(SCHEDULES, Spent())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        # All share the alignment stage: make it before the clock starts.
        train("linear", sizes[0], 99, sizes, home)
        for size in sizes:
            scores: dict[str, list[float]] = {schedule: [] for schedule in SCHEDULES}
            for schedule in SCHEDULES:
                for seed in SEEDS:
                    (examples, accuracy), training = timed(
                        partial(train, schedule, size, seed, sizes, home)
                    )
                    totals[schedule] += examples
                    spent[schedule] += training
                    scores[schedule].append(accuracy)
            differences = [wsd - linear for linear, wsd in zip(*scores.values(), strict=True)]
            cells = [
                f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
                for values in (*scores.values(), differences)
            ]
            rows.append((f"{size:,}", *cells))
    print_table(("size", "linear, separate", "wsd, ladder", "difference"), rows)
    print(f"dev accuracy in %, mean ± standard deviation over {len(SEEDS)} seeds")
    largest = sizes[-1] * len(SEEDS)
    for schedule, total in totals.items():
        print(f"{schedule}: {total:,} examples, {total / largest:.2f} x the largest size alone, "
              f"{spent[schedule].wall:.0f} s")  # fmt: skip
    print(f"ratio of examples {totals['linear'] / totals['wsd']:.2f}, "
          f"of time {spent['linear'].wall / spent['wsd'].wall:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
