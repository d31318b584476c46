"""Finished trials of other sweeps that the sampler knows: kept in a study, and no trials of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from xlt_ray.config.search_space import Assignment, ModelBounds, SearchParameter, Value, draw
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.ledger.distributions import distribution_of
from xlt_ray.ledger.views import TrialView
from xlt_ray.store.canonical import from_fields

IMPORTED = "imported"
"""Attributes of the study, each with the name of a sweep behind a colon."""


@dataclass(frozen=True)
class Observation:
    """One finished trial of another sweep, in the space of this one."""

    trial: str
    """``sweep/number``."""
    parameters: Mapping[str, Value]
    """Values by the names that the sampler uses."""
    distributions: Mapping[str, str]
    """As Optuna writes them."""
    values: tuple[float, ...]
    """Of all objectives."""
    constraints: Mapping[str, float]


def observation_of(
    view: TrialView, name: str, sweep: SweepSpec, assignment: Assignment, model_bounds: ModelBounds
) -> Observation:
    """A complete trial of the sweep ``name`` as the configuration ``assignment`` of this sweep."""
    met: list[SearchParameter] = []

    def pick(parameter: SearchParameter) -> Value:
        met.append(parameter)
        return assignment[parameter.path]

    draw(sweep.space, pick, model_bounds)
    return Observation(
        trial=f"{name}/{view.number}",
        parameters={parameter.name: assignment[parameter.path] for parameter in met},
        distributions={
            parameter.name: distribution_to_json(distribution_of(parameter)) for parameter in met
        },
        values=view.objectives,
        constraints=view.constraints,
    )


def observed_trials(attributes: Mapping[str, Any]) -> Iterator[FrozenTrial]:
    """The observations among the attributes of a study, as complete trials before its first one."""
    noted = [
        from_fields(Observation, fields)
        for key in sorted(attributes)
        if key.partition(":")[0] == IMPORTED
        for fields in attributes[key]
    ]
    for index, observation in enumerate(noted):
        trial = create_trial(
            state=TrialState.COMPLETE,
            values=[*observation.values],
            params=dict(observation.parameters),
            distributions={
                name: json_to_distribution(text) for name, text in observation.distributions.items()
            },
            system_attrs={
                f"constraints:{name}": excess for name, excess in observation.constraints.items()
            },
        )
        # Samplers order trials by number; a trial that is being drawn has -1.
        trial.number = index - len(noted) - 1
        yield trial
