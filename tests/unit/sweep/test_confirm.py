"""The sweep that confirms winners: only their configurations, on fresh seeds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.two_models import bounds
from tests.unit.report.conftest import Finished, facts, quick
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger, sweep_of_ledger
from xlt_ray.report.confirmation import winners
from xlt_ray.report.frames import read_snapshot
from xlt_ray.store.stage_path import path_of
from xlt_ray.sweep.confirm_winners import confirming, fresh_seed

__all__ = ["quick"]

TEXT = """
name: base
data: {source: toy}
model: {choice: ["toy:2x64", "toy:4x64"]}
align: {objective: mlm, steps: 10, seed: shared}
intermediate: {choice: [null, {task: toy-paraphrase, size: {choice: [500, 2000]}},
                        {task: toy-paraphrase, size: 500, seed: per_trial}]}
target:
  task: toy-nli
  source_language: qaa
  size: 800
  fusion: {method: dlfa, layer: {int: [0, num_layers - 1]}}
  learning_rate: {float: [1e-5, 1e-3], log: true}
objective: {metric: accuracy}
search: {sampler: tpe, trials: 12, seeds: 2, training_seed: 5}
early_stop: {method: asha, grace_examples: 100}
budget: {gpu_hours: 1}
"""


WINNER = {"model": "toy:2x64", "intermediate": None, "target.fusion.layer": 1,
          "target.learning_rate": 1e-4}  # fmt: skip


def assignments(sweep: SweepSpec, home: Home) -> list[tuple[dict[str, Any], int]]:
    """What the ledger of a sweep asks, with seeds; every trial ends at once."""
    ledger = open_ledger(home, sweep)
    found = []
    while (asked_trial := ledger.ask(sweep, bounds)) is not None:
        ledger.tell_complete(asked_trial.number, 0.5)
        view = ledger.trial(asked_trial.number)
        found.append((dict(view.assignment), view.seed))
    return found


def test_the_ledger_asks_only_the_winners_each_with_fresh_seeds(home: Home) -> None:
    sweep = sweep_of(parse_document(TEXT, "base.yaml"))
    asked = assignments(sweep, home)
    base = sweep_of_ledger(open_ledger(home, sweep))
    chosen = [asked[number][0] for number in (6, 0, 18)]
    confirmed = confirming(base, chosen, [seed for _, seed in asked], seeds=4)
    again = assignments(confirmed, home)
    assert len(again) == 12
    for number, winner in enumerate(chosen):
        repeats = [seed for point, seed in again if same_but_labels(point, winner)]
        assert sorted(repeats) == [7, 8, 9, 10], number


def same_but_labels(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two assignments are alike but for the option of ``intermediate``."""
    parts = [{k: v for k, v in side.items() if k != "intermediate"} for side in (first, second)]
    options = [side["intermediate"] is None for side in (first, second)]
    return parts[0] == parts[1] and options[0] == options[1]


def test_a_confirmation_trains_the_winner_with_other_seeds(home: Home) -> None:
    sweep = sweep_of(parse_document(TEXT, "base.yaml"))
    known = facts()
    for winner, _ in assignments(sweep, home)[::2]:
        confirmed = confirming(sweep, [winner], [], seeds=2)
        (point,) = confirmed.settings.search.first
        before, after = sweep.trial_of(winner, bounds), confirmed.trial_of(point, bounds)
        apart = {"align": {"seed"}, "intermediate": {"seed"}}
        assert before.model_dump(exclude=apart) == after.model_dump(exclude=apart)
        seed = confirmed.settings.search.training_seed
        paths = [path_of(after, known, seed=own, shared_seed=seed) for own in (seed, seed + 1)]
        for first, second in zip(*(path[1:] for path in paths), strict=True):
            assert first.key != second.key, first.label
            if first.kind != "evaluate":
                assert {first.seed, second.seed} == {seed, seed + 1}


