"""The ledger: one Optuna study, the only durable truth about the trials of a sweep.

Parameters, state, attempts, causes of failure, scores on the way, keys of stages and the MLflow
run of every trial are in it; MLflow and reports are projections that can be rebuilt. Only the
driver of a sweep writes it. What the next trial is follows from the ledger alone (the sampler is
seeded by sweep seed and number of the configuration), so a sweep that was killed, be it in the
middle of an ask, and started again asks the same trials as one that ran through.
"""

from xlt_ray.ledger.access import (
    changes_of,
    continued,
    delete_ledger,
    driver_of,
    find_ledger,
    ledger_url,
    load_ledger,
    may_change,
    open_ledger,
    sweep_of_ledger,
)
from xlt_ray.ledger.halving import Halving
from xlt_ray.ledger.ledger import (
    Ledger,
    Retry,
    again,
    by_cause,
    failures_told,
    rehearsal,
    still_failed,
)
from xlt_ray.ledger.made_with import (
    Change,
    MadeWith,
    Start,
    changed_since,
    changes,
    fact_sets_of,
    facts_label,
    mixed_facts,
    starts_of,
)
from xlt_ray.ledger.views import (
    LEFT_NODES,
    STANDINGS,
    AskedTrial,
    Occupation,
    StageUse,
    Standing,
    State,
    TrialView,
    Winner,
    standings,
)

__all__ = [
    "LEFT_NODES",
    "STANDINGS",
    "AskedTrial",
    "Change",
    "Halving",
    "Ledger",
    "MadeWith",
    "Occupation",
    "Retry",
    "StageUse",
    "Standing",
    "Start",
    "State",
    "TrialView",
    "Winner",
    "again",
    "by_cause",
    "changed_since",
    "changes",
    "changes_of",
    "continued",
    "delete_ledger",
    "driver_of",
    "fact_sets_of",
    "facts_label",
    "failures_told",
    "find_ledger",
    "ledger_url",
    "load_ledger",
    "may_change",
    "mixed_facts",
    "open_ledger",
    "rehearsal",
    "standings",
    "starts_of",
    "still_failed",
    "sweep_of_ledger",
]
