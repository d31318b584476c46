"""One driver a sweep: the one that was taken for dead notices, and writes nothing more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.sweep.test_scheduler import TEXT, MakeWorld, ReadSweep
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger.access import sole_driver
from xlt_ray.sweep.failures import find_ledger_error
from xlt_ray.sweep.tasks import Report


def take_over(home: Home, name: str) -> None:
    """Another driver, a minute after this one fell silent."""
    file = home.root / home.driver_lease(name)
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({**tree, "token": "another", "pid": 1}))


@pytest.fixture
def sweep(sweep_from: ReadSweep) -> SweepSpec:
    return sweep_from(TEXT)


def test_a_driver_that_slept_and_was_replaced_is_told_so(
    home: Home, sweep: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sole_driver(home, sweep.name, sweep.settings.places.ledger) as confirm:
        confirm()
        later = time.time() + 7200
        monkeypatch.setattr(time, "time", lambda: later)
        confirm()
        take_over(home, "t")
        with pytest.raises(LedgerError, match=r"t: this driver stalled.*taken over the sweep"):
            confirm()


def test_while_its_lease_is_fresh_a_driver_asks_nobody(home: Home, sweep: SweepSpec) -> None:
    with sole_driver(home, sweep.name, sweep.settings.places.ledger) as confirm:
        take_over(home, "t")
        confirm()


@pytest.mark.parametrize("event", ["next", "hear", "finish", "close"])
def test_a_desk_that_has_lost_its_sweep_writes_nothing(
    world: MakeWorld, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world()
    task = at.next()
    at.begin(task)
    before = Path(at.home.ledger_journal("t")).read_bytes()

    def lost() -> None:
        raise LedgerError("another driver has it")

    monkeypatch.setattr(at.scheduler, "_confirm_ownership", lost)
    happen: dict[str, Callable[[], object]] = {
        "next": at.scheduler.next_task,
        "hear": lambda: at.evaluated(task.number, 10, 0.5),
        "finish": lambda: at.scheduler.finish(task.number, Report("failed", cause="nan")),
        "close": lambda: at.scheduler.close(is_finished=False),
    }
    with pytest.raises(LedgerError):
        happen[event]()
    assert Path(at.home.ledger_journal("t")).read_bytes() == before


def test_a_refusal_is_found_in_what_tune_wraps_around_it() -> None:
    refusal = LedgerError("another driver has it")
    wrapped = RuntimeError("Trial runner failed")
    wrapped.__context__ = refusal
    assert find_ledger_error(wrapped) is refusal
    assert find_ledger_error(OSError(28, "No space left on device")) is None