def test_a_confirmation_has_no_early_stopping_and_no_budget() -> None:
    sweep = sweep_of(parse_document(TEXT, "base.yaml"))
    settings = confirming(sweep, [WINNER], [5, 6], seeds=3).settings
    assert settings.name == "base-confirm"
    assert settings.early_stop is None
    assert settings.budget.gpu_hours is None
    search = settings.search
    assert (search.trials, search.seeds, search.training_seed) == (1, 3, 7)
    assert settings.objective == sweep.settings.objective
    assert settings.resources == sweep.settings.resources


def test_a_searched_scope_of_seeds_is_not_a_parameter_any_more() -> None:
    text = TEXT.replace("steps: 10, seed: shared", "steps: 10, seed: {choice: [shared, per_trial]}")
    sweep = sweep_of(parse_document(text, "base.yaml"))
    confirmed = confirming(sweep, [{**WINNER, "align.seed": "shared"}], [], seeds=2)
    (point,) = confirmed.settings.search.first
    assert "align.seed" not in point
    align = confirmed.trial_of(point, bounds).align
    assert align is not None
    assert align.seed == "per_trial"


@given(st.integers(0, 50), st.integers(1, 9), st.lists(st.integers(0, 90)))
def test_fresh_seeds_are_above_all_that_were_or_will_be_used(
    first: int, repeats: int, used: list[int]
) -> None:
    text = TEXT.replace("seeds: 2, training_seed: 5", f"seeds: {repeats}, training_seed: {first}")
    fresh = fresh_seed(sweep_of(parse_document(text, "base.yaml")), used)
    assert fresh not in {*used, *range(first, first + repeats)}
    assert all(fresh > seed for seed in (*used, first + repeats - 1))
    assert fresh - 1 in {*used, first + repeats - 1}


def test_a_confirmation_may_change_how_it_is_run() -> None:
    sweep = sweep_of(parse_document(TEXT, "base.yaml"))
    settings = confirming(
        sweep, [WINNER], [], seeds=2, overrides=["name=again", "resources.workers=2"]
    ).settings
    assert (settings.name, settings.resources.workers) == ("again", 2)


def test_a_configuration_is_not_confirmed_twice() -> None:
    sweep = sweep_of(parse_document(TEXT, "base.yaml"))
    other = {**WINNER, "target.fusion.layer": 0}
    assert confirming(sweep, [WINNER, other], [], seeds=2).settings.search.trials == 2
    with pytest.raises(SpecError, match=r"two of the configurations .* are the same"):
        confirming(sweep, [WINNER, other, WINNER], [], seeds=2)


@pytest.mark.parametrize(
    "override",
    ["target.learning_rate=1", "search.seeds=9", "search.training_seed=0",
     "objective.metric=macro_f1", "resources.precision=bf16", "early_stop=null",
     "resources={zero_stage: 1, precision: bf16}"],
)  # fmt: skip
def test_a_confirmation_may_not_change_what_is_run(override: str) -> None:
    sweep = sweep_of(parse_document(TEXT + "resources: {zero_stage: 1}\n", "base.yaml"))
    with pytest.raises(SpecError, match=r"a different experiment|leave it as it was"):
        confirming(sweep, [WINNER], [], seeds=2, overrides=[override])


def test_winners_are_the_best_configurations_by_their_mean_over_seeds(quick: Finished) -> None:
    snapshot = read_snapshot(quick.ledger, quick.store)

    def seeds(configuration: int) -> list[float]:
        mine = [trial for trial in snapshot.trials if trial.configuration == configuration]
        return [trial.objective for trial in mine if trial.objective is not None]

    candidates = winners(snapshot, 4)
    means = [
        sum(seeds(candidate.configuration)) / len(seeds(candidate.configuration))
        for candidate in candidates
    ]
    assert means == sorted(means, reverse=True)
    full = {
        trial.configuration for trial in snapshot.trials if len(seeds(trial.configuration)) == 3
    }
    assert {candidate.configuration for candidate in candidates} <= full
    assert means[0] == max(sum(seeds(configuration)) / 3 for configuration in full)
    with pytest.raises(LedgerError, match="configurations are complete, not 99; give --top"):
        winners(snapshot, 99)
