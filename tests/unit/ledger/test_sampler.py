"""TPE asks what Optuna's does, and compares trials that were stopped early fairly."""

from __future__ import annotations

import warnings

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from xlt_ray.ledger.sampler import TPE

RATE = optuna.distributions.FloatDistribution(0.0, 1.0)


def study_of(num_trials: int) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for number in range(num_trials):
        rate = (number * 37 % 101) / 101
        study.add_trial(
            create_trial(params={"rate": rate}, distributions={"rate": RATE}, value=rate)
        )
    return study


def asked(study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> dict[str, float]:
    study.sampler = sampler
    trial = study.ask()
    trial.suggest_float("rate", 0.0, 1.0)
    if trial.params["rate"] < 0.5:
        trial.suggest_categorical("kind", ["a", "b"])
    return dict(trial.params)


@pytest.mark.parametrize("num_trials", [0, 5, 40])
def test_it_asks_what_optuna_asks(num_trials: int) -> None:
    for seed in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optunas = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True
            )
        expected = asked(study_of(num_trials), optunas)
        assert asked(study_of(num_trials), TPE(seed)) == expected


def test_of_trials_that_were_stopped_alike_the_better_are_good_whatever_their_lengths() -> None:
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
    rates = [asked(study, TPE(seed))["rate"] for seed in range(20)]
    assert sum(rates) / len(rates) > 0.6
