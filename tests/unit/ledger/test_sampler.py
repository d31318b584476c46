"""TPE asks the same as Optuna's, and compares trials that were stopped early fairly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from tests.two_models import SPACE, bounds
from xlt_ray.config.search_space import Choice, FloatRange, SearchParameter
from xlt_ray.config.sweep import SAMPLERS, SweepSpec
from xlt_ray.ledger import rehearsal
from xlt_ray.ledger.sampler import Draft, StudyView, sampler_for
from xlt_ray.ledger.samplers import chosen_for

RATE = optuna.distributions.FloatDistribution(0.0, 1.0)


def study_of(num_trials: int) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for number in range(num_trials):
        rate = (number * 37 % 101) / 101
        study.add_trial(
            create_trial(params={"rate": rate}, distributions={"rate": RATE}, value=rate)
        )
    return study


def drawn(study: optuna.Study, sweep: SweepSpec, seed: int) -> dict[str, Any]:
    draft = Draft(cast(optuna.Study, StudyView(study, sweep)), sampler_for(sweep, seed), seed)

    def suggest(name: str, distribution: Any) -> Any:
        parameter = SearchParameter(name, distribution)
        return draft.note(parameter, draft.suggest(parameter))

    values = {"rate": suggest("rate", FloatRange(0.0, 1.0))}
    if float(values["rate"]) < 0.5:
        values["kind"] = suggest("kind", Choice(("a", "b")))
    return values


@pytest.fixture
def sweep(sweep_from: Callable[..., SweepSpec]) -> SweepSpec:
    """Its sampler of configuration ``n`` has the seed ``n``."""
    return sweep_from(SPACE + "search: {trials: 9, sampler: tpe, seed: 0, seeds: 1}")


@pytest.mark.parametrize("num_trials", [0, 5, 40])
def test_it_asks_what_optuna_asks(sweep: SweepSpec, num_trials: int) -> None:
    for seed in range(5):
        study = study_of(num_trials)
        study.sampler = sampler_for(sweep, seed)
        trial = study.ask()
        trial.suggest_float("rate", 0.0, 1.0)
        if trial.params["rate"] < 0.5:
            trial.suggest_categorical("kind", ["a", "b"])
        assert drawn(study_of(num_trials), sweep, seed) == trial.params


def test_trials_that_were_stopped_early_compare_whatever_their_lengths(sweep: SweepSpec) -> None:
    """Of two sizes of training the larger one is worse, and was stopped after more examples."""
    study = optuna.create_study(direction="maximize")
    for number in range(40):
        rate, is_long = number / 40, number % 2
        value = (0.9 if rate > 0.7 else 0.1) - 0.05 * is_long
        examples = 1000 if is_long and rate < 0.7 else 100
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"rate": rate},
                distributions={"rate": RATE},
                intermediate_values={examples: value},
            )
        )
    rates = [drawn(study, sweep, seed)["rate"] for seed in range(20)]
    assert sum(rates) / len(rates) > 0.6


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_comes_next_follows_from_the_ledger_alone(
    sweep_from: Callable[..., SweepSpec], name: str
) -> None:
    """A driver that dies before every ask draws what one driver draws."""
    sweep = sweep_from(
        SPACE, f"search={{trials: 12, sampler: {name}, seed: 3}}",
        "target.learning_rate={choice: [1e-5, 3e-5, 1e-4, 3e-4]}",
    )  # fmt: skip

    def asked(*, dies: bool) -> list[dict[str, Any]]:
        ledger, assignments = rehearsal(sweep), []
        while (trial := ledger.ask(sweep, bounds)) is not None:
            assignments.append(dict(trial.assignment))
            ledger.tell_complete(trial.number, len(str(trial.assignment)) % 7)
            if dies:
                ledger = rehearsal(sweep, ledger)
        return assignments

    assert asked(dies=False) == asked(dies=True)


def test_a_parameter_of_some_configurations_is_drawn_to_suit_the_others(
    sweep_from: Callable[..., SweepSpec],
) -> None:
    """Lower layers are as good as higher ones, but each at its own epsilon."""
    sweep = sweep_from(SPACE, "search={trials: 90, sampler: tpe}", "model=toy:4x64",
                       "target.fusion={method: dlfa, layer: {int: [0, 3]}}",
                       "target.robust={choice: [{method: none}, {method: random, "
                       "epsilon: {float: [0.01, 1.0]}}]}")  # fmt: skip
    suits = []
    ledger = rehearsal(sweep)
    while (trial := ledger.ask(sweep, bounds)) is not None:
        values = trial.assignment
        is_high = cast(int, values["target.fusion.layer"]) > 1
        epsilon = cast(float, values.get("target.robust.epsilon", 0.5))
        off = abs(epsilon - (0.9 if is_high else 0.1))
        if "target.robust.epsilon" in values:
            suits.append(off < 0.4)
        ledger.tell_complete(trial.number, 1.0 - off)
    assert sum(suits[-30:]) >= 25


def test_cmaes_draws_nearer_and_nearer_to_the_best(
    sweep_from: Callable[..., SweepSpec],
) -> None:
    sweep = sweep_from(SPACE, "search={trials: 70, sampler: cmaes}", "target.fusion={method: none}",
                       "target.learning_rate={float: [0.0001, 1.0]}",
                       "target.weight_decay={float: [0.0, 1.0]}")  # fmt: skip
    ledger, distances = rehearsal(sweep), []
    while (trial := ledger.ask(sweep, bounds)) is not None:
        rate, decay = (
            cast(float, trial.assignment[f"target.{name}"])
            for name in ("learning_rate", "weight_decay")
        )
        distances.append(np.hypot(rate - 0.8, decay - 0.3))
        ledger.tell_complete(trial.number, -float(distances[-1]))
    assert np.mean(distances[-10:]) < 0.25 * np.mean(distances[:10])


@pytest.mark.parametrize(
    ("overrides", "sampler"),
    [
        ((), "Tpe"),
        (("model=toy:4x64", "target.fusion={method: none}"), "gp"),
        (("model=toy:4x64", "target.fusion={method: none}", "search.trials=65"), "CmaEs"),
    ],
)
def test_auto_takes_what_suits_the_space(
    sweep_from: Callable[..., SweepSpec], overrides: tuple[str, ...], sampler: str
) -> None:
    sweep = sweep_from(SPACE, "search={trials: 9, sampler: auto}", *overrides)
    assert chosen_for(sweep).__name__ == sampler


def test_nsgaii_crosses_the_best(sweep_from: Callable[..., SweepSpec]) -> None:
    sweep = sweep_from(SPACE, "search={trials: 80, sampler: nsgaii}",
                       "target.learning_rate={float: [1e-5, 1e-3]}")  # fmt: skip
    ledger, rates = rehearsal(sweep), []
    while (trial := ledger.ask(sweep, bounds)) is not None:
        rates.append(cast(float, trial.assignment["target.learning_rate"]))
        ledger.tell_complete(trial.number, rates[-1])
    inherited = [rate for index, rate in enumerate(rates) if rate in rates[:index]]
    assert len(inherited) > 10, "random draws repeat no rate"
    assert np.mean(inherited) > np.mean(rates[:16])


def test_qmc_fills_every_coordinate_evenly(sweep_from: Callable[..., SweepSpec]) -> None:
    """Of 16 points of a Sobol sequence, one lies in each sixteenth of every coordinate."""
    sweep = sweep_from(SPACE, "search={trials: 16, sampler: qmc, seed: 5}",
                       "target.learning_rate={float: [1e-5, 2e-5]}")  # fmt: skip
    ledger, drawn = rehearsal(sweep), []
    while (trial := ledger.ask(sweep, bounds)) is not None:
        drawn.append(trial.assignment)
    rates = [cast(float, assignment["target.learning_rate"]) for assignment in drawn]
    assert sorted(int(16 * (rate - 1e-5) / 1e-5) for rate in rates) == list(range(16))
    models = [assignment["model"] for assignment in drawn]
    assert models.count(models[0]) == 8
