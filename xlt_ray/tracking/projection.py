"""Bring MLflow to what ledger and store say: after a crash, an outage, a deleted database."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xlt_ray.errors import DamagedStage, LedgerError, SpecError, TrackingError, TrackingOutage
from xlt_ray.files import damaged_name, hidden_name, remove_leftovers
from xlt_ray.home import Home
from xlt_ray.ledger import Standing, TrialView, load_ledger, standings, sweep_of_ledger
from xlt_ray.store.lease import waiting_for
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.storage import Storage
from xlt_ray.store.store import StageStore
from xlt_ray.tracking.account import TrialReader
from xlt_ray.tracking.client import complaints, default_uri, is_damaged, put_database
from xlt_ray.tracking.content import STATUS, point_names, told
from xlt_ray.tracking.runs import Tracker


def project(
    books: TrialReader,
    store: StageStore,
    tracker: Tracker,
    configs: Mapping[int, Mapping[str, Any]],
    *,
    paths: Mapping[int, Sequence[Stage]] | None = None,
    is_alive: bool = True,
    beat: Callable[[], object] = lambda: None,
) -> dict[int, str]:
    """Give every trial that was begun one run, with true status and nothing missing.

    A retry shares the run of the trial that it retries. May be repeated: nothing is doubled. A
    finished trial whose run says that it shows everything is passed over.

    Args:
        configs: resolved trials by number; a trial that is not in it gets no ``config.json``.
        paths: stages that trials have to make, by number. Without them the curves of stages
            that a trial began and did not finish are not known.
        is_alive: whether a driver is at work on this sweep. Trials that have not ended are shown
            as KILLED in either case: a driver that begins or goes on with one says so then.
        beat: called after every trial, and whatever else takes a while.

    Returns:
        The run of every trial, by number; after a rebuild these are not the ledger's.

    Raises:
        TrackingOutage: MLflow does not answer.
        TrackingError: it refused something; all that it did not refuse is there.
    """
    with complaints(tracker.uri):
        tracker.open(books)
        runs = tracker.runs(beat)
        # A trial that was asked for and never begun has nothing to show.
        states = standings(books.trials())
        trials = [view for view in books.trials() if view.is_finished or view.attempts]
        retried = {view.retry_of: view for view in trials if view.retry_of is not None}
        found: dict[int, str] = {}
        refusal: TrackingError | None = None
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
            try:
                _bring_up(
                    tracker, run, view, states[view.number], store,
                    configs.get(view.number, {}), (paths or {}).get(view.number, ()),
                )  # fmt: skip
            except TrackingOutage:
                raise
            except TrackingError as error:
                refusal = refusal or error
            beat()
        for run in runs:
            number = run.data.tags["xlt.trial"]
            mine = found.get(int(number)) if number.isdigit() else None
            if mine is not None and run.info.run_id != mine and not run.data.metrics:
                # Made twice, since the answer to its making was lost.
                tracker.delete(run)
        if is_alive:
            tracker.mark_running(tracker.open(books))
            tracker.show_configurations(books, "RUNNING", beat)
        else:
            unfinished = any(not view.is_finished for view in books.trials())
            tracker.end(books, "KILLED" if unfinished else "FINISHED", beat)
        if refusal is not None:
            raise refusal
        return dict(sorted(found.items()))


def mend_database(home: Home, uri: str | None, say: Callable[[str], object]) -> None:
    """Where the home's own database is damaged, set it aside and make it anew from all ledgers.

    It takes its name when it is complete: where this is broken off, it is begun again. Ledgers
    that cannot be read, and sweeps that are tracked elsewhere, are passed over.

    Args:
        uri: of the MLflow that is to be used; nothing happens where it is another one.
        say: told so in one line.
    """
    file = home.tracking_file
    if uri or default_uri() or not is_damaged(file):
        return
    with waiting_for(Storage(home.root), "leases/mlflow.json"):
        if not is_damaged(file):
            # Another process has made it anew meanwhile.
            return
        aside = damaged_name(file).name
        say(
            f"{file}: MLflow's database is damaged; it is kept as {aside} and made anew from "
            "ledgers and stages"
        )
        remove_leftovers(file.parent)
        anew = hidden_name(file)
        try:
            put_database(anew, home.artifacts)
            for name in home.sweeps():
                with contextlib.suppress(LedgerError, TrackingError, OSError):
                    _project_from_home(home, name, f"sqlite:///{anew}")
            # A rollback journal that stayed would be played back into the new file.
            for suffix in ("", "-journal", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{file}{suffix}", file.with_name(f"{aside}{suffix}"))
            os.rename(anew, file)
        finally:
            anew.unlink(missing_ok=True)


def _project_from_home(home: Home, name: str, uri: str) -> None:
    """Project a sweep as the home has it, without its data and models."""
    ledger = load_ledger(home, name)
    if ledger.sweep["places"]["tracking"]:
        return
    sweep = sweep_of_ledger(ledger)
    configs = {}
    for view in ledger.trials():
        # Some need the facts of their model; the next run of the sweep has them.
        with contextlib.suppress(SpecError):
            configs[view.number] = sweep.trial_of(dict(view.assignment)).model_dump(mode="json")
    tracker = Tracker(home, name, uri, ledger.identity)
    store = StageStore(ledger.sweep["places"]["store"] or home.stages)
    with complaints(uri):
        tracker.begin(ledger, sweep.resolved())
    project(ledger, store, tracker, configs, is_alive=bool(ledger.driver))


def _bring_up(
    tracker: Tracker,
    run: Any,
    view: TrialView,
    standing: Standing,
    store: StageStore,
    config: Mapping[str, Any],
    path: Sequence[Stage],
) -> None:
    """Bring one run to what is known of its trial."""
    is_there = run.data.tags.get("xlt.told") == told(view)
    is_below = run.data.tags.get("mlflow.parentRunId") == tracker.parent_of(view)
    if is_there and is_below and run.info.status == STATUS[standing]:
        return
    run_id = run.info.run_id
    with complaints(tracker.uri):
        supervision = _supervision(view, store)
        tracker.describe(run, view, standing, config, view.assignment, path, supervision)
        tracker.points.log(run_id, curves_of(view, store, path, tracker.name))
        if view.is_finished:
            tracker.close(run, view, _scores(view, store))
            tracker.put_config(run, config)
            tracker.mark_synced(run, view)
            return
        tracker.log_curve(run_id, view)
        tracker.experiment.set_status(run, STATUS[standing])
        tracker.put_config(run, config)


def _supervision(view: TrialView, store: StageStore) -> str:
    """Which labels a trial learned from by its evaluation; empty where there is none."""
    record = _evaluation(view, store)
    return "" if record is None else record.supervision


def curves_of(
    view: TrialView, store: StageStore, path: Sequence[Stage], sweep: str
) -> list[tuple[str, int, float]]:
    """All that the store has of the trainings of a trial: metric, examples seen, value.

    Of the stages before the target stage, those count that the trial has trained itself, since
    only these were shown while it ran.
    """
    uses = {use.key: use for use in view.stages}
    kinds = {use.key: use.kind for use in view.stages if use.kind == "target" or not use.reused}
    # A driver may have died before it heard of a stage that its trial made.
    kinds |= {
        stage.key: stage.kind
        for stage in path
        if stage.key not in uses and not _is_anothers(stage, store, sweep, view.number)
    }
    return [
        (name, int(entry["examples"]), float(value))
        for key, kind in kinds.items()
        for entry in store.history(key)
        for name, value in point_names(kind, entry["metrics"]).items()
    ]


def _is_anothers(stage: Stage, store: StageStore, sweep: str, number: int) -> bool:
    """Whether another trial finished a stage before the target stage."""
    with contextlib.suppress(DamagedStage):
        record = store.record(stage.key) if stage.kind != "target" else None
        if record is not None:
            return (record.made_by.get("sweep"), record.made_by.get("trial")) != (sweep, number)
    return False


def _retried_by(view: TrialView, trials: list[TrialView]) -> list[TrialView]:
    """The trials that a retry goes back to, the latest first."""
    by_number = {trial.number: trial for trial in trials}
    chain: list[TrialView] = []
    while view.retry_of is not None:
        view = by_number[view.retry_of]
        chain.append(view)
    return chain


def _scores(view: TrialView, store: StageStore) -> tuple[Score, ...]:
    record = _evaluation(view, store)
    return () if record is None else record.scores


def _evaluation(view: TrialView, store: StageStore) -> StageRecord | None:
    # A damaged record is made again by whoever needs it next.
    with contextlib.suppress(DamagedStage):
        return store.record(view.evaluation_key) if view.evaluation_key else None
    return None
