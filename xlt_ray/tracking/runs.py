"""The runs of one sweep in MLflow: found or made, and brought to what is known.

Every method may be repeated: a run is found by the id that the ledger has, else by its tags,
and a point of a curve that is there is not logged again. Methods raise
:class:`~xlt_ray.errors.TrackingOutage` where MLflow does not answer, and may be called again with
the same arguments; another :class:`~xlt_ray.errors.TrackingError` means that MLflow refused
something.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from xlt_ray.config.supervision import supervision_told
from xlt_ray.config.sweep import is_judged_by_oracle
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, TrialView
from xlt_ray.redact import redacted
from xlt_ray.store.record import Score
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.tracking.client import complaints
from xlt_ray.tracking.configurations import Configurations, Going
from xlt_ray.tracking.content import (
    KEY,
    STATUS,
    final_metrics,
    inputs_of,
    origin,
    score_table,
    score_tags,
    source_language,
    source_of,
    spelled,
    stage_name,
    sweep_metrics,
    sweep_note,
    told,
    trial_name,
    trial_tags,
    view_of,
)
from xlt_ray.tracking.experiment import Beat, Experiment
from xlt_ray.tracking.points import Points
from xlt_ray.tracking.snapshots import LedgerSnapshot, Point, TrialSnapshot

if TYPE_CHECKING:
    from mlflow.entities import Run

Ending = Literal["FINISHED", "FAILED", "KILLED"]
_TABLES = json.dumps([{"path": "scores.json", "type": "table"}])


class Tracker:
    """One sweep's runs in the MLflow at ``uri``; the home's own database by default.

    A server is not asked for anything yet: it may be away.

    Raises:
        TrackingError: ``uri`` is none, or its database cannot be used.
    """

    def __init__(self, home: Home, name: str, uri: str | None = None, identity: str = "") -> None:
        self.name = name
        self.experiment = Experiment(home, name, uri, identity)
        self.uri = self.experiment.uri
        self.run_ids: dict[int, str] = {}
        """Runs of trials, as far as they were found or made."""
        self._with_config: set[tuple[str, int]] = set()
        """Runs and trials whose ``config.json`` this process has put."""
        self._parent: str | None = None
        self._metric, self._mode, self._selection, self._curve = "", "", "", ""
        self._seeds = 1
        self._source: Mapping[str, str] = {}
        self._parameters: dict[str, None] = {}
        self._begun: dict[int, datetime.datetime] = {}
        self.configurations = Configurations(self.experiment)
        self.points = Points(self.experiment.client)

    # -- the sweep ----------------------------------------------------------------------

    def begin(self, ledger: Ledger | LedgerSnapshot, config: Mapping[str, Any]) -> str:
        """The sweep's run, RUNNING from now on, with the resolved sweep as ``sweep.json``."""
        with complaints(self.uri):
            parent = self.open(ledger)
            self.experiment.client.update_run(parent, status="RUNNING")
            self.experiment.put(parent, "sweep.json", _pretty(config))
            return parent

    def open(self, ledger: Ledger | LedgerSnapshot) -> str:
        """Id of the sweep's run, made where there is none; its status stays as it is."""
        objective = ledger.sweep["objective"]
        self._metric, self._mode = str(objective["metric"]), str(objective["mode"])
        self._selection = "source" if objective["languages"] == "source" else "oracle"
        self._curve = f"dev/{'objective' if is_judged_by_oracle(ledger.sweep) else self._metric}"
        self._seeds = int(ledger.sweep["search"]["seeds"])
        self._source = source_of(ledger.sweep)
        with complaints(self.uri):
            if self._parent is None:
                found = self.experiment.search("sweep")
                tags = {"xlt.kind": "sweep", **self._origin()}
                begun = [trial.started for trial in ledger.trials() if trial.started is not None]
                start = _milliseconds(min(begun)) if begun else _now()
                run = found[0] if found else self.experiment.create(self.name, tags, start)
                self._parent = run.info.run_id
            for trial in ledger.trials():
                if trial.started is not None:
                    before = self._begun.get(trial.configuration, trial.started)
                    self._begun[trial.configuration] = min(before, trial.started)
            self._lay_out(path for trial in ledger.trials() for path in trial.assignment)
            return self._parent

    def end(
        self, ledger: Ledger | LedgerSnapshot, status: Ending, beat: Beat = lambda: None
    ) -> None:
        """Close the runs of sweep and configurations and note what is best; KILLED is a sweep
        that goes on later."""
        with complaints(self.uri):
            parent = self.open(ledger)
            trials, best = ledger.trials(), ledger.best()
            objective = ledger.sweep["objective"]
            runs = self.show_configurations(
                ledger, "KILLED" if status == "KILLED" else "FINISHED", beat
            )
            shown = None
            if best is not None:
                shown = runs.get(best.configuration) if self._seeds > 1 else self.find(best.trial)
            means = {} if shown is None else shown.data.metrics
            learned = "" if shown is None else shown.data.tags.get("xlt.supervision", "")
            note = sweep_note(self.name, trials, objective, best, means, learned)
            tags = {
                "mlflow.note.content": note,
                "xlt.selection": self._selection,
                "xlt.best_trial": "" if best is None else str(best.trial.number),
                "xlt.best_configuration": "" if best is None else str(best.configuration),
            }
            run = self.experiment.client.get_run(parent)
            self.experiment.write(run, tags, {}, sweep_metrics(trials, best), _now())
            # A sweep that was run again and had nothing to do did not last until now.
            ended = [trial.ended for trial in trials if trial.ended is not None]
            moment = _milliseconds(max(ended)) if ended and status == "FINISHED" else _now()
            self.experiment.client.set_terminated(parent, status, moment)

    def show_configurations(
        self, ledger: Ledger | LedgerSnapshot, going: Going, beat: Beat = lambda: None
    ) -> dict[int, Run]:
        """Bring the runs of configurations to what their trials are; these runs, by number.

        With one seed there are none: a configuration is its trial.
        """
        if self._seeds == 1:
            return {}
        with complaints(self.uri):
            runs = self.experiment.search("trial", beat=beat)
            ended: dict[int, int] = {}
            for trial in ledger.trials():
                if trial.ended is not None:
                    moment = _milliseconds(trial.ended)
                    ended[trial.configuration] = max(moment, ended.get(trial.configuration, 0))
            return self.configurations.update_all(runs, self._seeds, going, ended, beat)

    def _lay_out(self, parameters: Iterable[str]) -> None:
        """Have the view that ``xlt ui`` opens show these parameters, too."""
        before = len(self._parameters)
        self._parameters |= dict.fromkeys(parameters)
        if len(self._parameters) > before:
            view = view_of(self._metric, self._mode, [*self._parameters], has_seeds=self._seeds > 1)
            self.experiment.put_view(KEY, view)

    # -- trials -------------------------------------------------------------------------

    def find_or_make(self, view: TrialView) -> Run:
        """The run of a trial, as MLflow has it."""
        # The ledger may not have the run that this process has made.
        run_id = self.run_ids.get(view.number, view.mlflow_run_id)
        with complaints(self.uri):
            return self.find(replace(view, mlflow_run_id=run_id)) or self.make(view)

    def log(self, run_id: str, points: Iterable[Point]) -> None:
        """Log the points that a run does not have."""
        with complaints(self.uri):
            self.points.log(run_id, points)

    def runs(self, beat: Beat = lambda: None) -> list[Run]:
        """All trial runs of this sweep, the oldest first."""
        with complaints(self.uri):
            return self.experiment.search("trial", beat=beat)

    def find(self, view: TrialView, among: Sequence[Run] | None = None) -> Run | None:
        """The run of a trial: by id, by its tag, or, of a retry, that of the failed trial."""
        run = self.experiment.run(view.mlflow_run_id) if among is None else None
        if run is None:
            runs = self._runs_of(view) if among is None else among
            by_id = {run.info.run_id: run for run in runs}
            by_trial = {run.data.tags["xlt.trial"]: run for run in reversed(runs)}
            run = (
                by_id.get(view.mlflow_run_id or "")
                or by_trial.get(str(view.number))
                or by_trial.get(str(view.retry_of))
            )
        if run is not None:
            self.run_ids[view.number] = run.info.run_id
        return run

    def _runs_of(self, view: TrialView) -> list[Run]:
        """Runs with the tag of a trial, or of the one that it retries; not those of all trials,
        which a sweep of thousands would ask for thousands of times."""
        return [
            run
            for number in (view.number, view.retry_of)
            if number is not None
            for run in self.experiment.search("trial", {"xlt.trial": str(number)})
        ]

    def make(self, view: TrialView) -> Run:
        """A new run for a trial, below that of its configuration, or of the sweep."""
        tags = {
            "xlt.kind": "trial",
            "xlt.trial": str(view.number),
            "mlflow.parentRunId": self.parent_of(view),
            **self._origin(),
        }
        run = self.experiment.create(trial_name(view), tags, _milliseconds(view.started))
        self.points.expect_none(run.info.run_id)
        self.run_ids[view.number] = run.info.run_id
        return run

    def parent_of(self, view: TrialView) -> str:
        """The run that a trial's run is nested below; of a configuration, made if need be."""
        assert self._parent is not None, "begin the sweep first"
        known = self.configurations.id_of(view.configuration)
        if known is not None:
            return known
        run = self._configuration(view)
        return self._parent if run is None else str(run.info.run_id)

    def _configuration(self, view: TrialView) -> Run | None:
        """The run of a trial's configuration, made if need be; None where trials have no
        further seeds."""
        assert self._parent is not None, "begin the sweep first"
        if self._seeds == 1:
            return None
        number = view.configuration
        started = self._begun.get(number, view.started)
        return self.configurations.find(number) or self.configurations.make(
            number, self._parent, self._origin(), _milliseconds(started)
        )

    def mark_running(self, run_id: str) -> None:
        self.experiment.client.update_run(run_id, status="RUNNING")

    def describe(self, run: Run, trial: TrialSnapshot, supervision: str = "") -> None:
        """Bring tags, parameters and inputs of a run, and of its configuration's, to what is
        known of its trial.

        Args:
            supervision: which labels it learned from, where its path does not say it.
        """
        view, path = trial.view, tuple(trial.path)
        self._lay_out(view.assignment)
        to_run = stages_to_run(path)
        planned = {
            f"xlt.stage.{stage_name(stage.kind, stage.label)}": stage.key for stage in to_run
        }
        if trial.standing == "running":
            uses = (StageUse(stage.kind, stage.key, stage.label, reused=False) for stage in to_run)
            view = replace(view, stages=tuple(uses))
        learned = supervision_told(path[-1].settings) if path else supervision
        shared = {"xlt.selection": self._selection, "xlt.supervision": learned}
        tags = {**planned, **trial_tags(view, trial.standing), **shared}
        tags |= {"xlt.source_language": source_language(trial.config)} if trial.config else {}
        # A trial that goes on may be made by other code than the one that began it.
        tags |= origin() if trial.is_begun_here else {}
        known = {name: spelled(value) for name, value in view.assignment.items()}
        inputs = inputs_of(path)
        configuration = self._configuration(view)
        if configuration is not None:
            self.experiment.write(configuration, shared, known, {}, _now())
            self.experiment.put_inputs(configuration, inputs, self._source)
            tags["mlflow.parentRunId"] = configuration.info.run_id
        self.experiment.write(run, tags, known, {}, _now())
        self.experiment.put_inputs(run, inputs, self._source)

    def show_configuration(self, view: TrialView) -> None:
        """Bring the run of a trial's configuration to what its trials are, as the trial is at
        work or has ended."""
        configuration = self._configuration(view)
        if configuration is None:
            return
        if not view.is_finished:
            self.experiment.set_status(configuration, "RUNNING")
            return
        members = self.configurations.members(view.configuration)
        self.configurations.update(
            configuration, members, self._seeds, "RUNNING", _milliseconds(view.ended)
        )

    def set_status(self, run: Run, trial: TrialSnapshot) -> None:
        """Complete and pruned trials end as FINISHED (the tag ``xlt.state`` tells them apart),
        failed ones as FAILED; KILLED is a trial that goes on when the sweep does."""
        ended = None if trial.view.ended is None else _milliseconds(trial.view.ended)
        self.experiment.set_status(run, STATUS[trial.standing], ended)

    def put_config(self, run: Run, trial: TrialSnapshot) -> None:
        """Keep the resolved trial as ``config.json``, where it is known; once in this process."""
        key = run.info.run_id, trial.view.number
        if trial.config and key not in self._with_config:
            self.experiment.put(run.info.run_id, "config.json", _pretty(trial.config))
            self._with_config.add(key)

    def mark_synced(self, run: Run, view: TrialView) -> None:
        """Say that a run shows all that is known of its finished trial; any change unsays it."""
        self.experiment.write(run, {"xlt.told": told(view)}, {}, {}, _now())

    def show_end(self, run: Run, view: TrialView, scores: Sequence[Score]) -> None:
        """Bring metrics, log and score table of a run to what its finished trial has."""
        run_id, ended = run.info.run_id, _milliseconds(view.ended)
        source = run.data.tags.get("xlt.source_language") or source_language({}, scores)
        metrics = final_metrics(view, scores, self._metric, source)
        self.experiment.write(run, score_tags(scores, self._metric), {}, metrics, ended)
        if view.state == "failed" and view.log:
            self.experiment.put(run_id, "log.txt", str(redacted(view.log)))
        if scores:
            self.experiment.put(run_id, "scores.json", score_table(scores))
            self.experiment.write(run, {"mlflow.loggedArtifacts": _TABLES}, {}, {}, ended)
        self.points.forget(run_id)

    def objective_curve(self, view: TrialView) -> list[Point]:
        """The objective metric of a trial on its way, as the ledger has it."""
        return [Point(self._curve, step, value) for step, value in view.curve]

    def delete(self, run: Run) -> None:
        """Move a run to MLflow's trash."""
        with complaints(self.uri):
            self.experiment.client.delete_run(run.info.run_id)

    def _origin(self) -> dict[str, str]:
        return {"xlt.sweep": self.name, **origin()}


def _pretty(config: Mapping[str, Any]) -> str:
    return json.dumps(redacted(config), indent=1, ensure_ascii=False, sort_keys=True)


def _now() -> int:
    return int(time.time() * 1000)


def _milliseconds(moment: datetime.datetime | None) -> int:
    """Milliseconds since 1970 of a moment, of this one where there is none."""
    return _now() if moment is None else int(moment.timestamp() * 1000)
