"""The connection to MLflow: its client, its database in the home, an experiment and its runs.

Its errors leave this room as :class:`~xlt_ray.errors.TrackingOutage` where it does not answer, and
else as :class:`~xlt_ray.errors.TrackingError`. A run is sent only what it lacks, so that sending a
thing twice shows it once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.home import Home
from xlt_ray.redact import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment as MlflowExperiment
    from mlflow.entities import Run

T = TypeVar("T")

LEDGER_TAG = "xlt.ledger"
"""Tag of runs and experiments: the identity of the ledger that made them."""
VIEW_KEY = "xlt"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
"""Tag of an experiment: the view of its runs that the page opens with ``VIEW_KEY``."""
_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment: its pages show models in training, not traces of applications."""
_ENVIRONMENT = {
    # MLflow stays off the network (telemetry) unless the user has said otherwise.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A request ends within seconds, and MLflow does not repeat it by itself: whether it was done
    # although no answer came is asked first (see :mod:`xlt_ray.tracking.sync`).
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # Eight processes for jobs of language-model applications, 2 GB; they outlive the server.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
MAX_PROBLEM = 300
"""Characters of an error that are shown; a proxy may answer with a whole page."""
MAX_NAME = 250
"""Characters of the name of a metric or a run."""
_ILLEGAL = re.compile(r"[^\w.\-/ :]")
_BATCH = 1000
"""Points in one request; MLflow refuses more."""
_MIGRATING = threading.Lock()
"""MLflow's migrations keep their state in module globals."""


# -- where MLflow is ------------------------------------------------------------------------


def default_uri() -> str | None:
    """Where MLflow is, if no sweep says so: MLFLOW_TRACKING_URI, or None for the home's own."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def is_server(uri: str | None) -> bool:
    """Whether MLflow is reached over HTTP, and not in its database."""
    return uri is not None and uri.lower().startswith(("http:", "https:"))


def set_environment() -> None:
    """Set MLflow's switches in this process (child processes inherit them).

    MLflow reads them when it is imported, so this comes first. What the user has set stands.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


def connect(
    home: Home, uri: str | None, on_answer: Callable[[], object] = lambda: None
) -> MlflowClient:
    """A client of the MLflow at ``uri``, by default of the home's own database.

    No request is sent to a server yet. The client raises as :func:`tracking_errors` does, and calls
    ``on_answer`` after every request that MLflow has answered, with a refusal or not.
    """
    set_environment()
    place = uri or home.tracking_uri
    if is_server(uri) and _is_malformed(place):
        raise TrackingError(
            "is not the URL of a server; write it as http://host:5000", uri=redacted(place)
        )
    with tracking_errors(place):
        if uri is None:
            _create_home_database(home)
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=place)
    return cast("MlflowClient", _Requests(client, place, on_answer))


class _Requests:
    """The methods of an MLflow client, with :func:`tracking_errors` around each."""

    def __init__(self, client: MlflowClient, uri: str, on_answer: Callable[[], object]) -> None:
        self._client, self._uri, self._on_answer = client, uri, on_answer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def request(*args: Any, **options: Any) -> Any:
            try:
                with tracking_errors(self._uri):
                    answer = getattr(self._client, name)(*args, **options)
            except TrackingError as error:
                if not isinstance(error, TrackingOutage):
                    self._on_answer()
                raise
            self._on_answer()
            return answer

        return request


def _is_malformed(uri: str) -> bool:
    with contextlib.suppress(ValueError):
        parts = urlsplit(uri)
        # Reading the port checks it.
        return not parts.hostname or (parts.port or 0) < 0
    return True


def check_mlflow(home: Home, uri: str | None) -> str:
    """What MLflow at ``uri`` says of itself, by default the one of MLFLOW_TRACKING_URI or the
    home's own database; nothing is written there."""
    by_variable = "" if uri or not default_uri() else " (by MLFLOW_TRACKING_URI)"
    uri = uri or default_uri()
    if uri is not None:
        connect(home, uri).search_experiments(max_results=1)
        return f"{uri} answers{by_variable}"
    if not home.tracking_file.exists():
        return "a database in the home, made by the first sweep"
    # A second instead of the four that MLflow takes to be imported.
    file = f"file:{home.tracking_file}?mode=ro"
    with (
        tracking_errors(home.tracking_uri),
        contextlib.closing(sqlite3.connect(file, uri=True)) as database,
    ):
        (number,) = database.execute("select count(*) from experiments").fetchone()
    return f"{number} experiments in the home's database"


# -- its errors -----------------------------------------------------------------------------


@contextlib.contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
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


