"""TPE whose asks take no longer as a sweep grows beyond a thousand trials."""

from __future__ import annotations

import heapq
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from xlt_ray.ledger.quiet import quiet

HISTORY = 1000
"""Trials that ended, as many of the latest ones as are looked at."""
NUM_BEST = 25
"""The best of the earlier ones are looked at besides: as many as TPE ever calls good."""


class BoundedTPE(optuna.samplers.TPESampler):
    """Multivariate, grouped TPE with constant liar (Watanabe 2023, arXiv 2304.11127).

    An ask of Optuna's costs 45 ms for every thousand trials that ended. Of more than ``history``
    this one sees those that run, the latest ``history`` that ended, and the best
    :data:`NUM_BEST` of all before them. Optuna never counts more than 25 trials as good, so the
    density of the good ones is what it would be without a bound; that of the others, in which
    Optuna gives the older ones less and less weight, is of the latest alone.

    Args:
        seed: of this ask; a sampler serves one.
    """

    def __init__(self, seed: int, history: int = HISTORY) -> None:
        with quiet():
            super().__init__(seed=seed, multivariate=True, group=True, constant_liar=True)
        self._history = history
        self._part: Study | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return super().sample_independent(self._seen(study), trial, param_name, param_distribution)

    def _seen(self, study: Study) -> Study:
        if self._part is None:
            trials = study.get_trials(deepcopy=False)
            seen = seen_of(trials, study.direction, self._history)
            is_all = len(seen) == len(trials)
            self._part = study if is_all else cast(Study, _Part(study, seen))
        return self._part


def seen_of(
    trials: list[FrozenTrial], direction: StudyDirection, history: int
) -> list[FrozenTrial]:
    """What is looked at of all trials, by number; all of them where few have ended."""
    ended = [one for one in trials if one.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(ended) <= history:
        return trials
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    earlier = [one for one in ended[:-history] if one.state == TrialState.COMPLETE]
    best = heapq.nsmallest(NUM_BEST, earlier, key=lambda one: sign * cast(float, one.value))
    running = [one for one in trials if one.state == TrialState.RUNNING]
    return sorted([*best, *ended[-history:], *running], key=lambda one: one.number)


class _Part:
    """A study of which a sampler sees a part of the trials."""

    def __init__(self, study: Study, trials: list[FrozenTrial]) -> None:
        self._study = study
        self._trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Any = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """As Optuna's samplers ask; none of them changes a trial, so that nothing is copied."""
        del deepcopy, use_cache
        return [one for one in self._trials if states is None or one.state in states]
