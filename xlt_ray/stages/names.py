"""Which names a store may hold: what is read from it may have been written by anybody.

A key is 64 hex digits. A file of a stage lies below the folder of its stage, whatever its record
says, and holds no pickle: reading one would run whatever its writer wanted.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_KEY = re.compile(r"[0-9a-f]{64}")
_PICKLED = (
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".joblib",
    ".npy",
    ".npz",
    ".msgpack",
)


def is_key(text: str) -> bool:
    """Whether this is the key of a stage.

    >>> is_key("ab" * 32), is_key("../x")
    (True, False)
    """
    return _KEY.fullmatch(text) is not None


def leads_out(path: str) -> bool:
    """Whether a path with ``/`` is anything but a plain path below where it starts.

    >>> [leads_out(one) for one in ("a/b.json", "../a", "/etc/passwd", "a//b", "a/./b", "")]
    [False, True, True, True, True, True]
    """
    parts = path.split("/")
    return any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)


def fault_of_file(name: str) -> str:
    """What is wrong with the name of a stage's file; empty where nothing is.

    >>> fault_of_file("encoder/model.safetensors"), fault_of_file("encoder/pytorch_model.bin")
    ('', 'is pickled, and nothing pickled is read')
    """
    if leads_out(name):
        return "leads out of its folder"
    if PurePosixPath(name).suffix.lower() in _PICKLED:
        return "is pickled, and nothing pickled is read"
    return ""