def do_all(*steps: Callable[[], object]) -> None:
    """Do every step, even where MLflow refuses one before it; then raise the first refusal."""
    refusal: TrackingError | None = None
    for step in steps:
        try:
            step()
        except TrackingOutage:
            raise
        except TrackingError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal


def _problem(error: Exception) -> str:
    """One line; of a request that failed, what the network said and not what was asked."""
    root: BaseException = error
    while below := root.__cause__ or root.__context__ or _wrapped(root):
        root = below
    if root is not error and isinstance(root, OSError):
        return f"does not answer ({root.strerror or root})"
    lines = str(redacted(str(error))).strip().splitlines()
    return lines[0][:MAX_PROBLEM] if lines else type(error).__name__


def _wrapped(error: BaseException) -> BaseException | None:
    """urllib3 hands on what happened below it as an argument, too."""
    return next((arg for arg in error.args if isinstance(arg, BaseException)), None)


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


# -- experiments and runs -------------------------------------------------------------------


def find_experiment(client: MlflowClient, name: str, identity: str) -> MlflowExperiment | None:
    """The experiment of a sweep; None where it is not there.

    MLFLOW_EXPERIMENT_NAME, where it is set, names one experiment for all sweeps. Where another
    ledger has an experiment of this name, as on a server that several homes use, this one's is
    called :func:`name_of_second`. ``identity`` is that of the ledger.
    """
    given = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if given or not identity:
        return client.get_experiment_by_name(given or name)
    if second := client.get_experiment_by_name(name_of_second(name, identity)):
        return second
    first = client.get_experiment_by_name(name)
    # One without an owner is of a sweep from before there were identities.
    is_ours = first is not None and first.tags.get(LEDGER_TAG) in (None, identity)
    return first if is_ours else None


def name_of_second(name: str, identity: str) -> str:
    """What the experiment of a sweep is called where another ledger has one of its name."""
    return f"{name}-{identity[:8]}"


def find_run(client: MlflowClient, run_id: str) -> Run | None:
    """The run of this id, which may be deleted; None where there is none."""
    try:
        return client.get_run(run_id)
    except TrackingOutage:
        raise
    except TrackingError:
        return None


def search_runs(
    client: MlflowClient, experiment_id: str, query: str = "", **options: Any
) -> Iterator[Run]:
    """All runs that MLflow has, page by page."""
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], query, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


class Experiment:
    """The experiment of the sweep ``name`` in the MLflow at ``uri``, or where that is None in the
    place that :func:`default_uri` names. No request is sent to a server yet: it may be away.

    Args:
        identity: of the ledger. An experiment of this name that belongs to another ledger is left
            alone, and so are another ledger's runs.
    """

    def __init__(self, home: Home, name: str, uri: str | None, identity: str = "") -> None:
        uri = uri or default_uri()
        self.name = name
        self.identity = identity
        self.uri = uri or home.tracking_uri
        self.on_answer: Callable[[], object] = lambda: None
        self._artifacts = home.artifacts
        self._id: str | None = None
        try:
            self.client = connect(home, uri, lambda: self.on_answer())
            if not is_server(uri):
                self.id  # noqa: B018
        except TrackingOutage as error:
            # A database that cannot be opened is not a server that restarts.
            raise TrackingError(error.fields["problem"], uri=error.fields["uri"]) from error

    @property
    def id(self) -> str:
        """Id of the experiment; made where there is none, taken back where the UI deleted it."""
        if self._id is None:
            given = os.environ.get("MLFLOW_EXPERIMENT_NAME")
            while (experiment := find_experiment(self.client, self.name, self.identity)) is None:
                self._make(given)
            if experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment.experiment_id)
            if self.identity and not given and LEDGER_TAG not in experiment.tags:
                self.client.set_experiment_tag(experiment.experiment_id, LEDGER_TAG, self.identity)
            self._id = str(experiment.experiment_id)
        return self._id

    def _make(self, given: str | None) -> None:
        name = given or self.name
        tags = {} if given else dict(_MODEL_TRAINING)
        if self.identity and not given:
            tags[LEDGER_TAG] = self.identity
        if LEDGER_TAG in tags and self.client.get_experiment_by_name(name) is not None:
            name = name_of_second(name, self.identity)
        # A server decides for itself where artifacts go.
        is_remote = self.uri.startswith(("http", "databricks"))
        place = None if is_remote else str(self._artifacts / name)
        try:
            self.client.create_experiment(name, place, tags)
        except TrackingError:
            # Another process may have made it in between.
            if self.client.get_experiment_by_name(name) is None:
                raise

    def create(self, kind: str, name: str, tags: Mapping[str, str], start: int) -> TrackedRun:
        """A new run, RUNNING since ``start`` (ms since 1970)."""
        tags = {"xlt.sweep": self.name, "xlt.kind": kind, **tags}
        owner = {LEDGER_TAG: self.identity} if self.identity else {}
        run = self.client.create_run(self.id, start, {**tags, **owner}, name)
        return TrackedRun(self.client, run)

    def search(self, kind: str, **tags: object) -> list[TrackedRun]:
        """All runs of this ledger, of this kind and with these ``xlt.`` tags, the oldest first."""
        wanted = {"sweep": self.name, "kind": kind, **tags}
        query = " and ".join(f"tags.`xlt.{name}` = '{value}'" for name, value in wanted.items())
        order = ["attributes.start_time ASC"]
        runs = search_runs(self.client, self.id, query, order_by=order)
        return [TrackedRun(self.client, run) for run in runs if self._is_own(run)]

    def first(self, kind: str, **tags: object) -> TrackedRun | None:
        """The oldest run of :meth:`search`."""
        return next(iter(self.search(kind, **tags)), None)

    def _is_own(self, run: Run) -> bool:
        """Whether this ledger made a run; one from before there were identities counts as own."""
        return not self.identity or run.data.tags.get(LEDGER_TAG) in (None, self.identity)

    def find(self, run_id: str | None) -> TrackedRun | None:
        """The run of this id; None where there is none, or it was deleted."""
        run = find_run(self.client, run_id) if run_id else None
        is_there = run is not None and run.info.lifecycle_stage == "active"
        return TrackedRun(self.client, run) if is_there else None


