"""The way to MLflow: client, database file, experiment, and the command of its UI.

MLflow is told to stay off the network (telemetry) unless the user has said otherwise, and its
errors leave this room as :class:`~xlt_ray.errors.TrackingError`.

Whether MLflow answers, without writing anything there.
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
from urllib.parse import urlsplit

from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.home import Home
from xlt_ray.redact import redacted
from xlt_ray.tracking.content import KEY, VIEW_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


def ask_mlflow(home: Home, uri: str | None) -> str:
    """What MLflow at ``uri`` says of itself, by default the one of MLFLOW_TRACKING_URI or the
    home's own database.

    Raises:
        TrackingError: it does not answer, does not let us in, or its database is of another
            version.
    """
    by_variable = "" if uri or not default_uri() else " (by MLFLOW_TRACKING_URI)"
    uri = uri or default_uri()
    if uri is None and not Path(home.tracking_uri.removeprefix("sqlite:///")).exists():
        return "a database in the home, made by the first sweep"
    with complaints(uri or home.tracking_uri):
        if uri is None:
            return f"{_count(home)} experiments in the home's database"
        connect(home, uri).search_experiments(max_results=1)
    return f"{uri} answers{by_variable}"


def _count(home: Home) -> int:
    # A second instead of the four that MLflow takes to be imported.
    file = home.tracking_uri.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        (number,) = database.execute("select count(*) from experiments").fetchone()
    return int(number)


LEDGER_TAG = "xlt.ledger"
"""Tag of runs and experiments: the identity of the ledger that made them."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A request ends within seconds, and MLflow does not repeat it by itself: whether it was done
    # although no answer came is asked first (see :mod:`xlt_ray.tracking.sync`).
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # A server's eight processes for jobs of language-model applications, 2 GB that nobody asked
    # for; they outlive the server.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}

MAX_PROBLEM = 300
"""Characters of an error that are shown; a proxy may answer with a whole page."""


def settle_environment() -> None:
    """Set MLflow's switches in this process (child processes inherit them).

    MLflow reads them when it is imported, so this comes first. What the user has set stands.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


def connect(home: Home, uri: str | None) -> MlflowClient:
    """A client of the MLflow at ``uri``, by default of the home's own database.

    A server is not asked for anything yet.

    Raises:
        TrackingError: ``uri`` is none, or its database is of another version.
        TrackingOutage: the database cannot be opened.
    """
    settle_environment()
    if is_server(uri):
        _refuse_malformed(str(uri))
    with complaints(uri or home.tracking_uri):
        if uri is None:
            _make_database(home)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri or home.tracking_uri)


def default_uri() -> str | None:
    """Where MLflow is, if no sweep says so: MLFLOW_TRACKING_URI, or None for the home's own."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def find_or_make_experiment(
    client: MlflowClient, home: Home, name: str, identity: str = "", *, local: bool
) -> str:
    """Id of the experiment of a sweep; one that was deleted in the UI is taken back.

    MLFLOW_EXPERIMENT_NAME, where it is set, names one experiment for all sweeps.

    Args:
        identity: of the ledger. Where another ledger has an experiment of this name, as on a
            server that several homes use, this one's is called ``NAME-IDENTITY``.
        local: whether artifacts go into the home; a server decides for itself.
    """
    given = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if given or not identity:
        return _experiment(client, home, given or name, "", local=local).experiment_id
    own_name = name_of_second(name, identity)
    is_second = client.get_experiment_by_name(own_name) is not None
    found = _experiment(client, home, own_name if is_second else name, identity, local=local)
    owner = found.tags.get(LEDGER_TAG)
    if owner is None:
        # Of a sweep from before there were identities: its ledger is the first to come back.
        client.set_experiment_tag(found.experiment_id, LEDGER_TAG, identity)
    elif owner != identity:
        found = _experiment(client, home, own_name, identity, local=local)
    return str(found.experiment_id)


def find_experiment(client: MlflowClient, name: str, identity: str) -> Experiment | None:
    """As :func:`find_or_make_experiment` finds it; None where it is not there."""
    given = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if given or not identity:
        return client.get_experiment_by_name(given or name)
    second = client.get_experiment_by_name(name_of_second(name, identity))
    if second is not None:
        return second
    found = client.get_experiment_by_name(name)
    is_ours = found is not None and found.tags.get(LEDGER_TAG) in (None, identity)
    return found if is_ours else None


def name_of_second(name: str, identity: str) -> str:
    """What the experiment of a sweep is called where another ledger has one of its name."""
    return f"{name}-{identity[:8]}"


def _experiment(
    client: MlflowClient, home: Home, name: str, identity: str, *, local: bool
) -> Experiment:
    from mlflow.exceptions import MlflowException

    location = str(home.artifacts / name) if local else None
    tags = {LEDGER_TAG: identity} if identity else {}
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            made = client.create_experiment(name, artifact_location=location, tags=tags)
            return client.get_experiment(made)
        except MlflowException as error:
            # Another process may have made it in between.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise error
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found


