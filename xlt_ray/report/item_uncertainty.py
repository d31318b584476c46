"""What a score or a difference is worth over the items that it was measured on, and over seeds.

A score has two sources of chance: the training (its seed) and the test set (its items). All seeds
are scored on the same items, so the two are crossed. Items are those of
:mod:`xlt_ray.store.evaluation_items`: a score is the ratio of two sums over them. Items of one id
are the same example, in several languages too (translations): they are drawn together, and their
contributions to a mean over languages are added before squaring. Trials evaluated before items were
kept have none, and reports leave out what follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from xlt_ray.report.frames import Snapshot
from xlt_ray.report.stats import LEVEL, Interval, holm, named, shared_by, student_quantile
from xlt_ray.report.tables import LanguageTable, Row
from xlt_ray.store.evaluation_items import read_items

Kept = Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Language -> ids, points and what they are out of, of one trial."""
ReadItems = Callable[[int], Kept]
"""The items of a trial, by its number."""

ITEM_COLUMNS = (
    "number", "configuration", "seed", "task", "metric", "language", "item", "points", "out_of",
)  # fmt: skip
INTERVAL_COLUMNS = (
    "task", "source_language", "metric", "configuration", "languages", "num_languages",
    "num_seeds", "num_items", "value", "low", "high", "interval", "shared_by_seeds",
)  # fmt: skip


@dataclass(frozen=True)
class OverItems:
    """What the items say of one line of a comparison."""

    sizes: Mapping[str, int]
    """Items by language."""
    num_items: int
    """Different examples: translations of one another are one."""
    interval: Interval | None
    """Interval of the difference over seeds and items (``two_level``; ``items`` with one seed)."""
    drawn: Drawn | None
    """The paired bootstrap over items, the networks being what they are."""
    p_holm: float | None
    """Its p, corrected over the languages of the comparison; of a mean the same p."""


def kept_of(snapshot: Snapshot, task: str, metric: str) -> ReadItems:
    """Return a reader of the test items of a trial by its number; each is read once, on demand.

    What is read raises :class:`xlt_ray.errors.DamagedStage` where the store's file is damaged.
    """
    views = {view.number: view for view in snapshot.trials}
    kept: dict[int, Kept] = {}

    def read(number: int) -> Kept:
        if number not in kept:
            record = snapshot.record(views[number], "evaluate")
            files = read_items(snapshot.store, record) if snapshot.store and record else ()
            kept[number] = {
                items.language: (items.ids, *items.parts[metric])
                for items in files
                if (items.role, items.task, items.split) == ("target", task, "test")
                and metric in items.parts
            }
        return kept[number]

    return read


def samples_of(languages: Sequence[str], seeds: Sequence[Kept]) -> dict[str, Sample]:
    """The samples of those languages that every seed has the same items in."""
    parts = {code: [seed[code] for seed in seeds if code in seed] for code in languages}
    whole = {code: part for code, part in parts.items() if part and len(part) == len(seeds)}
    samples = {code: sample_of(part) for code, part in whole.items()}
    return {code: sample for code, sample in samples.items() if sample and len(sample.ids)}


def over_items(
    lines: Sequence[Sequence[str]], system: Sequence[Kept], baseline: Sequence[Kept]
) -> list[OverItems | None]:
    """What items say of differences, one of each of ``lines``: a language, or several for their
    mean; None where a network of either side has no items there, or others.

    Args:
        system: of every paired seed, in the order of ``baseline``.
    """
    languages = list(dict.fromkeys(code for line in lines for code in line))
    # As seeds of one sample first, so that both sides have the same items in the same order.
    both = samples_of(languages, [*baseline, *system])
    first, second = (
        {
            code: Sample(sample.ids, sample.points[part], sample.out_of[part])
            for code, sample in both.items()
        }
        for part in (slice(None, len(baseline)), slice(len(baseline), None))
    )
    known = [tuple(line) for line in lines if all(code in both for code in line)]
    drawn = dict(zip(known, bootstrapped(known, second, first), strict=True))
    singles = [line for line in drawn if len(line) == 1]
    corrected = holm([result.p if (result := drawn[single]) else None for single in singles])
    p_of = {line: result.p for line, result in drawn.items() if result}
    p_of |= {line: p for line, p in zip(singles, corrected, strict=True) if p is not None}
    return [
        OverItems(
            sizes={code: len(both[code].ids) for code in line},
            num_items=num_items(line, both),
            interval=two_level(line, second, first),
            drawn=drawn[line],
            p_holm=p_of.get(line),
        )
        if line in drawn
        else None
        for line in map(tuple, lines)
    ]


