"""How much each knob decides, by Optuna's PED-ANOVA with a bootstrap over configurations."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from xlt_ray.ledger.quiet import quiet
from xlt_ray.spec.space import Value

TARGET_QUANTILE = 0.25
"""What is explained is being among the best of so many; a tenth of few would be one or two."""
NUM_BOOTSTRAPS = 100
MIN_POINTS = 8
NUM_BINS = 5


@dataclass(frozen=True)
class Importance:
    """Share of a knob in all importance, and the middle 95 % of its bootstrap."""

    share: float
    low: float
    high: float


def importances(
    points: Sequence[tuple[Mapping[str, Value], float]], *, maximize: bool, seed: int = 0
) -> dict[str, Importance]:
    """Importance of every knob with two values or more; empty below ``MIN_POINTS`` points.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255) compares where the best configurations lie
    on a knob with where all do. A knob that some points lack is taken as a choice of which one
    option is not having it.

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
    distributions = {path: distribution for path, (distribution, _) in columns.items()}
    trials = [
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
    paths = list(columns)
    with quiet():
        study = _Sample()
        whole = study.shares(paths, trials)
        draw = random.Random(seed)
        drawn = [
            study.shares(paths, draw.choices(trials, k=len(trials))) for _ in range(NUM_BOOTSTRAPS)
        ]
    found = {}
    for path in paths:
        values = sorted(one[path] for one in drawn)
        last = len(values) - 1
        low, high = values[math.floor(0.025 * last)], values[math.ceil(0.975 * last)]
        found[path] = Importance(whole[path], low, high)
    return found


_Column = tuple[optuna.distributions.BaseDistribution, list[Any]]


def _columns(assignments: Sequence[Mapping[str, Value]]) -> dict[str, _Column]:
    """Distribution and values of every knob that varies."""
    found: dict[str, _Column] = {}
    for path in sorted({path for one in assignments for path in one}):
        values = [one.get(path, _ABSENT) for one in assignments]
        if len({json.dumps(value) for value in values}) < 2:
            continue
        numbers: list[Any] = [value for value in values if _is_number(value)]
        if len(numbers) == len(values):
            low, high = min(numbers), max(numbers)
            log = low > 0 and high / low > 15
            found[path] = _Range(float(low), float(high), log=log), [float(one) for one in numbers]
            continue
        bins: dict[Any, int] = _bins(numbers)
        options = [str(bins.get(value, value)) if _is_number(value) else json.dumps(value)
                   for value in values]  # fmt: skip
        choices = sorted(set(options))
        found[path] = _Options(choices), options
    return found


class _Range(optuna.distributions.FloatDistribution):
    """Known by identity: Optuna sorts trials by their distribution, of which each knob has one
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

    def shares(self, paths: Sequence[str], trials: Sequence[FrozenTrial]) -> dict[str, float]:
        """Shares of the knobs in the importance that these trials tell of."""
        self._sample = list(trials)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TARGET_QUANTILE)
        values = evaluator.evaluate(self, list(paths))
        total = math.fsum(max(value, 0.0) for value in values.values())
        return {path: max(values[path], 0.0) / total if total else 0.0 for path in paths}
