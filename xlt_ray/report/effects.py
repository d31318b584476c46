"""Which parameter matters for which languages, and how sure that is: importances and effects.

Both are given for the same series of scores: the source language, the mean of the others, and the
mean of every group of languages. The unit is the configuration, its seeds averaged: seeds of one
configuration say nothing of its parameters. Importances are those of PED-ANOVA. Their shares add up
to 1 for noise, too (the top share of four parameters is then 0.35 to 0.99), so every share stands
beside what chance reaches; below it, it means nothing.
"""

from __future__ import annotations

import functools
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from xlt_ray.config.labels import is_absent, is_number, value_label
from xlt_ray.config.search_space import Value
from xlt_ray.report.figures import csv_text
from xlt_ray.report.ped_anova import Axis, ped_anova
from xlt_ray.report.stats import ALPHA, difference_interval, units
from xlt_ray.report.tables import Cell, Group, LanguageTable, Row, drawn_groups

MAX_LEVELS = 6
"""A parameter with more numbers than these is shown in as many bins of equally many
configurations."""
OTHERS = "mean of the others"

# -- importances --------------------------------------------------------------------------

NUM_BOOTSTRAPS = 100
MIN_PERMUTATIONS = 199
PERMUTATIONS_PER_PARAMETER = 40
"""With many parameters more are needed, for a null that one of them is seldom above."""
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

    @property
    def rank(self) -> float:
        """Sorts the most important parameter first; those not above chance are alike."""
        return -self.share if self.is_above_chance else 0.0


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
    axes = _axes([assignment for assignment, _ in points])
    if not axes:
        return {}
    scores = np.array([score if maximize else -score for _, score in points])
    draw, num = random.Random(seed), len(points)
    drawn = np.array(
        [range(num), *(draw.choices(range(num), k=num) for _ in range(NUM_BOOTSTRAPS))]
    )
    found = ped_anova([*axes.values()], drawn, scores[drawn])
    sums = found.sum(axis=1, keepdims=True)
    shares = np.divide(found, sums, out=np.zeros_like(found), where=sums > 0)
    reached = _reached_by_chance(
        tuple(json.dumps(assignment, sort_keys=True) for assignment, _ in points), seed
    )
    total, last = float(sums[0, 0]), NUM_BOOTSTRAPS - 1
    by_path = {}
    for place, path in enumerate(axes):
        values = np.sort(shares[1:, place]).tolist()
        low, high = values[math.floor(0.025 * last)], values[math.ceil(0.975 * last)]
        chance = reached[path] / total if total else 1.0
        by_path[path] = Importance(float(shares[0, place]), low, high, chance)
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
    axes = _axes([json.loads(assignment) for assignment in assignments])
    num_permutations = max(MIN_PERMUTATIONS, PERMUTATIONS_PER_PARAMETER * len(axes))
    ranks, draw, permuted = list(range(len(assignments))), random.Random(seed), []
    for _ in range(num_permutations):
        draw.shuffle(ranks)
        permuted.append(ranks.copy())
    points = np.tile(np.arange(len(assignments)), (num_permutations, 1))
    null = ped_anova([*axes.values()], points, np.array(permuted))
    return dict(zip(axes, _thresholds(null).tolist(), strict=True))


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


