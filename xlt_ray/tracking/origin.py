"""Where a run comes from: user, host and commit, in MLflow's own tags where it has them."""

from __future__ import annotations

import functools
import getpass
import os
import socket
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
GIT_S = 10.0
"""So long git may take to answer."""


def origin() -> dict[str, str]:
    """Tags of a run that this process makes; MLflow's columns User, Source and Version show them.

    The commit is there where xlt-ray runs from a git checkout of its own.
    """
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": "xlt run",
        "mlflow.source.type": "LOCAL",
        "xlt.host": socket.gethostname(),
        **commit_of(PACKAGE),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return str(os.getuid())


@functools.cache
def commit_of(package: Path) -> dict[str, str]:
    """Tags with the commit of the checkout that a package lies in at the top, and whether files
    differ from it; nothing for an installed package, or without git."""
    # A virtual environment inside of somebody's repository is no checkout of ours.
    lines = _git(package, "rev-parse", "--show-prefix", "HEAD")
    if lines is None or len(lines) != 2 or lines[0] != f"{package.name}/":
        return {}
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", ".")
    return {
        "mlflow.source.git.commit": lines[1],
        "mlflow.source.git.dirty": str(bool(changed)).lower(),
    }


def _git(folder: Path, *arguments: str) -> list[str] | None:
    """Lines that git prints about the checkout around ``folder``; None where it cannot."""
    # A hook of another repository names that one in the environment.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=True,
            env={**clean, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()
