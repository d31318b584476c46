"""``search.from``: finished trials of other sweeps, as the sampler and nobody else sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import optuna
import pytest

from tests.unit.sweep.conftest import TEXT, Driver, ReadSweep
from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError, SpecErrors
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger, rehearsal
from xlt_ray.ledger.sampler import StudyView
from xlt_ray.sweep.warm_start import observations_for

FROM = ("name=later", "search={trials: 3, sampler: tpe, from: [t]}")
WIDER = "target.learning_rate={float: [1e-5, 1e-2], log: true}"


@pytest.fixture
def finished(sweep_from: ReadSweep, facts: Facts, home: Home, tmp_path: Path) -> Driver:
    """A grid of four trials, one of which failed."""
    driver = Driver(sweep_from(TEXT), facts, home, tmp_path / "scratch")
    for number in range(4):
        task = driver.next()
        if number == 3:
            driver.fail(task, "broken")
        else:
            driver.complete(task, 0.5 + 0.1 * task.number)
    return driver


def seen(sweep: SweepSpec, finished: Driver) -> list[optuna.trial.FrozenTrial]:
    """The trials that the sampler of a new sweep sees before its first one."""
    ledger = open_ledger(finished.home, sweep)
    for name, observations in observations_for(sweep, finished.facts, finished.home).items():
        ledger.keep_observations(name, observations)
    # From the file, as a later driver reads it.
    ledger = open_ledger(finished.home, sweep)
    assert (ledger.imported, ledger.trials(), ledger.best()) == (("t",), [], None)
    assert ledger.ask(sweep, finished.facts.model_bounds) is not None
    planned = rehearsal(sweep, ledger)
    assert planned.imported == ("t",)
    view = cast(optuna.Study, StudyView(ledger.study, sweep))
    return [trial for trial in view.get_trials() if trial.number < 0]


def test_finished_trials_are_observations_in_the_space_of_the_sweep(
    sweep_from: ReadSweep, finished: Driver
) -> None:
    """The rate is a choice there and a range here."""
    trials = seen(sweep_from(TEXT, *FROM, WIDER), finished)
    assert [trial.value for trial in trials] == [
        view.objective for view in finished.ledger.trials() if view.state == "complete"
    ]
    rate = optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True)
    assert all(trial.distributions["target.learning_rate"] == rate for trial in trials)
    assert [trial.params for trial in trials] == [
        dict(view.assignment) for view in finished.ledger.trials() if view.state == "complete"
    ]


def test_trials_outside_the_space_are_left_out(sweep_from: ReadSweep, finished: Driver) -> None:
    trials = seen(sweep_from(TEXT, *FROM, "intermediate.size=100"), finished)
    sizes = [view.assignment["intermediate.size"] for view in finished.ledger.trials()[:3]]
    assert 0 < len(trials) == sizes.count(100) < 3
    assert all(set(trial.params) == {"target.learning_rate"} for trial in trials)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("target.epochs=9", "none of its 3 finished trials is a trial of this sweep"),
        ("objective.metric=macro_f1", "has another objective"),
        ("search.from=[u]", "there is no sweep 'u'"),
    ],
)
def test_a_sweep_that_does_not_compare_is_refused(
    sweep_from: ReadSweep, finished: Driver, override: str, message: str
) -> None:
    with pytest.raises(LedgerError, match=message):
        observations_for(sweep_from(TEXT, *FROM, override), finished.facts, finished.home)


def test_trials_on_other_data_are_no_observations(sweep_from: ReadSweep, finished: Driver) -> None:
    nli = finished.facts.tasks["nli"]
    splits = {where: replace(split, digest="0" * 64) for where, split in nli.splits.items()}
    tasks = {**finished.facts.tasks, "nli": replace(nli, splits=splits)}
    with pytest.raises(LedgerError, match="made with other data"):
        observations_for(
            sweep_from(TEXT, *FROM), replace(finished.facts, tasks=tasks), finished.home
        )


def test_a_sweep_does_not_start_from_itself(sweep_from: ReadSweep) -> None:
    with pytest.raises(SpecErrors, match="a sweep cannot start from itself"):
        sweep_from(TEXT, "search.from=[t]")
