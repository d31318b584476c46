"""Trials as the ledger gives them, without a ledger."""

from __future__ import annotations

from typing import Any

from xlt_ray.ledger import TrialView


def trial_view(number: int = 0, state: Any = "running", **fields: Any) -> TrialView:
    """A trial that has begun once and has nothing else than these fields."""
    values: dict[str, Any] = {
        "assignment": {}, "configuration": number, "repeat": 0, "seed": 0, "objective": None,
        "curve": (), "attempts": 1, "cause": None, "message": "", "log": "", "stages": (),
        "mlflow_run_id": None, "retry_of": None, "started": None, "ended": None,
    }  # fmt: skip
    return TrialView(number=number, state=state, **{**values, **fields})
