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
"""Libraries whose version may change the bits of a stage."""
GIT_S = 10.0
"""Most seconds that git may take."""


@functools.cache
def library_versions() -> dict[str, str]:
    """Version of each installed library."""
    return {name: number for name in LIBRARIES if (number := version_of(name))}


def made_by_others(made: Collection[Mapping[str, str]]) -> str:
    """A note about reused stages that were made by these versions; empty if the versions of numeric
    libraries are the same here.

    >>> made_by_others([{"torch": "0.4"}, {"torch": version_of("torch")}])
    '1 of 2 reused stages was made by other versions than those here: torch 0.4'
    """
    here = library_versions()
    differing = [
        {
            f"{name} {versions[name]}"
            for name in NUMERIC
            if name in versions and versions[name] != here.get(name)
        }
        for versions in made
    ]
    num = sum(map(bool, differing))
    if not num:
        return ""
    which = ", ".join(sorted(set().union(*differing)))
    were = "was" if num == 1 else "were"
    return (
        f"{num} of {len(made)} reused stages {were} made by other versions than those here: {which}"
    )


def version_of(package: str) -> str:
    """Version of a package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@functools.cache
def commit_of(package: Path = PACKAGE) -> str:
    """Commit of the checkout whose top folder has the package, with ``+`` if files differ from it;
    empty for an installed package, or without git."""
    # A virtual environment may be inside another repository.
    lines = _git(package, "rev-parse", "--show-prefix", "HEAD")
    if lines is None or len(lines) != 2 or lines[0] != f"{package.name}/":
        return ""
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{lines[1]}{'+' if changed else ''}"


def _git(folder: Path, *arguments: str) -> list[str] | None:
    """Lines that git prints about the checkout around ``folder``; None where it cannot."""
    # The hooks of another repository name it in the environment.
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
