"""Whether the places that a sweep names are spelled as such, told before any of them is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xlt_ray.errors import nearest

if TYPE_CHECKING:
    from xlt_ray.config.sweep import Places

Fault = tuple[str, str]
"""What is wrong, what would be right."""

_DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb", "mssql", "oracle", "cockroachdb")
_SERVERS = ("http", "https")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:[+-][A-Za-z0-9_+-]+)?://(.*)")
_HOST = re.compile(r"[A-Za-z0-9_.-]+:[0-9]+(/.*)?")
_ONE_SLASH = re.compile(r"(?:^|/)([A-Za-z][A-Za-z0-9]*):/(?!/)(.*)")


def place_faults(places: Places) -> Iterator[tuple[str, str, str]]:
    """Key below ``places``, what is wrong with its value, what would be right.

    Relative paths have been made absolute (:mod:`xlt_ray.config.local_paths`).
    """
    asked = {
        "ledger": (places.ledger, _ledger_fault),
        "store": (places.store, _store_fault),
        "tracking": (places.tracking, tracking_fault),
    }
    for key, (value, fault_of) in asked.items():
        if value is not None and (fault := fault_of(value)) is not None:
            yield (key, *fault)


def tracking_fault(uri: str) -> Fault | None:
    """What is wrong with a tracking URI of MLflow: one of a server, a database or a folder.

    >>> tracking_fault("localhost:5000")
    ('localhost:5000 has no scheme', 'http://localhost:5000')
    >>> tracking_fault("http://localhost:5000"), tracking_fault("databricks")
    (None, None)
    """
    if _HOST.fullmatch(uri):
        return f"{uri} has no scheme", f"http://{uri}"
    if slashes := _ONE_SLASH.fullmatch(uri):
        scheme, rest = slashes.groups()
        return f"{uri} has one slash behind the colon", f"{scheme}://{rest}"
    found = _URL.fullmatch(uri)
    if found is None or found[1] in (*_SERVERS, "file") or not found[2]:
        return None
    return _dialect_fault(uri, found, (*_SERVERS, "file", "databricks", "uc"))


def _ledger_fault(url: str) -> Fault | None:
    found = _URL.fullmatch(url)
    if found is None:
        return (
            f"{url} is not the URL of a database",
            f"sqlite:///{Path(url).name}, or postgresql://...",
        )
    return _dialect_fault(url, found)


def _dialect_fault(url: str, found: re.Match[str], also: tuple[str, ...] = ()) -> Fault | None:
    dialect, rest = found.groups()
    # Others may be installed; what is spelled nearly like a known one is none of them.
    close = nearest(dialect, (*_DIALECTS, *also))
    if dialect not in (*_DIALECTS, *also) and close.startswith("did you mean"):
        return f"there is no kind of database {dialect!r}", close
    if dialect == "sqlite" and rest and not rest.startswith("/"):
        return f"{url} has two slashes, and the name of a file follows three", f"sqlite:///{rest}"
    return None


def _store_fault(place: str) -> Fault | None:
    if slashes := _ONE_SLASH.search(place):
        scheme, rest = slashes.groups()
        return f"{scheme}: is followed by one slash, so it would be a folder", f"{scheme}://{rest}"
    return ("is a file", "a folder or a URL") if Path(place).is_file() else None
