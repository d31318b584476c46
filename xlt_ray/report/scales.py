"""Where numbers stand on an axis: ticks, the line of means, places of options and marks."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

MAX_EXACT = 8
"""Distinct numbers that are joined one by one; more are joined by the means of bins."""
NUM_BINS = 5


def means(pairs: Sequence[tuple[float, float]], is_log: bool) -> list[tuple[float, float]]:
    """Means per value, or of bins with equally many points where there are many values."""
    places = sorted({place for place, _ in pairs})
    if len(places) <= MAX_EXACT:
        groups = [[pair for pair in pairs if pair[0] == place] for place in places]
    else:
        bounds = [round(index * len(pairs) / NUM_BINS) for index in range(NUM_BINS + 1)]
        groups = [list(pairs[a:b]) for a, b in itertools.pairwise(bounds) if b > a]
    found = []
    for group in groups:
        xs, ys = [pair[0] for pair in group], [pair[1] for pair in group]
        middle = (
            math.exp(math.fsum(map(math.log, xs)) / len(xs)) if is_log else math.fsum(xs) / len(xs)
        )
        found.append((middle, math.fsum(ys) / len(ys)))
    return found


def number_ticks(axes: Any, numbers: Sequence[float], absent: float | None, is_log: bool) -> None:
    """Ticks at the values themselves where they are few and apart, else matplotlib's."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    first = numbers[0] if absent is None else absent
    scale = math.log if is_log else float
    width = scale(numbers[-1]) - scale(first)
    gaps = [scale(b) - scale(a) for a, b in itertools.pairwise(numbers)]
    if len(numbers) <= MAX_EXACT and min(gaps) > 0.11 * width:
        places = list(numbers)
    elif is_log:
        places = list(_decades(numbers[0], numbers[-1]))
    else:
        from matplotlib.ticker import MaxNLocator

        whole = all(number == int(number) for number in numbers)
        ticks = MaxNLocator(5, integer=whole).tick_values(numbers[0], numbers[-1])
        slack = 0.02 * (numbers[-1] - numbers[0])
        places = [t for t in ticks if numbers[0] - slack <= t <= numbers[-1] + slack]
    if absent is not None:
        places = [absent, *places]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda place, _: "none" if place == absent else short_number(place))
    )


def _decades(low: float, high: float) -> Iterator[float]:
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 3):
            if low * 0.99 <= digit * 10.0**power <= high * 1.01:
                yield digit * 10.0**power


def short_number(number: float) -> str:
    if abs(number) >= 10_000:
        return f"{number / 1000:.4g}k"
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def jitter(index: int) -> float:
    """Places from -1 to 1 that fill evenly (van der Corput); the same in every run."""
    place, step = 0.0, 0.5
    index += 1
    while index:
        place += step * (index % 2)
        index //= 2
        step /= 2
    return 2 * place - 1


def natural(text: str) -> tuple[bool, list[tuple[bool, float, str]]]:
    """``toy:4x64`` before ``toy:12x64``, and ``none`` before everything."""
    parts = re.split(r"(\d+)", text)
    return text != "none", [
        (not part.isdigit(), float(part) if part.isdigit() else 0.0, part) for part in parts if part
    ]
