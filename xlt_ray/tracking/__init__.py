"""MLflow as a projection of ledger and store: nothing here is the only copy of anything.

One MLflow experiment a sweep, in it one parent run for the sweep and one nested run a trial,
found again by tags, so that neither a crash nor a second projection doubles a run. MLflow is
imported when a :class:`Tracker` is made, not before.
"""

from xlt_ray.tracking.connection import ui_command, ui_page
from xlt_ray.tracking.projection import project
from xlt_ray.tracking.runs import Tracker

__all__ = ["Tracker", "project", "ui_command", "ui_page"]
