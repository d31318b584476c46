"""``search.from``: finished trials of other sweeps as observations of the sampler.

A trial of another sweep is an observation if this sweep would train it in the same stages: if some
configuration of its space has, with the seed of that trial, the keys that the trial was made with.
Keys cover all settings, data, weights and code, so nothing else needs to be compared but the
objective. The observations are kept in the ledger: what comes next does not depend on other sweeps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xlt_ray.config.facts import Facts
from xlt_ray.config.first_points import has
from xlt_ray.config.search_space import Assignment, Choice, SearchParameter, Value, assignments
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError, SpecError, SpecErrors
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, TrialView, load_ledger, sweep_of_ledger
from xlt_ray.ledger.observations import Observation, observation_of
from xlt_ray.store.stage_path import path_of, stages_to_run

OF_OBJECTIVE = ("objective", "constraints")


def observations_for(sweep: SweepSpec, facts: Facts, home: Home) -> dict[str, list[Observation]]:
    """The observations of a sweep from each sweep of ``search.from``.

    Raises:
        LedgerError: there is no such sweep in the home, its objective differs, or none of its
            finished trials is a trial of this sweep.
    """
    return {
        name: _from_ledger(load_ledger(home, name), sweep, facts)
        for name in sweep.settings.search.from_
    }


def imported_line(name: str, observations: Sequence[Observation]) -> str:
    """A line for the user."""
    return f"search.from: the sampler knows {len(observations)} finished trials of {name}"


def _from_ledger(ledger: Ledger, sweep: SweepSpec, facts: Facts) -> list[Observation]:
    where = f"search.from: {ledger.name}"
    resolved = sweep.resolved()
    differing = [key for key in OF_OBJECTIVE if ledger.sweep[key] != resolved[key]]
    if differing:
        raise LedgerError(
            f"{where} has another {differing[0]}, so its scores do not compare; give this sweep "
            "the same one, or leave that sweep out"
        )
    complete = [view for view in ledger.trials() if view.state == "complete"]
    other, found = sweep_of_ledger(ledger), []
    for view in complete:
        assignment = _assignment_here(view, other, sweep, facts)
        if assignment is not None:
            found.append(observation_of(view, ledger.name, sweep, assignment, facts.model_bounds))
    if not found:
        raise LedgerError(
            f"{where}: none of its {len(complete)} finished trials is a trial of this sweep: their "
            "settings are outside its space, or they were made with other data, weights, precision "
            "or code; leave that sweep out"
        )
    return found


def _assignment_here(
    view: TrialView, other: SweepSpec, sweep: SweepSpec, facts: Facts
) -> Assignment | None:
    """The configuration of a sweep that makes the stages of a trial of another one."""
    # A model of the other sweep may not be one of this sweep.
    with contextlib.suppress(KeyError, SpecError, SpecErrors):
        trial = other.trial_of(dict(view.assignment), facts.model_bounds)
        tree = trial.model_dump(mode="json")

        def candidates(parameter: SearchParameter) -> Iterable[Value]:
            return _values_like(parameter, _at(tree, parameter.path))

        for assignment in assignments(sweep.space, candidates, facts.model_bounds):
            path = path_of(
                sweep.trial_of(assignment, facts.model_bounds),
                facts,
                seed=view.seed,
                shared_seed=other.settings.search.training_seed,
                sizes=other.sizes,
            )
            if [stage.key for stage in stages_to_run(path)] == list(view.path):
                return assignment
    return None


def _at(tree: Any, path: str) -> Any:
    for step in path.split("."):
        tree = tree[int(step)] if isinstance(tree, list) else tree[step]
    return tree


def _values_like(parameter: SearchParameter, setting: Any) -> list[Value]:
    """The values of a parameter that may stand for a setting of a trial."""
    distribution = parameter.distribution
    if not isinstance(distribution, Choice):
        return [setting] if has(distribution, setting) else []
    return [
        label
        for label, option in zip(distribution.labels(), distribution.options, strict=True)
        if _is_like(option, setting)
    ]


def _is_like(option: Any, setting: Any) -> bool:
    """Whether an option may be written for a setting: with some of its keys, or by its name."""
    if isinstance(option, Mapping) and isinstance(setting, Mapping):
        return all(
            key in setting and (not isinstance(value, str | int | float) or value == setting[key])
            for key, value in option.items()
        )
    if isinstance(setting, Mapping) and isinstance(option, str):
        return option in (setting.get("name"), setting.get("method"))
    return bool(option == setting)
