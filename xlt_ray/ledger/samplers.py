"""Samplers that differ from Optuna's: each reads what it needs from the study, and writes nothing.

:data:`xlt_ray.config.sweep.SAMPLERS` names them. The trial of a sampler's call carries the number
of its configuration (:func:`~xlt_ray.ledger.views.configuration_of`), like every trial.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from xlt_ray.config.search_space import distributions_in
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.ledger.views import configuration_of

POPULATION = 16
"""Configurations of one generation: sweeps are too short for Optuna's 50."""


def tpe(seed: int) -> TPESampler:
    """Multivariate, grouped TPE with constant liar (Watanabe 2023, arXiv 2304.11127).

    An ask takes some 25 ms for every thousand finished trials.
    """
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def gp(seed: int) -> GPSampler:
    """A Gaussian process with expected improvement; what not all trials have is drawn at random."""
    return GPSampler(seed=seed, warn_independent_sampling=False)


class ByConfiguration:
    """Generations of a genetic sampler by the number of configurations, :data:`POPULATION` each.

    The parents of a generation are the best of those before it that are complete, so that no
    configuration waits for a generation to end.
    """

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return max(configuration_of(trial), 0) // POPULATION

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [
            trial for trial in complete if self.get_trial_generation(study, trial) == generation
        ]


class NsgaII(ByConfiguration, NSGAIISampler):
    """NSGA-II (Deb et al. 2002); what not all trials have is drawn at random."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed, population_size=POPULATION)


class Qmc(BaseSampler):
    """Points of one scrambled Sobol sequence, which fill the space more evenly than random ones.

    Every path of the space has a coordinate of its own, whether a configuration has it or not, and
    a coordinate in [0, 1) stands for a value as a quantile does.
    """

    def __init__(self, seed: int) -> None:
        del seed  # of one configuration; the sequence has that of the sweep
        self._coordinates: dict[str, float] = {}
        self._num_draws = 0

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        from scipy.stats.qmc import Sobol

        # ``StudyView`` has the sweep: one seed for the sequence, whatever the configuration.
        sweep = cast(SweepSpec, study.sweep)  # type: ignore[attr-defined]
        search, paths = sweep.settings.search, [*dict(distributions_in(sweep.space.tree))]
        # A further draw of a configuration takes a point behind those of all others.
        index = configuration_of(trial) + self._num_draws * search.trials
        self._num_draws += 1
        sequence = Sobol(len(paths), rng=search.seed)
        if index:
            sequence.fast_forward(index)
        self._coordinates = dict(zip(paths, sequence.random(1)[0].tolist(), strict=True))
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        coordinate = self._coordinates[param_name.partition(" in ")[0]]
        return _quantile(param_distribution, coordinate)


def _quantile(distribution: Any, share: float) -> Any:
    """The value below which this share of a distribution lies, 0 <= ``share`` < 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None:
        # Every whole number has the interval around it.
        low, high = low - step / 2, high + step / 2
    if distribution.log:
        value = float(np.exp(np.log(low) + share * (np.log(high) - np.log(low))))
    else:
        value = low + share * (high - low)
    if step is None:
        return min(max(value, distribution.low), distribution.high)
    number = round((value - distribution.low) / step)
    return min(distribution.low + number * step, distribution.high)
