"""Bring MLflow to what the ledger says: after a crash, a lost server, a deleted database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlt_ray.ledger import Ledger, TrialView
from xlt_ray.stages.record import Score
from xlt_ray.stages.store import StageStore
from xlt_ray.tracking.connection import complaints
from xlt_ray.tracking.facts import STATUS
from xlt_ray.tracking.runs import Tracker


def project(
    ledger: Ledger,
    store: StageStore,
    tracker: Tracker,
    configs: Mapping[int, Mapping[str, Any]],
    *,
    is_alive: bool = True,
) -> dict[int, str]:
    """Give every trial that was begun one run, with true status and nothing missing.

    A retry shares the run of the trial that it retries. May be repeated: nothing is doubled.

    Args:
        configs: resolved trials by number; a trial that is not in it gets no ``config.json``.
        is_alive: whether a driver is at work on this sweep. If not, trials that the ledger
            has as running are shown as KILLED: stopped, to go on later.

    Returns:
        The run of every trial, by number; after a rebuild these are not the ledger's.

    Raises:
        TrackingError: MLflow cannot be used.
        DamagedStage: a record of scores cannot be read.
    """
    with complaints(tracker.uri):
        tracker.open(ledger)
        runs = tracker.runs()
        # A trial that was asked for and never begun has nothing to show.
        trials = [view for view in ledger.trials() if view.is_finished or view.attempts]
        retried = {view.retry_of: view for view in trials if view.retry_of is not None}
        found: dict[int, str] = {}
        # The last of a chain of retries first: its run is the run of them all.
        for view in reversed(trials):
            if view.number in retried:
                found[view.number] = found[retried[view.number].number]
                continue
            run = tracker.find(view, runs)
            if run is None:
                run = next(
                    (there for old in _retried_by(view, trials)
                     if (there := tracker.find(old, runs)) is not None),
                    None,
                ) or tracker.make(view)  # fmt: skip
            found[view.number] = run.info.run_id
            tracker.describe(run, view, configs.get(view.number, {}), view.assignment)
            if view.is_finished:
                tracker.close(run, view, _scores(view, store), {})
            elif not is_alive and run.info.status == STATUS["running"]:
                tracker.stop_trial(run.info.run_id)
            elif is_alive and run.info.status != STATUS["running"]:
                tracker.mark_running(run.info.run_id)
        unfinished = any(not view.is_finished for view in ledger.trials())
        if is_alive and unfinished:
            tracker.mark_running(tracker.open(ledger))
        else:
            tracker.end(ledger, "KILLED" if unfinished else "FINISHED")
        return dict(sorted(found.items()))


def _retried_by(view: TrialView, trials: list[TrialView]) -> list[TrialView]:
    """The trials that a retry goes back to, the latest first."""
    by_number = {one.number: one for one in trials}
    chain: list[TrialView] = []
    while view.retry_of is not None:
        view = by_number[view.retry_of]
        chain.append(view)
    return chain


def _scores(view: TrialView, store: StageStore) -> tuple[Score, ...]:
    record = store.record(view.evaluation_key) if view.evaluation_key else None
    return () if record is None else record.scores
