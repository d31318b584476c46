"""The courier of one sweep: what MLflow is told as it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore
from xlt_ray.tracking import LedgerSnapshot, MlflowWriter, Outbox, Tracker, project


def writer_for(
    sweep: SweepSpec, facts: Facts, home: Home, ledger: Ledger, store: StageStore
) -> MlflowWriter:
    """A courier whose first letters say that the sweep begins and what came of it so far.

    Everything that they say is taken from the ledger now; they are sent in the courier's time.

    Raises:
        TrackingError: ``places.tracking`` is no place of MLflow's, or its database cannot be used.
    """
    tracker = Tracker(home, sweep.name, sweep.settings.places.tracking, ledger.identity)
    account = LedgerSnapshot.of(ledger)

    def catch_up(beat: Callable[[], object]) -> Mapping[int, str]:
        begun = [trial for trial in account.trials() if trial.state != "waiting" and trial.attempts]
        trials = {
            one.number: sweep.trial_of(dict(one.assignment), facts.model_bounds) for one in begun
        }
        paths = {
            one.number: path_of(
                trials[one.number],
                facts,
                seed=one.seed,
                shared_seed=sweep.settings.search.training_seed,
                sizes=sweep.sizes,
            )
            for one in begun
        }
        configs = {number: trial.model_dump(mode="json") for number, trial in trials.items()}
        return project(account, store, tracker, configs, paths=paths, beat=beat)

    courier = MlflowWriter(tracker, Outbox(home.spool(sweep.name)))
    courier.begin(account, sweep.resolved())
    courier.catch_up(catch_up, {trial.number: trial.mlflow_run_id for trial in account.trials()})
    return courier