class Point(NamedTuple):
    """One value of a curve."""

    name: str
    step: int
    """Examples seen."""
    value: float
    time_ms: int | None = None
    """When it was measured, in milliseconds since 1970; None where that is unknown."""


@dataclass(frozen=True)
class Input:
    """One data set of a run; ``digest`` is ten digits, as keys are printed."""

    name: str
    digest: str
    context: str
    profile: str
    """JSON: number of languages, or of parts, and the fingerprint of each."""


class TrackedRun:
    """A run as MLflow has it, and what is written to it, which is only what it lacks.

    After an outage it has to be found again: MLflow alone knows what has arrived.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self._client = client
        self.id = str(run.info.run_id)
        self.status = str(run.info.status)
        self.ended = int(run.info.end_time or 0)
        """In milliseconds since 1970; 0 where it has not ended."""
        self.artifact_uri = str(run.info.artifact_uri)
        self.tags = dict(run.data.tags)
        self.params = dict(run.data.params)
        self.metrics: dict[str, float] = dict(run.data.metrics)
        """By name, the last value of each."""
        data = run.inputs.dataset_inputs if run.inputs is not None else []
        self._inputs = {(known.dataset.name, known.dataset.digest) for known in data}
        self._steps: dict[str, set[int]] = {}

    def set_status(self, status: str, ended: int | None = None) -> None:
        """RUNNING, or ended at ``ended`` with another status."""
        if status == self.status:
            return
        if status == "RUNNING":
            self._client.update_run(self.id, status=status)
        else:
            self._client.set_terminated(self.id, status, ended)
        self.status = status

    def write(
        self,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        time_ms: int | None = None,
    ) -> None:
        """One batch of what the run does not have; an empty tag is one to be taken away.

        Names are written as :func:`legal_name` spells them.

        Args:
            time_ms: when the metrics were measured; now by default.
        """
        from mlflow.entities import Metric, Param, RunTag

        new_tags, new_metrics = _changed(self.tags, tags), _changed(self.metrics, metrics)
        # MLflow refuses another value of a parameter.
        new_params = _changed(self.params, {**(params or {}), **self.params})
        for name in [name for name, value in new_tags.items() if not value]:
            del new_tags[name]
            if name in self.tags:
                self._client.delete_tag(self.id, name)
                del self.tags[name]
        if new_tags or new_params or new_metrics:
            moment = now_ms() if time_ms is None else time_ms
            self._client.log_batch(
                self.id,
                metrics=[Metric(name, value, moment, 0) for name, value in new_metrics.items()],
                params=[Param(name, value) for name, value in new_params.items()],
                tags=[RunTag(name, value) for name, value in new_tags.items()],
            )
        self.tags |= new_tags
        self.params |= new_params
        self.metrics |= new_metrics

    def log(self, points: Iterable[Point]) -> None:
        """Log the points whose step is missing in their curve.

        MLflow stores one point with one moment once, even if it is sent again because the answer
        to the first request was lost. A point without a moment counts as measured now.
        """
        from mlflow.entities import Metric

        now, missing = now_ms(), list[Metric]()
        for point in points:
            name = legal_name(point.name)
            steps = self._steps_of(name)
            if point.step not in steps:
                moment = now if point.time_ms is None else point.time_ms
                missing.append(Metric(name, float(point.value), moment, point.step))
                steps.add(point.step)
        for start in range(0, len(missing), _BATCH):
            self._client.log_batch(self.id, metrics=missing[start : start + _BATCH])

    def _steps_of(self, name: str) -> set[int]:
        if name not in self._steps:
            is_known = name in self.metrics
            history = self._client.get_metric_history(self.id, name) if is_known else []
            self._steps[name] = {point.step for point in history}
        return self._steps[name]

    def put(self, name: str, text: str) -> None:
        """Keep a text as an artifact; what was there under this name is replaced."""
        self._client.log_text(self.id, text, name)

    def put_inputs(self, inputs: Sequence[Input], source: Mapping[str, str]) -> None:
        """Name the data that a run reads, where the run does not name it yet.

        ``source`` is where all of it comes from: its ``type`` and what else there is to say.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        new = [data for data in inputs if (data.name, data.digest) not in self._inputs]
        if new:
            origin = {"source_type": source["type"], "source": json.dumps(source)}
            datasets = [
                DatasetInput(
                    Dataset(data.name, data.digest, **origin, profile=data.profile),
                    [InputTag("mlflow.data.context", data.context)],
                )
                for data in new
            ]
            self._client.log_inputs(self.id, datasets)
            self._inputs |= {(data.name, data.digest) for data in new}


