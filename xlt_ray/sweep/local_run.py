"""One trial in one plain process, without Ray, ledger or MLflow: the same code, debuggable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import continued, load_ledger
from xlt_ray.store.stage_path import path_of
from xlt_ray.sweep.findings import refuse_faulty
from xlt_ray.sweep.runner import checked_facts
from xlt_ray.sweep.tasks import task_for
from xlt_ray.sweep.workers import open_walk

if TYPE_CHECKING:
    from xlt_ray.training.loop import Event


def make_alone(
    sweep: SweepSpec, home: Home, *, trial: int | None = None, until: str = "evaluate"
) -> Iterator[Event]:
    """Make the path of one trial, up to the stage of kind ``until``.

    Args:
        trial: number of a trial in the sweep's ledger; without it, every distribution takes
            its first value and the seed is the sweep's.

    Raises:
        SpecErrors: the sweep does not fit its models or data.
        SpecError: nothing can be written in the home.
        LedgerError: there is no such trial.
    """
    facts = checked_facts(sweep)
    refuse_faulty(sweep, facts, home.cache)
    home.refuse_unwritable()
    ledger = None if trial is None else load_ledger(home, sweep.name)
    if ledger is not None:
        sweep = continued(sweep, ledger)
    seed = sweep.settings.search.training_seed

    def bounds(model: str) -> dict[str, int]:
        return facts.models[model].bounds()

    if ledger is None or trial is None:
        tree, _ = draw(sweep.space, lambda parameter: extremes(parameter.distribution)[0], bounds)
        concrete = sweep.trial(tree)
    else:
        view = ledger.trial(trial)
        concrete, seed = sweep.trial_of(dict(view.assignment), bounds), view.seed
    path = path_of(concrete, facts, seed=seed, shared_seed=sweep.settings.search.training_seed)
    order = task_for(-1 if trial is None else trial, concrete, path, sweep, home)
    # Somebody may be looking at it in a debugger: no thread, and nothing ends it for being slow.
    order = replace(order, until=until, resources={**order.resources, "workers": 1})
    events, _ = open_walk(order)
    yield from events
