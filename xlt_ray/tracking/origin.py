"""Where a run comes from: user, host, commit, versions; in MLflow's tags where it has them."""

from __future__ import annotations

import getpass
import os
import socket

from xlt_ray.versions import commit_of, library_versions


def origin() -> dict[str, str]:
    """Tags of a run that this process makes; MLflow's columns User, Source and Version show them.

    The commit is there where xlt-ray runs from a git checkout of its own.
    """
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": "xlt run",
        "mlflow.source.type": "LOCAL",
        "xlt.host": socket.gethostname(),
        "xlt.versions": " ".join(f"{name}={found}" for name, found in library_versions().items()),
        **_commit(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return str(os.getuid())


def _commit() -> dict[str, str]:
    found = commit_of()
    if not found:
        return {}
    return {
        "mlflow.source.git.commit": found.removesuffix("+"),
        "mlflow.source.git.dirty": str(found.endswith("+")).lower(),
    }
