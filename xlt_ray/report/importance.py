"""How much each parameter decides, by Optuna's PED-ANOVA with a bootstrap over configurations, and
how much a parameter that decides nothing seems to by chance.

Shares add up to 1 for noise, too: the top share of four parameters is then 0.35 to 0.99. So every
share stands beside what chance reaches (``Importance.chance``); below it, it means nothing.
"""

from __future__ import annotations

import functools
import json
import math
import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from xlt_ray.config.search_space import Value
from xlt_ray.ledger.sampler import quiet

TARGET_QUANTILE = 0.25
"""What is explained is being among the best of so many; a tenth of few would be one or two."""
NUM_BOOTSTRAPS = 100
MIN_PERMUTATIONS = 199
PERMUTATIONS_PER_PARAMETER = 40
"""With many parameters more are needed, for a null that one of them is seldom above."""
ALPHA = 0.05
MIN_POINTS = 8
NUM_BINS = 5


@dataclass(frozen=True)
class Importance:
    """Share of a parameter in all importance, and the middle 95 % of its bootstrap."""

    share: float
    low: float
    high: float
    chance: float
    """95 % of the null, in the unit of ``share``, so that it may be above 1: where scores have
    nothing to do with parameters, no parameter of the sweep is above its own in 95 of 100 cases."""

    @property
    def is_above_chance(self) -> bool:
        """Whether the share may be called an importance, and be compared with others."""
        return self.share > self.chance


def importances(
    points: Sequence[tuple[Mapping[str, Value], float]], *, maximize: bool, seed: int = 0
) -> dict[str, Importance]:
    """Importance of every parameter with two values or more; empty below ``MIN_POINTS`` points.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255) compares where the best configurations lie on
    a parameter with where all do. A parameter that some points lack is taken as a choice of which
    one option is not having it.

    The null is that of scores permuted over the configurations, corrected for the number of
    parameters (single-step minP, Westfall & Young 1993, Resampling-based multiple testing, section
    2.3): importances that are not divided by their sum are compared, as noise has small ones.

    Args:
        points: assignment and score of each configuration.
        seed: of the bootstrap.
    """
    if len(points) < MIN_POINTS:
        return {}
    columns = _columns([assignment for assignment, _ in points])
    if not columns:
        return {}
    scores = [score if maximize else -score for _, score in points]
    trials = _trials(columns, scores)
    paths = list(columns)
    with quiet():
        study = _Sample()
        whole = study.importances(paths, trials)
        draw = random.Random(seed)
        drawn = [
            _shares(study.importances(paths, draw.choices(trials, k=len(trials))))
            for _ in range(NUM_BOOTSTRAPS)
        ]
    reached = _reached_by_chance(
        tuple(json.dumps(assignment, sort_keys=True) for assignment, _ in points), seed
    )
    total, shares = math.fsum(whole.values()), _shares(whole)
    by_path = {}
    for path in paths:
        values = sorted(shares_drawn[path] for shares_drawn in drawn)
        last = len(values) - 1
        by_path[path] = Importance(
            share=shares[path],
            low=values[math.floor(0.025 * last)],
            high=values[math.ceil(0.975 * last)],
            chance=reached[path] / total if total else 1.0,
        )
    return by_path


@functools.lru_cache(maxsize=32)
def _reached_by_chance(assignments: tuple[str, ...], seed: int) -> Mapping[str, float]:
    """Parameter -> the importance (not the share) that noise gives it: with the scores permuted, no
    parameter is above its own in 95 of 100 cases.

    Scores enter PED-ANOVA by which configurations are the best, so that all scores of the same
    configurations have the same null; with equal ones among them more are the best, and it is
    smaller.

    Args:
        assignments: of the configurations, as JSON.
    """
    columns = _columns([json.loads(assignment) for assignment in assignments])
    paths, ranks = list(columns), list(range(len(assignments)))
    trials, draw, null = _trials(columns, ranks), random.Random(seed), []
    with quiet():
        study = _Sample()
        for _ in range(max(MIN_PERMUTATIONS, PERMUTATIONS_PER_PARAMETER * len(paths))):
            draw.shuffle(ranks)
            for trial, rank in zip(trials, ranks, strict=True):
                trial.value = float(rank)
            reached = study.importances(paths, trials)
            null.append([reached[path] for path in paths])
    return dict(zip(paths, _thresholds(np.array(null)).tolist(), strict=True))


