"""``xlt stage``: one trial in this process, without Ray or MLflow, for debugging."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import continued, load_ledger
from xlt_ray.sweep.findings import refuse_faulty
from xlt_ray.sweep.runner import checked_facts
from xlt_ray.sweep.tasks import Planner, task_for
from xlt_ray.sweep.workers import open_walk

if TYPE_CHECKING:
    from xlt_ray.training.loop import Event


def make_alone(
    sweep: SweepSpec, home: Home, *, trial: int | None = None, until: str = "evaluate"
) -> Iterator[Event]:
    """Run the path of one trial up to the stage of kind ``until``, and yield its events.

    Args:
        trial: number of a trial in the sweep's ledger. Without it, every distribution takes its
            first value, and the seed is that of the sweep.

    Raises:
        SpecErrors: the sweep does not fit its models or data.
        SpecError: nothing can be written in the home.
        LedgerError: the ledger has no such trial.
    """
    facts = checked_facts(sweep)
    refuse_faulty(sweep, facts, home.cache)
    home.refuse_unwritable()
    ledger = None if trial is None else load_ledger(home, sweep.name)
    if ledger is not None:
        sweep = continued(sweep, ledger)
    planner, seed = Planner(sweep, facts), sweep.settings.search.training_seed

    if ledger is None or trial is None:
        tree, _ = draw(sweep.space, lambda knob: extremes(knob.distribution)[0], facts.model_bounds)
        concrete = sweep.trial(tree)
    else:
        view = ledger.trial(trial)
        concrete, seed = planner.trial(view.assignment), view.seed
    path = planner.path(concrete, seed)
    task = task_for(-1 if trial is None else trial, concrete, path, sweep, home)
    # For a debugger: in this thread, and without a watchdog.
    task = replace(task, until=until, resources={**task.resources, "workers": 1})
    events, _ = open_walk(task)
    yield from events
