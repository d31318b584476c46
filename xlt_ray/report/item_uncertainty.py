"""What a score or a difference is worth over the items that it was measured on, and over seeds.

A score has two sources of chance: the training (its seed) and the test set (its items). All seeds
are scored on the same items, so the two are crossed. :func:`two_level` takes both together, for
another training *and* another test set of this kind; :func:`bootstrapped` keeps the trained
networks and draws items alone, as the paired bootstrap of Koehn (2004) and Berg-Kirkpatrick et al.
(2012) does: whether these networks differ on other sentences.

Items are what :mod:`xlt_ray.stages.items` keeps: a score is the ratio of two sums over them. Items
of one id are one and the same example, in several languages, too (translations): they are drawn
together, and what they contribute to a mean over languages is added before it is squared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xlt_ray.report.statistics import LEVEL, Interval, student_quantile

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
        return _ratios(self.points.sum(axis=1), self.out_of.sum(axis=1))

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
    languages = sorted({code for one in means for code in one})
    if not languages:
        return [None for _ in means]
    ids = np.unique(np.concatenate([system[code].ids for code in languages]))
    together: dict[tuple[bytes, int], list[str]] = {}
    for code in languages:
        key = (system[code].ids.tobytes(), len(system[code].points))
        together.setdefault(key, []).append(code)
    random = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {code: [] for code in languages}
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
                found[code].append(scores[len(same) + place] - scores[place])
    differences = {code: np.concatenate(parts) for code, parts in found.items()}
    return [_told(one, differences, system, baseline) for one in means]


def sample_of(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Sample | None:
    """A sample from ids, points and what they are out of, of one seed each.

    None where seeds were not scored on the same items.
    """
    ids = np.sort(parts[0][0])
    orders = [np.argsort(one[0]) for one in parts]
    if any(
        len(one[0]) != len(ids) or (one[0][order] != ids).any()
        for one, order in zip(parts, orders, strict=True)
    ):
        return None
    points, out_of = (
        np.stack([one[place][order] for one, order in zip(parts, orders, strict=True)])
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
            one = samples[code]
            values += sign * one.scores / len(languages)
            # An id stands in a sample once, so that no addition is lost.
            effects[:, np.searchsorted(ids, one.ids)] += sign * one.influence / len(languages)
    return values, effects


def _mean_scores(weights: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
    """(samples, draws): mean over seeds of scores of weighted items; NaN where a draw is of
    nothing that counts."""
    points = weights @ np.concatenate([one.points for one in samples]).T
    out_of = weights @ np.concatenate([one.out_of for one in samples]).T
    scores = np.divide(points, out_of, out=np.full_like(points, np.nan), where=out_of > 0)
    scores[:, [not row.any() for one in samples for row in one.out_of]] = 0.0
    return np.asarray(scores.reshape(len(weights), len(samples), -1).mean(axis=2).T)


def _told(
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
    # What is equal but for rounding is no difference.
    is_zero = abs(values.mean()) <= 1e-12
    below, above = (int((sign * drawn <= 1e-12).sum()) for sign in (1, -1))
    p = 1.0 if is_zero else min(1.0, 2 * (1 + min(below, above)) / (1 + len(drawn)))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Drawn(Interval(float(low), float(high), "items"), p)


def _ratios(points: np.ndarray, out_of: np.ndarray) -> np.ndarray:
    return np.divide(points, out_of, out=np.zeros(points.shape), where=out_of > 0)
