"""What MLflow has of one sweep, found and taken away: runs of this ledger, and no other's.

From a home's own database it goes for good, artifacts included. On a server, and in a database
that the sweep file names, it is deleted as in MLflow's UI: ``mlflow gc`` there frees it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xlt_ray.errors import TrackingError
from xlt_ray.home import Home
from xlt_ray.redact import redacted
from xlt_ray.tracking.client import LEDGER_TAG, complaints, connect, default_uri, name_of_second

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

_PAGE = 1000


@dataclass(frozen=True)
class TrackedSweep:
    """Runs of one sweep, and the experiments that hold nothing else."""

    uri: str
    is_permanent: bool
    """Whether they are in the home's own database, from which they go for good."""
    runs: tuple[Run, ...] = ()
    experiments: tuple[Experiment, ...] = ()


def find_tracked(
    home: Home, name: str, uri: str | None, identity: str, run_id: str | None = None
) -> TrackedSweep:
    """What the MLflow at ``uri``, by default as for a run of it, has of the sweep ``name``.

    Args:
        identity: of its ledger.
        run_id: one of its runs, by which an experiment of another name is found.

    Raises:
        TrackingOutage: MLflow does not answer.
        TrackingError: ``uri`` is not a place of MLflow's; or a registered model lies among the
            artifacts of these runs.
    """
    uri = uri or default_uri()
    shown, is_permanent = str(redacted(uri or home.tracking_uri)), uri is None
    if is_permanent and not home.tracking_file.exists():
        return TrackedSweep(shown, is_permanent)
    runs: list[Run] = []
    emptied: list[Experiment] = []
    with complaints(uri or home.tracking_uri):
        client = connect(home, uri)
        for experiment in _experiments(client, name, identity, run_id):
            owner = experiment.tags.get(LEDGER_TAG)
            is_ours = owner == identity or (is_permanent and owner is None)
            there = list(_runs(client, experiment.experiment_id))
            own = [
                run
                for run in there
                if run.data.tags.get("xlt.sweep") == name
                and (
                    run.data.tags.get(LEDGER_TAG) == identity
                    or (is_ours and LEDGER_TAG not in run.data.tags)
                )
            ]
            runs += own
            if is_ours and len(own) == len(there) and _is_named_after(experiment, name, identity):
                emptied.append(experiment)
        models = [
            f"models:/{version.name}/{version.version}"
            for run in runs
            if run.data.tags.get("xlt.kind") == "sweep"
            for version in client.search_model_versions(f"run_id = '{run.info.run_id}'")
        ]
    if models:
        raise TrackingError(
            f"{', '.join(models)} lies among the artifacts of {name}; delete that version first, "
            "in MLflow's UI, or keep the sweep",
            uri=shown,
        )
    return TrackedSweep(shown, is_permanent, tuple(runs), tuple(emptied))


def remove_tracked(home: Home, name: str, uri: str | None, tracked: TrackedSweep) -> None:
    """Take it away; may be repeated where it was broken off.

    Raises:
        TrackingOutage: MLflow does not answer.
        TrackingError: it refuses.
    """
    if not (tracked.runs or tracked.experiments):
        return
    with complaints(tracked.uri):
        client = connect(home, uri or default_uri())
        emptied = {experiment.experiment_id for experiment in tracked.experiments}
        if tracked.is_permanent:
            _remove_for_good(home, client, tracked)
            return
        for run in tracked.runs:
            if run.info.experiment_id not in emptied and run.info.lifecycle_stage == "active":
                client.delete_run(run.info.run_id)
        for experiment in tracked.experiments:
            number = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                client.restore_experiment(number)
            # The next experiment of this name would bring all of it back.
            client.rename_experiment(number, f"{_removed(name)}{number}")
            client.delete_experiment(number)


def _remove_for_good(home: Home, client: MlflowClient, tracked: TrackedSweep) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # As `mlflow gc` does, which would free what other sweeps have deleted, too.
    store = SqlAlchemyStore(home.tracking_uri, str(home.artifacts))
    for run in tracked.runs:
        shutil.rmtree(_artifacts(home, run.info.artifact_uri, 3), ignore_errors=True)
        store._hard_delete_run(run.info.run_id)
    for experiment in tracked.experiments:
        shutil.rmtree(_artifacts(home, experiment.artifact_location, 1), ignore_errors=True)
        if experiment.lifecycle_stage == "active":
            client.delete_experiment(experiment.experiment_id)
        store._hard_delete_experiment(experiment.experiment_id)


def _artifacts(home: Home, location: str, num_parts: int) -> Path:
    """Where artifacts lie in this home, which may have been moved since they were written."""
    parts = Path(location).parts[-num_parts:]
    return home.artifacts.joinpath(*parts[:2])


def _experiments(
    client: MlflowClient, name: str, identity: str, run_id: str | None
) -> Iterable[Experiment]:
    names = (os.environ.get("MLFLOW_EXPERIMENT_NAME"), name, name_of_second(name, identity))
    found = [client.get_experiment_by_name(known) for known in names if known]
    # What a removal that was broken off has renamed.
    found += client.search_experiments(filter_string=f"name LIKE '{_removed(name)}%'")
    if run_id is not None:
        with_run = _experiment_of(client, run_id)
        found += [] if with_run is None else [with_run]
    return {one.experiment_id: one for one in found if one is not None}.values()


def _experiment_of(client: MlflowClient, run_id: str) -> Experiment | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_experiment(client.get_run(run_id).info.experiment_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """All runs of an experiment, deleted ones included."""
    from mlflow.entities import ViewType

    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _removed(name: str) -> str:
    return f"{name}-removed-"


def _is_named_after(experiment: Experiment, name: str, identity: str) -> bool:
    named = (name, name_of_second(name, identity))
    return experiment.name in named or experiment.name.startswith(_removed(name))
