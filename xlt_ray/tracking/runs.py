"""Brings the runs of a sweep in MLflow to what ledger and store say.

One MLflow experiment a sweep, in it one parent run for the sweep, below it one run a configuration,
and below that one run a trial (directly below the sweep's where a configuration has one seed only).
All methods may be repeated, after a crash, an outage, or for a new database: a run is found by the
id that the ledger has, else by its tags, and is sent what it lacks.

Where MLflow does not answer, methods raise :class:`~xlt_ray.errors.TrackingOutage`, and may be
called again; another :class:`~xlt_ray.errors.TrackingError` means that MLflow refused something,
and that all that it did not refuse is there.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from xlt_ray.config.labels import run_name
from xlt_ray.config.seed_race import seed_levels
from xlt_ray.config.supervision import supervision_label
from xlt_ray.config.sweep import is_judged_by_oracle, reads_target_labels
from xlt_ray.errors import DamagedStage, LedgerError, SpecError, TrackingError
from xlt_ray.files import damaged_name, hidden_name, remove_leftovers
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, TrialView, front_of, load_ledger, standings, sweep_of_ledger
from xlt_ray.redact import redacted
from xlt_ray.store.lease import waiting_for
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.storage import Storage
from xlt_ray.store.store import StageStore
from xlt_ray.tracking import mlflow_fields
from xlt_ray.tracking.client import (
    MAX_NAME,
    VIEW_TAG,
    Experiment,
    Point,
    TrackedRun,
    create_database,
    default_uri,
    do_all,
    is_damaged,
    now_ms,
)
from xlt_ray.tracking.mlflow_fields import Going, LedgerSnapshot, TrialSnapshot

Plan = Callable[[TrialView], tuple[Mapping[str, Any], Sequence[Stage]]]
"""Gives the resolved configuration and the path of a trial, each empty where it is unknown."""

_TABLES = json.dumps([{"path": "scores.json", "type": "table"}])


class Tracker:
    """One sweep's runs in the MLflow at ``uri``; the home's own database by default.

    Its first use imports MLflow, which takes seconds.
    """

    def __init__(self, home: Home, name: str, uri: str | None = None, identity: str = "") -> None:
        self.name = name
        self.uri = uri or default_uri() or home.tracking_uri
        self._open_experiment = partial(Experiment, home, name, uri, identity)
        self.run_ids: dict[int, str] = {}
        """Runs of trials, as far as they were found or made."""
        self._configuration_ids: dict[int, str] = {}
        self._parent = ""
        self._parameters: dict[str, None] = {}
        self._view = ""

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment of the sweep.

        Raises:
            TrackingError: MLflow cannot be used at ``uri``.
        """
        return self._open_experiment()

    def on_answer(self, call: Callable[[], object]) -> None:
        """Call this after every request that MLflow has answered, with a refusal or not."""
        self.experiment.on_answer = call

    # -- the sweep ----------------------------------------------------------------------

    def begin(self, ledger: LedgerSnapshot, config: Mapping[str, Any]) -> None:
        """Show the sweep as RUNNING, with the resolved sweep as ``sweep.json``."""
        parent = self.open(ledger)
        parent.set_status("RUNNING")
        parent.put("sweep.json", _pretty(config))

    def open(self, ledger: LedgerSnapshot) -> TrackedRun:
        """The sweep's run, made where there is none; its status stays as it is."""
        objective = ledger.sweep["objective"]
        self._metric, self._mode = str(objective["metric"]), str(objective["mode"])
        self._selection = "oracle" if reads_target_labels(ledger.sweep) else "source"
        self._curve = f"dev/{'objective' if is_judged_by_oracle(ledger.sweep) else self._metric}"
        self._seeds = seed_levels(ledger.sweep["search"]["seeds"])
        self._source = mlflow_fields.source_of(ledger.sweep)
        self._space = ledger.sweep["space"]
        self._views = {view.number: view for view in ledger.trials}
        parent = self.experiment.find(self._parent) or self.experiment.first("sweep")
        if parent is None:
            started = _ms(min(filter(None, (view.started for view in ledger.trials)), default=None))
            parent = self.experiment.create("sweep", self.name, mlflow_fields.origin(), started)
        self._parent = parent.id
        self._lay_out(path for trial in ledger.trials for path in trial.assignment)
        return parent

    def end(self, ledger: LedgerSnapshot, going: Going) -> None:
        """Close the runs of sweep and configurations, and note what is best."""
        parent = self.open(ledger)
        trials, best = ledger.trials, ledger.best
        runs = self._update_configurations(going)
        best_run = None
        if best is not None:
            best_run = runs.get(best.configuration) or self._find(best.trial)
        tags = {
            "mlflow.note.content": mlflow_fields.sweep_note(ledger, best_run),
            "xlt.selection": self._selection,
            "xlt.time_left": "",
            "xlt.best_trial": "" if best is None else str(best.trial.number),
            "xlt.best_configuration": "" if best is None else str(best.configuration),
            "xlt.front": " ".join(
                str(point.configuration) for point in front_of(trials, ledger.sweep)
            ),
        }
        parent.write(tags, metrics=mlflow_fields.sweep_metrics(trials, best))
        # A sweep that was run again and had nothing to do did not last until now.
        ended = max(filter(None, (trial.ended for trial in trials)), default=None)
        moment = _ms(ended if going == "FINISHED" else None)
        parent.set_status(going, moment)

    def show_time_left(self, text: str) -> None:
        """Show on the sweep's run how long the sweep still takes."""
        parent = self.experiment.find(self._parent)
        if parent is not None:
            parent.write({"xlt.time_left": text})

    def _lay_out(self, parameters: Iterable[str]) -> None:
        """Have the view that ``xlt ui`` opens show these parameters, too."""
        self._parameters |= dict.fromkeys(parameters)
        has_seeds = self._seeds[-1] > 1
        view = mlflow_fields.view_of(
            self._metric, self._mode, [*self._parameters], has_seeds=has_seeds
        )
        if self._parameters and view != self._view:
            self.experiment.client.set_experiment_tag(self.experiment.id, VIEW_TAG, view)
            self._view = view

    # -- all trials ---------------------------------------------------------------------

    def project(
        self, ledger: LedgerSnapshot, store: StageStore, plan: Plan = lambda _: ({}, ())
    ) -> dict[int, str]:
        """Give every trial that was begun one run, with true status and nothing missing.

        A retry shares the run of the trial that it retries. Trials that have not ended are shown as
        KILLED: a driver that starts or continues one says so then.

        Returns:
            The run of every trial, by number; after a rebuild these are not the ledger's.
        """
        self.open(ledger)
        # One request instead of one for each trial.
        listed = {run.id: run for run in self.experiment.search("trial")}
        for run in self.experiment.search("configuration"):
            self._configuration_ids.setdefault(int(run.tags["xlt.configuration"]), run.id)
        standing_of = standings(ledger.trials)
        retry_of = {view.retry_of: view.number for view in ledger.trials}

        def bring_up(view: TrialView) -> None:
            retry = retry_of.get(view.number)
            if retry in self.run_ids:
                self.run_ids[view.number] = self.run_ids[retry]
                return
            run = listed.get(view.mlflow_run_id or "") or self.find_or_make(view)
            self.run_ids[view.number] = run.id
            standing = standing_of[view.number]
            is_shown = (
                run.tags.get("xlt.told") == mlflow_fields.synced(view)
                and run.tags.get("mlflow.parentRunId") == self._parent_of(view)
                and run.status == mlflow_fields.STATUS[standing]
            )
            if not is_shown:
                self._bring_up(run, TrialSnapshot(view, standing, *plan(view)), store)

        def delete_doubles() -> None:
            for run in listed.values():
                used = self.run_ids.get(int(run.tags["xlt.trial"]), run.id)
                if run.id != used and not run.metrics:
                    # Made twice, since the answer to its making was lost.
                    self.experiment.client.delete_run(run.id)

        # A trial that was asked for and never begun has nothing to show. A retry comes before the
        # trial that it retries: its run is the run of both.
        begun = [view for view in ledger.trials if view.is_finished or view.attempts]
        do_all(
            *(partial(bring_up, view) for view in reversed(begun)),
            delete_doubles,
            lambda: self._update_configurations("RUNNING"),
        )
        return dict(sorted(self.run_ids.items()))

    # -- one trial ----------------------------------------------------------------------

    def find_or_make(self, view: TrialView) -> TrackedRun:
        """The run of a trial; a retry has that of the failed trial."""
        run = self._find(view) or self._make(view)
        self.run_ids[view.number] = run.id
        return run

    def _find(self, view: TrialView) -> TrackedRun | None:
        # The ledger may not have the run that this process has made.
        run = self.experiment.find(self.run_ids.get(view.number, view.mlflow_run_id))
        run = run or self.experiment.first("trial", trial=view.number)
        retried = None if view.retry_of is None else self._views.get(view.retry_of)
        return self._find(retried) if run is None and retried is not None else run

    def _make(self, view: TrialView) -> TrackedRun:
        name = run_name(view.assignment, self._space, view.seed)
        return self._create("trial", view.number, name, self._parent_of(view), view.started)

    def _create(
        self,
        kind: str,
        number: int,
        name: str,
        parent: str,
        started: datetime.datetime | None,
    ) -> TrackedRun:
        tags = {f"xlt.{kind}": str(number), "mlflow.parentRunId": parent, **mlflow_fields.origin()}
        return self.experiment.create(kind, name[:MAX_NAME], tags, _ms(started))

    def show(
        self, run: TrackedRun, trial: TrialSnapshot, store: StageStore, points: Sequence[Point] = ()
    ) -> None:
        """Bring the run of a trial, and that of its configuration, to what is known of it.

        ``points`` are those that it reported to the driver that has it at work.
        """
        do_all(
            lambda: self._bring_up(run, trial, store, points),
            lambda: self._show_configuration(trial),
        )

    def _bring_up(
        self, run: TrackedRun, trial: TrialSnapshot, store: StageStore, points: Sequence[Point] = ()
    ) -> None:
        view, evaluation = trial.view, _record(trial.view.evaluation_key, store)
        ended = None if view.ended is None else _ms(view.ended)
        curve = [Point(self._curve, step, value) for step, value in view.curve]
        # A trial at work reports its points to the driver.
        is_at_work = trial.standing == "running"
        stored = [] if is_at_work else curves_of(view, store, trial.path, self.name)
        steps: list[Callable[[], object]] = [
            lambda: run.set_status(mlflow_fields.STATUS[trial.standing], ended),
            lambda: self._describe(run, trial, evaluation),
            lambda: run.log([*points, *stored, *curve]),
        ]
        # Artifacts come last, so that a server without a place for them shows all the rest.
        if view.is_finished:
            steps.append(lambda: self._show_end(run, view, evaluation))
        if trial.config:
            steps.append(lambda: run.put("config.json", _pretty(trial.config)))
        do_all(*steps)
        if view.is_finished:
            run.write({"xlt.told": mlflow_fields.synced(view)})

    def _describe(
        self, run: TrackedRun, trial: TrialSnapshot, evaluation: StageRecord | None
    ) -> None:
        """Bring tags, parameters and inputs of a run, and of its configuration's, to what is
        known of its trial."""
        view, path = trial.view, tuple(trial.path)
        self._lay_out(view.assignment)
        to_run = stages_to_run(path)
        planned = {
            f"xlt.stage.{mlflow_fields.stage_name(stage.kind, stage.label)}": stage.key
            for stage in to_run
        }
        if trial.standing == "running":
            uses = (StageUse(stage.kind, stage.key, stage.label, reused=False) for stage in to_run)
            view = replace(view, stages=tuple(uses))
        learned = "" if evaluation is None else evaluation.supervision
        learned = supervision_label(path[-1].settings) if path else learned
        shared = {"xlt.selection": self._selection, "xlt.supervision": learned}
        tags = {**planned, **mlflow_fields.trial_tags(view, trial.standing), **shared}
        if trial.config:
            tags["xlt.source_language"] = mlflow_fields.source_language(trial.config)
        if trial.is_begun_here:
            # A trial that goes on may be made by other code than the one that began it.
            tags |= mlflow_fields.origin()
        params = mlflow_fields.parameters_of(view.assignment, self._space)
        inputs = mlflow_fields.inputs_of(path)
        configuration = self._configuration(view)
        if configuration is not None:
            configuration.write(shared, params)
            configuration.put_inputs(inputs, self._source)
            tags["mlflow.parentRunId"] = configuration.id
        run.write(tags, params)
        run.put_inputs(inputs, self._source)

    def _show_end(self, run: TrackedRun, view: TrialView, evaluation: StageRecord | None) -> None:
        """Bring metrics, log and score table of a run to what its finished trial has."""
        scores = () if evaluation is None else evaluation.scores
        source = run.tags.get("xlt.source_language") or mlflow_fields.source_language({}, scores)
        metrics = mlflow_fields.final_metrics(view, scores, self._metric, source)
        run.write(
            mlflow_fields.score_tags(scores, self._metric), metrics=metrics, time_ms=_ms(view.ended)
        )
        if view.state == "failed" and view.log:
            run.put("log.txt", str(redacted(view.log)))
        if scores:
            run.put("scores.json", mlflow_fields.score_table(scores))
            run.write({"mlflow.loggedArtifacts": _TABLES})

    # -- configurations: none where each has one seed, as it is its trial then ------------

    def _configuration(self, view: TrialView) -> TrackedRun | None:
        """The run of a trial's configuration, made if need be."""
        number = view.configuration
        if self._seeds[-1] == 1:
            return None
        run = self.experiment.find(self._configuration_ids.get(number))
        run = run or self.experiment.first("configuration", configuration=number)
        if run is None:
            members = [known for known in self._views.values() if known.configuration == number]
            started = min(
                filter(None, (member.started for member in [view, *members])), default=None
            )
            name = run_name(view.assignment, self._space) or f"configuration {number}"
            run = self._create("configuration", number, name, self._parent, started)
        self._configuration_ids[number] = run.id
        return run

    def _parent_of(self, view: TrialView) -> str:
        """The run that a trial's run is nested below."""
        if known := self._configuration_ids.get(view.configuration):
            return known
        run = self._configuration(view)
        return self._parent if run is None else run.id

    def _show_configuration(self, trial: TrialSnapshot) -> None:
        """Bring the run of a trial's configuration to what its trials are."""
        view = trial.view
        run = None if trial.standing == "interrupted" else self._configuration(view)
        if run is not None and view.is_finished:
            members = self.experiment.search("trial", configuration=view.configuration)
            self._update_configuration(run, members, "RUNNING")
        elif run is not None:
            run.set_status("RUNNING")

    def _update_configurations(self, going: Going) -> dict[int, TrackedRun]:
        """Bring the runs of configurations to what their trials are; these runs, by number."""
        if self._seeds[-1] == 1:
            return {}
        members: dict[int, list[TrackedRun]] = defaultdict(list)
        for run in self.experiment.search("trial"):
            members[int(run.tags.get("xlt.configuration", "-1"))].append(run)
        runs: dict[int, TrackedRun] = {}
        for run in self.experiment.search("configuration"):
            number = int(run.tags["xlt.configuration"])
            if self._configuration_ids.setdefault(number, run.id) != run.id:
                # Made twice, since the answer to its making was lost.
                self.experiment.client.delete_run(run.id)
                continue
            self._update_configuration(run, members[number], going)
            runs[number] = run
        return runs

    def _update_configuration(
        self, run: TrackedRun, trials: Iterable[TrackedRun], going: Going
    ) -> None:
        members = mlflow_fields.members_of(trials)
        metrics = mlflow_fields.configuration_metrics(members)
        states = mlflow_fields.FINISHED
        finished = (member for member in members if member.tags["xlt.state"] in states)
        ended = max((member.ended for member in finished), default=None)
        run.write(mlflow_fields.configuration_tags(members), metrics=metrics, time_ms=ended)
        run.set_status(mlflow_fields.configuration_status(members, self._seeds[0], going), ended)


