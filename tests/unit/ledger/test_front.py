"""Several objectives and constraints: what is on the Pareto front, and what a sweep selects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import cast

import optuna
import pytest

from tests.two_models import SPACE, bounds
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecErrors
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, front_of, load_ledger, open_ledger, rehearsal
from xlt_ray.ledger.front import pareto_front

ReadSweep = Callable[..., SweepSpec]
SEVERAL = (
    "objective=[{metric: accuracy}, worst_language, gpu_hours]",
    "constraints=['Swahili >= 0.5', gpu_hours <= 4]",
)
RANDOM = "search={trials: 99, sampler: random}"


def tell(ledger: Ledger, sweep: SweepSpec, *values: float, **excess: float) -> int:
    trial = ledger.ask(sweep, bounds)
    assert trial is not None
    constraints = {"sw >= 0.5": excess.get("sw", -0.1), "gpu_hours <= 4": excess.get("hours", -1.0)}
    ledger.tell_complete(trial.number, values[0], values[1:], constraints)
    return trial.number


@pytest.mark.parametrize("seeds", ["2", "{race: {}}"])
def test_a_sweep_with_one_objective_has_no_front(
    seeds: str, sweep_from: ReadSweep, tmp_path: Path
) -> None:
    ledger = open_ledger(Home(tmp_path), sweep_from(SPACE, RANDOM, f"search.seeds={seeds}"))
    assert front_of(ledger.trials(), ledger.sweep) == []


def test_the_best_that_keeps_all_constraints_is_selected(
    sweep_from: ReadSweep, tmp_path: Path
) -> None:
    sweep, home = sweep_from(SPACE, RANDOM, *SEVERAL), Home(tmp_path)
    ledger = open_ledger(home, sweep)
    tell(ledger, sweep, 0.9, 0.9, 9.0, hours=5.0)
    assert ledger.best() is None, "it takes more GPU-hours than allowed"
    tell(ledger, sweep, 0.7, 0.6, 1.0)
    tell(ledger, sweep, 0.8, 0.5, 3.0)
    tell(ledger, sweep, 0.8, 0.4, 3.0)
    tell(ledger, sweep, 0.8, 0.5, 2.0)
    tell(ledger, sweep, 0.6, 0.5, 2.0)
    best = load_ledger(home, sweep.name).best()
    assert best is not None
    # Trials 2, 3 and 4 are equal by the first objective, and 4 beats the two others.
    assert (best.configuration, best.objective, best.runner_up) == (4, 0.8, 2)
    points = front_of(ledger.trials(), ledger.sweep)
    assert [point.configuration for point in points] == [4, 1]
    assert str(points[0]) == ("configuration 4: accuracy 0.8, worst_language 0.5, gpu_hours 2")
    assert ledger.trial(0).violated == ("gpu_hours <= 4",)
    # Optuna's own front is the same.
    assert {trial.number for trial in ledger.study.best_trials} == {4, 1}


def test_a_configuration_keeps_a_constraint_on_average_over_its_seeds(
    sweep_from: ReadSweep,
) -> None:
    sweep = sweep_from(SPACE, "search={trials: 2, sampler: random, seeds: 2}", *SEVERAL)
    ledger = rehearsal(sweep)
    for excess in (0.3, -0.2, 0.1, -0.2):
        tell(ledger, sweep, 0.5, 0.5, 1.0, sw=excess)
    ledger.note("sweep", sweep.resolved())
    best = ledger.best()
    assert best is not None
    assert best.configuration == 1
    assert not best.trial.violated, "of its two seeds the one that keeps it"


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_a_search_finds_the_front_that_random_search_does_not(
    sweep_from: ReadSweep, sampler: str
) -> None:
    """Accuracy rises with the rate, and so do GPU-hours; the rest costs and brings nothing."""

    def hypervolume(name: str) -> float:
        sweep = sweep_from(
            SPACE, f"search={{trials: 48, sampler: {name}, seed: 1}}",
            "objective=[{metric: accuracy}, gpu_hours]", "target.epochs={int: [1, 10]}",
        )  # fmt: skip
        ledger = rehearsal(sweep)
        while (trial := ledger.ask(sweep, bounds)) is not None:
            rate = cast(float, trial.assignment["target.learning_rate"]) / 1e-3
            waste = 0.1 * abs(cast(int, trial.assignment["target.epochs"]) - 3)
            waste += 0.4 * ("dlfa" in str(trial.assignment["target.fusion"]))
            ledger.tell_complete(trial.number, rate - waste, [rate + waste])
        points = sorted(trial.values for trial in ledger.study.best_trials)
        volume, before = 0.0, 2.5
        for accuracy, hours in reversed(points):
            volume += max(before - hours, 0.0) * (accuracy + 1.5)
            before = min(before, hours)
        return volume

    assert hypervolume(sampler) > hypervolume("random")


def test_a_violating_region_is_left(sweep_from: ReadSweep) -> None:
    def num_within(*overrides: str) -> int:
        sweep = sweep_from(SPACE, "search={trials: 50, sampler: tpe}", *overrides)
        ledger, rates = rehearsal(sweep), []
        while (trial := ledger.ask(sweep, bounds)) is not None:
            rates.append(cast(float, trial.assignment["target.learning_rate"]))
            excess = {str(bound): rates[-1] / 1e-4 - 1 for bound in sweep.settings.constraints}
            # The better a rate scores, the further it is beyond the bound.
            ledger.tell_complete(trial.number, rates[-1], (), excess)
        return sum(rate <= 1e-4 for rate in rates[25:])

    assert num_within("constraints=[hours <= 1]") > num_within() + 10


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective=[worst_language, hours]", "the first of several objectives must be source"),
        ("objective=[source, speed]", "there is no measure 'speed'"),
        ("objective=[source, hours, hours]", "hours is named twice"),
        ("constraints=[hours < 1]", "must be MEASURE >= NUMBER or MEASURE <= NUMBER"),
        ("constraints=[hours <= fast]", "must be MEASURE >= NUMBER or MEASURE <= NUMBER"),
    ],
)
def test_objectives_and_constraints_that_cannot_be_read(
    sweep_from: ReadSweep, override: str, message: str
) -> None:
    with pytest.raises(SpecErrors, match=message):
        sweep_from(SPACE, RANDOM, override)


def test_no_trial_is_stopped_early_by_one_of_several_objectives(sweep_from: ReadSweep) -> None:
    with pytest.raises(SpecErrors, match="early_stop: a training that is behind in one objective"):
        sweep_from(
            SPACE, RANDOM, "objective=[source, hours]", "early_stop={method: asha, grace: 0.2}"
        )


def test_labels_of_target_languages_are_read_by_what_measures_them(sweep_from: ReadSweep) -> None:
    def is_oracle(*overrides: str) -> bool:
        return sweep_from(SPACE, RANDOM, *overrides).is_oracle

    assert not is_oracle("objective=[source, gpu_hours, model_mb]", "constraints=[qaa >= 0.5]")
    assert is_oracle("constraints=[qab >= 0.5]")
    assert is_oracle("objective=[source, low_resource]")


def test_the_front_is_what_optuna_calls_non_dominated() -> None:
    points = [(float(a * 7 % 11), float(a * 5 % 13), float(a % 3)) for a in range(30)]
    study = optuna.create_study(directions=["maximize"] * 3)
    study.add_trials([optuna.create_trial(values=point) for point in points])
    best = {trial.number for trial in study.best_trials}
    assert {n for n, is_on in enumerate(pareto_front(points)) if is_on} == best


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_drivers_killed_at_random_moments_search_several_objectives_as_an_unbroken_one(
    sweep_from: ReadSweep, tmp_path: Path, sampler: str
) -> None:
    sweep = sweep_from(
        SPACE, f"search={{trials: 22, seeds: 2, sampler: {sampler}}}", *SEVERAL[:1],
        "constraints=[gpu_hours <= 4]",
    )  # fmt: skip

    def asked(name: str, kills: Random | None) -> list[tuple[object, ...]]:
        home = Home(tmp_path / name)
        ledger, running = open_ledger(home, sweep), list[int]()
        while True:
            if kills is not None and kills.random() < 0.3:
                ledger = open_ledger(home, sweep)
            trial = ledger.ask(sweep, bounds) if len(running) < 3 else None
            if trial is not None:
                running.append(trial.number)
            elif not running:
                return [
                    (view.configuration, view.repeat, *view.assignment.items())
                    for view in ledger.trials()
                ]
            else:
                number = running.pop(0)
                rate = 1e3 * cast(float, ledger.trial(number).assignment["target.learning_rate"])
                excess = {"gpu_hours <= 4": 8 * rate - 4}
                ledger.tell_complete(number, rate, [1 - rate, 8 * rate], excess)

    unbroken = asked("unbroken", None)
    assert len(unbroken) == 44
    for seed in range(3):
        assert asked(f"killed {seed}", Random(seed)) == unbroken
