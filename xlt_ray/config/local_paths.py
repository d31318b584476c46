"""Relative paths of a sweep become absolute once, where the sweep is read.

They are relative to the folder of the shell, as they are everywhere on a command line. Trials run
in processes that stand elsewhere, so nothing after this may depend on where a process stands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlt_ray.config.yaml import Document

_FOLDERS = ("data.root", "data.texts", "data.cache", "places.store")
"""Keys whose value is a folder; a URL stays as it is."""
_DATABASES = ("places.ledger", "places.tracking")
_SQLITE = "sqlite:///"


def with_absolute_paths(document: Document) -> Document:
    """The same document with every relative path on this machine made absolute.

    A model is a path where it is written as one (``./m``, ``~/m``) or names a folder that is
    there; any other name is one of the hub.
    """
    tree = {**document.tree}
    for key in (*_FOLDERS, *_DATABASES):
        section, _, name = key.partition(".")
        block = tree.get(section)
        if isinstance(block, Mapping) and isinstance(value := block.get(name), str):
            made = absolute_folder(value) if key in _FOLDERS else _absolute_database(value)
            tree[section] = {**block, name: made}
    if "model" in tree:
        tree["model"] = _absolute_models(tree["model"])
    return Document(document.file, tree, document.places)


def absolute_folder(path: str) -> str:
    """A path as seen from anywhere, spelled in one way; URLs and empty text stay as they are.

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
