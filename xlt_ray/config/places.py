"""Paths and URLs that a sweep names: made absolute, because trials run in other folders, and their
spelling checked before anything is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.config.yaml import Document
from xlt_ray.errors import nearest

if TYPE_CHECKING:
    from xlt_ray.config.sweep import Places

Fault = tuple[str, str]
"""What is wrong, what to do."""

_DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb", "mssql", "oracle", "cockroachdb")
_SERVERS = ("http", "https")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:[+-][A-Za-z0-9_+-]+)?://(.*)")
_HOST = re.compile(r"[A-Za-z0-9_.-]+:[0-9]+(/.*)?")
_ONE_SLASH = re.compile(r"(?:^|/)([A-Za-z][A-Za-z0-9]*):/(?!/)(.*)")

_FOLDERS = ("data.root", "data.texts", "data.cache", "places.store")
"""Keys whose value is a folder; a URL stays as it is."""
_DATABASES = ("places.ledger", "places.tracking")
_SQLITE = "sqlite:///"


def with_absolute_paths(document: Document) -> Document:
    """The document with every relative path made absolute.

    A model is a path if it is written as one (``./m``, ``~/m``) or names an existing folder.
    """
    tree = {**document.tree}
    for key in (*_FOLDERS, *_DATABASES):
        section, _, name = key.partition(".")
        block = tree.get(section)
        if isinstance(block, Mapping) and isinstance(value := block.get(name), str):
            absolute = absolute_folder if key in _FOLDERS else _absolute_database
            tree[section] = {**block, name: absolute(value)}
    if "model" in tree:
        tree["model"] = _absolute_models(tree["model"])
    return Document(document.file, tree, document.places)


def absolute_folder(path: str) -> str:
    """The absolute, normalised path; URLs and empty text stay as they are.

    >>> absolute_folder("s3://bucket/stages"), absolute_folder("/data/../corpora/")
    ('s3://bucket/stages', '/corpora')
    """
    if not path or "://" in path:
        return path
    return os.path.abspath(Path(path).expanduser())


def _absolute_database(url: str) -> str:
    """A URL of a file database with an absolute path; ``sqlite:////x`` has one."""
    file = url.removeprefix(_SQLITE)
    if file == url or not file or file.startswith(("/", ":")):
        return url
    return f"{_SQLITE}{absolute_folder(file)}"


def _absolute_models(model: Any) -> Any:
    """A model, a block with its ``name``, or distributions over both."""
    if isinstance(model, str):
        is_path = model.startswith(("./", "../", "~")) or model in (".", "..")
        return absolute_folder(model) if is_path or _is_folder(model) else model
    if isinstance(model, Mapping):
        return {
            key: _absolute_models(value) if key in ("name", "choice") else value
            for key, value in model.items()
        }
    if isinstance(model, list):
        return [_absolute_models(option) for option in model]
    return model


def _is_folder(name: str) -> bool:
    return not Path(name).is_absolute() and Path(name).is_dir()


def place_faults(places: Places) -> Iterator[tuple[str, str, str]]:
    """Key, problem and remedy of each place that is misspelt; paths must be absolute."""
    checks = {
        "places.ledger": (places.ledger, _ledger_fault),
        "places.store": (places.store, _store_fault),
        "places.tracking": (places.tracking, tracking_fault),
    }
    for key, (value, fault_of) in checks.items():
        if value is not None and (fault := fault_of(value)) is not None:
            yield (key, *fault)


def tracking_fault(uri: str) -> Fault | None:
    """What is wrong with a tracking URI of MLflow.

    >>> tracking_fault("localhost:5000")
    ('localhost:5000 has no scheme', 'http://localhost:5000')
    >>> tracking_fault("http://localhost:5000"), tracking_fault("databricks")
    (None, None)
    """
    if _HOST.fullmatch(uri):
        return f"{uri} has no scheme", f"http://{uri}"
    if slashes := _ONE_SLASH.fullmatch(uri):
        scheme, rest = slashes.groups()
        return f"{uri} has one slash after the colon", f"{scheme}://{rest}"
    match = _URL.fullmatch(uri)
    if match is None or match[1] in (*_SERVERS, "file") or not match[2]:
        return None
    return _dialect_fault(uri, match, (*_SERVERS, "file", "databricks", "uc"))


def _ledger_fault(url: str) -> Fault | None:
    match = _URL.fullmatch(url)
    if match is None:
        return (
            f"{url} is not the URL of a database",
            f"sqlite:///{Path(url).name}, or postgresql://...",
        )
    return _dialect_fault(url, match)


def _dialect_fault(url: str, match: re.Match[str], also: tuple[str, ...] = ()) -> Fault | None:
    dialect, rest = match.groups()
    # Other dialects may be installed, but none whose name is close to a known one.
    known = (*_DIALECTS, *also)
    close = nearest(dialect, known)
    if dialect not in known and close.startswith("did you mean"):
        return f"unknown kind of database {dialect!r}", close
    if dialect == "sqlite" and rest and not rest.startswith("/"):
        return f"{url} has two slashes, but a file name follows three", f"sqlite:///{rest}"
    return None


def _store_fault(place: str) -> Fault | None:
    if slashes := _ONE_SLASH.search(place):
        scheme, rest = slashes.groups()
        return f"{scheme}: is followed by one slash, so it would be a folder", f"{scheme}://{rest}"
    return ("is a file", "a folder or a URL") if Path(place).is_file() else None