def curves_of(view: TrialView, store: StageStore, path: Sequence[Stage], sweep: str) -> list[Point]:
    """All that the store has of the trainings of a trial.

    Of the stages before the target stage, those count that the trial has trained itself, since
    only these were shown while it ran. A target stage of another trial has no memory, speed and
    moment of this one.
    """
    uses = {use.key: use for use in view.stages}
    kinds = {use.key: use.kind for use in view.stages if use.kind == "target" or not use.reused}
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
            if key in uses and uses[key].reused:
                system, time_ms = None, None
            for name, value in mlflow_fields.point_names(kind, entry["metrics"], system).items():
                points.append(Point(name, int(entry["examples"]), float(value), time_ms))
    return points


def _is_anothers(stage: Stage, store: StageStore, sweep: str, number: int) -> bool:
    """Whether another trial finished a stage before the target stage."""
    record = None if stage.kind == "target" else _record(stage.key, store)
    maker = {} if record is None else record.made_by
    return record is not None and (maker.get("sweep"), maker.get("trial")) != (sweep, number)


def _record(key: str | None, store: StageStore) -> StageRecord | None:
    # A damaged record is made again by the next trial that needs it.
    with contextlib.suppress(DamagedStage):
        return store.record(key) if key else None
    return None


def _pretty(config: Mapping[str, Any]) -> str:
    return json.dumps(redacted(config), indent=1, ensure_ascii=False, sort_keys=True)


def _ms(moment: datetime.datetime | None) -> int:
    """Milliseconds since 1970 of a moment, of this one where there is none."""
    return now_ms() if moment is None else int(moment.timestamp() * 1000)


# -- a damaged database ---------------------------------------------------------------------


def mend_database(home: Home, uri: str | None, say: Callable[[str], object]) -> None:
    """Where the home's own database is damaged, set it aside and make it anew from all ledgers.

    It takes its name when it is complete: where this is broken off, it is begun again. Ledgers
    that cannot be read, and sweeps that are tracked elsewhere, are passed over. Nothing happens
    where ``uri`` is another MLflow. ``say`` is called with one line about it.
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
            create_database(anew, home.artifacts)
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
    snapshot = LedgerSnapshot.of(ledger)
    tracker.begin(snapshot, sweep.resolved())
    tracker.project(snapshot, store, plan)
    if not ledger.driver:
        tracker.end(snapshot, "FINISHED" if snapshot.is_finished else "KILLED")
