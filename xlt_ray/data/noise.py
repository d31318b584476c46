"""Numbers of rows, from which a training draws its noise.

Noise that were drawn from a stream of a whole pass would depend on how a batch is split into
passes and over workers; drawn from a number that travels with its row, it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from xlt_ray.data.streams import generator

NOISE = "noise_seed"


class _Batches(Protocol):
    def batch(self, step: int) -> Mapping[str, np.ndarray[Any, Any]]: ...


class NumberedBatches:
    """The batches of another, with ``noise_seed`` ``(rows,)`` int64 from seed and step alone."""

    def __init__(self, batches: _Batches, seed: int) -> None:
        self._batches, self._seed = batches, seed

    def batch(self, step: int) -> dict[str, np.ndarray[Any, Any]]:
        batch = self._batches.batch(step)
        numbers = generator("noise", self._seed, step).integers(0, 2**62, len(batch["labels"]))
        return {**batch, NOISE: numbers}
