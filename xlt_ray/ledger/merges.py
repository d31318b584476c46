"""The merges of a sweep: a file of the home for each, from which tables are made.

What they are made of and their scores are in the stage store; the ledger has trials only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xlt_ray.errors import LedgerError
from xlt_ray.files import atomic_write
from xlt_ray.home import Home
from xlt_ray.store.canonical import from_fields


@dataclass(frozen=True)
class Merged:
    """A merge that was made and scored."""

    what: str
    """Which trials, in words."""
    method: Mapping[str, Any]
    trials: tuple[int, ...]
    """Numbers of the members; the trial of a language model is not one of them."""
    merge: str
    """Key of the stage with the merged network."""
    evaluation: str
    """Key of its evaluation."""
    objective: float
    """The objective of the sweep, on the dev sets."""

    @property
    def title(self) -> str:
        """Its method with the settings, as in ``ties (density 0.2, scale 1.0)``."""
        settings = [f"{name} {value}" for name, value in self.method.items() if name != "method"]
        return str(self.method["method"]) + (f" ({', '.join(settings)})" if settings else "")


def keep_merge(home: Home, name: str, merged: Merged) -> None:
    """List a merge among those of a sweep."""
    content = json.dumps(asdict(merged), indent=1, ensure_ascii=False)
    atomic_write(home.merges(name) / f"{merged.merge}.json", content)


def merges_of(home: Home, name: str) -> list[Merged]:
    """The merges of a sweep, the oldest first.

    Raises:
        LedgerError: a file of one cannot be read.
    """
    files = [file for file in home.merges(name).glob("*.json") if not file.name.startswith(".")]
    merges = []
    for file in sorted(files, key=lambda file: (file.stat().st_mtime, file.name)):
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            merges.append(from_fields(Merged, {**tree, "trials": tuple(tree["trials"])}))
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{file}: cannot be read ({error}); delete it") from error
    return merges
