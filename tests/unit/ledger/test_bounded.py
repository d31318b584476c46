"""The bound on what TPE looks at: nothing changes below it, and nothing good is forgotten."""

from __future__ import annotations

import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from xlt_ray.ledger.sampler import NUM_BEST, BoundedTPE, History

RATE = optuna.distributions.FloatDistribution(0.0, 1.0)
STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


def trial(number: int, state: TrialState, value: float) -> FrozenTrial:
    is_valued = state == TrialState.COMPLETE
    found = create_trial(
        state=state,
        params={"rate": value},
        distributions={"rate": RATE},
        value=value if is_valued else None,
        intermediate_values={1: value} if state == TrialState.PRUNED else None,
    )
    found.number = number
    return found


def study_of(num_trials: int) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for number in range(num_trials):
        study.add_trial(trial(number, TrialState.COMPLETE, (number * 37 % 101) / 101))
    return study


def asked(study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> dict[str, float]:
    study.sampler = sampler
    one = study.ask()
    one.suggest_float("rate", 0.0, 1.0)
    if one.params["rate"] < 0.5:
        one.suggest_categorical("kind", ["a", "b"])
    return dict(one.params)


@pytest.mark.parametrize("num_trials", [0, 5, 40])
def test_below_the_bound_it_asks_what_optuna_asks(num_trials: int) -> None:
    for seed in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            own = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True
            )
        expected = asked(study_of(num_trials), own)
        assert asked(study_of(num_trials), BoundedTPE(seed, History())) == expected


def test_above_the_bound_it_asks_from_what_it_sees() -> None:
    rates = [asked(study_of(200), BoundedTPE(seed, History(30)))["rate"] for seed in range(20)]
    assert len(set(rates)) > 1
    assert sum(rates) / len(rates) > 0.8, "the best of all trials lie there"


@settings(max_examples=40)
@given(
    outcomes=st.lists(st.tuples(st.sampled_from(STATES), st.floats(0, 1)), max_size=120),
    history=st.integers(1, 20),
    direction=st.sampled_from([StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]),
)
def test_the_best_the_latest_and_those_that_run_are_seen(
    outcomes: list[tuple[TrialState, float]], history: int, direction: StudyDirection
) -> None:
    trials = [trial(number, *outcome) for number, outcome in enumerate(outcomes)]
    seen = History(history).seen(trials, direction)
    numbers = [one.number for one in seen]
    assert numbers == sorted(set(numbers))
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert {one.number for one in ended[-history:]} <= set(numbers)
    assert {trial.number for trial in trials if trial.state == TrialState.RUNNING} <= set(numbers)
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    values = sorted((sign * one.values[0] for one in ended if one.values), reverse=True)
    best = sorted((sign * one.values[0] for one in seen if one.values), reverse=True)
    assert best[:NUM_BEST] == values[:NUM_BEST]
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    assert len(ended) <= history or len(seen) <= history + NUM_BEST + running


@settings(max_examples=40)
@given(
    outcomes=st.lists(
        st.tuples(st.sampled_from(STATES), st.floats(0, 1), st.integers(0, 20)), max_size=60
    ),
    looks=st.lists(st.integers(1, 80), max_size=6),
)
def test_what_is_kept_up_from_ask_to_ask_is_what_one_look_finds(
    outcomes: list[tuple[TrialState, float, int]], looks: list[int]
) -> None:
    """Trials are asked one after another, and end some moments later."""
    kept_up = History(5)
    for now in [*sorted(looks), 100]:
        trials = [
            trial(number, state if number + moments < now else TrialState.RUNNING, value)
            for number, (state, value, moments) in enumerate(outcomes)
            if number < now
        ]
        found, once = (
            [one.number for one in history.seen(trials, StudyDirection.MAXIMIZE)]
            for history in (kept_up, History(5))
        )
        assert found == once


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
    rates = [asked(study, BoundedTPE(seed, History()))["rate"] for seed in range(20)]
    assert sum(rates) / len(rates) > 0.6