def legal_name(name: str) -> str:
    """A name of a tag, parameter or metric as MLflow takes it: it refuses most signs, what cannot
    be the path of a file, and more than 250 characters.

    >>> legal_name("test/accuracy/sr@latin"), legal_name("dev/f1/zh-Hans"), legal_name("dev/..")
    ('test/accuracy/sr_latin', 'dev/f1/zh-Hans', 'dev/_')
    """
    parts = (_ILLEGAL.sub("_", part) for part in name.split("/"))
    legal = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    return legal[:MAX_NAME].rstrip("/")


def _changed(known: Mapping[str, T], values: Mapping[str, T] | None) -> dict[str, T]:
    legal = {legal_name(name): value for name, value in (values or {}).items()}
    return {name: value for name, value in legal.items() if known.get(name) != value}


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


# -- the home's own database and its UI -----------------------------------------------------


def ui_command(
    home: Home, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000
) -> list[str]:
    """Arguments that start the MLflow UI on this home, for this machine alone by default.

    The home's database is made where there is none, so that an empty UI opens before the first
    sweep. The server inherits this process's switches (no telemetry).
    """
    set_environment()
    uri = uri or default_uri()
    if is_server(uri):
        raise TrackingError("is a server; open it in a browser", uri=redacted(uri))
    if uri is None:
        with tracking_errors(home.tracking_uri):
            _create_home_database(home)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", uri or home.tracking_uri]
    command += ["--default-artifact-root", str(home.artifacts), "--no-serve-artifacts"]
    # One worker is enough for one reader, and starts in a third of the time of four.
    return [*command, "--workers", "1"]


def ui_page(home: Home, uri: str | None = None, name: str | None = None, identity: str = "") -> str:
    """The UI's page of a sweep's runs, or of all experiments, to follow the server's address.

    Without the workflow type, MLflow 3 opens on the traces of language-model applications.
    """
    page, view = "experiments", ""
    if name is not None:
        experiment = find_experiment(connect(home, uri or default_uri()), name, identity)
        if experiment is not None:
            page = f"experiments/{experiment.experiment_id}/runs"
            # MLflow complains of a view that is not there.
            view = f"&viewStateShareKey={VIEW_KEY}" if VIEW_TAG in experiment.tags else ""
    return f"/#/{page}?workflowType=machine_learning{view}"


def is_damaged(file: Path) -> bool:
    """Whether a file is there and not a whole database of MLflow's.

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


def _create_home_database(home: Home) -> None:
    with _MIGRATING:
        if not home.tracking_file.exists():
            create_database(home.tracking_file, home.artifacts)


def create_database(path: Path, artifacts: Path) -> None:
    """Make an empty database, whole or not at all, unless there is a file of this name.

    MLflow creates its tables by some seventy migrations, each of them committed: seconds on a
    busy disk, and a mess if two processes do it at once or one dies on the way. So they run in
    memory, and the file gets its name when it is complete.
    """
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
