"""The way to MLflow: client, database file, experiment, and the command of its UI.

MLflow is told to stay off the network (telemetry) unless the user has said otherwise, and its
errors leave this room as :class:`~xlt_ray.errors.TrackingError`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xlt_ray.errors import TrackingError
from xlt_ray.home import Home
from xlt_ray.tracking.redact import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A lost server is noticed in seconds; what was not logged is projected later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def settle_environment() -> None:
    """Set MLflow's switches in this process (child processes inherit them).

    MLflow reads them when it is imported, so this comes first. What the user has set stands.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


def connect(home: Home, uri: str | None) -> MlflowClient:
    """A client of the MLflow at ``uri``, by default of the home's own database.

    Raises:
        TrackingError: MLflow cannot be reached, or its database is of another version.
    """
    settle_environment()
    with complaints(uri or home.tracking_uri):
        if uri is None:
            _make_database(home)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri or home.tracking_uri)


def find_or_make_experiment(client: MlflowClient, home: Home, name: str, *, local: bool) -> str:
    """Id of the experiment of a sweep; one that was deleted in the UI is taken back.

    Args:
        local: whether artifacts go into the home; a server decides for itself.
    """
    from mlflow.exceptions import MlflowException

    location = str(home.artifacts / name) if local else None
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            # Another process may have made it in between.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise error
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextlib.contextmanager
def complaints(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into a TrackingError that names the place, without passwords."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, sqlite3.Error) as error:
        problem = next(iter(redacted(str(error)).strip().splitlines()), type(error).__name__)
        raise TrackingError(problem, uri=redacted(uri)) from error


def ui_command(
    home: Home, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000
) -> list[str]:
    """Arguments that start the MLflow UI on this home, for this machine alone by default.

    The home's database is made where there is none, so that an empty UI opens before the first
    sweep. The server inherits this process's switches (no telemetry).

    Raises:
        TrackingError: the database cannot be made, or ``uri`` is a server, which has its own UI.
    """
    settle_environment()
    if uri is not None and uri.startswith(("http://", "https://")):
        raise TrackingError("is a server; open it in a browser", uri=redacted(uri))
    if uri is None:
        with complaints(home.tracking_uri):
            _make_database(home)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", uri or home.tracking_uri]
    command += ["--default-artifact-root", str(home.artifacts), "--no-serve-artifacts"]
    # One worker is enough for one reader, and starts in a third of the time of four.
    return [*command, "--workers", "1"]


def ui_page(home: Home, uri: str | None = None, name: str | None = None) -> str:
    """The UI's page of a sweep's runs, or of all experiments, to follow the server's address.

    Without the workflow type, MLflow 3 opens on the traces of language-model applications.

    Raises:
        TrackingError: the database cannot be read.
    """
    page = "experiments"
    if name is not None:
        with complaints(uri or home.tracking_uri):
            found = connect(home, uri).get_experiment_by_name(name)
        if found is not None:
            page = f"experiments/{found.experiment_id}/runs"
    return f"/#/{page}?workflowType=machine_learning"


_MIGRATING = threading.Lock()
"""MLflow's migrations keep their state in module globals."""


def _make_database(home: Home) -> None:
    """Make the home's database, whole or not at all.

    MLflow creates its tables by some seventy migrations, each of them committed: seconds on a
    busy disk, and a mess if two processes do it at once or one dies on the way. So they run in
    memory, and the file gets its name when it is complete.
    """
    with _MIGRATING:
        path = Path(home.tracking_uri.removeprefix("sqlite:///"))
        if not path.exists():
            _put_database(path, home.artifacts)


def _put_database(path: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    connection = SqlAlchemyStore("sqlite:///:memory:", str(artifacts)).engine.raw_connection()
    try:
        connection.execute("VACUUM INTO ?", (str(aside),))
        with contextlib.closing(sqlite3.connect(aside)) as made, made:
            # The tables in memory serve every home of this process.
            made.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0",
                (str(artifacts / "0"),),
            )
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        connection.close()
        aside.unlink(missing_ok=True)
