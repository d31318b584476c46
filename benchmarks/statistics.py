"""How often an interval holds the truth, and how often what is equal is told apart.

Simulated scores, of which the truth is known, go through the functions that make a report:

    python -m benchmarks.statistics [SECTION ...] [--draws 20000]

prints one Markdown table for each section; all of them where none is named. The same command
prints the same tables. Small versions run in the tests (``tests/unit/report``).

- ``intervals``: share of 95 % intervals that hold the truth.
- ``sharing``: share of comparisons of equal systems with a star, by what their seeds share.
- ``selection``: the same of a single system and the best of many that are equal to it.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from scipy import stats

from tests.equal_systems import Scope, best_of, equal_pair, gains, is_won_by_seeds, wins
from xlt_ray.report.comparison import compare
from xlt_ray.report.statistics import LEVEL, Interval, difference_interval, paired

SEEDS = range(3, 11)
DRAWS = 20_000


def holds(interval: Interval | None, truth: float) -> bool:
    assert interval is not None, "the samples have spread"
    return interval.low <= truth <= interval.high


def share(found: Iterable[bool]) -> str:
    """A share with twice its simulation error.

    >>> share([True, False] * 5000)
    '.500 ± .010'
    """
    values = np.fromiter(found, dtype=float)
    error = 2 * math.sqrt(values.mean() * (1 - values.mean()) / len(values))
    return f"{values.mean():.3f} ± {error:.3f}".replace("0.", ".")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


# -- intervals ----------------------------------------------------------------------------

SHAPES: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], np.ndarray], float]] = {
    "normal": (lambda random, size: random.normal(0, 1, size), 0.0),
    "heavy tails (t, 3 degrees)": (lambda random, size: random.standard_t(3, size), 0.0),
    "skewed (lognormal)": (lambda random, size: random.lognormal(0, 1, size), math.exp(0.5)),
}
"""Differences of a seed, and their true mean."""


def intervals(draws: int) -> str:
    """Of the mean of paired differences, and Welch's of the difference of two groups' means."""
    rows = []
    for num_seeds in SEEDS:
        random = np.random.default_rng(num_seeds)
        row = [str(num_seeds)]
        for draw, truth in SHAPES.values():
            samples = draw(random, (draws, num_seeds))
            row.append(share(holds(paired(one).interval, truth) for one in samples))
        normal = random.normal(0, 1, (draws // 10, num_seeds))
        row.append(share(_bca_holds(one) for one in normal))
        pairs = random.normal(0, 1, (draws // 4, num_seeds)), random.normal(0, 2, (draws // 4, 12))
        row.append(
            share(
                holds(difference_interval(one, other), 0.0)
                for one, other in zip(*pairs, strict=True)
            )
        )
        rows.append(row)
    head = [
        "seeds",
        *SHAPES,
        "normal, BCa bootstrap (not used)",
        "Welch, against 12 of twice the sd",
    ]
    return table(head, rows)


def _bca_holds(sample: np.ndarray) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (sample,),
            np.mean,
            n_resamples=2_000,
            confidence_level=LEVEL,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return bool(found.low <= 0.0 <= found.high)


# -- false wins ---------------------------------------------------------------------------

SCOPES: tuple[tuple[Scope, tuple[float, ...]], ...] = (
    ("per_trial", (1.0, 2.0)),
    ("common", (1.0,)),
    ("shared", (0.5, 1.0, 2.0)),
    ("mixed", (1.0, 2.0)),
)


def sharing(draws: int) -> str:
    """Two systems that differ in nothing, each with stages of its own before the target."""
    rows = []
    for scope, ratios in SCOPES:
        for ratio in ratios:
            for num_seeds in (3, 6, 10):
                random = np.random.default_rng(num_seeds)
                found = [
                    compare(equal_pair(random, num_seeds, scope, ratio))[0]
                    for _ in range(draws // 10)
                ]
                of_languages, of_mean = zip(*map(wins, found), strict=True)
                told = share(map(is_won_by_seeds, found)), share(of_mean), share(of_languages)
                rows.append([scope, f"{ratio:g}", str(num_seeds), *told])
    head = ["stage", "its sd / a seed's", "seeds", "every seed counted, mean"]
    return table([*head, "xlt compare, mean", "xlt compare, any of 4 languages"], rows)


def selection(draws: int) -> str:
    """A single system against the best of many that are equal to it."""
    rows = []
    for candidates in (20, 50):
        for correlation in (0.6, 0.9):
            for num_seeds in (6, 10):
                random = np.random.default_rng(candidates)
                sides = [
                    best_of(random, candidates, num_seeds, correlation) for _ in range(draws // 10)
                ]
                fresh = [compare(one)[0] for one in sides]
                same = [compare([replace(one, fresh=None) for one in each])[0] for each in sides]
                told = [share(map(is_won_by_seeds, same))]
                told += [share(wins(one)[1] for one in part) for part in (same, fresh)]
                # A seed's standard deviation is a hundredth.
                told += [
                    f"{100 * fmean(fmean(gains(one)) for one in part):+.2f}"
                    for part in (same, fresh)
                ]
                rows.append([str(candidates), f"{correlation:g}", str(num_seeds), *told])
    head = ["candidates", "correlation of dev and test", "seeds", "same seeds, tested all the same"]
    head += ["xlt compare, same seeds", "xlt compare, fresh seeds"]
    return table([*head, "gain on the same seeds, sd of a seed", "on fresh seeds"], rows)


SECTIONS: dict[str, Callable[[int], str]] = {
    "intervals": intervals,
    "sharing": sharing,
    "selection": selection,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--draws", type=int, default=DRAWS, help="simulated samples of each cell")
    asked = parser.parse_args()
    unknown = [name for name in asked.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}; there is: {', '.join(SECTIONS)}")
    for name in asked.sections or SECTIONS:
        print(f"## {name}\n\n{SECTIONS[name](asked.draws)}\n", flush=True)


if __name__ == "__main__":
    main()
