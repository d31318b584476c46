"""The runs of one sweep in MLflow: begun, logged to and finished while the sweep goes on.

Every method may be repeated: a run is found by the id that the ledger has, else by its tags,
and a point of a curve that is there is not logged again. Methods raise
:class:`~xlt_ray.errors.TrackingError` where MLflow cannot be used; a sweep may go on without
and :func:`~xlt_ray.tracking.projection.project` later.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import socket
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, TrialView
from xlt_ray.spec.space import Value
from xlt_ray.stages.record import Score
from xlt_ray.tracking.connection import complaints, connect, find_or_make_experiment
from xlt_ray.tracking.facts import (
    STATUS,
    final_metrics,
    score_table,
    source_language,
    spelled,
    sweep_note,
    trial_name,
    trial_tags,
)
from xlt_ray.tracking.redact import redacted

if TYPE_CHECKING:
    from mlflow.entities import Run

_PAGE = 1000
_TABLES = json.dumps([{"path": "scores.json", "type": "table"}])


class Tracker:
    """One sweep's runs in the MLflow at ``uri``; the home's own database by default.

    Raises:
        TrackingError: MLflow cannot be reached.
    """

    def __init__(self, home: Home, name: str, uri: str | None = None) -> None:
        self.name = name
        self.uri = uri or home.tracking_uri
        self._client = connect(home, uri)
        with complaints(self.uri):
            self.experiment_id = find_or_make_experiment(
                self._client, home, name, local=not self.uri.startswith(("http", "databricks"))
            )
        self._parent: str | None = None
        self._metric = ""
        self._steps: dict[tuple[str, str], set[int]] = {}
        self._made: set[str] = set()

    # -- the sweep ----------------------------------------------------------------------

    def begin(self, ledger: Ledger, config: Mapping[str, Any]) -> str:
        """The sweep's run, RUNNING from now on, with the resolved sweep as ``sweep.json``."""
        with complaints(self.uri):
            parent = self.open(ledger)
            self._client.update_run(parent, status="RUNNING")
            self._put(parent, "sweep.json", _pretty(config))
            return parent

    def open(self, ledger: Ledger) -> str:
        """Id of the sweep's run, made where there is none; its status stays as it is."""
        objective = ledger.sweep["objective"]
        self._metric = str(objective["metric"])
        with complaints(self.uri):
            if self._parent is None:
                found = self._search("sweep")
                tags = {"xlt.sweep": self.name, "xlt.kind": "sweep", **_origin()}
                begun = [one.started for one in ledger.trials() if one.started is not None]
                start = _milliseconds(min(begun)) if begun else _now()
                run = found[0] if found else self._create(self.name, tags, start)
                self._parent = run.info.run_id
            return self._parent

    def end(self, ledger: Ledger, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Close the sweep's run and note its best trial; KILLED is a sweep that goes on later."""
        with complaints(self.uri):
            parent = self.open(ledger)
            trials, best = ledger.trials(), ledger.best()
            objective = ledger.sweep["objective"]
            tags = {
                "mlflow.note.content": sweep_note(self.name, trials, best, objective),
                "xlt.selection": "source" if objective["languages"] == "source" else "oracle",
                "xlt.best_trial": "" if best is None else str(best.number),
            }
            run = self._client.get_run(parent)
            metrics = {f"trials/{state}": float(sum(one.state == state for one in trials))
                       for state in ("complete", "pruned", "failed")}  # fmt: skip
            if best is not None and best.objective is not None:
                metrics["best_objective"] = best.objective
            self._write(run, tags, {}, metrics, _now())
            if run.info.status != status:
                self._client.set_terminated(parent, status)

    # -- trials -------------------------------------------------------------------------

    def start_trial(
        self, view: TrialView, config: Mapping[str, Any], params: Mapping[str, Value]
    ) -> str:
        """Id of the trial's run, RUNNING from now on; made where there is none.

        Args:
            config: the resolved trial, kept as ``config.json``.
            params: what was searched over, by dotted path as in the sweep file.
        """
        with complaints(self.uri):
            run = self.find(view) or self.make(view)
            self.describe(run, view, config, params)
            self.mark_running(run.info.run_id)
            return str(run.info.run_id)

    def log(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics at a step (examples seen), but for those that have a point there."""
        with complaints(self.uri):
            self._log_points(run_id, [(name, step, value) for name, value in metrics.items()])

    def finish(
        self, view: TrialView, scores: Sequence[Score], extra: Mapping[str, float] | None = None
    ) -> None:
        """Write a finished trial's headline metrics, score table and final status.

        Complete and pruned trials end as FINISHED (the tag ``xlt.state`` tells them apart),
        failed ones as FAILED with ``xlt.cause``. ``extra`` are further metrics by name.
        """
        assert view.is_finished, f"trial {view.number} is {view.state}"
        with complaints(self.uri):
            run = self.find(view) or self.make(view)
            self.close(run, view, scores, extra or {})

    def stop_trial(self, run_id: str) -> None:
        """Mark a trial KILLED whose sweep was stopped; it goes on when the sweep does."""
        with complaints(self.uri):
            self._client.set_terminated(run_id, "KILLED")

    # -- parts that the projection shares -------------------------------------------------

    def runs(self) -> list[Run]:
        """All trial runs of this sweep, the oldest first."""
        with complaints(self.uri):
            return self._search("trial")

    def find(self, view: TrialView, among: Sequence[Run] | None = None) -> Run | None:
        """The run of a trial: by id, by its tag, or, of a retry, that of the failed trial."""
        from mlflow.exceptions import MlflowException

        if among is None and view.mlflow_run_id is not None:
            with contextlib.suppress(MlflowException):
                run = self._client.get_run(view.mlflow_run_id)
                if run.info.lifecycle_stage == "active":
                    return run
        runs = self._search("trial") if among is None else among
        by_id = {run.info.run_id: run for run in runs}
        by_trial = {run.data.tags["xlt.trial"]: run for run in reversed(runs)}
        return (
            by_id.get(view.mlflow_run_id or "")
            or by_trial.get(str(view.number))
            or by_trial.get(str(view.retry_of))
        )

    def make(self, view: TrialView) -> Run:
        """A new run for a trial, below the sweep's run."""
        assert self._parent is not None, "begin the sweep first"
        tags = {
            "xlt.sweep": self.name,
            "xlt.kind": "trial",
            "xlt.trial": str(view.number),
            "mlflow.parentRunId": self._parent,
            **_origin(),
        }
        run = self._create(trial_name(view), tags, _milliseconds(view.started))
        self._made.add(run.info.run_id)
        return run

    def mark_running(self, run_id: str) -> None:
        self._client.update_run(run_id, status="RUNNING")

    def describe(
        self,
        run: Run,
        view: TrialView,
        config: Mapping[str, Any],
        params: Mapping[str, Value],
    ) -> None:
        """Bring tags, parameters and ``config.json`` of a run to what is known of its trial."""
        tags = trial_tags(view)
        if config:
            tags["xlt.source_language"] = source_language(config)
        known = {name: spelled(value) for name, value in params.items()}
        self._write(run, tags, known, {}, _now())
        if config:
            self._put(run.info.run_id, "config.json", _pretty(config))

    def close(
        self, run: Run, view: TrialView, scores: Sequence[Score], extra: Mapping[str, float]
    ) -> None:
        """Bring curve, metrics, table and status of a run to what its finished trial has."""
        run_id = run.info.run_id
        source = run.data.tags.get("xlt.source_language") or source_language({}, scores)
        self._log_points(
            run_id, [(f"dev/{self._metric}", step, value) for step, value in view.curve]
        )
        ended = _milliseconds(view.ended)
        metrics = final_metrics(view, scores, self._metric, source, extra)
        languages = sorted({one.language for one in scores if one.split == "test"})
        tags = {**trial_tags(view), "xlt.languages": " ".join(languages)}
        if scores:
            self._put(run_id, "scores.json", score_table(scores))
            tags["mlflow.loggedArtifacts"] = _TABLES
        if view.state == "failed" and view.log:
            self._put(run_id, "log.txt", str(redacted(view.log)))
        self._write(run, tags, {}, metrics, ended)
        if run.info.status != STATUS[view.state] or run.info.end_time is None:
            self._client.set_terminated(run_id, STATUS[view.state], ended)

    # -- inside ---------------------------------------------------------------------------

    def _create(self, name: str, tags: Mapping[str, str], start: int) -> Run:
        return self._client.create_run(
            self.experiment_id, start_time=start, tags=dict(tags), run_name=name
        )

    def _search(self, kind: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                f"tags.`xlt.sweep` = '{self.name}' and tags.`xlt.kind` = '{kind}'",
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _write(
        self,
        run: Run,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        timestamp: int,
    ) -> None:
        """One batch of what the run does not have; an empty tag is one to be taken away."""
        from mlflow.entities import Metric, Param, RunTag

        data, run_id = run.data, run.info.run_id
        new_tags = [RunTag(k, v) for k, v in tags.items() if v and data.tags.get(k) != v]
        new_params = [Param(k, v) for k, v in params.items() if k not in data.params]
        new_metrics = [
            Metric(k, v, timestamp, 0) for k, v in metrics.items() if data.metrics.get(k) != v
        ]
        for name, value in tags.items():
            if not value and name in data.tags:
                self._client.delete_tag(run_id, name)
        if new_tags or new_params or new_metrics:
            self._client.log_batch(run_id, metrics=new_metrics, params=new_params, tags=new_tags)

    def _log_points(self, run_id: str, points: Sequence[tuple[str, int, float]]) -> None:
        from mlflow.entities import Metric

        timestamp = _now()
        fresh: list[Metric] = []
        for name, step, value in points:
            there = self._known_steps(run_id, name)
            if step not in there:
                fresh.append(Metric(name, float(value), timestamp, step))
                there.add(step)
        if fresh:
            try:
                self._client.log_batch(run_id, metrics=fresh)
            except BaseException:
                # What did not arrive is asked for again.
                for point in fresh:
                    self._steps.pop((run_id, point.key), None)
                self._made.discard(run_id)
                raise

    def _known_steps(self, run_id: str, name: str) -> set[int]:
        """Steps at which a metric has a point; asked once of runs that this process found."""
        if (run_id, name) not in self._steps:
            history = [] if run_id in self._made else self._client.get_metric_history(run_id, name)
            self._steps[run_id, name] = {point.step for point in history}
        return self._steps[run_id, name]

    def _put(self, run_id: str, name: str, text: str) -> None:
        self._client.log_text(run_id, text, name)


def _origin() -> dict[str, str]:
    """Tags that say where a run comes from; MLflow's columns User and Source show them."""
    return {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": "xlt run",
        "mlflow.source.type": "LOCAL",
        "xlt.host": socket.gethostname(),
    }


def _pretty(config: Mapping[str, Any]) -> str:
    return json.dumps(redacted(config), indent=1, ensure_ascii=False, sort_keys=True)


def _now() -> int:
    return int(time.time() * 1000)


def _milliseconds(moment: datetime.datetime | None) -> int:
    """Milliseconds since 1970 of a moment, of this one where there is none."""
    return _now() if moment is None else int(moment.timestamp() * 1000)
