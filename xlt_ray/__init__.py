"""xlt-ray: hyperparameter sweeps for zero-shot cross-lingual transfer.

``load_sweep`` reads a sweep file, ``Results`` what a sweep left behind. Both are looked up when
they are first used, so that ``import xlt_ray`` loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlt_ray.config.sweep import load_sweep
    from xlt_ray.report.results import Results

__version__ = "0.1.0"
__all__ = ["Results", "__version__", "load_sweep"]

_PLACES = {"Results": "xlt_ray.report.results", "load_sweep": "xlt_ray.config.sweep"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
