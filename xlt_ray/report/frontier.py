"""Which configurations no other one beats in everything at once."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each point is on the front, all coordinates the higher the better.

    A point is off the front if another is at least as good everywhere and better somewhere;
    equal points are on it together or not at all.

    >>> pareto_front([(1, 5), (2, 4), (1, 4), (2, 4)])
    [True, True, False, True]
    """
    return [not any(_beats(other, one) for other in points) for one in points]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
