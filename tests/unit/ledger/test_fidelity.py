"""Configurations begin with a small value of a parameter, and the better ones get larger ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.two_models import SPACE, bounds
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecErrors
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, Retry, open_ledger, rehearsal
from xlt_ray.ledger.views import Winner, ranked, winner

SIZES = (1000, 2000, 4000)
OVER = "intermediate.size"
LADDER = "intermediate={task: nli, schedule: wsd, size: {choice: [1000, 2000, 4000]}}"
SEARCH = (
    "search={trials: 12, sampler: random, seeds: 2, fidelity: {over: intermediate.size, keep: 3}}"
)
ReadSweep = Callable[..., SweepSpec]


@pytest.fixture
def sweep(sweep_from: ReadSweep) -> SweepSpec:
    return sweep_from(SPACE + "\nsearch: {trials: 1}\n", LADDER, SEARCH)


def score_of(ledger: Ledger, number: int) -> float:
    """Larger sizes score higher, whatever else differs."""
    view = ledger.trial(number)
    quality = random.Random(f"{view.assignment['target.learning_rate']}").random()
    return float(view.assignment[OVER]) + quality + view.repeat / 100  # type: ignore[arg-type]


def drive(
    ledger: Ledger,
    sweep: SweepSpec,
    die: Callable[[Ledger], Ledger] = lambda ledger: ledger,
    fails: Callable[[int], bool] = lambda _: False,
    slots: int = 3,
) -> Ledger:
    """Run a sweep; ``die`` gives another ledger after every step, as a killed driver leaves it."""
    pace, running = random.Random(slots), [*ledger.running()]
    while True:
        while len(running) < slots:
            asked_trial = ledger.ask(sweep, bounds)
            ledger = die(ledger)
            if asked_trial is None:
                break
            running.append(asked_trial.number)
        if not running:
            assert not ledger.awaits_results(sweep)
            return ledger
        number = running.pop(pace.randrange(len(running)))
        if fails(number):
            ledger.tell_failed(number, "oom", "no room")
        else:
            ledger.tell_complete(number, score_of(ledger, number))
        ledger = die(ledger)


def best_of(ledger: Ledger) -> Winner:
    best = winner(ledger.trials(), 2, "max")
    assert best is not None
    return best


def test_the_best_of_a_rung_are_trained_with_the_next_value(sweep: SweepSpec) -> None:
    ledger = drive(rehearsal(sweep), sweep)
    trials = ledger.trials()
    assert Counter(view.rung for view in trials) == {0: 12, 1: 6, 2: 3 * 2}
    assert len(trials) == sweep.most_trials
    assert all(view.assignment[OVER] == SIZES[view.rung or 0] for view in trials)
    first = {view.origin: view for view in trials if view.rung == 0}
    order = sorted(first, key=lambda origin: -score_of(ledger, first[origin].number))
    for rung, number in ((1, 6), (2, 3)):
        assert {view.origin for view in trials if view.rung == rung} == {*order[:number]}
    for view in trials:
        same = {**first[view.origin].assignment, OVER: view.assignment[OVER]}
        assert view.assignment == same, "only the size differs from the lowest rung"
    # Each rung of a configuration is a configuration of its own; repeats share one.
    assert len({view.configuration for view in trials}) == 12 + 6 + 3
    assert {view.repeat for view in trials if view.rung == 2} == {0, 1}


def test_selection_compares_the_highest_rung_alone(sweep: SweepSpec) -> None:
    ledger = rehearsal(sweep)

    def complete(rung: int | None) -> float:
        return 1.0 - (rung or 0) / 10

    while (asked_trial := ledger.ask(sweep, bounds)) is not None:
        # The larger the size, the lower the score.
        view = ledger.trial(asked_trial.number)
        ledger.tell_complete(view.number, complete(view.rung))
    rungs = {view.configuration: view.rung for view in ledger.trials()}
    order = [rungs[number] for number in ranked(ledger.trials(), 2, "max")]
    assert order == [2] * 3 + [1] * 6 + [0] * 12
    best = best_of(ledger)
    assert best.trial.rung == 2
    assert best.objective == pytest.approx(0.8)


def test_a_driver_that_dies_at_random_moments_asks_for_the_same_trials(
    tmp_path: Path, sweep: SweepSpec
) -> None:
    def asked(name: str, chance: float, slots: int) -> list[tuple[object, ...]]:
        home, moment = Home(tmp_path / name), random.Random(name)

        def die(ledger: Ledger) -> Ledger:
            return open_ledger(home, sweep) if moment.random() < chance else ledger

        ledger = drive(open_ledger(home, sweep), sweep, die, slots=slots)
        return [
            (view.configuration, view.origin, view.rung, view.repeat, view.seed, view.assignment)
            for view in ledger.trials()
        ]

    unbroken = asked("unbroken", 0.0, 3)
    assert [asked(name, 0.4, 3) for name in "abc"] == [unbroken] * 3

    def trials(rows: list[tuple[object, ...]]) -> set[str]:
        # By what they train: the number of a promoted configuration follows the order.
        return {str(row[1:]) for row in rows}

    assert trials(asked("eight", 0.2, 8)) == trials(unbroken)


def test_a_failed_trial_takes_its_configuration_out_until_it_is_run_again(
    sweep: SweepSpec,
) -> None:
    best = best_of(drive(rehearsal(sweep), sweep)).trial.origin
    ledger = rehearsal(sweep)

    def fails(number: int) -> bool:
        view = ledger.trial(number)
        return view.origin == best and view.rung == 1

    drive(ledger, sweep, fails=fails)
    last = {view.origin for view in ledger.trials() if view.rung == 2}
    assert len(last) == 3
    assert best not in last
    ledger.enqueue_failed(Retry())
    drive(ledger, sweep)
    again = best_of(ledger)
    assert again.trial.origin == best
    assert again.trial.rung == 2


def test_more_trials_begin_at_the_lowest_rung(sweep: SweepSpec, sweep_from: ReadSweep) -> None:
    ledger = drive(rehearsal(sweep), sweep)
    more = sweep_from(SPACE + "\nsearch: {trials: 1}\n", LADDER, SEARCH, "search.trials=20")
    trials = drive(ledger, more).trials()
    whole = drive(rehearsal(more), more).trials()

    def tried(rung: int, views: list) -> set[str]:  # type: ignore[type-arg]
        return {str(sorted(view.assignment.items())) for view in views if view.rung == rung}

    assert tried(0, trials) == tried(0, whole)
    assert tried(1, trials) >= tried(1, whole)
    assert tried(2, trials) >= tried(2, whole)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("intermediate.size=1000",), "not one choice of increasing whole numbers"),
        (("intermediate.size={choice: [2000, 1000]}",), "not one choice of increasing"),
        (("intermediate={choice: [null, {task: nli, size: {choice: [1, 2]}}]}",),
         "some configurations have no intermediate.size"),
        (("search.seeds={race: {}}",), "a race of seeds and a fidelity exclude each other"),
        (("early_stop={method: asha, grace: 0.2}",), "trainings of different rungs"),
        (("objective=[source, worst_language]",), "by one objective"),
        (("search.first=[{intermediate.size: 2000}]",), "a point cannot set intermediate.size"),
        (("search.fidelity.over=target.learning_rate",), "search.fidelity.over"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    sweep_from: ReadSweep, overrides: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(SpecErrors) as refused:
        sweep_from(SPACE + "\nsearch: {trials: 1}\n", LADDER, SEARCH, *overrides)
    assert problem in str(refused.value)
