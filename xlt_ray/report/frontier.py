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
    known = [tuple(one) for one in points]
    # What beats many is asked first: few points are compared with all others.
    strong = sorted(set(known), key=sum, reverse=True)
    return [not any(_beats(other, one) for other in strong) for one in known]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
