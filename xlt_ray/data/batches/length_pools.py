"""Batches of rows of like length, so that little of a batch is padding.

Rows are shuffled first, and only then sorted, inside pools of some batches; the batches of a pool
follow each other in random order. A batch is still a random one but for its length, and a pure
function of seed and step.

A pool is cut into batches of equally many rows, or, by pieces, into as many batches of about
equally many pieces. The latter say how many rows they have, as a multiple of the usual number, so
that a row weighs the same in the training whatever batch it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from xlt_ray.data.sampling import generator
from xlt_ray.data.text.pipeline import Batch

Drawn = TypeVar("Drawn")

POOL = 64
"""Batches of a pool."""
WEIGHT = "weight"
"""Array of a batch by pieces: ``()``, its number of rows as a multiple of the usual one."""


class Order(NamedTuple):
    """Rows in the order in which they are trained."""

    places: np.ndarray
    """(n,) int64: every row once."""
    bounds: np.ndarray
    """(num_batches + 1,) int64: where the whole batches begin in ``places``, and the last ends."""


def by_length(
    lengths: np.ndarray,
    batch_size: int,
    random: np.random.Generator,
    *,
    first: int = 0,
    is_by_pieces: bool = False,
) -> Order:
    """The order of rows of ``lengths`` (n,) in which batches hold like lengths.

    The first ``first`` rows, which fill a batch that began before, and those after the last whole
    batch stay where they are. ``batch_size`` is the number of rows of every batch, or, by pieces,
    its mean over a pool.

    >>> lengths = np.array([9, 1, 8, 2, 5])
    >>> by_length(lengths, 2, np.random.default_rng(0)).places.tolist()
    [1, 3, 2, 0, 4]
    >>> lengths = np.array([2, 6, 2, 2])
    >>> order = by_length(lengths, 2, np.random.default_rng(1), is_by_pieces=True)
    >>> order.places.tolist(), order.bounds.tolist()
    ([0, 2, 3, 1], [0, 3, 4])
    """
    places = np.arange(len(lengths))
    num_batches = max(len(lengths) - first, 0) // batch_size
    bounds = [first]
    for begin in range(0, num_batches, POOL):
        size = min(POOL, num_batches - begin)
        pool = slice(first + begin * batch_size, first + (begin + size) * batch_size)
        # Stable, so that rows of one length stay shuffled.
        ranked = np.argsort(lengths[pool], kind="stable") + pool.start
        cuts = np.arange(1, size) * batch_size
        if is_by_pieces:
            cuts = equal_sums(lengths[ranked], size)
        batches = np.split(ranked, cuts)
        shuffled = [batches[number] for number in random.permutation(size).tolist()]
        places[pool] = np.concatenate(shuffled)
        bounds += (pool.start + np.cumsum([len(batch) for batch in shuffled])).tolist()
    return Order(places, np.array(bounds))


def equal_sums(lengths: np.ndarray, num_parts: int) -> np.ndarray:
    """Where ``lengths`` (n,) are cut into parts of about equal sums, one of them at least in each.

    >>> equal_sums(np.array([1, 1, 1, 1, 4, 8]), 3).tolist(), equal_sums(np.array([1, 1, 9]), 3)
    ([4, 5], array([1, 2]))
    """
    sums, numbers = np.cumsum(lengths), np.arange(1, num_parts)
    cuts = np.searchsorted(sums, sums[-1] * numbers / num_parts, side="right")
    rising = np.maximum.accumulate(np.maximum(cuts - numbers, 0)) + numbers
    return np.minimum(rising, len(lengths) - num_parts + numbers)


def weighted(batch: Batch, num_rows: int, batch_size: int) -> Batch:
    """A batch by pieces with its :data:`WEIGHT`."""
    return {**batch, WEIGHT: np.array(num_rows / batch_size)}


class DrawnPools(Generic[Drawn]):
    """What is drawn with replacement, in batches of like length.

    Args:
        draw: draws one row.
        length: pieces of a row.
        is_by_pieces: whether batches have about equally many pieces instead of rows.
    """

    def __init__(
        self,
        stream: str,
        seed: int,
        batch_size: int,
        draw: Callable[[np.random.Generator], Drawn],
        length: Callable[[Drawn], int],
        *,
        is_by_pieces: bool = False,
    ) -> None:
        self._stream, self._seed, self._batch_size = stream, seed, batch_size
        self._draw, self._length, self._is_by_pieces = draw, length, is_by_pieces
        self._pool = lru_cache(maxsize=2)(self._draw_pool)

    def batch(self, step: int) -> list[Drawn]:
        """The rows of batch ``step``."""
        number, place = divmod(step, POOL)
        return self._pool(number)[place]

    def _draw_pool(self, number: int) -> list[list[Drawn]]:
        random = generator(self._stream, self._seed, number)
        drawn = [self._draw(random) for _ in range(POOL * self._batch_size)]
        lengths = np.array([self._length(row) for row in drawn])
        order = by_length(lengths, self._batch_size, random, is_by_pieces=self._is_by_pieces)
        rows = [drawn[place] for place in order.places.tolist()]
        return [rows[begin:end] for begin, end in pairwise(order.bounds.tolist())]
