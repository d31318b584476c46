"""The plan of a sweep: all its trials as one tree of stages; it writes nothing."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, open_ledger
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.plan import Plan, divergence, plan_of

TEXT = """
name: t
data: {source: toy}
model: {choice: [toy:2x64, toy:4x64]}
align: {objective: code_switch_mlm, steps: 10, batch_size: 8}
intermediate: {task: pairs, size: {choice: [100, 200]}, epochs: 1, batch_size: 10}
target:
  task: nli
  source_language: qaa
  size: 50
  epochs: 1
  batch_size: 10
  learning_rate: {choice: [1e-4, 1e-3]}
search: {trials: 99, sampler: grid, seeds: 3}
"""
TPE = ("search={sampler: tpe, trials: 4}",)
ReadSweep = Callable[..., SweepSpec]


@pytest.fixture
def planned(sweep_from: ReadSweep, facts: Facts, home: Home) -> Callable[..., Plan]:
    """``planned("search.seeds=1", ledger=...)``: the plan of the sweep, changed."""

    def plan(*overrides: str, ledger: Ledger | None = None, facts: Facts = facts) -> Plan:
        return plan_of(sweep_from(TEXT, *overrides), facts, StageStore(home.stages), ledger)

    return plan


Planned = Callable[..., Plan]


def commit(store: StageStore, stage: Stage) -> None:
    """The record's existence alone means committed."""
    store.storage.write(f"stages/{stage.key}/record.json", b"{}")


def of_kind(plan: Plan, kind: str) -> list[Any]:
    return [stage for stage in plan.stages if stage.stage.kind == kind]


# -- counting -----------------------------------------------------------------------------


def test_every_stage_of_a_grid_counts_once(planned: Planned) -> None:
    plan = planned()
    assert len(plan.trials) == 2 * 2 * 2 * 3
    counts = {kind: len(of_kind(plan, kind))
              for kind in ("align", "intermediate", "target", "evaluate")}  # fmt: skip
    assert counts == {"align": 2, "intermediate": 4, "target": 24, "evaluate": 24}
    assert len(plan.stages) == 54
    assert plan.stages_naive == 24 * 4
    assert plan.examples_naive == 24 * (80 + 50) + 12 * (100 + 200)
    assert plan.examples_shared == 2 * 80 + 2 * (100 + 200) + 24 * 50
    assert plan.examples_left == plan.examples_shared
    assert plan.ratio == plan.examples_naive / plan.examples_shared
    assert not plan.is_estimate


def test_seeds_share_all_but_their_target_stages(planned: Planned) -> None:
    shared = planned("search.trials=1", "search.seeds=3")
    assert [len(stage.trials) for stage in of_kind(shared, "intermediate")] == [3]
    assert [trial.seed for trial in shared.trials] == [0, 1, 2]
    apart = planned("search.trials=1", "search.seeds=3", "intermediate.seed=per_trial")
    assert [len(stage.trials) for stage in of_kind(apart, "intermediate")] == [1, 1, 1]
    assert [stage.trials for stage in of_kind(apart, "align")] == [(0, 1, 2)]


def test_two_searches_share_their_common_stages(planned: Planned) -> None:
    """The seed of the sampler is not that of a training."""
    random = ("search.sampler=random", "search.trials=4")
    plans = [planned(*random, f"search.seed={seed}") for seed in (0, 1)]
    assert [trial.assignment for trial in plans[0].trials] != [
        trial.assignment for trial in plans[1].trials
    ]
    keys = [{stage.stage.key for stage in of_kind(plan, "align")} for plan in plans]
    assert keys[0] == keys[1] != set()
    seeds = {stage.stage.seed for plan in plans for stage in plan.stages if stage.stage.is_training}
    assert seeds == {0, 1, 2}
    other = planned(*random, "search.training_seed=9")
    assert keys[0].isdisjoint(stage.stage.key for stage in other.stages)
    assert [trial.seed for trial in other.trials][:3] == [9, 10, 11]


