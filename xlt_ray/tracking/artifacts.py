"""What is put beside a sweep's runs on request: its report, an exported model, a registered one.

All of it goes the way of MLflow's own artifacts, through the tracking URI, and may be repeated:
files are replaced, and a model that is registered already keeps its version.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xlt_ray.errors import TrackingError
from xlt_ray.home import Home
from xlt_ray.redact import redacted
from xlt_ray.tracking.client import complaints
from xlt_ray.tracking.experiment import Experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

UPLOAD_S = 600
"""So long a server may take to answer to one file; models are large, and nobody waits else."""


@dataclass(frozen=True)
class Deposit:
    """A folder among the artifacts of a sweep's run."""

    run_id: str
    path: str
    uri: str
    """Where it lies, as the model registry wants to know it."""

    @property
    def place(self) -> str:
        """For people, and for ``mlflow artifacts download -u``."""
        return f"runs:/{self.run_id}/{self.path}"


class ModelRegistry:
    """The run of the sweep ``name`` in the MLflow at ``uri``; the home's own by default.

    Raises:
        TrackingOutage: MLflow does not answer.
        TrackingError: ``uri`` is none, or it has no run of this sweep.
    """

    def __init__(self, home: Home, name: str, uri: str | None, identity: str = "") -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(UPLOAD_S))
        self._experiment = Experiment(home, name, uri, identity)
        self.uri = str(redacted(self._experiment.uri))
        with complaints(self._experiment.uri):
            found = self._experiment.search("sweep")
        if not found:
            raise TrackingError(
                f"has no run of the sweep {name}; run the sweep again, which shows there what the "
                "ledger has and trains nothing twice",
                uri=self.uri,
            )
        self._run = found[0]

    def keep(self, folder: Path, path: str) -> Deposit:
        """Copy all files of a folder below ``path`` among the artifacts of the sweep's run."""
        run = self._run.info
        with complaints(self._experiment.uri):
            self._experiment.put_folder(run.run_id, folder, path)
        return Deposit(run.run_id, path, f"{run.artifact_uri.rstrip('/')}/{path}")

    def register(
        self, model: str, deposit: Deposit, tags: Mapping[str, str], description: str
    ) -> int:
        """The version of a registered model that a deposit is; a new one if it is none yet.

        A version is the folder itself, which transformers and ``xlt predict`` read, and not one
        of MLflow's flavors: ``mlflow.artifacts.download_artifacts("models:/NAME/1")`` gives it.

        Args:
            model: made where there is none of this name.
            tags: by which the version is known again; different weights need different ones.
        """
        client = self._experiment.client
        with complaints(self._experiment.uri):
            _make_model(client, model)
            for version in client.search_model_versions(f"name = '{model}'"):
                if tags.items() <= version.tags.items() and version.source == deposit.uri:
                    return int(version.version)
            made = client.create_model_version(
                model,
                deposit.uri,
                run_id=deposit.run_id,
                tags=dict(tags),
                description=str(redacted(description)),
                await_creation_for=0,
            )
        return int(made.version)


def _make_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
