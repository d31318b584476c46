"""Code that every Python process of a sweep reads: steps and notes meet something first."""

from __future__ import annotations

import os
from pathlib import Path

SPOILT = """
import importlib.machinery
import sys


class Spoiler(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        if name in SPOILED and spec is not None:
            make = spec.loader.exec_module

            def make_and_spoil(module):
                make(module)
                spoil(getattr(module, SPOILED[name][0]), *SPOILED[name][1:])

            spec.loader.exec_module = make_and_spoil
        return spec


sys.meta_path.insert(0, Spoiler)


def spoil(owner, name, meet_first):
    method = getattr(owner, name)

    def spoilt(self, *arguments):
        meet_first(self, *arguments)
        return method(self, *arguments)

    setattr(owner, name, spoilt)


def note(stages):
    pass


SPOILED = {
    "xlt_ray.training.deepspeed_engine": (
        "Engine",
        "step",
        lambda engine, batches, _: meet(engine, batches),
    ),
    "xlt_ray.ledger.ledger": ("Ledger", "set_stages", lambda ledger, number, stages: note(stages)),
}
"""


def write_spoilt(folder: Path, code: str) -> str:
    """Make a folder and return a ``PYTHONPATH`` that begins with it; ``code`` has a function
    ``meet(engine, micro_batches)``, which is called before every step of every trial, and may have
    ``note(stages)``, which is called before a driver notes that the last of these stages of a trial
    is there."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SPOILT + code)
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