def test_revisions_of_a_model_are_different_models(planned: Planned, facts: Facts) -> None:
    shallow, deep = facts.models["toy:2x64"], facts.models["toy:4x64"]
    revisions = {
        "org/e@v1": replace(shallow, name="org/e", weights="1" * 40),
        "org/e@v2": replace(deep, name="org/e", weights="2" * 40),
        "org/e": replace(deep, name="org/e", weights="2" * 40),
    }
    plan = planned(
        "model={choice: [{name: org/e, revision: v1}, {name: org/e, revision: v2}, org/e]}",
        "target.fusion={method: dlfa, layer: {int: [num_layers - 1, num_layers - 1]}}",
        "search.seeds=1",
        facts=replace(facts, models=revisions),
    )
    layers = {
        trial.path[0].label: trial.path[-2].settings["fusion"]["layer"] for trial in plan.trials
    }  # fmt: skip
    assert layers == {"org/e@v1": 1, "org/e@v2": 3, "org/e": 3}
    keys = {trial.path[0].label: {stage.key for stage in trial.path} for trial in plan.trials}
    assert keys["org/e@v2"] == keys["org/e"], "the same commit by two names is one model"
    assert keys["org/e@v1"].isdisjoint(keys["org/e"])


def test_a_stage_names_its_parent_and_the_trials_that_share_it(planned: Planned) -> None:
    plan = planned("search.seeds=1", "model=toy:2x64")
    (align,), (small, large) = of_kind(plan, "align"), of_kind(plan, "intermediate")
    assert align.parent is None
    assert align.model.label == "toy:2x64"
    assert align.trials == (0, 1, 2, 3)
    assert small.parent == large.parent == align.stage
    assert (small.trials, large.trials) == ((0, 1), (2, 3))


def test_parents_come_before_their_children(planned: Planned) -> None:
    seen: set[str] = set()
    for stage in planned().stages:
        assert stage.parent is None or stage.parent.key in seen
        seen.add(stage.stage.key)


def test_trials_without_common_stages_save_nothing(planned: Planned) -> None:
    plan = planned("align=null", "intermediate=null", "search.seeds=1")
    assert plan.examples_naive == plan.examples_shared == 4 * 50
    assert plan.ratio == 1.0


# -- what the store has -------------------------------------------------------------------


def test_stages_in_the_store_are_not_left_to_train(planned: Planned, home: Home) -> None:
    before = planned("search.seeds=1")
    for kind in ("align", "intermediate"):
        commit(StageStore(home.stages), of_kind(before, kind)[0].stage)
    after = planned("search.seeds=1")
    assert {stage.stage.kind for stage in after.stages if stage.is_in_store} == {
        "align",
        "intermediate",
    }
    assert after.examples_left == before.examples_left - 80 - 100
    assert after.examples_shared == before.examples_shared


def test_a_stage_is_not_needed_if_a_later_one_is_in_the_store(planned: Planned, home: Home) -> None:
    alone = ("search.seeds=1", "search.trials=1")
    target = of_kind(planned(*alone), "target")[0]
    commit(StageStore(home.stages), target.stage)
    plan = planned(*alone)
    assert plan.examples_left == 0
    assert [stage.stage.kind for stage in plan.stages if stage.is_needed] == ["evaluate"]
    # Another trial below the same stages needs them all the same.
    assert planned("search.seeds=1", "search.trials=2").examples_left == 80 + 100 + 50


# -- what the ledger has ------------------------------------------------------------------


def test_trials_of_the_ledger_are_in_the_plan_as_they_were_asked(
    planned: Planned, sweep_from: ReadSweep, facts: Facts, home: Home
) -> None:
    sweep = sweep_from(TEXT, *TPE)
    ledger = open_ledger(home, sweep)
    asked = [ledger.ask(sweep, facts.model_bounds) for _ in range(3)]
    ledger.tell_complete(0, 0.5)
    ledger.tell_failed(1, "oom", "no room")
    plan = planned(*TPE, ledger=ledger)
    assert [trial.number for trial in plan.trials] == [0, 1, 2, 3]
    for asked_trial, trial in zip(asked, plan.trials, strict=False):
        assert asked_trial is not None
        assert (asked_trial.assignment, asked_trial.seed) == (trial.assignment, trial.seed)
    assert [trial.is_finished for trial in plan.trials] == [True, True, False, False]


