"""Cost-aware choice: gains per missing example, decided by the ledger alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from xlt_ray.config.facts import Facts
from xlt_ray.config.search_space import Assignment
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, open_ledger, rehearsal
from xlt_ray.ledger.cost_aware import STARTUP, cost_aware
from xlt_ray.sweep.tasks import Planner

TEXT = """
name: t
data: {source: toy}
model: {choice: [toy:2x64, toy:4x64]}
intermediate:
  task: pairs
  size: {choice: [100, 400]}
  epochs: 8
  batch_size: 10
  learning_rate: {float: [1e-5, 1e-3], log: true}
target:
  task: nli
  source_language: qaa
  size: 50
  epochs: 1
  batch_size: 10
  learning_rate: {float: [1e-5, 1e-3], log: true}
  fusion: {method: dlfa, layer: {int: [0, num_layers - 1]}}
search: {trials: 24, cost_aware: true}
"""
ReadSweep = Callable[..., SweepSpec]
RATE, BEFORE_RATE = "target.learning_rate", "intermediate.learning_rate"


def configuration(rate: float, before: float, size: int = 400, **more: Any) -> dict[str, Any]:
    return {
        "model": "toy:4x64", "intermediate.size": size, BEFORE_RATE: before, RATE: rate,
        "target.fusion.layer": 3, **more,
    }  # fmt: skip


GOOD = configuration(1e-4, 1e-4)
BAD = [configuration(1e-5, 1e-5 + number * 1e-6) for number in range(STARTUP)]
PROPOSAL = configuration(1.2e-4, 1.2e-4)


def chosen(
    sweep: SweepSpec, facts: Facts, ranked: Sequence[dict[str, Any]], prefix: int = 3200
) -> Assignment:
    """The choice where stages of known configurations cost nothing and new ones ``prefix``."""

    def num_missing(assignment: Assignment) -> int:
        is_made = any(assignment[BEFORE_RATE] == known[BEFORE_RATE] for known in ranked)
        return 50 + (0 if is_made else prefix)

    return cost_aware(PROPOSAL, ranked, [], num_missing, sweep.space, facts.model_bounds)


def test_the_stages_of_a_good_configuration_are_used_again(
    sweep_from: ReadSweep, facts: Facts
) -> None:
    sweep = sweep_from(TEXT)
    assert chosen(sweep, facts, [GOOD, *BAD]) == {**PROPOSAL, BEFORE_RATE: GOOD[BEFORE_RATE]}
    assert chosen(sweep, facts, [GOOD, *BAD][: STARTUP - 1]) == PROPOSAL, "scores tell nothing yet"


def test_new_stages_are_made_where_those_that_exist_promise_little(
    sweep_from: ReadSweep, facts: Facts
) -> None:
    sweep = sweep_from(TEXT)
    # Layer 3 of the proposal does not exist in the model of the good configuration.
    shallow = {**GOOD, "model": "toy:2x64", "target.fusion.layer": 1}
    assert chosen(sweep, facts, [shallow, *BAD], prefix=50) == PROPOSAL
    assert chosen(sweep, facts, [shallow, *BAD], prefix=10**6) != PROPOSAL


def search(
    ledger: Ledger, sweep: SweepSpec, facts: Facts, reopen: Callable[[], Ledger] | None = None
) -> tuple[list[Any], int]:
    """All assignments, and the examples of all stages."""
    planner, asked, stages = Planner(sweep, facts), [], {}
    while True:
        ledger = reopen() if reopen else ledger
        ledger.examples_of = planner.examples
        asked_trial = ledger.ask(sweep, facts.model_bounds)
        if asked_trial is None:
            return asked, sum(stages.values())
        assignment = asked_trial.assignment
        asked.append(assignment)
        stages |= planner.examples(assignment, asked_trial.seed)
        ledger.tell_complete(asked_trial.number, 1 - 1e3 * float(assignment[RATE]))  # type: ignore[arg-type]


@pytest.mark.parametrize("seeds", ["1", "{race: {most: 4}}"])
def test_a_killed_driver_chooses_as_an_unbroken_one_and_trains_less(
    tmp_path: Path, sweep_from: ReadSweep, facts: Facts, seeds: str
) -> None:
    sweep = sweep_from(TEXT, f"search.seeds={seeds}")
    home = Home(tmp_path)
    unbroken, examples = search(rehearsal(sweep), sweep, facts)
    broken, _ = search(rehearsal(sweep), sweep, facts, lambda: open_ledger(home, sweep))
    assert unbroken == broken
    careless = sweep_from(TEXT, f"search.seeds={seeds}", "search.cost_aware=false")
    assert examples < 0.8 * search(rehearsal(careless), careless, facts)[1]
