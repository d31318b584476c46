"""Requests about the runs of one sweep's experiment: made, found, written to.

Nothing here knows what runs mean. A run is written in one batch of what it does not have, so that
sending twice shows a thing once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.home import Home
from xlt_ray.tracking.client import (
    LEDGER_TAG,
    complaints,
    connect,
    default_uri,
    find_or_make_experiment,
    is_server,
)
from xlt_ray.tracking.content import VIEW_TAG, Input, legal_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")
Beat = Callable[[], object]
"""Called whenever MLflow has answered, where a task is many requests."""

_PAGE = 1000
_CONTEXT = "mlflow.data.context"


class Experiment:
    """The experiment of the sweep ``name`` in the MLflow at ``uri``, or where that is None in the
    place that :func:`~xlt_ray.tracking.client.default_uri` names.

    A server is not asked for anything yet: it may be away.

    Args:
        identity: of the ledger. An experiment of this name that belongs to another ledger is left
            alone, and so are another ledger's runs.

    Raises:
        TrackingError: ``uri`` is none, or its database cannot be used.
    """

    def __init__(self, home: Home, name: str, uri: str | None, identity: str = "") -> None:
        uri = uri or default_uri()
        self.name = name
        self.identity = identity
        self.uri = uri or home.tracking_uri
        self._home = home
        self._id: str | None = None
        self._view: str | None = None
        try:
            self.client: MlflowClient = connect(home, uri)
            if not is_server(uri):
                self.id  # noqa: B018
        except TrackingOutage as error:
            # A database that cannot be opened is not a server that restarts.
            raise TrackingError(error.fields["problem"], uri=error.fields["uri"]) from error

    @property
    def id(self) -> str:
        """Id of the experiment, made where there is none."""
        if self._id is None:
            is_local = not self.uri.startswith(("http", "databricks"))
            with complaints(self.uri):
                self._id = find_or_make_experiment(
                    self.client, self._home, self.name, self.identity, local=is_local
                )
        return self._id

    def create(self, name: str, tags: Mapping[str, str], start: int) -> Run:
        """A new run, RUNNING since ``start`` (ms since 1970)."""
        owner = {LEDGER_TAG: self.identity} if self.identity else {}
        return self.client.create_run(
            self.id, start_time=start, tags={**tags, **owner}, run_name=name
        )

    def search(
        self, kind: str, tags: Mapping[str, str] | None = None, beat: Beat = lambda: None
    ) -> list[Run]:
        """All runs of this ledger, of this kind and with these tags, the oldest first."""
        wanted = {"xlt.sweep": self.name, "xlt.kind": kind, **(tags or {})}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.id],
                query,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += [run for run in page if self._is_own(run)]
            beat()
            token = page.token
            if not token:
                return runs

    def _is_own(self, run: Run) -> bool:
        """Whether this ledger made a run; one from before there were identities counts as own."""
        return not self.identity or run.data.tags.get(LEDGER_TAG) in (None, self.identity)

    def run(self, run_id: str | None) -> Run | None:
        """The run of this id; None where there is none, or it was deleted."""
        if run_id is None:
            return None
        try:
            with complaints(self.uri):
                run = self.client.get_run(run_id)
        except TrackingOutage:
            raise
        except TrackingError:
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def set_status(self, run: Run, status: str, ended: int | None = None) -> None:
        """RUNNING, or ended at ``ended`` with another status; not asked for twice."""
        if run.info.status == status and (status == "RUNNING" or run.info.end_time is not None):
            return
        if status == "RUNNING":
            self.client.update_run(run.info.run_id, status=status)
        else:
            self.client.set_terminated(run.info.run_id, status, ended)
        run.info._status = status

    def write(
        self,
        run: Run,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        timestamp: int,
    ) -> None:
        """One batch of what the run does not have; an empty tag is one to be taken away.

        Names are written as :func:`legal_name` spells them.
        """
        from mlflow.entities import Metric, Param, RunTag

        tags, params = _with_legal_names(tags), _with_legal_names(params)
        metrics = _with_legal_names(metrics)
        data, run_id = run.data, run.info.run_id
        new_tags = [RunTag(k, v) for k, v in tags.items() if v and data.tags.get(k) != v]
        new_params = [Param(k, v) for k, v in params.items() if k not in data.params]
        new_metrics = [
            Metric(k, v, timestamp, 0) for k, v in metrics.items() if data.metrics.get(k) != v
        ]
        for name, value in tags.items():
            if not value and name in data.tags:
                self.client.delete_tag(run_id, name)
                del data.tags[name]
        if new_tags or new_params or new_metrics:
            self.client.log_batch(run_id, metrics=new_metrics, params=new_params, tags=new_tags)
        # The run as it is now, for who writes to it next.
        data.tags.update({tag.key: tag.value for tag in new_tags})
        data.params.update({param.key: param.value for param in new_params})
        data.metrics.update({metric.key: metric.value for metric in new_metrics})

    def put(self, run_id: str, name: str, text: str) -> None:
        """Keep a text as an artifact; what was there under this name is replaced."""
        self.client.log_text(run_id, text, name)

    def put_folder(self, run_id: str, folder: Path, name: str) -> None:
        """Keep all files of a folder below ``name`` among the artifacts of a run."""
        self.client.log_artifacts(run_id, str(folder), name)

    def put_inputs(self, run: Run, inputs: Sequence[Input], source: Mapping[str, str]) -> None:
        """Name the data that a run reads, where the run does not name it yet.

        Args:
            source: where all of it comes from, ``type`` and what else there is to say.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        known = run.inputs.dataset_inputs if run.inputs is not None else []
        there = {(one.dataset.name, one.dataset.digest) for one in known}
        new = [
            DatasetInput(
                Dataset(
                    input_.name,
                    input_.digest,
                    source_type=source["type"],
                    source=json.dumps(source),
                    profile=input_.profile,
                ),
                [InputTag(_CONTEXT, input_.context)],
            )
            for input_ in inputs
            if (input_.name, input_.digest) not in there
        ]
        if new:
            self.client.log_inputs(run.info.run_id, new)

    def put_view(self, key: str, view: str) -> None:
        """Keep a view of the runs page, to be opened by ``viewStateShareKey``; asked for once."""
        if view != self._view:
            self.client.set_experiment_tag(self.id, VIEW_TAG + key, view)
            self._view = view


def _with_legal_names(values: Mapping[str, T]) -> dict[str, T]:
    return {legal_name(name): value for name, value in values.items()}