def configuration_intervals(
    snapshot: Snapshot, tables: Sequence[LanguageTable], configurations: Collection[int]
) -> pd.DataFrame:
    """One row each mean and language of these configurations' test scores: ``INTERVAL_COLUMNS``.

    ``languages`` is a language's code, or ``mean``, ``mean_without_source`` or the title of a
    group; ``num_items`` counts different examples; ``interval`` says over what ``low`` and
    ``high`` are (``two_level``: seeds and items, ``items``: items of one seed), empty where there
    is none. ``shared_by_seeds`` names the trained stages that seeds have in common: what stands in
    the line is given those. The items of these configurations alone are read.
    """
    rows = []
    for table in tables:
        read = kept_of(snapshot, table.task, table.metric)
        names = ("task", "source_language", "metric")
        shared = {name: getattr(table, name) for name in names}
        for row in table.rows:
            if row.configuration in configurations and row.trials:
                shared["configuration"] = row.configuration
                rows += [{**shared, **interval} for interval in _intervals(table, row, read)]
    frame = pd.DataFrame(rows, columns=list(INTERVAL_COLUMNS))
    numbers = dict.fromkeys(("num_items", "num_seeds", "num_languages"), "Int64")
    return frame.astype(numbers | dict.fromkeys(("value", "low", "high"), "float64"))


def _intervals(table: LanguageTable, row: Row, read: ReadItems) -> Iterator[dict[str, Any]]:
    means = {"mean": table.languages} if row.mean is not None else {}
    if row.mean_without_source is not None:
        means["mean_without_source"] = table.targets
    means |= {group.title: group.languages for group in table.groups if group.title in row.groups}
    means |= {code: (code,) for code in table.languages if code in row.cells}
    for name, languages in means.items():
        trials = [trial for trial in row.trials if all(code in trial.scores for code in languages)]
        samples = samples_of(languages, [read(trial.number) for trial in trials])
        is_whole = bool(trials) and len(samples) == len(languages)
        interval = two_level(languages, samples) if is_whole else None
        values = [
            sum(trial.scores[code] for code in languages) / len(languages) for trial in trials
        ]
        yield {
            "languages": name,
            "num_languages": len(languages),
            "num_seeds": len(trials),
            "num_items": num_items(languages, samples) if is_whole else None,
            "value": sum(values) / len(values) if values else None,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "interval": interval.method if interval else "",
            "shared_by_seeds": named(shared_by(trial.trained for trial in trials)),
        }


def items_frame(
    snapshot: Snapshot, tables: Sequence[LanguageTable], configurations: Collection[int]
) -> pd.DataFrame:
    """One row a trial, language and test item of these configurations: ``ITEM_COLUMNS``.

    ``item`` is the digest of the example's id, 16 hex digits: the same in trials, sweeps and
    languages that have the example in common. A score is the sum of ``points`` over the sum of
    ``out_of``.
    """
    frames = [
        pd.DataFrame(
            {
                "number": trial.number,
                "configuration": row.configuration,
                "seed": trial.seed,
                "task": table.task,
                "metric": table.metric,
                "language": code,
                "item": [f"{item:016x}" for item in ids.tolist()],
                "points": points,
                "out_of": out_of,
            }
        )
        for table in tables
        for read in (kept_of(snapshot, table.task, table.metric),)
        for row in table.rows
        if row.configuration in configurations
        for trial in row.trials
        for code, (ids, points, out_of) in read(trial.number).items()
    ]
    empty = pd.DataFrame(columns=list(ITEM_COLUMNS))
    return pd.concat(frames, ignore_index=True) if frames else empty


