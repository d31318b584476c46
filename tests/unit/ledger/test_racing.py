"""Racing of seeds: better configurations get more seeds, and the ledger alone decides which."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.two_models import SPACE, bounds
from xlt_ray.config.seed_race import num_trials, seed_rungs
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, Retry, open_ledger, rehearsal
from xlt_ray.ledger.racing import next_trials
from xlt_ray.ledger.views import ranked

SWEEP = SPACE + "\nsearch: {trials: 24, seeds: {race: {first: 1, most: 8, keep: 3}}}\n"
RUNGS = seed_rungs({"race": {}}, 24)
ReadSweep = Callable[..., SweepSpec]


def score_of(configuration: int, repeat: int) -> float:
    """Standard deviation .02 between configurations and .01 between seeds."""
    quality = random.Random(configuration).gauss(0.6, 0.02)
    return quality + random.Random(f"{configuration} {repeat}").gauss(0.0, 0.01)


def drive(
    ledger: Ledger,
    sweep: SweepSpec,
    slots: int,
    die: Callable[[Ledger], Ledger] = lambda ledger: ledger,
    failing: tuple[int, int] | None = None,
) -> Ledger:
    """Run a sweep with so many slots, some trials longer than others; (configuration, repeat)
    ``failing`` fails. ``die`` gives another ledger after every step, as if the driver had been
    killed there."""
    pace, running = random.Random(0), [*ledger.running()]
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
        view = ledger.trial(number)
        if (view.configuration, view.repeat) == failing:
            ledger.tell_failed(number, "oom", "no room")
        else:
            ledger.tell_complete(number, score_of(view.configuration, view.repeat))
        ledger = die(ledger)


def seeds_of(ledger: Ledger) -> dict[int, set[int]]:
    seeds: dict[int, set[int]] = {}
    for view in ledger.trials():
        seeds.setdefault(view.configuration, set()).add(view.repeat)
    return seeds


@pytest.mark.parametrize("slots", [1, 8])
def test_each_rung_has_the_best_of_the_rung_below(sweep_from: ReadSweep, slots: int) -> None:
    sweep = sweep_from(SWEEP, "search.sampler=random")
    ledger = drive(rehearsal(sweep), sweep, slots)
    seeds, trials = seeds_of(ledger), ledger.trials()
    competing = [*range(24)]
    for rung, above in pairwise(RUNGS):
        means = {
            number: statistics.fmean(score_of(number, repeat) for repeat in range(rung.num_trials))
            for number in competing
        }
        competing = sorted(means, key=lambda number: -means[number])[: above.num_configurations]
        assert {n for n in seeds if seeds[n] >= {*range(above.num_trials)}} == {*competing}
    assert len(trials) == num_trials(RUNGS) == sweep.most_trials == 60
    assert {view.seed for view in trials if view.configuration == competing[0]} == {*range(8)}


def test_a_driver_that_dies_at_every_step_asks_for_the_same_trials(
    tmp_path: Path, sweep_from: ReadSweep
) -> None:
    sweep = sweep_from(SWEEP, "search.trials=9", "search.seeds={race: {most: 5, keep: 2}}")

    def asked(name: str, *, dies: bool) -> list[tuple[object, ...]]:
        home = Home(tmp_path / name)

        def die(ledger: Ledger) -> Ledger:
            return open_ledger(home, sweep) if dies else ledger

        ledger = drive(open_ledger(home, sweep), sweep, 3, die)
        return [
            (view.configuration, view.repeat, view.seed, *view.assignment.items())
            for view in ledger.trials()
        ]

    unbroken = asked("a", dies=False)
    assert unbroken == asked("b", dies=True)
    assert len(unbroken) == sweep.most_trials


def test_a_failed_seed_takes_its_configuration_out_until_it_is_run_again(
    sweep_from: ReadSweep,
) -> None:
    sweep = sweep_from(SWEEP, "search={trials: 5, sampler: random}",
                       "search.seeds={race: {most: 4, keep: 2}}")  # fmt: skip
    best = max(range(5), key=lambda number: score_of(number, 0))
    ledger = drive(rehearsal(sweep), sweep, 1, failing=(best, 1))
    seeds = seeds_of(ledger)
    assert seeds[best] == {0, 1}
    assert sum(seeds[number] == {0, 1, 2, 3} for number in seeds) == 2, "others take its place"
    ledger.enqueue_failed(Retry())
    ledger = drive(ledger, sweep, 1)
    assert seeds_of(ledger)[best] == {0, 1, 2, 3}


Values = list[list[float]]
SCORES = st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan])


def trials_of(values: Values, slots: int, *, maximize: bool) -> set[tuple[int, int]]:
    """All trials of a race in which this many run at a time and end in any order."""
    rungs = seed_rungs({"race": {"most": 4, "keep": 2}}, len(values))
    results: dict[int, dict[int, float | None]] = {number: {} for number in range(len(values))}
    waiting, running, pace = [(number, 0) for number in results], [], random.Random(slots)
    for configuration, repeat in waiting:
        results[configuration][repeat] = None
    while waiting or running:
        while waiting and len(running) < slots:
            running.append(waiting.pop(0))
        configuration, repeat = running.pop(pace.randrange(len(running)))
        results[configuration][repeat] = values[configuration][repeat]
        for number, further in next_trials(results, rungs, maximize=maximize):
            results[number][further] = None
            waiting.append((number, further))
    return {(number, repeat) for number, repeats in results.items() for repeat in repeats}


@given(
    values=st.lists(st.lists(SCORES, min_size=4, max_size=4), min_size=1, max_size=9),
    slots=st.integers(2, 9),
    maximize=st.booleans(),
)
def test_the_trials_of_a_race_do_not_depend_on_the_order_in_which_they_end(
    values: Values, slots: int, maximize: bool
) -> None:
    alone = trials_of(values, 1, maximize=maximize)
    assert trials_of(values, slots, maximize=maximize) == alone


def test_early_stopping_and_a_race_go_together(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(
        SWEEP, "search.trials=4", "search.seeds={race: {first: 2, most: 4, keep: 2}}",
        "search.sampler=random", "early_stop={method: asha, grace: 0.2}",
    )  # fmt: skip
    ledger = rehearsal(sweep)

    def asked() -> tuple[int, int]:
        asked_trial = ledger.ask(sweep, bounds)
        assert asked_trial is not None
        view = ledger.trial(asked_trial.number)
        return view.configuration, view.repeat

    assert [asked() for _ in range(4)] == [(number, 0) for number in range(4)]
    ledger.tell_pruned(0)
    for number in (1, 2, 3):
        ledger.tell_complete(number, number)
    assert [asked() for _ in range(3)] == [(1, 1), (2, 1), (3, 1)]
    assert ledger.ask(sweep, bounds) is None
    ledger.tell_complete(6, 3.0)
    assert ledger.awaits_results(sweep)
    for number in (4, 5):
        ledger.tell_complete(number, 1.0)
    assert [asked() for _ in range(4)] == [(3, 2), (3, 3), (2, 2), (2, 3)]
    assert ledger.ask(sweep, bounds) is None
    assert not ledger.awaits_results(sweep)


def test_more_trials_go_into_the_race(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(SWEEP, "search.sampler=random", "search.trials=12")
    ledger = drive(rehearsal(sweep), sweep, 2)
    more = sweep_from(SWEEP, "search.sampler=random")
    ledger = drive(ledger, more, 2)
    whole = drive(rehearsal(more), more, 2)
    seeds = seeds_of(ledger)
    assert all(seeds[number] >= repeats for number, repeats in seeds_of(whole).items())


def test_the_winner_is_one_of_those_with_the_most_seeds(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(SWEEP, "search.sampler=random")
    ledger = drive(rehearsal(sweep), sweep, 4)
    seeds = seeds_of(ledger)
    order = ranked(ledger.trials(), {"race": {}}, "max")
    numbers = [len(seeds[configuration]) for configuration in order]
    assert numbers == sorted(numbers, reverse=True)
    means = [statistics.fmean(score_of(number, r) for r in seeds[number]) for number in order]
    assert means[:3] == sorted(means[:3], reverse=True)
