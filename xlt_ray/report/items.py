"""Items of trials, read from the store where they are asked for, and what follows from them.

Reports of a thousand trials need no item: the files of those trials alone are read that are
compared or told apart. A trial whose evaluation kept none (made before there were any) has none,
and what is told of it lacks what follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xlt_ray.report.item_uncertainty import (
    Drawn,
    Sample,
    bootstrapped,
    num_items,
    sample_of,
    two_level,
)
from xlt_ray.report.replication import named, shared_by
from xlt_ray.report.snapshot import Snapshot
from xlt_ray.report.statistics import Interval, holm
from xlt_ray.report.tables import LanguageTable, Row
from xlt_ray.stages.items import read_items

Kept = Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Language -> ids, points and what they are out of, of one trial."""
ReadItems = Callable[[int], Kept]
"""The items of a trial, by its number."""

ITEM_COLUMNS = (
    "number",
    "configuration",
    "seed",
    "task",
    "metric",
    "language",
    "item",
    "points",
    "out_of",
)
INTERVAL_COLUMNS = (
    "task",
    "source_language",
    "metric",
    "configuration",
    "languages",
    "num_languages",
    "num_seeds",
    "num_items",
    "value",
    "low",
    "high",
    "interval",
    "shared_by_seeds",
)


@dataclass(frozen=True)
class OverItems:
    """What the items say of one line of a comparison."""

    sizes: Mapping[str, int]
    """Items by language."""
    num_items: int
    """Different examples: translations of one another are one."""
    interval: Interval | None
    """Of the difference over seeds and items (``two_level``; ``items`` of one seed)."""
    drawn: Drawn | None
    """The paired bootstrap over items, the networks being what they are."""
    p_holm: float | None
    """Its p, corrected over the languages of the comparison; of a mean the same p."""


def kept_of(snapshot: Snapshot, task: str, metric: str) -> ReadItems:
    """Reads test items of trials of a target task, each trial's when it is first asked for.

    What is read raises :class:`xlt_ray.errors.DamagedStage` where the store's file is damaged.
    """
    views = {view.number: view for view in snapshot.trials}
    found: dict[int, Kept] = {}

    def read(number: int) -> Kept:
        if number not in found:
            record = snapshot.record(views[number], "evaluate")
            there = read_items(snapshot.store, record) if snapshot.store and record else ()
            found[number] = {
                one.language: (one.ids, *one.parts[metric])
                for one in there
                if (one.role, one.task, one.split) == ("target", task, "test")
                and metric in one.parts
            }
        return found[number]

    return read


def samples_of(languages: Sequence[str], seeds: Sequence[Kept]) -> dict[str, Sample]:
    """The samples of those languages that every seed has the same items in."""
    found = {}
    for code in languages:
        parts = [one[code] for one in seeds if code in one]
        sample = sample_of(parts) if parts and len(parts) == len(seeds) else None
        if sample is not None and len(sample.ids):
            found[code] = sample
    return found


def over_items(
    lines: Sequence[Sequence[str]], system: Sequence[Kept], baseline: Sequence[Kept]
) -> list[OverItems | None]:
    """What items say of differences, one of each of ``lines``: a language, or several for their
    mean; None where a network of either side has no items there, or others.

    Args:
        system: of every paired seed, in the order of ``baseline``.
    """
    languages = list(dict.fromkeys(code for one in lines for code in one))
    # As seeds of one sample first, so that both sides have the same items in the same order.
    both = samples_of(languages, [*baseline, *system])
    sides = [
        {code: Sample(one.ids, one.points[part], one.out_of[part]) for code, one in both.items()}
        for part in (slice(None, len(baseline)), slice(len(baseline), None))
    ]
    known = [one for one in lines if all(code in both for code in one)]
    drawn: dict[tuple[str, ...], Drawn | None] = {}
    drawn |= zip(map(tuple, known), bootstrapped(known, sides[1], sides[0]), strict=True)
    singles = [one for one in drawn if len(one) == 1]
    ps = holm([found.p if (found := drawn[one]) else None for one in singles])
    corrected: dict[tuple[str, ...], float | None] = {}
    corrected |= zip(singles, ps, strict=True)
    result: list[OverItems | None] = []
    for one in map(tuple, lines):
        if one not in drawn:
            result.append(None)
            continue
        told = drawn[one]
        result.append(
            OverItems(
                sizes={code: len(both[code].ids) for code in one},
                num_items=num_items(one, both),
                interval=two_level(one, sides[1], sides[0]),
                drawn=told,
                p_holm=corrected.get(one, told.p if told else None),
            )
        )
    return result


