"""Random networks on random test sets whose true scores are known."""

from __future__ import annotations

import numpy as np

from xlt_ray.report.item_uncertainty import Sample

TRUE_ACCURACY = 0.7
TRUE_F1 = 2 * 0.7 * 3.5 / (0.7 * 3.5 + 0.5 + 3.5)
"""Of :func:`counted` on many sentences."""


def right_or_wrong(
    random: np.random.Generator, difficulty: np.ndarray, skill: np.ndarray, first_id: int = 0
) -> Sample:
    """Networks of different ``skill`` (seeds,) on items of different ``difficulty`` (n,), each
    right or wrong; the means of both are 0."""
    points = (random.random((len(skill), len(difficulty))) < _chances(difficulty, skill)) * 1.0
    ids = np.arange(first_id, first_id + len(difficulty), dtype=np.uint64)
    return Sample(ids, points, np.ones(points.shape))


def counted(
    random: np.random.Generator, difficulty: np.ndarray, skill: np.ndarray, first_id: int = 0
) -> Sample:
    """The same for F1 of entities: sentences with none to seven of them, some found, some made
    up."""
    gold = (np.arange(len(difficulty)) * 7919) % 8
    right = random.binomial(gold, _chances(difficulty, skill))
    predicted = right + random.poisson(0.5, right.shape)
    ids = np.arange(first_id, first_id + len(difficulty), dtype=np.uint64)
    return Sample(ids, 2.0 * right, (predicted + gold).astype(float))


def _chances(difficulty: np.ndarray, skill: np.ndarray) -> np.ndarray:
    return np.clip(TRUE_ACCURACY + skill[:, None] - difficulty[None], 0.02, 0.98)
