"""The runs of one sweep in MLflow: begun, logged to and finished while the sweep goes on.

Every method may be repeated: a run is found by the id that the ledger has, else by its tags,
and a point of a curve that is there is not logged again. Methods raise
:class:`~xlt_ray.errors.TrackingOutage` where MLflow does not answer, and may be called again with
the same arguments; another :class:`~xlt_ray.errors.TrackingError` is MLflow's no. Artifacts are
written last, so that a server without a place for them shows all the rest.
"""

from __future__ import annotations

import datetime
import getpass
import json
import socket
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView
from xlt_ray.redact import redacted
from xlt_ray.spec.space import Value
from xlt_ray.stages.record import Score
from xlt_ray.stages.stage import Stage
from xlt_ray.tracking.account import Books
from xlt_ray.tracking.connection import (
    complaints,
    connect,
    find_or_make_experiment,
    is_server,
)
from xlt_ray.tracking.facts import (
    STATUS,
    final_metrics,
    score_table,
    source_language,
    spelled,
    sweep_note,
    told,
    trial_name,
    trial_tags,
)
from xlt_ray.tracking.points import Points

if TYPE_CHECKING:
    from mlflow.entities import Run

_PAGE = 1000
_TABLES = json.dumps([{"path": "scores.json", "type": "table"}])


