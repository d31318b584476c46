"""MLflow as a projection of ledger and store: nothing here is the only copy of anything.

:class:`Tracker` brings runs to what ledger and store say; :class:`MlflowSync` has it do so while a
sweep runs, so that a server which is slow or away delays nothing. MLflow is imported when a
:class:`Tracker` is first used, not before.
"""

from xlt_ray.tracking.artifacts import ModelRegistry
from xlt_ray.tracking.client import Point, ui_command, ui_page
from xlt_ray.tracking.mlflow_fields import LedgerSnapshot, TrialSnapshot, point_names
from xlt_ray.tracking.runs import Tracker, mend_database
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
    "ui_command",
    "ui_page",
]
