"""What stands on a sweep's run: how its trials stand once their driver has left."""

from __future__ import annotations

from typing import Any

from xlt_ray.ledger import Occupation, TrialView, standings
from xlt_ray.tracking.content import LedgerSnapshot, sweep_note


def trial(
    number: int, state: Any, attempts: int, retry_of: int | None = None, driver: str = ""
) -> TrialView:
    return TrialView(
        number=number, state=state, assignment={}, configuration=number, repeat=0, seed=0,
        objective=None, curve=(), attempts=attempts, cause=None, message="", log="", stages=(),
        mlflow_run_id=None, retry_of=retry_of, started=None, ended=None,
        occupied=Occupation(since=1.0 if driver else None, driver=driver),
    )  # fmt: skip


TRIALS = [
    trial(0, "complete", 1),
    trial(1, "failed", 2),
    trial(2, "running", 1, driver="this"),
    trial(3, "running", 0),
    # A retry counts on from the failed trial.
    trial(4, "running", 2, retry_of=1),
    trial(5, "waiting", 2, retry_of=1),
    trial(6, "running", 3, retry_of=1, driver="this"),
    # Left by a driver that died.
    trial(7, "running", 1, driver="dead"),
    # Its process was lost, and it waits for another one.
    trial(8, "running", 1),
]


def test_only_what_has_begun_beyond_the_trial_that_it_repeats_is_at_work() -> None:
    assert [*standings(TRIALS, driver="this").values()] == [
        "complete", "failed", "running", "queued", "queued", "queued", "running", "interrupted",
        "interrupted",
    ]  # fmt: skip
    assert [*standings(TRIALS).values()] == [
        "complete", "failed", "interrupted", "queued", "queued", "queued", "interrupted",
        "interrupted", "interrupted",
    ]  # fmt: skip


def test_a_sweep_that_its_driver_has_left_has_no_running_trial() -> None:
    objective = {"metric": "accuracy", "split": "dev", "languages": "source"}
    sweep = {"name": "t", "objective": objective}
    note = sweep_note(LedgerSnapshot(sweep, tuple(TRIALS), None), {})
    assert "(1 complete, 1 failed, 4 interrupted, 3 queued)" in note
    assert "running" not in note