NUM_DRAWS = 2_000
MIN_DRAWN_ITEMS = 10
"""Of fewer items no interval and no p-value is made."""
_NUMBERS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Sample:
    """Some networks of one system, its seeds, on the same items of one language."""

    ids: np.ndarray
    """(n,) uint64, ascending, each once."""
    points: np.ndarray
    """(seeds, n)."""
    out_of: np.ndarray
    """(seeds, n)."""

    @cached_property
    def scores(self) -> np.ndarray:
        """(seeds,); 0.0 where there is nothing to score."""
        points, out_of = self.points.sum(axis=1), self.out_of.sum(axis=1)
        return np.divide(points, out_of, out=np.zeros(points.shape), where=out_of > 0)

    @cached_property
    def influence(self) -> np.ndarray:
        """(seeds, n): what every item adds to the score of a seed, about that score; the first
        order of the ratio, so that rows sum up to 0."""
        total = self.out_of.sum(axis=1, keepdims=True)
        return (self.points - self.scores[:, None] * self.out_of) / np.where(total, total, 1.0)


@dataclass(frozen=True)
class Drawn:
    """A difference over items, the networks being what they are."""

    interval: Interval
    p: float
    """Two-sided: twice the share of drawn test sets in which the difference is not on its side of
    zero; the set that was scored counts as drawn, too."""


Samples = Mapping[str, Sample]
"""By language."""


def two_level(
    languages: Sequence[str], system: Samples, baseline: Samples | None = None
) -> Interval | None:
    """The 95 % interval of a mean over ``languages``, or of the difference from a baseline's.

    With seeds and items crossed, and all of both drawn at random, the variance of the mean is

        V_seeds + V_items - V_both

    (two-way random effects; Searle, Casella and McCulloch 1992, chapter 5): variance over seeds by
    their number, the sum over items of the squared mean contribution, and the interaction, which
    is in both of them. The half width is the root of

        t(K - 1)**2 * V_seeds  +  t(n - 1)**2 * (V_items - V_both)

    (after Howe 1974: the squares of the half widths by each source are added), so that it is never
    narrower than Student's over seeds, nor than that over items. Of one seed it is of items alone
    (``items``), given that training.

    None where there are fewer than ``MIN_DRAWN_ITEMS`` items, or no spread at all.

    Args:
        system: the same seeds and items in the same order as ``baseline``, in every language.
    """
    values, effects = _effects(languages, system, baseline)
    num_seeds, num_items = effects.shape
    if num_items < MIN_DRAWN_ITEMS:
        return None
    corrected = num_items / (num_items - 1)
    means = effects.mean(axis=0)
    of_items = corrected * float((means**2).sum())
    by_items = student_quantile(num_items) ** 2
    square = by_items * of_items
    if num_seeds > 1:
        of_seeds = float(values.var(ddof=1)) / num_seeds
        rest = float(((effects - means) ** 2).sum()) / (num_seeds - 1) / num_seeds
        by_seeds = student_quantile(num_seeds) ** 2 * of_seeds
        square = max(by_seeds + by_items * max(of_items - corrected * rest, 0.0), square)
    if square <= 1e-24:
        return None
    half = square**0.5
    mean = float(values.mean())
    return Interval(mean - half, mean + half, "two_level" if num_seeds > 1 else "items")


