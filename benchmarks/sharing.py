"""What sharing stages saves: the same trials by plain Ray Tune and by xlt-ray, in one run.

The peer is what a user writes with Ray Tune alone: a grid of fixed points and a function
trainable that trains intermediate and target stage of its trial with the same training code,
keeping nothing for the next one. Both use the same two cores, one after the other.

    python -m benchmarks.sharing [KEY=VALUE ...]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from xlt_ray.config.sweep import SweepSpec, load_sweep
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.plan import Plan, plan_of
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import Report, TrialTask, task_for

Scores = Mapping[tuple[str, str, str], float]
"""(language, split, metric) to value."""


@dataclass(frozen=True)
class Outcome:
    """What one side did."""

    seconds: float
    examples: int
    scores: Mapping[int, Scores]
    """By number of the trial."""


class Silent:
    """A watcher that shows nothing."""

    def begun(self, view: TrialView) -> None: ...

    def reported(self, view: TrialView, report: Report) -> None: ...

    def finished(self, view: TrialView) -> None: ...

    def warned(self, message: str) -> None:
        print(message, file=sys.stderr)


def train_alone(config: dict[str, Any]) -> dict[str, Any]:
    """The peer's trainable: one trial from its first stage to its scores."""
    from xlt_ray.sweep.workers import open_walk
    from xlt_ray.training.loop import Committed

    order: TrialTask = config["order"]
    examples, scores = 0, ()
    events, _ = open_walk(order)
    for event in events:
        if isinstance(event, Committed):
            examples += event.record.num_examples
            scores = event.record.scores
    rows = [[score.language, score.split, score.metric, score.value] for score in scores]
    return {"number": order.number, "examples": examples, "rows": json.dumps(rows)}


def by_ray_tune(sweep: SweepSpec, plan: Plan, folder: Path) -> Outcome:
    import ray
    from ray import tune

    facts = facts_of(sweep)
    orders = []
    for planned in plan.trials:
        trial = sweep.trial_of(dict(planned.assignment), facts.model_bounds)
        home = Home(folder / f"trial-{planned.number}")
        order = task_for(planned.number, trial, planned.path, sweep, home)
        orders.append(TrialTask(**{**vars(order), "cache": str(folder / "cache")}))
    began = time.monotonic()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tuner = tune.Tuner(
        tune.with_resources(train_alone, {"cpu": 1}),
        param_space={"order": tune.grid_search(orders)},
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    results = [one.metrics for one in tuner.fit()]
    seconds = time.monotonic() - began
    ray.shutdown()
    return Outcome(
        seconds,
        sum(result["examples"] for result in results),
        {
            result["number"]: {tuple(row[:3]): row[3] for row in json.loads(result["rows"])}
            for result in results
        },
    )


def by_xlt_ray(sweep: SweepSpec, folder: Path) -> Outcome:
    import ray

    from xlt_ray.sweep.runner import run

    home = Home(folder / "home")
    began = time.monotonic()
    summary = run(sweep, home, Silent())
    seconds = time.monotonic() - began
    ray.shutdown()
    store = StageStore(home.stages)
    scores = {}
    for view in summary.trials:
        record = store.record(view.evaluation_key or "")
        assert record is not None, f"trial {view.number} {view.state}: {view.message}"
        scores[view.number] = {
            (score.language, score.split, score.metric): score.value for score in record.scores
        }
    return Outcome(seconds, summary.num_examples, scores)


def main() -> None:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")
    sweep = load_sweep(Path(__file__).with_suffix(".yaml"), sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = plan_of(sweep, facts_of(sweep), StageStore(folder / "none"), None)
        stages = [stage for stage in stages_to_run(plan.trials[0].path) if stage.is_training]
        costs = " + ".join(f"{stage.kind} {stage.num_examples}" for stage in stages)
        print(f"{len(plan.trials)} trials, each {costs} examples", flush=True)
        ours = by_xlt_ray(sweep, folder / "xlt-ray")
        print(f"xlt-ray: {ours.seconds:.0f} s, {ours.examples} examples", flush=True)
        peer = by_ray_tune(sweep, plan, folder / "ray-tune")
    table = Table("", "Ray Tune alone", "xlt-ray", "ratio")
    for label, one, other in (
        ("trained examples", peer.examples, ours.examples),
        ("wall time, s", round(peer.seconds), round(ours.seconds)),
    ):
        table.add_row(label, f"{one:,}", f"{other:,}", f"{one / other:.2f}")
    Console(width=90).print(table)
    allowed = plan.examples_shared / ours.examples
    print(f"of what the tree of stages allows: {allowed:.1%} ({plan.examples_shared:,} examples)")
    equal = sum(peer.scores[number] == ours.scores[number] for number in ours.scores)
    print(f"trials with equal scores in every language: {equal} of {len(ours.scores)}")


if __name__ == "__main__":
    main()