def is_server(uri: str | None) -> bool:
    """Whether MLflow is asked over HTTP, and not in its database."""
    return uri is not None and uri.lower().startswith(("http:", "https:"))


def _refuse_malformed(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        # Reading the port checks it.
        is_sound = bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        is_sound = False
    if not is_sound:
        raise TrackingError(
            "is not the URL of a server; write it as http://host:5000", uri=redacted(uri)
        )


def _wrapped(error: BaseException) -> BaseException | None:
    """urllib3 hands on what happened below it as an argument, too."""
    return next((one for one in error.args if isinstance(one, BaseException)), None)


@contextlib.contextmanager
def complaints(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into a TrackingError that names the place, without passwords.

    Raises:
        TrackingError: it refused, and will again.
        TrackingOutage: it did not answer, or not as itself; asking again may help.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, sqlite3.Error) as error:
        kind = TrackingError if _is_refusal(error, uri) else TrackingOutage
        raise kind(_problem(error), uri=redacted(uri)) from error


def _problem(error: Exception) -> str:
    """One line; of a request that failed, what the network said and not what was asked."""
    root: BaseException = error
    while below := root.__cause__ or root.__context__ or _wrapped(root):
        root = below
    if root is not error and isinstance(root, OSError):
        return f"does not answer ({root.strerror or root})"
    lines = str(redacted(str(error))).strip().splitlines()
    return lines[0][:MAX_PROBLEM] if lines else type(error).__name__


def _is_refusal(error: Exception, uri: str) -> bool:
    """Whether the same request would meet the same answer.

    A proxy in front of a server that is away answers in its own words, not with MLflow's errors,
    and logins expire; so only what MLflow itself calls wrong counts.
    """
    from mlflow.exceptions import MlflowException, RestException

    if isinstance(error, MlflowException):
        is_its_own = isinstance(error, RestException) or not is_server(uri)
        return is_its_own and error.get_http_status_code() in (400, 404, 409)
    response = getattr(error, "response", None)
    if response is not None:
        # Artifacts that go through the server: MLflow leaves the status to us.
        return response.status_code not in (401, 403, 408, 429, 502, 503, 504)
    return isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError)


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
    uri = uri or default_uri()
    if is_server(uri):
        raise TrackingError("is a server; open it in a browser", uri=redacted(uri))
    if uri is None:
        with complaints(home.tracking_uri):
            _make_database(home)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", uri or home.tracking_uri]
    command += ["--default-artifact-root", str(home.artifacts), "--no-serve-artifacts"]
    # One worker is enough for one reader, and starts in a third of the time of four.
    return [*command, "--workers", "1"]


def ui_page(home: Home, uri: str | None = None, name: str | None = None, identity: str = "") -> str:
    """The UI's page of a sweep's runs, or of all experiments, to follow the server's address.

    Without the workflow type, MLflow 3 opens on the traces of language-model applications. Runs
    are shown in the view that the sweep is laid out in (:mod:`xlt_ray.tracking.content`).

    Raises:
        TrackingError: the database cannot be read.
    """
    page, view = "experiments", ""
    uri = uri or default_uri()
    if name is not None:
        with complaints(uri or home.tracking_uri):
            found = find_experiment(connect(home, uri), name, identity)
        if found is not None:
            page = f"experiments/{found.experiment_id}/runs"
            # MLflow complains of a view that is not there.
            view = f"&viewStateShareKey={KEY}" if VIEW_TAG + KEY in found.tags else ""
    return f"/#/{page}?workflowType=machine_learning{view}"


_MIGRATING = threading.Lock()
"""MLflow's migrations keep their state in module globals."""


def is_damaged(file: Path) -> bool:
    """Whether there is a file, and it is no whole database of MLflow's.

    One that another process has locked, that may not be read, or that is of another version of
    MLflow is not damaged.
    """
    if not file.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=1)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            versioned = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
            return verdict != "ok" or database.execute(versioned).fetchone() is None
    except sqlite3.DatabaseError as error:
        # Its low byte is the class of an error.
        number = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return number in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _make_database(home: Home) -> None:
    """Make the home's database, whole or not at all.

    MLflow creates its tables by some seventy migrations, each of them committed: seconds on a
    busy disk, and a mess if two processes do it at once or one dies on the way. So they run in
    memory, and the file gets its name when it is complete.
    """
    with _MIGRATING:
        if not home.tracking_file.exists():
            put_database(home.tracking_file, home.artifacts)


def put_database(path: Path, artifacts: Path) -> None:
    """Make an empty database, unless there is a file of this name."""
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