def bootstrapped(
    means: Sequence[Sequence[str]],
    system: Samples,
    baseline: Samples,
    *,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> list[Drawn | None]:
    """The paired bootstrap over items of the difference in each of ``means`` over languages.

    One draw is a test set in every language at once, items of one id together; scores are those of
    the drawn items, not their first order. None where a mean rests on fewer than
    ``MIN_DRAWN_ITEMS`` items.
    """
    languages = sorted({code for mean in means for code in mean})
    if not languages:
        return [None for _ in means]
    ids = np.unique(np.concatenate([system[code].ids for code in languages]))
    together: dict[tuple[bytes, int], list[str]] = {}
    for code in languages:
        key = (system[code].ids.tobytes(), len(system[code].points))
        together.setdefault(key, []).append(code)
    random = np.random.default_rng(seed)
    by_language: dict[str, list[np.ndarray]] = {code: [] for code in languages}
    step = max(1, _NUMBERS_AT_ONCE // len(ids))
    for begin in range(0, num_draws, step):
        size = min(step, num_draws - begin)
        drawn = random.integers(0, len(ids), (size, len(ids)))
        drawn += np.arange(size)[:, None] * len(ids)
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        for same in together.values():
            places = np.searchsorted(ids, system[same[0]].ids)
            weights = counts[:, places].astype(np.float64)
            samples = [side[code] for side in (baseline, system) for code in same]
            # One product for all languages of these items, and for all seeds.
            scores = _mean_scores(weights, samples)
            for place, code in enumerate(same):
                by_language[code].append(scores[len(same) + place] - scores[place])
    differences = {code: np.concatenate(parts) for code, parts in by_language.items()}
    return [_drawn_difference(mean, differences, system, baseline) for mean in means]


def sample_of(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Sample | None:
    """A sample from ids, points and what they are out of, of one seed each.

    None where seeds were not scored on the same items.
    """
    ids = np.sort(parts[0][0])
    orders = [np.argsort(part[0]) for part in parts]
    if any(
        len(part[0]) != len(ids) or (part[0][order] != ids).any()
        for part, order in zip(parts, orders, strict=True)
    ):
        return None
    points, out_of = (
        np.stack([part[place][order] for part, order in zip(parts, orders, strict=True)])
        for place in (1, 2)
    )
    return Sample(ids, points, out_of)


def num_items(languages: Sequence[str], system: Samples) -> int:
    """How many different examples a mean over languages rests on."""
    return len(np.unique(np.concatenate([system[code].ids for code in languages])))


def _effects(
    languages: Sequence[str], system: Samples, baseline: Samples | None
) -> tuple[np.ndarray, np.ndarray]:
    """(seeds,) means over languages or their differences, and (seeds, ids) what each id adds."""
    ids = np.unique(np.concatenate([system[code].ids for code in languages]))
    values = np.zeros(len(system[languages[0]].points))
    effects = np.zeros((len(values), len(ids)))
    for code in languages:
        sides = [(system, 1.0)] + ([] if baseline is None else [(baseline, -1.0)])
        for samples, sign in sides:
            sample = samples[code]
            values += sign * sample.scores / len(languages)
            # An id stands in a sample once, so that no addition is lost.
            effects[:, np.searchsorted(ids, sample.ids)] += sign * sample.influence / len(languages)
    return values, effects


def _mean_scores(weights: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
    """(samples, draws): mean over seeds of scores of weighted items; NaN where a draw is of
    nothing that counts."""
    points = weights @ np.concatenate([sample.points for sample in samples]).T
    out_of = weights @ np.concatenate([sample.out_of for sample in samples]).T
    scores = np.divide(points, out_of, out=np.full_like(points, np.nan), where=out_of > 0)
    scores[:, [not row.any() for sample in samples for row in sample.out_of]] = 0.0
    return np.asarray(scores.reshape(len(weights), len(samples), -1).mean(axis=2).T)


def _drawn_difference(
    languages: Sequence[str],
    differences: Mapping[str, np.ndarray],
    system: Samples,
    baseline: Samples,
) -> Drawn | None:
    if not languages or num_items(languages, system) < MIN_DRAWN_ITEMS:
        return None
    drawn = np.mean([differences[code] for code in languages], axis=0)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None
    values, _ = _effects(languages, system, baseline)
    # Values that differ by rounding alone are equal.
    is_zero = abs(values.mean()) <= 1e-12
    below, above = (int((sign * drawn <= 1e-12).sum()) for sign in (1, -1))
    p = 1.0 if is_zero else min(1.0, 2 * (1 + min(below, above)) / (1 + len(drawn)))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Drawn(Interval(float(low), float(high), "items"), p)
