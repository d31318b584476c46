"""What is put beside a sweep's runs on request: its report, an exported model, a registered one.

All of it goes the way of MLflow's own artifacts, through the tracking URI, and may be repeated:
files are replaced, and a model that is registered already keeps its version.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xlt_ray.errors import TrackingError
from xlt_ray.home import Home
from xlt_ray.redact import redacted
from xlt_ray.tracking.client import Experiment

UPLOAD_S = 600
"""A server may take this long to answer to one file; models are large."""


@dataclass(frozen=True)
class Upload:
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
        TrackingError: ``uri`` is malformed, or it has no run of this sweep.
    """

    def __init__(self, home: Home, name: str, uri: str | None, identity: str = "") -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(UPLOAD_S))
        experiment = Experiment(home, name, uri, identity)
        self.uri = str(redacted(experiment.uri))
        self._client = experiment.client
        run = experiment.first("sweep")
        if run is None:
            raise TrackingError(
                f"has no run of the sweep {name}; run the sweep again, which shows there what the "
                "ledger has and trains nothing twice",
                uri=self.uri,
            )
        self._run = run

    def keep(self, folder: Path, path: str) -> Upload:
        """Copy all files of a folder below ``path`` among the artifacts of the sweep's run."""
        self._client.log_artifacts(self._run.id, str(folder), path)
        return Upload(self._run.id, path, f"{self._run.artifact_uri.rstrip('/')}/{path}")

    def register(
        self, model: str, upload: Upload, tags: Mapping[str, str], description: str
    ) -> int:
        """The version of a registered model that an upload is; a new one where there is none yet.

        A version is the folder itself, which transformers and ``xlt predict`` read, and not one
        of MLflow's flavors: ``mlflow.artifacts.download_artifacts("models:/NAME/1")`` gives it.

        Args:
            model: made where there is none of this name.
            tags: by which the version is known again; different weights need different ones.
        """
        try:
            self._client.create_registered_model(model)
        except TrackingError as error:
            if getattr(error.__cause__, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise
        for version in self._client.search_model_versions(f"name = '{model}'"):
            if tags.items() <= version.tags.items() and version.source == upload.uri:
                return int(version.version)
        made = self._client.create_model_version(
            model,
            upload.uri,
            run_id=upload.run_id,
            tags=dict(tags),
            description=str(redacted(description)),
            await_creation_for=0,
        )
        return int(made.version)
