"""MLflow as a projection of ledger and store: nothing here is the only copy of anything.

One MLflow experiment a sweep, in it one parent run for the sweep, below it one run a configuration,
and below that one run a trial (directly below the sweep's where a configuration has one seed only);
found again by tags, so that neither a crash nor a second projection doubles a run. MLflow is
imported when a :class:`Tracker` is made, not before. :class:`MlflowSync` writes while a sweep
runs, so that a server which is slow or away delays nothing.
"""

from xlt_ray.tracking.artifacts import ModelRegistry
from xlt_ray.tracking.client import ui_command, ui_page
from xlt_ray.tracking.content import point_names
from xlt_ray.tracking.projection import mend_database, project, show
from xlt_ray.tracking.runs import Tracker
from xlt_ray.tracking.snapshots import LedgerSnapshot, Point, TrialSnapshot
from xlt_ray.tracking.sync import FLUSH_TIMEOUT_S, NO_REPLY_TIMEOUT_S, MlflowSync

__all__ = [
    "FLUSH_TIMEOUT_S",
    "NO_REPLY_TIMEOUT_S",
    "LedgerSnapshot",
    "MlflowSync",
    "ModelRegistry",
    "Point",
    "Tracker",
    "TrialSnapshot",
    "mend_database",
    "point_names",
    "project",
    "show",
    "ui_command",
    "ui_page",
]
