"""No configuration is asked twice while another is left, and a search ends with its space."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.two_models import SPACE, bounds
from xlt_ray.config.facts import Facts
from xlt_ray.config.search_space import grid, num_configurations
from xlt_ray.config.sweep import SAMPLERS, SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, open_ledger, rehearsal
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.plan import plan_of

SIXTEEN = """
name: t
data: {source: toy}
model: toy:2x64
target:
  task: nli
  source_language: qaa
  learning_rate: {choice: [1e-5, 1e-4, 1e-3, 1e-2]}
  epochs: {choice: [1, 2, 3, 4]}
"""
LAYERS = ("target.learning_rate=1e-4",)
"""Of ``SPACE``: two models without fusion, and their 2 + 4 layers."""
ReadSweep = Callable[..., SweepSpec]


def ask_all(ledger: Ledger, sweep: SweepSpec) -> list[dict[str, Any]]:
    """All that is asked, each with what makes tpe ask for it again."""
    assignments = []
    while (asked_trial := ledger.ask(sweep, bounds)) is not None:
        assignments.append(dict(asked_trial.assignment))
        epochs = asked_trial.assignment.get("target.epochs", 0)
        ledger.tell_complete(asked_trial.number, 1.0 / (1 + epochs))  # type: ignore[operator]
    return assignments


def distinct(assignments: list[dict[str, Any]]) -> int:
    return len({json.dumps(assignment, sort_keys=True) for assignment in assignments})


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
@pytest.mark.parametrize(
    ("text", "more", "size"), [(SIXTEEN, (), 16), (SPACE, LAYERS, 8)], ids=["flat", "blocks"]
)
def test_as_many_trials_as_configurations_are_all_of_them(
    sweep_from: ReadSweep, sampler: str, text: str, more: tuple[str, ...], size: int
) -> None:
    for seed in range(3):
        search = f"search={{trials: {size}, sampler: {sampler}, seed: {seed}}}"
        sweep = sweep_from(text, search, *more)
        ledger = rehearsal(sweep)
        assert distinct(ask_all(ledger, sweep)) == size == num_configurations(sweep.space, bounds)
        assert not ledger.is_exhausted


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_space_that_is_used_up_ends_the_asking(sweep_from: ReadSweep, sampler: str) -> None:
    sweep = sweep_from(SPACE, f"search={{trials: 99, sampler: {sampler}, seeds: 2}}", *LAYERS)
    ledger = rehearsal(sweep)
    assignments = ask_all(ledger, sweep)
    assert (len(assignments), distinct(assignments)) == (16, 8)
    assert ledger.is_exhausted
    assert ledger.ask(sweep, bounds) is None


def test_most_of_a_space_is_tried_without_copies(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(
        SIXTEEN, "target.batch_size={int: [1, 21, ], step: 2}", "target.epochs={int: [1, 15]}",
        "target.learning_rate=1e-4", "search={trials: 64, sampler: tpe}",
    )  # fmt: skip
    assert num_configurations(sweep.space, bounds) == 165
    assert distinct(ask_all(rehearsal(sweep), sweep)) == 64


def test_a_branch_that_is_used_up_leaves_the_others(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(
        SIXTEEN, "target.learning_rate=1e-4", "target.epochs=1",
        "target.robust={choice: [{method: none}, {method: random, "
        "epsilon: {float: [0.1, 0.9]}}]}",
        "search={trials: 30, sampler: random}",
    )  # fmt: skip
    assignments = ask_all(rehearsal(sweep), sweep)
    assert (len(assignments), distinct(assignments)) == (30, 30)
    assert sum("target.robust.epsilon" not in assignment for assignment in assignments) == 1


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_points_to_try_first_are_not_asked_again(sweep_from: ReadSweep, sampler: str) -> None:
    points = [{"target.learning_rate": 1e-2, "target.epochs": 4}, {"target.epochs": 3}]
    sweep = sweep_from(
        SIXTEEN, f"search={{trials: 99, sampler: {sampler}, first: {json.dumps(points)}}}"
    )
    assignments = ask_all(rehearsal(sweep), sweep)
    assert assignments[0] == points[0]
    assert assignments[1]["target.epochs"] == 3
    assert (len(assignments), distinct(assignments)) == (16, 16)


def test_the_sampler_takes_over_when_all_variants_of_a_point_were_tried(
    sweep_from: ReadSweep,
) -> None:
    points = [{"target.epochs": 3}] * 6
    sweep = sweep_from(SIXTEEN, f"search={{trials: 6, first: {json.dumps(points)}}}")
    assignments = ask_all(rehearsal(sweep), sweep)
    is_point = [assignment["target.epochs"] == 3 for assignment in assignments]
    assert is_point == [True] * 4 + [False] * 2
    assert distinct(assignments) == 6


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_more_trials_and_trials_that_are_run_again_repeat_nothing(
    tmp_path: Path, sweep_from: ReadSweep, sampler: str
) -> None:
    def whole(name: str, *, dies: bool) -> list[tuple[int, str]]:
        home = Home(tmp_path / name)
        asked_trials = []
        for trials in (5, 20):
            search = f"search={{trials: {trials}, sampler: {sampler}}}"
            sweep = sweep_from(SIXTEEN, search)
            ledger = open_ledger(home, sweep)
            while (asked_trial := ledger.ask(sweep, bounds)) is not None:
                if dies:
                    ledger = open_ledger(home, sweep)
                assignment = json.dumps(asked_trial.assignment, sort_keys=True)
                asked_trials.append((asked_trial.number, assignment))
                if asked_trial.number == 3:
                    ledger.tell_failed(3, "oom", "no room")
                    ledger.enqueue_failed()
                else:
                    ledger.tell_complete(asked_trial.number, 0.5)
        return asked_trials

    asked_trials = whole("a", dies=False)
    assert asked_trials == whole("b", dies=True)
    assert asked_trials[3][1] == asked_trials[4][1], "the failed trial, run again"
    assert len(asked_trials) == 17
    assert len({assignment for _, assignment in asked_trials}) == 16


def test_the_plan_has_as_many_trials_as_there_will_be(
    sweep_from: ReadSweep, facts: Facts, home: Home
) -> None:
    for sampler in ("tpe", "random", "grid"):
        sweep = sweep_from(SIXTEEN, f"search={{trials: 99, sampler: {sampler}, seeds: 3}}")
        plan = plan_of(sweep, facts, StageStore(home.stages), None)
        assert (len(plan.trials), plan.is_whole_space) == (48, True)
        fewer = sweep_from(SIXTEEN, f"search={{trials: 9, sampler: {sampler}}}")
        plan = plan_of(fewer, facts, StageStore(home.stages), None)
        assert (len(plan.trials), plan.is_whole_space) == (9, False)


leaves = st.one_of(
    st.just("1"),
    st.integers(1, 4).map(lambda size: f"{{choice: {list(range(1, size + 1))}}}"),
    st.tuples(st.integers(1, 3), st.integers(0, 5), st.integers(1, 3)).map(
        lambda drawn: f"{{int: [{drawn[0]}, {drawn[0] + drawn[1]}], step: {drawn[2]}}}"
    ),
    st.integers(1, 4).map(lambda high: f"{{int: [1, {high}], log: true}}"),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    epochs=leaves, size=leaves, evaluations=leaves, has_blocks=st.booleans(),
    sampler=st.sampled_from(["random", "tpe"]),
)  # fmt: skip
def test_any_finite_space_is_gone_through_once(
    sweep_from: ReadSweep,
    epochs: str,
    size: str,
    evaluations: str,
    has_blocks: bool,
    sampler: str,
) -> None:
    fusion = "{choice: [{method: none}, {method: dlfa, layer: {int: [0, num_layers - 1]}}]}"
    sweep = sweep_from(
        SPACE, *LAYERS, f"target.epochs={epochs}", f"target.size={size}",
        f"target.evaluations={evaluations}", f"search={{trials: 99999, sampler: {sampler}}}",
        f"target.fusion={fusion if has_blocks else '{method: none}'}",
    )  # fmt: skip
    every = list(grid(sweep.space, bounds))
    assert num_configurations(sweep.space, bounds) == len(every) == distinct(every)
    # A tenth of a large space stands for the whole of it.
    number = len(every) if len(every) < 40 else 30
    ledger, assignments = rehearsal(sweep), []
    for _, asked_trial in zip(
        range(number + 1), iter(lambda: ledger.ask(sweep, bounds), None), strict=False
    ):
        assignments.append(dict(asked_trial.assignment))  # type: ignore[union-attr]
        ledger.tell_complete(asked_trial.number, 0.5)  # type: ignore[union-attr]
    assert distinct(assignments) == len(assignments) == min(number + 1, len(every))
    assert all(assignment in every for assignment in itertools.islice(assignments, 5))
