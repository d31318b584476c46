"""The ledger: one Optuna study, the only durable truth about the trials of a sweep.

It holds the parameters, state, attempts, causes of failure, intermediate scores, stage keys and
MLflow run of every trial; MLflow and reports can be rebuilt from it. Only the driver of a sweep
writes it. The next trial follows from the ledger alone (the sampler is seeded by the seed of the
sweep and the number of the configuration), so a sweep that was killed and started again asks the
same trials as one that ran through.
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
    may_change_key,
    open_ledger,
    sweep_of_ledger,
)
from xlt_ray.ledger.front import FrontPoint, front_of
from xlt_ray.ledger.halving import Halving
from xlt_ray.ledger.ledger import (
    Ledger,
    Retry,
    by_cause,
    failure_lines,
    rehearsal,
    retry_command,
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
from xlt_ray.ledger.requests import Request
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
