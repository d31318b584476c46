"""Finds and deletes what MLflow has of one sweep: runs of this ledger, and of no other.

From a home's own database it goes for good, artifacts included. On a server, and in a database
that the sweep file names, it is deleted as in MLflow's UI: ``mlflow gc`` there frees it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xlt_ray.errors import TrackingError
from xlt_ray.home import Home
from xlt_ray.redact import redacted
from xlt_ray.tracking.client import (
    LEDGER_TAG,
    connect,
    default_uri,
    find_run,
    name_of_second,
    search_runs,
    tracking_errors,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run


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
        TrackingError: ``uri`` is malformed; or a registered model lies among the artifacts of
            these runs.
    """
    from mlflow.entities import ViewType

    uri = uri or default_uri()
    shown, is_permanent = str(redacted(uri or home.tracking_uri)), uri is None
    if is_permanent and not home.tracking_file.exists():
        return TrackedSweep(shown, is_permanent)
    runs: list[Run] = []
    emptied: list[Experiment] = []
    client = connect(home, uri)
    for experiment in _experiments(client, name, identity, run_id):
        owner = experiment.tags.get(LEDGER_TAG)
        is_ours = owner == identity or (is_permanent and owner is None)
        # Deleted ones included.
        all_runs = [*search_runs(client, experiment.experiment_id, run_view_type=ViewType.ALL)]
        our_runs = [
            run
            for run in all_runs
            if run.data.tags.get("xlt.sweep") == name
            and run.data.tags.get(LEDGER_TAG, identity if is_ours else None) == identity
        ]
        runs += our_runs
        is_named_after = experiment.name in (name, name_of_second(name, identity))
        is_named_after |= experiment.name.startswith(_removed(name))
        if is_ours and is_named_after and len(our_runs) == len(all_runs):
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


def _experiments(
    client: MlflowClient, name: str, identity: str, run_id: str | None
) -> Iterable[Experiment]:
    names = (os.environ.get("MLFLOW_EXPERIMENT_NAME"), name, name_of_second(name, identity))
    experiments = [client.get_experiment_by_name(known) for known in names if known]
    # What a removal that was broken off has renamed.
    experiments += client.search_experiments(filter_string=f"name LIKE '{_removed(name)}%'")
    if run_id is not None and (run := find_run(client, run_id)) is not None:
        experiments.append(client.get_experiment(run.info.experiment_id))
    return {found.experiment_id: found for found in experiments if found is not None}.values()


def remove_tracked(home: Home, name: str, uri: str | None, tracked: TrackedSweep) -> None:
    """Take it away; may be repeated where it was broken off.

    Raises:
        TrackingOutage: MLflow does not answer.
        TrackingError: it refuses.
    """
    if not (tracked.runs or tracked.experiments):
        return
    client = connect(home, uri or default_uri())
    if tracked.is_permanent:
        with tracking_errors(tracked.uri):
            _remove_for_good(home, client, tracked)
        return
    emptied = {experiment.experiment_id for experiment in tracked.experiments}
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


def _removed(name: str) -> str:
    return f"{name}-removed-"
