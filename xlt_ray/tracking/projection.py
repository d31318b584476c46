"""Bring MLflow to what ledger and store say: after a crash, an outage, a deleted database."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xlt_ray.errors import DamagedStage, LedgerError, SpecError, TrackingError, TrackingOutage
from xlt_ray.files import damaged_name, hidden_name, remove_leftovers
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, Standing, TrialView, load_ledger, standings, sweep_of_ledger
from xlt_ray.store.lease import waiting_for
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.storage import Storage
from xlt_ray.store.store import StageStore
from xlt_ray.tracking.client import complaints, default_uri, is_damaged, put_database
from xlt_ray.tracking.content import STATUS, point_names, told
from xlt_ray.tracking.experiment import Beat
from xlt_ray.tracking.runs import Tracker
from xlt_ray.tracking.snapshots import LedgerSnapshot, Point, TrialSnapshot

if TYPE_CHECKING:
    from mlflow.entities import Run

Plan = Callable[[TrialView], tuple[Mapping[str, Any], Sequence[Stage]]]
"""Gives the resolved configuration and the path of a trial, each empty where it is unknown."""


def project(
    ledger: Ledger | LedgerSnapshot,
    store: StageStore,
    tracker: Tracker,
    plan: Plan = lambda _: ({}, ()),
    *,
    is_alive: bool = True,
    beat: Beat = lambda: None,
) -> dict[int, str]:
    """Give every trial that was begun one run, with true status and nothing missing.

    A retry shares the run of the trial that it retries. May be repeated: nothing is doubled. A
    finished trial whose run says that it shows everything is passed over.

    Args:
        plan: gives configuration and path of each trial whose run does not show it, as in
            :class:`TrialSnapshot`.
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
        tracker.open(ledger)
        runs = tracker.runs(beat)
        # A trial that was asked for and never begun has nothing to show.
        states = standings(ledger.trials())
        trials = [view for view in ledger.trials() if view.is_finished or view.attempts]
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
                if not _is_shown(tracker, run, view, states[view.number]):
                    trial = TrialSnapshot(view, states[view.number], *plan(view))
                    bring_up(tracker, run, trial, store, beat)
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
            tracker.mark_running(tracker.open(ledger))
            tracker.show_configurations(ledger, "RUNNING", beat)
        else:
            unfinished = any(not view.is_finished for view in ledger.trials())
            tracker.end(ledger, "KILLED" if unfinished else "FINISHED", beat)
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

    def plan(view: TrialView) -> tuple[Mapping[str, Any], Sequence[Stage]]:
        # Some need the facts of their model; the next run of the sweep has them.
        with contextlib.suppress(SpecError):
            return sweep.trial_of(dict(view.assignment)).model_dump(mode="json"), ()
        return {}, ()

    tracker = Tracker(home, name, uri, ledger.identity)
    store = StageStore(ledger.sweep["places"]["store"] or home.stages)
    with complaints(uri):
        tracker.begin(ledger, sweep.resolved())
    project(ledger, store, tracker, plan, is_alive=bool(ledger.driver))


def show(
    tracker: Tracker, run: Run, trial: TrialSnapshot, store: StageStore, beat: Beat = lambda: None
) -> None:
    """Bring the run of a trial, and that of its configuration, to what is known of it.

    Args:
        beat: called whenever MLflow has answered.

    Raises:
        TrackingOutage: MLflow does not answer.
        TrackingError: it refused something; all that it did not refuse is there.
    """
    with _Refusals(beat) as refusals:
        with refusals.put_off(tracker):
            bring_up(tracker, run, trial, store, beat)
        if trial.standing != "interrupted":
            with refusals.put_off(tracker):
                tracker.show_configuration(trial.view)


def bring_up(
    tracker: Tracker, run: Run, trial: TrialSnapshot, store: StageStore, beat: Beat
) -> None:
    """:func:`show`, without the run of the configuration.

    Artifacts are written last, so that a server without a place for them shows all the rest.
    """
    view = trial.view
    # A trial at work reports its points to the driver.
    is_at_work = trial.standing == "running"
    stored = [] if is_at_work else curves_of(view, store, trial.path, tracker.name)
    supervision = "" if trial.path else _supervision(view, store)
    with _Refusals(beat) as refusals:
        with refusals.put_off(tracker):
            tracker.set_status(run, trial)
        with refusals.put_off(tracker):
            tracker.describe(run, trial, supervision)
        with refusals.put_off(tracker):
            tracker.log(run.info.run_id, [*trial.points, *stored, *tracker.objective_curve(view)])
        with refusals.put_off(tracker):
            if view.is_finished:
                tracker.show_end(run, view, _scores(view, store))
        with refusals.put_off(tracker):
            tracker.put_config(run, trial)
    if view.is_finished:
        with complaints(tracker.uri):
            tracker.mark_synced(run, view)


class _Refusals:
    """Raises the first refusal at the end of a block, and lets the rest of it happen before."""

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._first: TrackingError | None = None

    def __enter__(self) -> _Refusals:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None and self._first is not None:
            raise self._first

    @contextlib.contextmanager
    def put_off(self, tracker: Tracker) -> Iterator[None]:
        try:
            with complaints(tracker.uri):
                yield
        except TrackingOutage:
            raise
        except TrackingError as error:
            self._first = self._first or error
        self._beat()


def _is_shown(tracker: Tracker, run: Run, view: TrialView, standing: Standing) -> bool:
    """Whether a run says that it shows all of its finished trial, at the place where it belongs."""
    return (
        run.data.tags.get("xlt.told") == told(view)
        and run.data.tags.get("mlflow.parentRunId") == tracker.parent_of(view)
        and run.info.status == STATUS[standing]
    )


def _supervision(view: TrialView, store: StageStore) -> str:
    """Which labels a trial learned from by its evaluation; empty where there is none."""
    record = _evaluation(view, store)
    return "" if record is None else record.supervision


def curves_of(view: TrialView, store: StageStore, path: Sequence[Stage], sweep: str) -> list[Point]:
    """All that the store has of the trainings of a trial.

    Of the stages before the target stage, those count that the trial has trained itself, since
    only these were shown while it ran. A target stage that another trial has trained has no
    memory, speed and moment of this one.
    """
    uses = {use.key: use for use in view.stages}
    kinds = {use.key: use.kind for use in view.stages if use.kind == "target" or not use.reused}
    reused = {use.key for use in view.stages if use.reused}
    # A driver may have died before it heard of a stage that its trial made.
    kinds |= {
        stage.key: stage.kind
        for stage in path
        if stage.key not in uses and not _is_anothers(stage, store, sweep, view.number)
    }
    points = []
    for key, kind in kinds.items():
        for entry in store.history(key):
            system, time_ms = entry.get("system"), entry.get("time_ms")
            if key in reused:
                system, time_ms = None, None
            for name, value in point_names(kind, entry["metrics"], system).items():
                points.append(Point(name, int(entry["examples"]), float(value), time_ms))
    return points


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