def test_finished_trials_have_nothing_left_to_train(
    planned: Planned, sweep_from: ReadSweep, facts: Facts, home: Home
) -> None:
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    while (asked_trial := ledger.ask(sweep, facts.model_bounds)) is not None:
        ledger.report(asked_trial.number, 10, 0.5)
        ledger.tell_pruned(asked_trial.number)
    plan = planned(ledger=ledger)
    assert plan.examples_left == 0
    assert len(plan.trials) == 24


def test_only_future_choices_of_tpe_are_an_estimate(
    planned: Planned, sweep_from: ReadSweep, facts: Facts, home: Home
) -> None:
    point = "{model: toy:2x64, intermediate.size: 100, target.learning_rate: 1e-4}"
    assert planned(*TPE).is_estimate
    assert not planned(*TPE, "search.sampler=random").is_estimate
    assert not planned(*TPE, f"search.first=[{point}]", "search.trials=1").is_estimate
    assert planned(*TPE, "search.first=[{model: toy:2x64}]", "search.trials=1").is_estimate
    sweep = sweep_from(TEXT, *TPE)
    ledger = open_ledger(home, sweep)
    for _ in range(4):
        ledger.ask(sweep, facts.model_bounds)
    assert not planned(*TPE, ledger=ledger).is_estimate
    assert planned(*TPE, "search.trials=5", ledger=ledger).is_estimate


def test_a_plan_has_the_number_of_trials_of_a_race_and_guesses_which(planned: Planned) -> None:
    plan = planned("search={sampler: random, trials: 8, seeds: {race: {most: 4, keep: 2}}}")
    seeds = Counter(trial.seed for trial in plan.trials)
    assert (seeds, plan.is_estimate) == ({0: 8, 1: 4, 2: 2, 3: 2}, True)
    # A space that is used up has smaller rungs.
    plan = planned("search={sampler: random, trials: 99, seeds: {race: {most: 4, keep: 2}}}")
    assert (len(plan.trials), plan.is_whole_space, plan.is_estimate) == (16, True, True)


def test_a_plan_with_early_stopping_has_every_repeat_and_is_an_upper_bound(
    planned: Planned, sweep_from: ReadSweep, facts: Facts, home: Home
) -> None:
    stop = (
        "early_stop={method: asha, grace: 0.3}",
        "search={sampler: random, trials: 4, seeds: 3}",
    )
    plan = planned(*stop)
    assert (len(plan.trials), plan.is_stopped_early, plan.is_estimate) == (12, True, False)
    assert not planned(stop[1]).is_stopped_early
    seeds = [trial.seed for trial in plan.trials]
    assert seeds == [0] * 4 + [1, 2] * 4, "first repeats, and then the others"
    # As in a sweep whose first repeats all run before one of them ends.
    sweep = sweep_from(TEXT, *stop)
    ledger = open_ledger(home, sweep)
    asked = [ledger.ask(sweep, facts.model_bounds) for _ in range(4)]
    assert [trial.assignment for trial in asked if trial] == [
        trial.assignment for trial in plan.trials[:4]
    ]
    # What was stopped is not repeated; what runs may be.
    ledger.report(0, 10, 0.5)
    ledger.tell_pruned(0)
    ledger.tell_complete(1, 0.5)
    assert len(planned(*stop, ledger=ledger).trials) == 4 + 3 * 2


def test_a_plan_writes_nothing(planned: Planned, home: Home) -> None:
    planned()
    assert not home.root.exists()


def test_a_trial_that_is_not_planned_is_refused(planned: Planned) -> None:
    plan = planned()
    assert plan.trial(23).number == 23
    for number in (24, -1):
        with pytest.raises(LedgerError, match=rf"no trial {number} in this plan; .* is 23"):
            plan.trial(number)


# -- where two trials diverge ----------------------------------------------------------


def diverged(plan: Plan, first: int, second: int) -> tuple[str, dict[str, tuple[Any, Any]]]:
    result = divergence(plan.trial(first), plan.trial(second))
    assert result is not None
    return result.kind, {path: (before, after) for path, before, after in result.differences}


