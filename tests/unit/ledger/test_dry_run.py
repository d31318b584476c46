"""A rehearsal asks the same trials as the real ledger, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.two_models import GRID, SPACE, bounds
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import AskedTrial, Ledger, find_ledger, load_ledger, open_ledger, rehearsal

TEXT = SPACE + "search: {trials: 6, sampler: random, seed: 7, seeds: 2}"
FIRST = "search.first=[{model: toy:4x64, target.learning_rate: 5e-4}]"
SWEEPS = {"random": (), "random with first points": (FIRST,), "grid": GRID}
ReadSweep = Callable[..., SweepSpec]


def ask_all(ledger: Ledger, sweep: SweepSpec) -> list[AskedTrial]:
    """All that is left to be asked."""
    asked_trials = []
    while (asked_trial := ledger.ask(sweep, bounds)) is not None:
        asked_trials.append(asked_trial)
    return asked_trials


def run_through(ledger: Ledger, sweep: SweepSpec) -> list[AskedTrial]:
    """Ask and tell, two trials at a time, some of which fail."""
    asked_trials: list[AskedTrial] = []
    while (asked_trial := ledger.ask(sweep, bounds)) is not None:
        asked_trials.append(asked_trial)
        if asked_trial.number % 2:
            ledger.tell_complete(asked_trial.number - 1, 0.1 * asked_trial.number)
            ledger.tell_failed(asked_trial.number, "oom", "no room")
    return asked_trials


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overrides", SWEEPS.values(), ids=SWEEPS)
def test_a_rehearsal_asks_what_the_real_ledger_asks(
    home: Home, sweep_from: ReadSweep, overrides: tuple[str, ...]
) -> None:
    sweep = sweep_from(TEXT, *overrides)
    rehearsed = ask_all(rehearsal(sweep), sweep)
    assert len(rehearsed) >= 6
    assert rehearsed == run_through(open_ledger(home, sweep), sweep)


def test_tpe_is_predicted_exactly_before_it_has_scores(home: Home, sweep_from: ReadSweep) -> None:
    sweep = sweep_from(TEXT, "search={trials: 10, sampler: tpe}")
    real = run_through(open_ledger(home, sweep), sweep)
    assert ask_all(rehearsal(sweep), sweep)[:8] == real[:8]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("num_asked", range(1, 6))
def test_a_rehearsal_goes_on_from_what_the_ledger_has(
    home: Home, sweep_from: ReadSweep, sampler: str, num_asked: int
) -> None:
    sweep = sweep_from(TEXT, f"search.sampler={sampler}")
    ledger = open_ledger(home, sweep)
    for _ in range(num_asked):
        ledger.ask(sweep, bounds)
    ledger.tell_complete(0, 0.5)
    rehearsed = rehearsal(sweep, load_ledger(home, "t"))
    assert rehearsed.trials() == ledger.trials()
    assert ask_all(rehearsed, sweep) == ask_all(ledger, sweep)


def test_trials_that_wait_to_be_run_again_are_asked_first(
    home: Home, sweep_from: ReadSweep
) -> None:
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    first = ledger.ask(sweep, bounds)
    assert first is not None
    ledger.tell_failed(0, "oom", "no room")
    assert ledger.enqueue_failed() == [0]
    again = ask_all(rehearsal(sweep, ledger), sweep)[0]
    assert (again.number, again.assignment) == (1, first.assignment)


def test_a_rehearsal_changes_nothing(home: Home, sweep_from: ReadSweep) -> None:
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    ledger.ask(sweep, bounds)
    before, trials = files(home.root), ledger.trials()
    read_only = find_ledger(home, sweep)
    assert read_only is not None
    rehearsed = rehearsal(sweep, read_only)
    ask_all(rehearsed, sweep)
    rehearsed.tell_complete(0, 0.5)
    assert files(home.root) == before
    assert ledger.trials() == read_only.trials() == trials


# -- finding the ledger of a sweep --------------------------------------------------------


def test_a_sweep_that_was_not_started_has_no_ledger(home: Home, sweep_from: ReadSweep) -> None:
    assert find_ledger(home, sweep_from(TEXT)) is None
    assert not home.root.exists()


def test_a_sweep_that_began_on_a_full_disk_begins_again(home: Home, sweep_from: ReadSweep) -> None:
    sweep, journal = sweep_from(TEXT), home.ledger_journal("t")
    journal.parent.mkdir(parents=True)
    journal.touch()
    assert find_ledger(home, sweep) is None
    assert open_ledger(home, sweep).ask(sweep, bounds) is not None
    assert find_ledger(home, sweep) is not None


def test_a_ledger_of_another_sweep_is_refused_for_reading_too(
    home: Home, sweep_from: ReadSweep
) -> None:
    open_ledger(home, sweep_from(TEXT))
    ledger = find_ledger(home, sweep_from(TEXT, "search.trials=9"))
    assert ledger is not None
    assert ledger.name == "t"
    with pytest.raises(LedgerError, match=r"differs in search.seeds: 2 -> 5"):
        find_ledger(home, sweep_from(TEXT, "search.seeds=5"))


def test_a_sweep_file_may_leave_out_what_is_a_default_when_it_is_continued(
    home: Home, sweep_from: ReadSweep
) -> None:
    open_ledger(home, sweep_from(TEXT, "target.epochs=3", "target.select=best"))
    assert find_ledger(home, sweep_from(TEXT)) is not None
    with pytest.raises(LedgerError, match=r"differs in space.target.epochs: 3 -> 4"):
        find_ledger(home, sweep_from(TEXT, "target.epochs=4"))