class Tracker:
    """One sweep's runs in the MLflow at ``uri``; the home's own database by default.

    A server is not asked for anything yet: it may be away.

    Raises:
        TrackingError: ``uri`` is none, or its database cannot be used.
    """

    def __init__(self, home: Home, name: str, uri: str | None = None) -> None:
        self.name = name
        self.uri = uri or home.tracking_uri
        self.run_ids: dict[int, str] = {}
        """Runs of trials, as far as they were met."""
        self._home = home
        self._experiment_id: str | None = None
        try:
            self._client = connect(home, uri)
            if not is_server(uri):
                self.experiment_id  # noqa: B018
        except TrackingOutage as error:
            # A database that cannot be opened is not a server that restarts.
            raise TrackingError(error.fields["problem"], uri=error.fields["uri"]) from error
        self._parent: str | None = None
        self._metric = ""
        self.points = Points(self._client)

    @property
    def experiment_id(self) -> str:
        """Id of the sweep's experiment, made where there is none."""
        if self._experiment_id is None:
            is_local = not self.uri.startswith(("http", "databricks"))
            with complaints(self.uri):
                self._experiment_id = find_or_make_experiment(
                    self._client, self._home, self.name, local=is_local
                )
        return self._experiment_id

    # -- the sweep ----------------------------------------------------------------------

    def begin(self, books: Books, config: Mapping[str, Any]) -> str:
        """The sweep's run, RUNNING from now on, with the resolved sweep as ``sweep.json``."""
        with complaints(self.uri):
            parent = self.open(books)
            self._client.update_run(parent, status="RUNNING")
            self._put(parent, "sweep.json", _pretty(config))
            return parent

    def open(self, books: Books) -> str:
        """Id of the sweep's run, made where there is none; its status stays as it is."""
        objective = books.sweep["objective"]
        self._metric = str(objective["metric"])
        with complaints(self.uri):
            if self._parent is None:
                found = self._search("sweep")
                tags = {"xlt.sweep": self.name, "xlt.kind": "sweep", **_origin()}
                begun = [one.started for one in books.trials() if one.started is not None]
                start = _milliseconds(min(begun)) if begun else _now()
                run = found[0] if found else self._create(self.name, tags, start)
                self._parent = run.info.run_id
            return self._parent

    def end(self, books: Books, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Close the sweep's run and note its best trial; KILLED is a sweep that goes on later."""
        with complaints(self.uri):
            parent = self.open(books)
            trials, best = books.trials(), books.best()
            objective = books.sweep["objective"]
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
            # A sweep that was run again and had nothing to do did not last until now.
            ended = [one.ended for one in trials if one.ended is not None]
            moment = _milliseconds(max(ended)) if ended and status == "FINISHED" else _now()
            self._client.set_terminated(parent, status, moment)

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
            self.mark_running(run.info.run_id)
            self.describe(run, view, config, params)
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
        extra: Mapping[str, float] | None = None,
        *,
        is_whole: bool = True,
    ) -> None:
        """Write a finished trial's headline metrics, score table and final status.

        Complete and pruned trials end as FINISHED (the tag ``xlt.state`` tells them apart),
        failed ones as FAILED with ``xlt.cause``. ``extra`` are further metrics by name.

        Args:
            is_whole: whether MLflow was told all that happened before; else the next
                projection goes through this trial again.
        """
        assert view.is_finished, f"trial {view.number} is {view.state}"
        with complaints(self.uri):
            run = self.find(view) or self.make(view)
            self.close(run, view, scores, extra or {})
            if is_whole:
                self.mark_told(run, view)

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
        run = self._run_by_id(view.mlflow_run_id) if among is None else None
        if run is None:
            runs = self._search("trial") if among is None else among
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
        self.points.expect_none(run.info.run_id)
        self.run_ids[view.number] = run.info.run_id
        return run

    def mark_running(self, run_id: str) -> None:
        self._client.update_run(run_id, status="RUNNING")

    def describe(
        self,
        run: Run,
        view: TrialView,
        config: Mapping[str, Any],
        params: Mapping[str, Value],
        planned: Sequence[Stage] = (),
    ) -> None:
        """Bring tags and parameters of a run to what is known of its trial.

        Args:
            planned: stages that it was to make; those that it has made are in ``view``.
        """
        tags = {f"xlt.stage.{one.kind}": one.key for one in planned} | trial_tags(view)
        if config:
            tags["xlt.source_language"] = source_language(config)
        known = {name: spelled(value) for name, value in params.items()}
        self._write(run, tags, known, {}, _now())

    def put_config(self, run: Run, config: Mapping[str, Any]) -> None:
        """Keep the resolved trial as ``config.json``, where it is known."""
        if config:
            self._put(run.info.run_id, "config.json", _pretty(config))

    def mark_told(self, run: Run, view: TrialView) -> None:
        """Say that a run shows all that is known of its finished trial; any change unsays it."""
        self._write(run, {"xlt.told": told(view)}, {}, {}, _now())

    def close(
        self, run: Run, view: TrialView, scores: Sequence[Score], extra: Mapping[str, float]
    ) -> None:
        """Bring curve, metrics, table and status of a run to what its finished trial has."""
        run_id = run.info.run_id
        source = run.data.tags.get("xlt.source_language") or source_language({}, scores)
        self.log_curve(run_id, view)
        ended = _milliseconds(view.ended)
        metrics = final_metrics(view, scores, self._metric, source, extra)
        languages = sorted(
            {one.language for one in scores if one.split == "test" and one.role == "target"}
        )
        tags = {**trial_tags(view), "xlt.languages": " ".join(languages)}
        self._write(run, tags, {}, metrics, ended)
        if run.info.status != STATUS[view.state] or run.info.end_time is None:
            self._client.set_terminated(run_id, STATUS[view.state], ended)
        if view.state == "failed" and view.log:
            self._put(run_id, "log.txt", str(redacted(view.log)))
        if scores:
            self._put(run_id, "scores.json", score_table(scores))
            self._write(run, {"mlflow.loggedArtifacts": _TABLES}, {}, {}, ended)

    def log_curve(self, run_id: str, view: TrialView) -> None:
        """Log the objective metric of a trial on its way, as the ledger has it."""
        name = f"dev/{self._metric}"
        self.points.log(run_id, [(name, step, value) for step, value in view.curve])

    def delete(self, run: Run) -> None:
        """Move a run to MLflow's trash."""
        with complaints(self.uri):
            self._client.delete_run(run.info.run_id)

    # -- inside ---------------------------------------------------------------------------

    def _run_by_id(self, run_id: str | None) -> Run | None:
        if run_id is None:
            return None
        try:
            with complaints(self.uri):
                run = self._client.get_run(run_id)
        except TrackingOutage:
            raise
        except TrackingError:
            return None
        return run if run.info.lifecycle_stage == "active" else None

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
                del data.tags[name]
        if new_tags or new_params or new_metrics:
            self._client.log_batch(run_id, metrics=new_metrics, params=new_params, tags=new_tags)
        # The run as it is now, for who writes to it next.
        data.tags.update({one.key: one.value for one in new_tags})
        data.params.update({one.key: one.value for one in new_params})
        data.metrics.update({one.key: one.value for one in new_metrics})

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