def test_trials_diverge_at_the_first_stage_that_differs(planned: Planned) -> None:
    plan = planned("search.seeds=2")
    assert diverged(plan, 0, 1) == ("target", {"target.seed": (0, 1)})
    assert diverged(plan, 0, 2) == ("target", {"target.learning_rate": (1e-4, 1e-3)})
    assert diverged(plan, 0, 6) == ("intermediate", {"intermediate.size": (100, 200)})
    assert diverged(plan, 0, 15) == ("model", {"model": ("toy:2x64", "toy:4x64")})


def test_trials_diverge_at_a_stage_that_only_one_has(planned: Planned) -> None:
    plan = planned(
        "align={choice: [null, {objective: code_switch_mlm}]}", "search.seeds=1", "model=toy:2x64"
    )
    kind, divergence = diverged(plan, 0, 4)
    assert kind == "align"
    assert divergence["align"][0] is None
    assert str(divergence["align"][1]).startswith("align code_switch_mlm")


def test_equal_trials_share_every_stage(planned: Planned) -> None:
    plan = planned()
    assert divergence(plan.trial(5), plan.trial(5)) is None


def test_trials_on_one_trunk_diverge_at_their_intermediate_stages(planned: Planned) -> None:
    plan = planned("intermediate.schedule={method: wsd}", "search.seeds=1", "model=toy:2x64")
    assert [stage.trials for stage in of_kind(plan, "trunk")] == [(0, 1, 2, 3), (2, 3)]
    assert plan.examples_naive == 4 * (80 + 50) + 2 * (100 + 200)
    assert plan.examples_shared < 80 + (100 + 200) + 4 * 50
    assert diverged(plan, 0, 2) == ("intermediate", {"intermediate.size": (100, 200)})


# -- any sweep --------------------------------------------------------------------

searches = st.fixed_dictionaries(
    {
        "sampler": st.sampled_from(["grid", "random", "tpe"]),
        "trials": st.integers(1, 9),
        "seeds": st.integers(1, 3),
        "seed": st.integers(0, 99),
    }
)
sections = st.fixed_dictionaries(
    {
        "align": st.sampled_from(["null", "{choice: [null, {objective: code_switch_mlm}]}"]),
        "intermediate.seed": st.sampled_from(["shared", "per_trial"]),
        "model": st.sampled_from(["toy:2x64", "{choice: [toy:2x64, toy:4x64]}"]),
    }
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(searches, sections, st.data())
def test_sharing_never_costs_and_every_path_is_in_the_tree(
    sweep_from: ReadSweep,
    facts: Facts,
    tmp_path: Path,
    search: dict[str, Any],
    values: dict[str, str],
    data: st.DataObject,
) -> None:
    overrides = [f"{key}={value}" for key, value in values.items()]
    sweep = sweep_from(TEXT, *overrides, f"search={search}".replace("'", ""))
    store = StageStore(tmp_path / uuid.uuid4().hex)
    plan = plan_of(sweep, facts, store, None)
    stages = {stage.stage.key: stage for stage in plan.stages}
    assert len(stages) == len(plan.stages) <= plan.stages_naive
    assert plan.examples_left == plan.examples_shared <= plan.examples_naive
    assert plan.ratio >= 1
    naive = 0
    for trial in plan.trials:
        parent = None
        for stage in stages_to_run(trial.path):
            assert trial.number in stages[stage.key].trials
            assert stages[stage.key].parent == parent
            naive += stage.num_examples
            parent = stage
    assert naive == plan.examples_naive
    assert sum(len(stage.trials) for stage in plan.stages) == plan.stages_naive

    chosen = data.draw(st.sets(st.sampled_from(sorted(stages))))
    for key in chosen:
        commit(store, stages[key].stage)
    later = plan_of(sweep, facts, store, None)
    assert {stage.stage.key for stage in later.stages if stage.is_in_store} == chosen
    assert later.examples_left <= plan.examples_left
    assert later.examples_shared == plan.examples_shared
    assert not any(stage.is_in_store and stage.is_needed for stage in later.stages)
