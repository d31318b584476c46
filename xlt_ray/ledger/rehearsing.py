"""A ledger that is asked without consequences: what a sweep would be asked next.

It lives in memory and begins as a copy, so :meth:`~xlt_ray.ledger.Ledger.ask` is the very
function that a running sweep calls, and nothing of the home is touched.
"""

from __future__ import annotations

import optuna

from xlt_ray.ledger.book import Ledger
from xlt_ray.ledger.quiet import quiet
from xlt_ray.spec.sweep import SweepSpec


def rehearsal(sweep: SweepSpec, ledger: Ledger | None = None) -> Ledger:
    """A ledger in memory with the trials of ``ledger``, or with none, to be asked and thrown away.

    It asks what a real one asks as long as the sampler needs no scores: a grid, points of
    ``search.first``, and random always do; tpe draws from what has been told so far.
    """
    with quiet():
        study = optuna.create_study(
            study_name=sweep.name,
            direction="maximize" if sweep.settings.objective.mode == "max" else "minimize",
        )
    if ledger is not None:
        study.add_trials(ledger.study.get_trials(deepcopy=False))
    return Ledger(study, sweep.name)
