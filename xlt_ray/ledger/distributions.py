"""Distributions of a sweep's parameters in Optuna's terms."""

from __future__ import annotations

from typing import cast

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from xlt_ray.config.search_space import Choice, FloatRange, SearchParameter


def distribution_of(
    parameter: SearchParameter,
) -> CategoricalDistribution | FloatDistribution | IntDistribution:
    """The values of a parameter in Optuna's terms."""
    distribution = parameter.distribution
    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.labels())
    if isinstance(distribution, FloatRange):
        return FloatDistribution(distribution.low, distribution.high, log=distribution.log)
    low, high = cast(int, distribution.low), cast(int, distribution.high)
    return IntDistribution(low, high, step=distribution.step, log=distribution.log)
