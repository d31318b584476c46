"""What sharing stages saves: the same trials by plain Ray Tune and by xlt-ray, in one run.

The peers are what a user writes with Ray Tune alone: a grid of fixed points, and a trainable that
trains both stages of its trial with the same training code and keeps nothing for the next one. As a
function it has a new process for every trial, which imports everything anew; as a class whose
actors are used again it has not. All use the same two cores, one after the other.

    python -m benchmarks.sharing [KEY=VALUE ...]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xlt_ray
from benchmarks.common import make_stages, print_table
from xlt_ray.config.sweep import SweepSpec, load_sweep
from xlt_ray.home import Home
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.sweep.plan import Plan
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import task_for


@dataclass(frozen=True)
class Outcome:
    """What one side did."""

    seconds: float
    examples: int
    scores: Mapping[int, Mapping[tuple[str, str, str], float]]
    """Trial -> language, split and metric -> value."""


def train_alone(config: dict[str, Any]) -> dict[str, Any]:
    """The peer's trainable: one trial from its first stage to its scores."""
    records = [event.record for event in make_stages(config["task"])]
    rows = [[score.language, score.split, score.metric, score.value]
            for score in records[-1].scores]  # fmt: skip
    examples = sum(record.num_examples for record in records)
    return {"number": config["task"].number, "examples": examples, "rows": json.dumps(rows)}


def as_class() -> type:
    """:func:`train_alone` as a class trainable."""
    from ray import tune

    class TrainAlone(tune.Trainable):
        def step(self) -> dict[str, Any]:
            return {**train_alone(self.config), "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

    return TrainAlone


def by_ray_tune(trainable: Any, sweep: SweepSpec, plan: Plan, folder: Path) -> Outcome:
    import ray
    from ray import tune

    facts = facts_of(sweep)
    tasks = []
    for planned in plan.trials:
        trial = sweep.trial_of(dict(planned.assignment), facts.model_bounds)
        home = Home(folder / f"trial-{planned.number}")
        task = task_for(planned.number, trial, planned.path, sweep, home)
        tasks.append(replace(task, cache=str(folder / "cache")))
    began = time.monotonic()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"task": tune.grid_search(tasks)},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    results = [result.metrics for result in tuner.fit()]
    seconds = time.monotonic() - began
    ray.shutdown()
    scores = {
        result["number"]: {tuple(row[:3]): row[3] for row in json.loads(result["rows"])}
        for result in results
    }
    return Outcome(seconds, sum(result["examples"] for result in results), scores)


def by_xlt_ray(sweep: SweepSpec, folder: Path) -> Outcome:
    import ray

    began = time.monotonic()
    results = xlt_ray.run(sweep, home=folder / "home")
    seconds = time.monotonic() - began
    ray.shutdown()
    assert results.summary.is_finished
    assert not results.summary.failed
    final = results.scores[results.scores["stage"] == "evaluate"]
    scores = {
        number: {(row.language, row.split, row.metric): row.value for row in rows.itertuples()}
        for number, rows in final.groupby("number")
    }
    return Outcome(seconds, results.summary.num_examples, scores)


def main() -> None:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")
    sweep = load_sweep(Path(__file__).with_suffix(".yaml"), sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = xlt_ray.plan(sweep, home=folder / "none")
        stages = [stage for stage in stages_to_run(plan.trials[0].path) if stage.is_training]
        costs = " + ".join(f"{stage.kind} {stage.num_examples}" for stage in stages)
        print(f"{len(plan.trials)} trials, each {costs} examples", flush=True)
        ours = by_xlt_ray(sweep, folder / "xlt-ray")
        print(f"xlt-ray: {ours.seconds:.0f} s, {ours.examples} examples", flush=True)
        peers = {
            f"Ray Tune, {name}": by_ray_tune(trainable, sweep, plan, folder / name)
            for name, trainable in (("function", train_alone), ("class", as_class()))
        }
    rows = [("xlt-ray", f"{ours.examples:,}", "", f"{ours.seconds:.0f}", "", "")]
    for name, peer in peers.items():
        equal = sum(peer.scores[number] == ours.scores[number] for number in ours.scores)
        rows.append((
            name, f"{peer.examples:,}", f"{peer.examples / ours.examples:.2f}",
            f"{peer.seconds:.0f}", f"{peer.seconds / ours.seconds:.2f}",
            f"{equal} of {len(ours.scores)}",
        ))  # fmt: skip
    print_table(
        ("", "trained examples", "ratio", "wall time, s", "ratio", "trials with equal scores"), rows
    )
    allowed = plan.examples_shared / ours.examples
    print(f"of what the tree of stages allows: {allowed:.1%} ({plan.examples_shared:,} examples)")


if __name__ == "__main__":
    main()
