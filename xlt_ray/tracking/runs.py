"""The runs of one sweep in MLflow: begun, logged to and finished while the sweep goes on.

Every method may be repeated: a run is found by the id that the ledger has, else by its tags,
and a point of a curve that is there is not logged again. Methods raise
:class:`~xlt_ray.errors.TrackingOutage` where MLflow does not answer, and may be called again with
the same arguments; another :class:`~xlt_ray.errors.TrackingError` is MLflow's no. Artifacts are
written last, so that a server without a place for them shows all the rest.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from xlt_ray.config.search_space import Value
from xlt_ray.config.supervision import supervision_told
from xlt_ray.config.sweep import is_judged_by_oracle
from xlt_ray.home import Home
from xlt_ray.ledger import Standing, TrialView
from xlt_ray.redact import redacted
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.tracking.account import TrialReader
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
        """Runs of trials, as far as they were met."""
        self._parent: str | None = None
        self._metric, self._mode, self._selection, self._curve = "", "", "", ""
        self._seeds = 1
        self._source: Mapping[str, str] = {}
        self._parameters: dict[str, None] = {}
        self._begun: dict[int, datetime.datetime] = {}
        self.configurations = Configurations(self.experiment)
        self.points = Points(self.experiment.client)

    # -- the sweep ----------------------------------------------------------------------

    def begin(self, books: TrialReader, config: Mapping[str, Any]) -> str:
        """The sweep's run, RUNNING from now on, with the resolved sweep as ``sweep.json``."""
        with complaints(self.uri):
            parent = self.open(books)
            self.experiment.client.update_run(parent, status="RUNNING")
            self.experiment.put(parent, "sweep.json", _pretty(config))
            return parent

    def open(self, books: TrialReader) -> str:
        """Id of the sweep's run, made where there is none; its status stays as it is."""
        objective = books.sweep["objective"]
        self._metric, self._mode = str(objective["metric"]), str(objective["mode"])
        self._selection = "source" if objective["languages"] == "source" else "oracle"
        self._curve = f"dev/{'objective' if is_judged_by_oracle(books.sweep) else self._metric}"
        self._seeds = int(books.sweep["search"]["seeds"])
        self._source = source_of(books.sweep)
        with complaints(self.uri):
            if self._parent is None:
                found = self.experiment.search("sweep")
                tags = {"xlt.kind": "sweep", **self._origin()}
                begun = [trial.started for trial in books.trials() if trial.started is not None]
                start = _milliseconds(min(begun)) if begun else _now()
                run = found[0] if found else self.experiment.create(self.name, tags, start)
                self._parent = run.info.run_id
            for trial in books.trials():
                if trial.started is not None:
                    before = self._begun.get(trial.configuration, trial.started)
                    self._begun[trial.configuration] = min(before, trial.started)
            self._lay_out(path for trial in books.trials() for path in trial.assignment)
            return self._parent

    def end(self, books: TrialReader, status: Ending, beat: Beat = lambda: None) -> None:
        """Close the runs of sweep and configurations and note what is best; KILLED is a sweep
        that goes on later."""
        with complaints(self.uri):
            parent = self.open(books)
            trials, best = books.trials(), books.best()
            objective = books.sweep["objective"]
            runs = self.show_configurations(
                books, "KILLED" if status == "KILLED" else "FINISHED", beat
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
        self, books: TrialReader, going: Going, beat: Beat = lambda: None
    ) -> dict[int, Run]:
        """Bring the runs of configurations to what their trials are; these runs, by number.

        With one seed there are none: a configuration is its trial.
        """
        if self._seeds == 1:
            return {}
        with complaints(self.uri):
            runs = self.experiment.search("trial", beat=beat)
            ended: dict[int, int] = {}
            for trial in books.trials():
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

    def start_trial(
        self,
        view: TrialView,
        config: Mapping[str, Any],
        params: Mapping[str, Value],
        path: Sequence[Stage] = (),
    ) -> str:
        """Id of the trial's run, RUNNING from now on; made where there is none.

        Args:
            config: the resolved trial, kept as ``config.json``.
            params: what was searched over, by dotted path as in the sweep file.
            path: its stages, whose data are named as the run's inputs.
        """
        with complaints(self.uri):
            self._lay_out(params)
            run = self.find(view) or self.make(view)
            self.experiment.set_status(run, "RUNNING")
            # A trial that goes on may be made by other code than the one that began it.
            self.experiment.write(run, origin(), {}, {}, _now())
            self.describe(run, view, "running", config, params, path)
            configuration = self._configuration(view)
            if configuration is not None:
                self.experiment.set_status(configuration, "RUNNING")
            self.put_config(run, config)
            return str(run.info.run_id)

    def log(
        self, run_id: str, step: int, metrics: Mapping[str, float], moment: int | None = None
    ) -> None:
        """Log metrics at a step (examples seen), but for those that have a point there.

        Args:
            moment: when they were measured, as in :meth:`Points.log`.
        """
        with complaints(self.uri):
            self.points.log(run_id, [(name, step, one) for name, one in metrics.items()], moment)

    def finish(
        self,
        view: TrialView,
        scores: Sequence[Score],
        *,
        is_whole: bool = True,
    ) -> None:
        """Write a finished trial's headline metrics, score table and final status.

        Complete and pruned trials end as FINISHED (the tag ``xlt.state`` tells them apart),
        failed ones as FAILED with ``xlt.cause``.

        Args:
            is_whole: whether MLflow was told all that happened before; else the next
                projection goes through this trial again.
        """
        with complaints(self.uri):
            run = self.find(view) or self.make(view)
            self.close(run, view, scores)
            configuration = self._configuration(view)
            if configuration is not None:
                members = self.configurations.members(view.configuration)
                self.configurations.update(
                    configuration, members, self._seeds, "RUNNING", _milliseconds(view.ended)
                )
            if is_whole:
                self.mark_synced(run, view)

    def stop_trial(self, run_id: str) -> None:
        """Mark a trial KILLED whose sweep was stopped; it goes on when the sweep does."""
        with complaints(self.uri):
            self.experiment.client.set_terminated(run_id, "KILLED")
            self.experiment.client.set_tag(run_id, "xlt.state", "interrupted")

    # -- parts that the projection shares -------------------------------------------------

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

    def describe(
        self,
        run: Run,
        view: TrialView,
        standing: Standing,
        config: Mapping[str, Any],
        params: Mapping[str, Value],
        path: Sequence[Stage] = (),
        supervision: str = "",
    ) -> None:
        """Bring tags, parameters and inputs of a run, and of its configuration's, to what is
        known of its trial.

        Args:
            path: its stages; those that it has made are in ``view``.
            supervision: which labels it learned from, where its path does not say it.
        """
        planned = {
            f"xlt.stage.{stage_name(stage.kind, stage.label)}": stage.key
            for stage in stages_to_run(tuple(path))
        }
        learned = supervision_told(path[-1].settings) if path else supervision
        shared = {"xlt.selection": self._selection, "xlt.supervision": learned}
        tags = {**planned, **trial_tags(view, standing), **shared}
        tags |= {"xlt.source_language": source_language(config)} if config else {}
        known = {name: spelled(value) for name, value in params.items()}
        inputs = inputs_of(path)
        configuration = self._configuration(view)
        if configuration is not None:
            self.experiment.write(configuration, shared, known, {}, _now())
            self.experiment.put_inputs(configuration, inputs, self._source)
            tags["mlflow.parentRunId"] = configuration.info.run_id
        self.experiment.write(run, tags, known, {}, _now())
        self.experiment.put_inputs(run, inputs, self._source)

    def put_config(self, run: Run, config: Mapping[str, Any]) -> None:
        """Keep the resolved trial as ``config.json``, where it is known."""
        if config:
            self.experiment.put(run.info.run_id, "config.json", _pretty(config))

    def mark_synced(self, run: Run, view: TrialView) -> None:
        """Say that a run shows all that is known of its finished trial; any change unsays it."""
        self.experiment.write(run, {"xlt.told": told(view)}, {}, {}, _now())

    def close(self, run: Run, view: TrialView, scores: Sequence[Score]) -> None:
        """Bring curve, metrics, table and status of a run to what its finished trial has."""
        assert view.state in ("complete", "pruned", "failed"), f"trial {view.number} goes on"
        run_id = run.info.run_id
        source = run.data.tags.get("xlt.source_language") or source_language({}, scores)
        ended = _milliseconds(view.ended)
        # First: a run has ended even where MLflow refuses something that follows.
        if run.info.status != STATUS[view.state] or run.info.end_time is None:
            self.experiment.client.set_terminated(run_id, STATUS[view.state], ended)
        self.log_curve(run_id, view)
        metrics = final_metrics(view, scores, self._metric, source)
        tags = {**trial_tags(view, view.state), **score_tags(scores, self._metric)}
        self.experiment.write(run, tags, {}, metrics, ended)
        if view.state == "failed" and view.log:
            self.experiment.put(run_id, "log.txt", str(redacted(view.log)))
        if scores:
            self.experiment.put(run_id, "scores.json", score_table(scores))
            self.experiment.write(run, {"mlflow.loggedArtifacts": _TABLES}, {}, {}, ended)
        self.points.forget(run_id)

    def log_curve(self, run_id: str, view: TrialView) -> None:
        """Log the objective metric of a trial on its way, as the ledger has it."""
        self.points.log(run_id, [(self._curve, step, value) for step, value in view.curve])

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