def _axes(assignments: Sequence[Mapping[str, Value]]) -> dict[str, Axis]:
    """Where the configurations lie on every parameter that varies."""
    axes: dict[str, Axis] = {}
    for path in sorted({path for assignment in assignments for path in assignment}):
        values = [assignment.get(path, _ABSENT) for assignment in assignments]
        if len({json.dumps(value) for value in values}) < 2:
            continue
        numbers: list[Any] = [value for value in values if is_number(value)]
        if len(numbers) == len(values):
            axes[path] = Axis.of_numbers(numbers)
            continue
        distinct = sorted(set(numbers))
        # Numbers that are few are a bin each.
        size = math.ceil(len(distinct) / NUM_BINS)
        bins = {number: str(index // size) for index, number in enumerate(distinct)}
        options = [bins[value] if is_number(value) else json.dumps(value) for value in values]
        axes[path] = Axis.of_options(options)
    return axes


_ABSENT = "(none)"


# -- effects ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """One score of every configuration: of a language, or a mean over some."""

    name: str
    languages: tuple[str, ...]
    of: Callable[[Row], Cell | None]


@dataclass(frozen=True)
class Effect:
    """Mean score at a level minus that of all other configurations.

    Configurations on one side that share a trained stage which the other side does not have count
    as one, with their mean: they are one sample of that stage.
    """

    difference: float
    low: float | None
    """Of Welch's 95 % interval over units; None where a side has fewer than two."""
    high: float | None
    num_configurations: int
    num_units: int
    """Of these configurations, those that share such a stage counted as one."""
    num_seeds: int
    """Trials at the level, over all its configurations."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Level:
    """One value of a parameter, or a bin of its numbers."""

    parameter: str
    label: str
    effects: Mapping[str, Effect]
    """By the name of a series; those without a score at the level or outside it are not there."""
    configurations: tuple[int, ...] = ()
    """That have the value, and scores."""

    @property
    def num_configurations(self) -> int:
        return max((effect.num_configurations for effect in self.effects.values()), default=0)

    @property
    def num_seeds(self) -> int:
        return max((effect.num_seeds for effect in self.effects.values()), default=0)


@dataclass(frozen=True)
class Effects:
    """What a table tells of its parameters."""

    series: tuple[str, ...]
    importances: Mapping[str, Mapping[str, Importance]]
    """Series -> parameter -> importance; a series with too few configurations has none."""
    levels: tuple[Level, ...]
    """Parameters that matter more than chance by importance for the mean of the others, then the
    other ones by name; the levels of each in order."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Those that have levels, in their order."""
        return tuple(dict.fromkeys(level.parameter for level in self.levels))

    @property
    def num_intervals(self) -> int:
        return sum(
            effect.low is not None for level in self.levels for effect in level.effects.values()
        )


def series_of(table: LanguageTable) -> tuple[Series, ...]:
    """The source language where it was scored, the mean of the others, and every group."""
    source = table.source_language
    series = [Series(OTHERS, table.targets, lambda row: row.mean_without_source)]
    if source in table.languages:
        series.insert(0, Series(source, (source,), lambda row: row.cells.get(source)))
    return (*series, *map(_of_group, table.groups))


def _of_group(group: Group) -> Series:
    return Series(group.title, group.languages, lambda row: row.groups.get(group.title))


def drawn_series(table: LanguageTable) -> tuple[Series, ...]:
    """Of these the ones that a figure shows: with the groups of one grouping alone."""
    left_out = {group.title for group in table.groups} - {
        group.title for group in drawn_groups(table.groups)
    }
    return tuple(series for series in series_of(table) if series.name not in left_out)


def effects_of(table: LanguageTable) -> Effects:
    """Importances and effects of every parameter that has two values or more."""
    series = series_of(table)
    shares = _importances_by_series(table, series)
    levels = {path: _levels(path, table, series) for path in table.parameters}

    def rank(path: str) -> tuple[float, str]:
        importance = (shares[OTHERS] or next(iter(shares.values()))).get(path)
        return importance.rank if importance else 0.0, path

    return Effects(
        series=tuple(each.name for each in series),
        importances=shares,
        levels=tuple(level for path in sorted(levels, key=rank) for level in levels[path]),
    )


def importances_csv(effects: Effects) -> str:
    """One line a series and parameter, in full precision."""
    names = ["share", "low", "high", "chance", "is_above_chance"]
    rows = [
        [series, path, *(getattr(importance, name) for name in names)]
        for series, parameters in effects.importances.items()
        for path, importance in sorted(parameters.items())
    ]
    return csv_text(["score", "knob", *names], rows)


def effects_csv(effects: Effects) -> str:
    """One line a level and series, in full precision; what is not known is empty."""
    names = ["knob", "level", "score", "difference", "low", "high", "configurations"]
    names += ["trained_apart", "seeds"]
    rows = [
        [level.parameter, level.label, name, effect.difference, effect.low, effect.high,
         effect.num_configurations, effect.num_units, effect.num_seeds]
        for level in effects.levels
        for name, effect in level.effects.items()
    ]  # fmt: skip
    return csv_text(names, rows)


def _importances_by_series(
    table: LanguageTable, series: Sequence[Series]
) -> dict[str, Mapping[str, Importance]]:
    """Importances by series. Groups of the same languages, as a family with a script of its own,
    have the same scores and are counted once: a bootstrap is what a report takes longest for."""
    parameters = [
        {path: value for path, value in row.parameters.items() if not is_absent(value)}
        for row in table.rows
    ]
    known: dict[tuple[float | None, ...], Mapping[str, Importance]] = {}
    by_series = {}
    for each in series:
        cells = [each.of(row) for row in table.rows]
        scores = tuple(None if cell is None else cell.mean for cell in cells)
        if scores not in known:
            pairs = zip(parameters, scores, strict=True)
            points = [(assignment, score) for assignment, score in pairs if score is not None]
            known[scores] = importances(points, maximize=table.is_higher_better)
        by_series[each.name] = known[scores]
    return by_series


def _levels(path: str, table: LanguageTable, series: Sequence[Series]) -> list[Level]:
    rows = [row for row in table.rows if row.trials]
    labels = _labels([row.parameters[path] for row in rows])
    order = list(dict.fromkeys(label for _, label in sorted(set(labels))))
    if len(order) < 2:
        return []
    levels = []
    for label in order:
        members = [row for row, (_, level) in zip(rows, labels, strict=True) if level == label]
        rest = [row for row, (_, level) in zip(rows, labels, strict=True) if level != label]
        effects = {}
        for each in series:
            inside, outside = (
                [(row, cell.mean) for row in part if (cell := each.of(row))]
                for part in (members, rest)
            )
            if inside and outside:
                effects[each.name] = _effect(inside, outside)
        numbers = sorted(row.configuration for row in members)
        levels.append(Level(path, label, effects, tuple(numbers)))
    return levels


def _effect(inside: Sequence[tuple[Row, float]], outside: Sequence[tuple[Row, float]]) -> Effect:
    values, rest = _units(inside, outside), _units(outside, inside)
    interval = difference_interval(values, rest)
    return Effect(
        difference=fmean(values) - fmean(rest),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        num_configurations=len(inside),
        num_units=len(values),
        num_seeds=sum(row.num_seeds for row, _ in inside),
    )


def _units(members: Sequence[tuple[Row, float]], rest: Sequence[tuple[Row, float]]) -> list[float]:
    """One value for each group of configurations that share a stage which no other one has."""
    elsewhere = {key for row, _ in rest for key in row.stage_keys}
    groups = units([row.stage_keys - elsewhere for row, _ in members])
    return [fmean(members[place][1] for place in group) for group in groups]


def _labels(values: Sequence[Any]) -> list[tuple[tuple[int, float, str], str]]:
    """The place of every value in the order of levels, and the label of its level."""
    numbers = sorted(float(value) for value in values if is_number(value))
    distinct = sorted(set(numbers))
    bins = _bins(numbers) if len(distinct) > MAX_LEVELS else [(each, each) for each in distinct]
    labels = []
    for value in values:
        place, low, text = 0 if is_absent(value) else 2, 0.0, value_label(value)
        if is_number(value):
            place = 1
            low, high = next((low, high) for low, high in bins if low <= value <= high)
            if low < high:
                text = f"{value_label(low)} to {value_label(high)}"
        # Not having a parameter comes first, then numbers, then all else by name.
        labels.append(((place, low, "" if place == 1 else text), text))
    return labels


def _bins(numbers: Sequence[float]) -> list[tuple[float, float]]:
    """Least and greatest number of each bin; equal numbers are never parted."""
    bins: list[tuple[float, float]] = []
    start = 0
    for index in range(1, MAX_LEVELS + 1):
        end = max(start, round(len(numbers) * index / MAX_LEVELS))
        while 0 < end < len(numbers) and numbers[end] == numbers[end - 1]:
            end += 1
        if end > start:
            bins.append((numbers[start], numbers[end - 1]))
        start = end
    return bins
