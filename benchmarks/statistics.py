"""How often an interval holds the truth, and how often what is equal is told apart.

Simulated scores, of which the truth is known, go through the functions that make a report:

    python -m benchmarks.statistics [SECTION ...] [--draws 20000]

prints one Markdown table for each section; all of them where none is named. The same command
prints the same tables. Small versions run in the tests (``tests/unit/report``).

- ``intervals``: share of 95 % intervals that hold the truth.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import stats

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


SECTIONS: dict[str, Callable[[int], str]] = {"intervals": intervals}


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
