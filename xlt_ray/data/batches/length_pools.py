"""Batches of rows of like length, so that little of a batch is padding.

Rows are shuffled first, and only then sorted, inside pools of some batches; the batches of a pool
follow each other in random order. A batch is still a random one but for its length, and a pure
function of seed and step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np

from xlt_ray.data.sampling import generator

Drawn = TypeVar("Drawn")

POOL = 64
"""Batches of a pool."""


def by_length(
    lengths: np.ndarray, batch_size: int, random: np.random.Generator, *, first: int = 0
) -> np.ndarray:
    """Places of ``lengths`` (n,) in an order whose batches hold like lengths; (n,) int64.

    The first ``first`` places, which fill a batch that began before, and those after the last
    whole batch stay where they are.

    >>> lengths = np.array([9, 1, 8, 2, 5])
    >>> by_length(lengths, 2, np.random.default_rng(0)).tolist()
    [1, 3, 2, 0, 4]
    """
    order = np.arange(len(lengths))
    num_batches = max(len(lengths) - first, 0) // batch_size
    for begin in range(0, num_batches, POOL):
        end = min(begin + POOL, num_batches)
        pool = slice(first + begin * batch_size, first + end * batch_size)
        # Stable, so that rows of one length stay shuffled.
        ranked = np.argsort(lengths[pool], kind="stable") + pool.start
        order[pool] = random.permutation(ranked.reshape(-1, batch_size)).ravel()
    return order


class DrawnPools(Generic[Drawn]):
    """What is drawn with replacement, in batches of like length.

    Args:
        draw: draws one row.
        length: pieces of a row.
    """

    def __init__(
        self,
        stream: str,
        seed: int,
        batch_size: int,
        draw: Callable[[np.random.Generator], Drawn],
        length: Callable[[Drawn], int],
    ) -> None:
        self._stream, self._seed, self._batch_size = stream, seed, batch_size
        self._draw, self._length = draw, length
        self._pool = lru_cache(maxsize=2)(self._draw_pool)

    def batch(self, step: int) -> list[Drawn]:
        """The rows of batch ``step``."""
        number, place = divmod(step, POOL)
        begin = place * self._batch_size
        return self._pool(number)[begin : begin + self._batch_size]

    def _draw_pool(self, number: int) -> list[Drawn]:
        random = generator(self._stream, self._seed, number)
        drawn = [self._draw(random) for _ in range(POOL * self._batch_size)]
        lengths = np.array([self._length(row) for row in drawn])
        return [drawn[place] for place in by_length(lengths, self._batch_size, random).tolist()]