def _thresholds(null: np.ndarray) -> np.ndarray:
    """For each parameter the value that in at most ``ALPHA`` of all cases any parameter is above
    its own.

    Each parameter's is the value of the same rank, so that all have the same part in being wrong.

    Args:
        null: ``(permutations, parameters)``.
    """
    ordered = -np.sort(-null, axis=0)
    # How many permutations are as high: 1 for the highest one.
    ranks = np.stack(
        [np.searchsorted(-ordered[:, parameter], -null[:, parameter], side="right")
         for parameter in range(null.shape[1])], axis=1
    )  # fmt: skip
    highest = np.sort(ranks.min(axis=1))
    allowed = math.floor(ALPHA * (len(null) + 1)) - 1
    # The case that is judged counts as one more, and may take the rank of a permutation.
    place = max(int(highest[allowed]) - 2, 0)
    return np.asarray(ordered[place])


_Column = tuple[optuna.distributions.BaseDistribution, list[Any]]


def _columns(assignments: Sequence[Mapping[str, Value]]) -> dict[str, _Column]:
    """Distribution and values of every parameter that varies."""
    columns: dict[str, _Column] = {}
    for path in sorted({path for assignment in assignments for path in assignment}):
        values = [assignment.get(path, _ABSENT) for assignment in assignments]
        if len({json.dumps(value) for value in values}) < 2:
            continue
        numbers: list[Any] = [value for value in values if _is_number(value)]
        if len(numbers) == len(values):
            low, high = min(numbers), max(numbers)
            log = low > 0 and high / low > 15
            columns[path] = (
                _Range(float(low), float(high), log=log),
                [float(number) for number in numbers],
            )
            continue
        bins: dict[Any, int] = _bins(numbers)
        options = [str(bins.get(value, value)) if _is_number(value) else json.dumps(value)
                   for value in values]  # fmt: skip
        choices = sorted(set(options))
        columns[path] = _Options(choices), options
    return columns


def _trials(columns: Mapping[str, _Column], scores: Sequence[float]) -> list[FrozenTrial]:
    distributions = {path: distribution for path, (distribution, _) in columns.items()}
    return [
        FrozenTrial(
            number=index,
            trial_id=index,
            state=TrialState.COMPLETE,
            value=score,
            params={path: values[index] for path, (_, values) in columns.items()},
            distributions=distributions,
            datetime_start=None,
            datetime_complete=None,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        for index, score in enumerate(scores)
    ]


def _shares(importances: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(importances.values())
    return {path: importance / total if total else 0.0 for path, importance in importances.items()}


class _Range(optuna.distributions.FloatDistribution):
    """Known by identity: Optuna sorts trials by their distribution, of which each parameter has one
    object here, and hashes its fields for every trial otherwise. The same holds of options."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class _Options(optuna.distributions.CategoricalDistribution):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


_ABSENT = "(none)"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bins(numbers: Sequence[float]) -> dict[float, int]:
    """Bin of every number; numbers that are few are a bin each."""
    distinct = sorted(set(numbers))
    size = math.ceil(len(distinct) / NUM_BINS)
    return {number: index // size for index, number in enumerate(distinct)} if distinct else {}


class _Sample(optuna.Study):
    """A study of given trials, some of them more than once.

    A study that trials are added to copies and checks every one: at a thousand configurations
    that takes most of the time, a hundred draws over.
    """

    def __init__(self) -> None:
        storage = optuna.storages.InMemoryStorage()
        storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "sample")
        super().__init__("sample", storage)
        self._sample: list[FrozenTrial] = []

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._sample

    def importances(self, paths: Sequence[str], trials: Sequence[FrozenTrial]) -> dict[str, float]:
        """Importance of every parameter that these trials tell of, none below zero."""
        self._sample = list(trials)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TARGET_QUANTILE)
        values = evaluator.evaluate(self, list(paths))
        return {path: max(values[path], 0.0) for path in paths}
