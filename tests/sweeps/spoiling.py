"""Code that every Python process of a sweep reads: the engine's step meets something first."""

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
        if name == "xlt_ray.training.engine" and spec is not None:
            make = spec.loader.exec_module

            def make_and_spoil(module):
                make(module)
                spoil(module)

            spec.loader.exec_module = make_and_spoil
        return spec


sys.meta_path.insert(0, Spoiler)


def spoil(module):
    step = module.Engine.step

    def spoilt(self, micro_batches, learning_rate):
        meet(self, micro_batches)
        return step(self, micro_batches, learning_rate)

    module.Engine.step = spoilt
"""


def write_spoilt(folder: Path, code: str) -> str:
    """Make a folder and return a ``PYTHONPATH`` that begins with it; ``code`` has a function
    ``meet(engine, micro_batches)``, which is called before every step of every trial."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SPOILT + code)
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
