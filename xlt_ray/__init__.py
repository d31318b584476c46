"""xlt-ray: hyperparameter sweeps for zero-shot cross-lingual transfer.

>>> import xlt_ray
>>> results = xlt_ray.run("sweep.yaml", {"search.trials": 8})  # doctest: +SKIP
>>> results.trials.objective.max()  # doctest: +SKIP

``run``, ``resume``, ``check`` and ``plan`` do what the commands of these names do
(:mod:`xlt_ray.api`), ``load_sweep`` reads a sweep file or a dict, and ``Results`` reads what a
sweep has stored. Each is imported at its first use, so that ``import xlt_ray`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlt_ray.api import check, plan, resume, run
    from xlt_ray.config.sweep import load_sweep
    from xlt_ray.report.results import Results

__version__ = "0.1.0"
__all__ = ["Results", "__version__", "check", "load_sweep", "plan", "resume", "run"]

_MODULES = {
    "Results": "xlt_ray.report.results",
    "load_sweep": "xlt_ray.config.sweep",
    **dict.fromkeys(("check", "plan", "resume", "run"), "xlt_ray.api"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
