"""Checks what people ask of a sweep, before a request is left for its driver."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from xlt_ray.config.first_points import FirstPoint, misplaced, read_point
from xlt_ray.config.yaml import override_key, parse_document
from xlt_ray.errors import LedgerError, SpecError, SpecErrors, nearest
from xlt_ray.ledger import Ledger, Request, may_change_key, sweep_of_ledger
from xlt_ray.ledger.requests import MAY_SET
from xlt_ray.sweep.runner import checked_facts

PLACE = "command line"


def stop_request(ledger: Ledger, number: int) -> Request:
    """Stop a trial.

    Raises:
        LedgerError: there is no such trial, or it has ended.
    """
    view = ledger.trial(number)
    if view.is_finished:
        raise LedgerError(f"{ledger.name}: trial {number} has ended: it is {view.state}")
    return Request("stop", trial=number)


def pause_request(ledger: Ledger) -> Request:
    """Pause the driver of a sweep.

    Raises:
        LedgerError: no driver runs it.
    """
    if not ledger.driver:
        raise LedgerError(f"{ledger.name}: does not run; xlt resume {ledger.name} continues it")
    return Request("pause", driver=ledger.driver)


def clone_request(ledger: Ledger, number: int, overrides: Sequence[str]) -> Request:
    """Try the parameters of a trial with some changes next.

    Raises:
        SpecErrors: a key is not searched over, a value is not in its space, or the point was
            tried already.
        LedgerError: there is no such trial.
    """
    sweep, view = sweep_of_ledger(ledger), ledger.trial(number)
    changes = FirstPoint({}, ())
    for key, value in _values(overrides).items():
        read = read_point({key: value}, sweep.space)
        changes = FirstPoint({**changes.values, **read.values}, (*changes.faults, *read.faults))
    if not changes.values and not changes.faults:
        raise SpecError(
            "has the parameters of a trial that exists", file=PLACE, key=f"trial {number}",
            remedy="change one, for example target.learning_rate=1e-4",
        )  # fmt: skip
    kept = {
        path: value
        for path, value in view.assignment.items()
        # The block in which it stands may be another one.
        if not any(path.startswith(f"{changed}.") for changed in changes.values)
    }
    point = FirstPoint({**kept, **changes.values}, changes.faults)
    faults = list(point.faults)
    if not faults:
        faults += misplaced(point, sweep.space, checked_facts(sweep).model_bounds)
    if faults:
        raise SpecErrors(
            [
                SpecError(problem, file=PLACE, key=key, remedy=remedy)
                for key, problem, remedy in faults
            ]
        )
    for other in ledger.trials():
        if dict(other.assignment) == point.values:
            raise SpecError(
                f"trial {other.number} has these parameters", file=PLACE,
                key=", ".join(changes.values), remedy="change another one",
            )  # fmt: skip
    return Request("clone", trial=number, values=point.values, changed=tuple(changes.values))


def set_request(ledger: Ledger, overrides: Sequence[str]) -> Request:
    """Change settings.

    Raises:
        SpecErrors: a key may not change while the sweep runs, or a value is wrong.
    """
    sweep, keys = sweep_of_ledger(ledger, overrides), list(_values(overrides))
    for key in keys:
        if key in MAY_SET:
            continue
        if may_change_key(key):
            problem = "can only change when the sweep starts"
            remedy = f"xlt pause {ledger.name}, then run it with the new value"
        else:
            problem = "cannot change in a sweep that exists"
            remedy = nearest(key, MAY_SET)
        raise SpecError(problem, file=PLACE, key=key, remedy=remedy)
    checked_facts(sweep)
    return Request("set", values={key: sweep.setting(key) for key in keys})


def _values(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of ``KEY=VALUE`` texts by their dotted keys."""
    tree = parse_document("{}", PLACE, overrides).tree
    keys = [override_key(override) for override in overrides]
    return {key: reduce(lambda node, part: node[part], key.split("."), tree) for key in keys}
