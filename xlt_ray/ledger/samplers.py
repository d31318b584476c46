"""Samplers that differ from Optuna's: each reads what it needs from the study, and writes nothing.

:data:`xlt_ray.config.sweep.SAMPLERS` names them. The trial of a sampler's call carries the number
of its configuration (:func:`~xlt_ray.ledger.views.configuration_of`), like every trial.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from xlt_ray.config.search_space import Choice, distributions_in
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.ledger.views import configuration_of

POPULATION = 16
"""Configurations of one generation: sweeps are too short for Optuna's 50."""


class Tpe(TPESampler):
    """Multivariate TPE with constant liar (Watanabe 2023, arXiv 2304.11127).

    What all configurations have is drawn together. What only some have, such as the layer of one
    model, is drawn after it: candidates are compared by their densities together with all that was
    drawn before. (Optuna's ``group`` draws them apart.) An ask takes some 25 ms for every thousand
    finished trials.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed, multivariate=True, constant_liar=True)
        self._given: dict[str, float] = {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        if len(study.get_trials(deepcopy=False, states=states)) < self._n_startup_trials:
            return super().sample_independent(study, trial, param_name, param_distribution)
        space = trial.distributions
        self._given = {name: space[name].to_internal_repr(trial.params[name]) for name in space}
        drawn = self._sample(study, trial, {**space, param_name: param_distribution})
        self._given = {}
        return drawn[param_name]

    def _compute_acquisition_func(
        self, samples: dict[str, np.ndarray], mpe_below: Any, mpe_above: Any
    ) -> np.ndarray:
        for name, value in self._given.items():
            samples[name] = np.full_like(samples[name], value)
        return super()._compute_acquisition_func(samples, mpe_below, mpe_above)


class CmaEs(Tpe):
    """CMA-ES (Hansen 2016, arXiv 1604.00772) for the numbers that all configurations have; TPE
    draws the rest, given these.

    The distribution is computed again for every ask, so nothing is kept: from the first group of
    finished configurations in the order of their numbers, as large as a generation, then from the
    next.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        space = super().infer_relative_search_space(study, trial)
        return {
            name: distribution
            for name, distribution in space.items()
            if not isinstance(distribution, CategoricalDistribution)
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        from cmaes import CMA

        transform = _SearchSpaceTransform(search_space, transform_0_1=True)
        size = len(search_space)
        optimizer = CMA(
            np.full(size, 0.5), 1 / 6, transform.bounds, seed=self._seed, n_max_resampling=10 * size
        )
        solutions = [
            (transform.transform({name: params[name] for name in search_space}), loss)
            for params, loss in _losses(study)
        ]
        for end in range(optimizer.population_size, len(solutions) + 1, optimizer.population_size):
            optimizer.tell(solutions[end - optimizer.population_size : end])
        return transform.untransform(optimizer.ask())


def _losses(study: Study) -> list[tuple[dict[str, Any], float]]:
    """Parameters of every configuration with a result and its mean over seeds, negative if it is to
    be high; infinite if a trial was stopped early or violates a constraint."""
    params: dict[Any, dict[str, Any]] = {}
    losses: dict[Any, list[float]] = {}
    sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    for number, trial in enumerate(study.get_trials(deepcopy=False, states=states)):
        # Trials of other sweeps have no configuration here.
        own = configuration_of(trial)
        key = (own, 0) if own >= 0 else (own, number)
        params[key] = trial.params
        is_worst = trial.state == TrialState.PRUNED or any(
            excess > 0 for excess in trial.constraints.values()
        )
        losses.setdefault(key, []).append(math.inf if is_worst else sign * cast(float, trial.value))
    return [(params[key], statistics.fmean(losses[key])) for key in sorted(losses)]


GP_TRIALS = 64
"""Configurations up to which ``auto`` takes a Gaussian process; its asks get longer with each."""


class Auto(BaseSampler):
    """The sampler that suits a sweep: a Gaussian process for few configurations of numbers alone,
    CMA-ES for many, TPE where there are choices or several objectives."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chosen: BaseSampler = Tpe(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        sweep = cast(SweepSpec, study.sweep)  # type: ignore[attr-defined]
        self._chosen = chosen_for(sweep)(self._seed)
        return self._chosen.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._chosen.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._chosen.sample_independent(study, trial, param_name, param_distribution)


def chosen_for(sweep: SweepSpec) -> Callable[[int], BaseSampler]:
    """What ``auto`` takes."""
    distributions = [distribution for _, distribution in distributions_in(sweep.space.tree)]
    has_choices = any(isinstance(distribution, Choice) for distribution in distributions)
    if has_choices or sweep.settings.objective.also:
        return Tpe
    return gp if sweep.settings.search.trials <= GP_TRIALS else CmaEs


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
