"""TPE whose asks take no longer as a sweep grows beyond a thousand trials."""

from __future__ import annotations

from bisect import insort
from copy import copy
from itertools import islice
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from xlt_ray.ledger.quiet import quiet
from xlt_ray.ledger.views import points_of

HISTORY = 1000
"""Trials that ended, as many of the latest ones as are looked at."""
NUM_BEST = 25
"""The best of the earlier ones are looked at besides: as many as TPE ever calls good."""


class History:
    """What is looked at of the trials of one study, kept up from ask to ask.

    A trial that has ended changes no more, so only those that had not are looked at again.

    Args:
        length: as :data:`HISTORY`.
    """

    def __init__(self, length: int = HISTORY) -> None:
        self._length = length
        self._num_known = 0
        self._open: list[int] = []
        self._ended: list[int] = []
        self._ranking: list[tuple[float, int]] = []

    def seen(self, trials: list[FrozenTrial], direction: StudyDirection) -> list[FrozenTrial]:
        """What is looked at of all trials of the study, by number; all where few have ended."""
        self._keep_up(trials, -1.0 if direction == StudyDirection.MAXIMIZE else 1.0)
        if len(self._ended) <= self._length:
            return trials
        latest = self._ended[-self._length :]
        earlier = (number for _, number in self._ranking if number < latest[0])
        running = (one for one in self._open if trials[one].state == TrialState.RUNNING)
        return [trials[one] for one in sorted([*islice(earlier, NUM_BEST), *latest, *running])]

    def _keep_up(self, trials: list[FrozenTrial], sign: float) -> None:
        self._open += range(self._num_known, len(trials))
        self._num_known = len(trials)
        still_open = []
        for number in self._open:
            state = trials[number].state
            if not state.is_finished():
                still_open.append(number)
            elif state != TrialState.FAIL:
                insort(self._ended, number)
                if state == TrialState.COMPLETE:
                    insort(self._ranking, (sign * cast(float, trials[number].value), number))
        self._open = still_open


class BoundedTPE(optuna.samplers.TPESampler):
    """Multivariate, grouped TPE with constant liar (Watanabe 2023, arXiv 2304.11127).

    An ask of Optuna's costs 25 ms for every thousand trials that ended. Of more than
    :data:`HISTORY` this one sees those that run, the latest of them that ended, and the best
    :data:`NUM_BEST` of all before them. Optuna never counts more than 25 trials as good, so the
    density of the good ones is what it would be without a bound; that of the others, in which
    Optuna gives the older ones less and less weight, is of the latest alone.

    Args:
        seed: of this ask; a sampler serves one.
        history: of the study that is asked.
    """

    def __init__(self, seed: int, history: History) -> None:
        with quiet():
            super().__init__(seed=seed, multivariate=True, group=True, constant_liar=True)
        self.random = optuna.samplers.RandomSampler(seed=seed)
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
            self._part = cast(Study, _Part(study, self._history.seen(trials, study.direction)))
        return self._part


class _Part:
    """A study of which a sampler sees a part of the trials, and into which it writes nothing."""

    def __init__(self, study: Study, trials: list[FrozenTrial]) -> None:
        self._study = study
        self._trials = [_counted(trial) for trial in trials]
        self._storage = _Unwritten()

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


def _counted(trial: FrozenTrial) -> FrozenTrial:
    """A trial that was stopped early, with its evaluations counted.

    TPE takes those that came further for better, and values count among equals only. In examples
    the larger training would be the one that came further.
    """
    if trial.state != TrialState.PRUNED:
        return trial
    counted = copy(trial)
    values = sorted(points_of(trial).items())
    counted.intermediate_values = {number: value for number, (_, value) in enumerate(values, 1)}
    return counted


class _Unwritten:
    """Where TPE would note what it draws, for other processes that ask at the same time."""

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None: ...
