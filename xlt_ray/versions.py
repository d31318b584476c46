"""What code this process runs: versions of the libraries that results depend on, and the commit."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
LIBRARIES = (
    "xlt-ray",
    "torch",
    "transformers",
    "deepspeed",
    "optuna",
    "ray",
    "datasets",
    "tokenizers",
)
NUMERIC = ("xlt-ray", "torch", "transformers", "deepspeed")
"""Those of them whose other versions may make other bits of one stage."""
GIT_S = 10.0
"""So long git may take to answer."""


@functools.cache
def library_versions() -> dict[str, str]:
    """Library -> version, of those that are installed here."""
    return {name: found for name in LIBRARIES if (found := version_of(name))}


def made_by_others(made: Collection[Mapping[str, str]]) -> str:
    """What is to be said of stages that were made by these versions; empty where the libraries
    that results depend on most have the same versions here.

    >>> made_by_others([{"torch": "0.4"}, {"torch": version_of("torch")}])
    '1 of 2 reused stages was made by other versions than those here: torch 0.4'
    """
    here = library_versions()
    others = [
        [f"{name} {one[name]}" for name in NUMERIC if name in one and one[name] != here.get(name)]
        for one in made
    ]
    num = sum(map(bool, others))
    if not num:
        return ""
    which = ", ".join(sorted({name for other in others for name in other}))
    were = "was" if num == 1 else "were"
    return (
        f"{num} of {len(made)} reused stages {were} made by other versions than those here: {which}"
    )


def version_of(package: str) -> str:
    """Version of an installed package; empty where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@functools.cache
def commit_of(package: Path = PACKAGE) -> str:
    """Commit of the checkout that a package lies in at the top, with ``+`` where files differ from
    it; empty for an installed package, or without git."""
    # A virtual environment inside of somebody's repository is no checkout of ours.
    lines = _git(package, "rev-parse", "--show-prefix", "HEAD")
    if lines is None or len(lines) != 2 or lines[0] != f"{package.name}/":
        return ""
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{lines[1]}{'+' if changed else ''}"


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
