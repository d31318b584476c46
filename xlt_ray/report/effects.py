"""Which parameter matters for which languages, and how sure that is: importances and effects.

Both are given for the same series of scores: the source language, the mean of the others, and the
mean of every group of languages. The unit is the configuration, its seeds averaged: seeds of one
configuration say nothing of its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from xlt_ray.report.figures.base import csv_text
from xlt_ray.report.importance import Importance, importances
from xlt_ray.report.labels import is_absent, value_label
from xlt_ray.report.replication import units
from xlt_ray.report.stats import difference_interval
from xlt_ray.report.tables import Cell, Group, LanguageTable, Row, drawn_groups

MAX_LEVELS = 6
"""A parameter with more numbers than these is shown in as many bins of equally many
configurations."""

OTHERS = "mean of the others"


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
        """Those that matter for the mean of the others first, the most important one at the head;
        the others, of which no order is known, by name."""
        return tuple(dict.fromkeys(level.parameter for level in self.levels))

    @property
    def num_intervals(self) -> int:
        return sum(
            effect.low is not None for level in self.levels for effect in level.effects.values()
        )


def series_of(table: LanguageTable) -> tuple[Series, ...]:
    """The source language where it was scored, the mean of the others, and every group."""
    source = table.source_language
    series = []
    if source in table.languages:
        series.append(Series(source, (source,), lambda row: row.cells.get(source)))
    series.append(Series(OTHERS, table.targets, lambda row: row.mean_without_source))
    return (*series, *(_of_group(group) for group in table.groups))


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
        return (
            -importance.share if importance is not None and importance.is_above_chance else 0.0,
            path,
        )

    return Effects(
        series=tuple(each.name for each in series),
        importances=shares,
        levels=tuple(level for path in sorted(levels, key=rank) for level in levels[path]),
    )


def importances_csv(effects: Effects) -> str:
    """One line a series and parameter, in full precision."""
    rows = [
        [
            name,
            path,
            importance.share,
            importance.low,
            importance.high,
            importance.chance,
            importance.is_above_chance,
        ]
        for name, parameters in effects.importances.items()
        for path, importance in sorted(parameters.items())
    ]
    names = ["score", "knob", "share", "low", "high", "chance", "is_above_chance"]
    return csv_text(names, rows)


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


def _of_group(group: Group) -> Series:
    return Series(group.title, group.languages, lambda row: row.groups.get(group.title))


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
        effects = {}
        for each in series:
            cells = [(row, level == label, each.of(row)) for row, (_, level) in
                     zip(rows, labels, strict=True)]  # fmt: skip
            inside = [(row, cell.mean) for row, is_in, cell in cells if is_in and cell]
            outside = [(row, cell.mean) for row, is_in, cell in cells if not is_in and cell]
            if inside and outside:
                effects[each.name] = _effect(inside, outside)
        members = sorted(row.configuration for row, (_, level) in zip(rows, labels, strict=True)
                      if level == label)  # fmt: skip
        levels.append(Level(path, label, effects, tuple(members)))
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

    def keys(row: Row) -> set[str]:
        return {stage.key for trial in row.trials for stage in trial.trained}

    elsewhere = {key for row, _ in rest for key in keys(row)}
    groups = units([keys(row) - elsewhere for row, _ in members])
    return [fmean(members[place][1] for place in group) for group in groups]


def _labels(values: Sequence[Any]) -> list[tuple[tuple[int, float, str], str]]:
    """The place of every value in the order of levels, and the label of its level."""
    numbers = sorted(
        float(value)
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool) and not is_absent(value)
    )
    distinct = sorted(set(numbers))
    bins = (
        _bins(numbers) if len(distinct) > MAX_LEVELS else [(number, number) for number in distinct]
    )
    labels = []
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool) and not is_absent(value):
            low, high = next((low, high) for low, high in bins if low <= value <= high)
            text = (
                value_label(value) if low == high else f"{value_label(low)} to {value_label(high)}"
            )
            labels.append(((1, low, ""), text))
        else:
            # Not having a parameter comes first.
            text = value_label(value)
            labels.append(((0 if is_absent(value) else 2, 0.0, text), text))
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
