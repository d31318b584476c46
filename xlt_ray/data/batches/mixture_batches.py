"""Several trainings as one sequence of batches, each batch of one of them; and numbers for noise.

The part that a step belongs to follows from (seed, step) alone: step s belongs to the part whose
share of [0, 1) holds the s-th number of a random stream. The k-th step of a part is its batch k, so
every part visits its own examples in its own order, and an interrupted training continues with the
number of its next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from xlt_ray.config.methods import (
    SAMPLINGS,
    ProportionalSampling,
    Sampling,
    TemperatureSampling,
    method_named,
)
from xlt_ray.config.mixture import Mixture
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sampling import digest_of, generator
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import Batch, Batches, TextPipeline, union

NOISE = "noise_seed"


class NumberedBatches:
    """The batches of another, with ``noise_seed`` ``(rows,)`` int64 from seed and step alone.

    A training draws the noise of a row from its number. Noise from a stream over a whole pass
    would depend on how a batch is split into passes and over workers.
    """

    def __init__(self, batches: Batches, seed: int) -> None:
        self._batches, self._seed = batches, seed

    def batch(self, step: int) -> Batch:
        batch = self._batches.batch(step)
        numbers = generator("noise", self._seed, step).integers(0, 2**62, len(batch["labels"]))
        return {**batch, NOISE: numbers}

    def vocabulary(self) -> np.ndarray | None:
        return self._batches.vocabulary()


PART = "part"
"""Array of a batch: ``(batch,)``, which head it is for, the same number in every row."""

_BLOCK = 4096
"""Steps that are drawn at once."""


@dataclass(frozen=True)
class Part:
    """One training of a mixture."""

    batches: Batches
    head: int
    """Number of the head that its batches are for; parts may share one."""
    probability: float


class MixedBatches:
    """Batches of all parts; their probabilities add up to 1."""

    def __init__(self, parts: Sequence[Part], seed: int) -> None:
        self._parts, self._seed = tuple(parts), seed
        self._ends = np.cumsum([part.probability for part in parts])
        self._before = [np.zeros(len(parts), np.int64)]
        self._drawn = lru_cache(maxsize=4)(self._draw)

    def place(self, step: int) -> tuple[int, int]:
        """Which part step ``step`` is of, and how many steps before were of the same."""
        number, offset = divmod(step, _BLOCK)
        while len(self._before) <= number:
            done = self._drawn(len(self._before) - 1)
            steps = np.bincount(done, minlength=len(self._parts))
            self._before.append(self._before[-1] + steps)
        drawn = self._drawn(number)
        part = int(drawn[offset])
        return part, int(self._before[number][part] + np.sum(drawn[:offset] == part))

    def batch(self, step: int) -> Batch:
        """The batch of the part that the step is of, and which head it is for."""
        number, step_of_part = self.place(step)
        part = self._parts[number]
        batch = part.batches.batch(step_of_part)
        return {**batch, PART: np.full(len(batch["labels"]), part.head, np.int64)}

    def vocabulary(self) -> np.ndarray | None:
        """As :meth:`xlt_ray.data.text.pipeline.Batches.vocabulary`."""
        return union(part.batches.vocabulary() for part in self._parts)

    def _draw(self, number: int) -> np.ndarray:
        """(_BLOCK,): the parts of a block of steps."""
        numbers = generator("mixture", self._seed, number).random(_BLOCK)
        # The last end may be a little below 1.
        return np.minimum(np.searchsorted(self._ends, numbers, side="right"), len(self._parts) - 1)


def proportional(counts: Sequence[int], settings: ProportionalSampling) -> np.ndarray:  # noqa: ARG001
    """Probabilities of datasets in proportion to their ``counts`` of examples; they sum to 1.

    >>> proportional([300, 100], ProportionalSampling()).tolist()
    [0.75, 0.25]
    """
    return np.array(counts) / sum(counts)


def by_temperature(counts: Sequence[int], settings: TemperatureSampling) -> np.ndarray:
    """As :func:`proportional`, of ``n_i^(1/T)`` for ``n_i`` examples, at most the cap (arXiv
    1910.10683, section 3.5.2, where the cap is K).

    >>> settings = TemperatureSampling(method="temperature", temperature=2.0)
    >>> by_temperature([900, 100], settings).tolist()
    [0.75, 0.25]
    """
    weights = np.array(counts) ** (1 / settings.temperature)
    return np.array(weights / weights.sum())


def probabilities(mixture: Mixture, sampling: Sampling) -> np.ndarray:
    """Probabilities of the datasets, without the steps of masked LM; they sum to 1."""
    method: str = sampling.method  # type: ignore[attr-defined]
    chances: np.ndarray = method_named(SAMPLINGS, method).load()(mixture.counts, sampling)
    return chances


def shares(mixture: Mixture, sampling: Sampling, size: int) -> tuple[int, ...]:
    """How many of ``size`` examples each dataset gives: as it is drawn, at least 1, at most all.

    A larger size takes from no dataset less than a smaller one does.
    """
    drawn = np.rint(size * probabilities(mixture, sampling)).astype(int)
    most = [dataset.num_examples for dataset in mixture.datasets]
    return tuple(np.clip(drawn, 1, most).tolist())


def mixed_batches(
    source: Source,
    mixture: Mixture,
    sampling: Sampling,
    size: int,
    masked: Batches | None,
    pipeline: TextPipeline,
    settings: BatchSettings,
) -> MixedBatches:
    """Training on the datasets of ``mixture``; the number of a head is that of its task.

    Args:
        size: examples over all datasets, of which each gives its share (:func:`shares`).
        masked: masked LM, its head the last one; None where its share of the batches is 0.
        settings: of every dataset, whose seed is a part of this one (:func:`part_seed`); nested
            batches walk through the examples of each that count.

    Raises:
        DataError: no such data.
    """
    sizes = mixture.counts if settings.is_nested else shares(mixture, sampling, size)
    labelled = 1.0 - mixture.mlm_share
    parts = []
    for dataset, share, probability in zip(
        mixture.datasets, sizes, probabilities(mixture, sampling).tolist(), strict=True
    ):
        batches = train_batches(
            source,
            task_named(dataset.task),
            # Access to each dataset by itself: what a sweep does not declare stays closed.
            LabelAccess("train", dataset.task, dataset.language),
            share,
            pipeline,
            replace(settings, seed=part_seed(settings.seed, dataset.task, dataset.language)),
        )
        parts.append(Part(batches, mixture.tasks.index(dataset.task), labelled * probability))
    if masked is not None:
        parts.append(Part(masked, len(mixture.tasks), mixture.mlm_share))
    return MixedBatches(parts, settings.seed)


def part_seed(seed: int, *names: str) -> int:
    """The seed of one part: no two go through their examples alike."""
    return int(digest_of("part", seed, *names)[:15], 16)
