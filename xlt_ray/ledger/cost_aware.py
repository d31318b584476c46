"""Cost-aware choice: what the sampler proposes, or the same on stages that exist already.

A proposal with a new intermediate stage may cost many times what its target training costs. So it
is compared with copies of itself that have the stages before the target of good configurations,
and the one with the highest expected improvement per missing example is taken: expected improvement
per second (Snoek et al. 2012, arXiv 1206.2944), with examples for seconds.

Expected improvement is that of TPE (Bergstra et al. 2011, equation 16): with the density l of the
best tenth of the configurations and the density g of the others, it is proportional to
``1 / (t + (1 - t) g / l)``, where t is the share of the best. Densities are means of kernels over
configurations, and one uniform kernel, so parameters are not taken as independent. A parameter that
a configuration does not have tells nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from statistics import NormalDist

from xlt_ray.config.first_points import has
from xlt_ray.config.search_space import (
    Assignment,
    Choice,
    ModelBounds,
    SearchParameter,
    Space,
    Value,
    draw,
)

STARTUP = 10
"""Configurations with a result before costs count; those of TPE are random until then."""
BEFORE_TARGET = ("model", "align", "intermediate")
MOST_COPIES = 8
"""Copies of a proposal, on the stages of the best configurations."""
BEST_SHARE = 0.1
_BANDWIDTH = 0.2
_NORMAL = NormalDist()

Point = Mapping[str, tuple[int, Value]]
"""Name of a parameter -> number of its options and value; 0 options and a value from 0 to 1 for a
range."""


def cost_aware(
    proposal: Assignment,
    ranked: Sequence[Assignment],
    others: Sequence[Assignment],
    num_missing: Callable[[Assignment], int],
    space: Space,
    model_bounds: ModelBounds,
) -> Assignment:
    """The proposal or a copy of it on stages of another configuration.

    Args:
        ranked: the configurations with a result, the best first.
        others: configurations without one, which may turn out bad.
        num_missing: examples that must be trained for a configuration.
    """
    if len(ranked) < STARTUP:
        return proposal
    num_best = math.ceil(BEST_SHARE * len(ranked))
    share = num_best / len(ranked)
    points = [_point(assignment, space, model_bounds) for assignment in (*ranked, *others)]

    def gain_per_example(candidate: Assignment) -> float:
        point = _point(candidate, space, model_bounds)
        ratio = _density(point, points[num_best:]) / _density(point, points[:num_best])
        return 1 / (share + (1 - share) * ratio) / max(num_missing(candidate), 1)

    known = [*ranked, *others]
    copies = [copy for copy in _copies(proposal, ranked, space, model_bounds) if copy not in known]
    return max((proposal, *copies), key=gain_per_example)


def _copies(
    proposal: Assignment, ranked: Sequence[Assignment], space: Space, model_bounds: ModelBounds
) -> Iterator[Assignment]:
    """The proposal on the stages before the target of the best configurations, where its other
    values are valid."""
    prefixes: dict[tuple[tuple[str, Value], ...], None] = {}
    for assignment in ranked:
        before = {
            path: value
            for path, value in assignment.items()
            if path.partition(".")[0] in BEFORE_TARGET
        }
        prefixes[tuple(before.items())] = None
    for prefix in islice(prefixes, MOST_COPIES):
        values = {**proposal, **dict(prefix)}

        def pick(parameter: SearchParameter, values: Assignment = values) -> Value:
            value = values.get(parameter.path)
            if not has(parameter.distribution, value):
                raise _InvalidError
            return value

        try:
            yield draw(space, pick, model_bounds)[1]
        except _InvalidError:
            continue


class _InvalidError(Exception):
    """A value of a proposal is not valid on other stages."""


def _point(assignment: Assignment, space: Space, model_bounds: ModelBounds) -> Point:
    point: dict[str, tuple[int, Value]] = {}

    def pick(parameter: SearchParameter) -> Value:
        value, distribution = assignment[parameter.path], parameter.distribution
        if isinstance(distribution, Choice):
            point[parameter.name] = len(distribution.options), value
        else:
            scale = math.log if distribution.log else float
            low, high, here = map(scale, (distribution.low, distribution.high, value))  # type: ignore[arg-type]
            point[parameter.name] = 0, (here - low) / (high - low) if high > low else 0.5
        return value

    draw(space, pick, model_bounds)
    return point


def _density(point: Point, among: Sequence[Point]) -> float:
    """Relative to that of the uniform distribution."""
    bandwidth = _BANDWIDTH * max(len(among), 1) ** (-1 / (len(point) + 4))
    total = 1.0
    for other in among:
        kernel = 1.0
        for name, (num_options, value) in point.items():
            if name not in other:
                continue
            there = other[name][1]
            if num_options:
                spread = 1 / len(among)
                kernel *= num_options * ((value == there) + spread) / (1 + num_options * spread)
            else:
                kernel *= _truncated_normal(float(value), float(there), bandwidth)  # type: ignore[arg-type]
        total += kernel
    return total / (len(among) + 1)


def _truncated_normal(value: float, mean: float, deviation: float) -> float:
    """Density from 0 to 1."""
    inside = _NORMAL.cdf((1 - mean) / deviation) - _NORMAL.cdf(-mean / deviation)
    return _NORMAL.pdf((value - mean) / deviation) / deviation / inside
