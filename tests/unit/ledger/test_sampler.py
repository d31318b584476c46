"""TPE asks the same as Optuna's, and compares trials that were stopped early fairly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from tests.two_models import SPACE
from xlt_ray.config.search_space import Choice, FloatRange, SearchParameter
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.ledger.sampler import Draft, StudyView, sampler_for

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
    draft = Draft(cast(optuna.Study, StudyView(study)), sampler_for(sweep, seed))
    values = {"rate": draft.suggest(SearchParameter("rate", FloatRange(0.0, 1.0)))}
    if float(values["rate"]) < 0.5:
        values["kind"] = draft.suggest(SearchParameter("kind", Choice(("a", "b"))))
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