def configuration_intervals(
    snapshot: Snapshot, tables: Sequence[LanguageTable], configurations: Collection[int]
) -> pd.DataFrame:
    """:func:`intervals_frame` of these configurations in all tables; their items alone are read."""
    frames = [
        intervals_frame(table, row, kept_of(snapshot, table.task, table.metric))
        for table in tables
        for row in table.rows
        if row.configuration in configurations and row.trials
    ]
    return pd.concat(frames, ignore_index=True) if frames else _frame([])


def items_frame(
    snapshot: Snapshot, tables: Sequence[LanguageTable], configurations: Collection[int]
) -> pd.DataFrame:
    """One row a trial, language and test item of these configurations: ``ITEM_COLUMNS``.

    ``item`` is the digest of the example's id, 16 hex digits: the same in trials, sweeps and
    languages that have the example in common. A score is the sum of ``points`` over the sum of
    ``out_of``.
    """
    frames = [pd.DataFrame(columns=list(ITEM_COLUMNS))]
    for table in tables:
        read = kept_of(snapshot, table.task, table.metric)
        trials = [
            (row.configuration, one)
            for row in table.rows
            if row.configuration in configurations
            for one in row.trials
        ]
        frames += [
            pd.DataFrame(
                {
                    "number": one.number,
                    "configuration": configuration,
                    "seed": one.seed,
                    "task": table.task,
                    "metric": table.metric,
                    "language": code,
                    "item": [f"{item:016x}" for item in ids.tolist()],
                    "points": points,
                    "out_of": out_of,
                }
            )
            for configuration, one in trials
            for code, (ids, points, out_of) in read(one.number).items()
        ]
    return pd.concat(frames[1:] or frames, ignore_index=True)


def intervals_frame(table: LanguageTable, row: Row, read: ReadItems) -> pd.DataFrame:
    """One row each mean and language of a configuration's test scores: ``INTERVAL_COLUMNS``.

    ``languages`` is a language's code, or ``mean``, ``mean_without_source`` or the title of a
    group; ``num_items`` counts different examples; ``interval`` says over what ``low`` and
    ``high`` are (``two_level``: seeds and items, ``items``: items of one seed), empty where there
    is none. ``shared_by_seeds`` names the trained stages that seeds have in common: what stands in
    the line is given those.
    """
    source = table.source_language
    others = tuple(code for code in table.languages if code != source)
    means = {"mean": table.languages} if row.mean is not None else {}
    if row.mean_without_source is not None:
        means["mean_without_source"] = others
    means |= {one.title: one.languages for one in table.groups if one.title in row.groups}
    means |= {code: (code,) for code in table.languages if code in row.cells}
    rows = []
    for name, languages in means.items():
        trials = [one for one in row.trials if all(code in one.scores for code in languages)]
        samples = samples_of(languages, [read(one.number) for one in trials])
        is_whole = bool(trials) and len(samples) == len(languages)
        interval = two_level(languages, samples) if is_whole else None
        values = [sum(one.scores[code] for code in languages) / len(languages) for one in trials]
        rows.append(
            {
                "task": table.task,
                "source_language": source,
                "metric": table.metric,
                "configuration": row.configuration,
                "languages": name,
                "num_languages": len(languages),
                "num_seeds": len(trials),
                "num_items": num_items(languages, samples) if is_whole else None,
                "value": sum(values) / len(values) if values else None,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "interval": interval.method if interval else "",
                "shared_by_seeds": named(shared_by(one.trained for one in trials)),
            }
        )
    return _frame(rows)


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(INTERVAL_COLUMNS))
    numbers = dict.fromkeys(("num_items", "num_seeds", "num_languages"), "Int64")
    return frame.astype(numbers | dict.fromkeys(("value", "low", "high"), "float64"))
