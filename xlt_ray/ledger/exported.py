"""A ledger as JSON, without what belongs to its home alone, and a ledger from such JSON.

Places, destinations of notifications and IDs of MLflow runs are left out.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from xlt_ray.files import make_folder
from xlt_ray.ledger.access import sweep_of_ledger
from xlt_ray.ledger.journal import Journal
from xlt_ray.ledger.ledger import Ledger
from xlt_ray.ledger.made_with import FACTS, START
from xlt_ray.ledger.requests import BY_HAND
from xlt_ray.ledger.sampler import directions_of, quiet
from xlt_ray.ledger.views import ORIGIN

KEPT = ("identity", FACTS, START, BY_HAND)
"""Attributes of the study that are exported as they are, beside the sweep."""


def exported(ledger: Ledger) -> dict[str, Any]:
    """``directions``, ``attributes`` and ``trials`` of a ledger, as JSON."""
    noted = ledger.study.user_attrs
    attributes = {**_kept(noted), "sweep": {**ledger.sweep, "places": {}, "notify": []}}
    return {
        "directions": [direction.name.lower() for direction in ledger.study.directions],
        "attributes": attributes,
        "trials": [_exported(trial) for trial in ledger.study.get_trials(deepcopy=False)],
    }


def _kept(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in sorted(attributes.items()) if name.partition(":")[0] in KEPT}


def _exported(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "state": trial.state.name,
        "values": None if trial.values is None else [*map(_number, trial.values)],
        "params": trial.params,
        "distributions": {
            name: json.loads(distribution_to_json(distribution))
            for name, distribution in trial.distributions.items()
        },
        "attributes": _without_run(trial.user_attrs),
        "system": trial.system_attrs,
        "curve": {str(step): _number(v) for step, v in trial.intermediate_values.items()},
        "started": _in_utc(trial.datetime_start),
        "ended": _in_utc(trial.datetime_complete),
    }


def _without_run(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name != "mlflow_run_id"}


def _number(value: float) -> float | str:
    """JSON has no infinity and no NaN; ``float`` reads their names."""
    return value if math.isfinite(value) else repr(value)


def _in_utc(time: datetime.datetime | None) -> str | None:
    return None if time is None else time.astimezone(datetime.UTC).isoformat()


def _of_reader(time: str | None) -> datetime.datetime | None:
    """In the reader's zone, without naming it, as Optuna keeps times."""
    if time is None:
        return None
    return datetime.datetime.fromisoformat(time).astimezone().replace(tzinfo=None)


def ledger_from(
    tree: Mapping[str, Any], name: str, origin: str = "", journal: Path | None = None
) -> Ledger:
    """The ledger that :func:`exported` has written, under a name, in memory or in a new journal.

    Args:
        origin: as :attr:`Ledger.origin`.

    Raises:
        SpecError: its sweep is not valid.
        KeyError, TypeError, ValueError, AttributeError: it is not an exported ledger.
    """
    storage: BaseStorage = InMemoryStorage()
    if journal is not None:
        make_folder(journal.parent)
        storage = JournalStorage(Journal(journal))
    with quiet():
        study = optuna.create_study(study_name=name, storage=storage, directions=tree["directions"])
        sweep = {**tree["attributes"]["sweep"], "name": name, "places": {}, "notify": []}
        for key, value in {**_kept(tree["attributes"]), "sweep": sweep, ORIGIN: origin}.items():
            study.set_user_attr(key, value)
        ledger = Ledger(study, name)
        if tree["directions"] != directions_of(sweep_of_ledger(ledger)):
            raise ValueError("its directions are not those of its objectives")
        study.add_trials([_frozen(trial) for trial in tree["trials"]])
    return ledger


def _frozen(tree: Mapping[str, Any]) -> FrozenTrial:
    """A trial; Optuna checks its values against its state and distributions when it is added."""
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState[tree["state"]],
        value=None,
        values=None if tree["values"] is None else [*map(float, tree["values"])],
        datetime_start=_of_reader(tree["started"]),
        datetime_complete=_of_reader(tree["ended"]),
        params=dict(tree["params"]),
        distributions={
            name: json_to_distribution(json.dumps(distribution))
            for name, distribution in tree["distributions"].items()
        },
        user_attrs=_without_run(tree["attributes"]),
        system_attrs=dict(tree["system"]),
        intermediate_values={int(step): float(value) for step, value in tree["curve"].items()},
    )
