"""Whether MLflow answers, without writing anything there."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from xlt_ray.home import Home
from xlt_ray.tracking.connection import complaints, connect, default_uri


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
