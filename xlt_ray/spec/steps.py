"""How long a training is, in examples and optimizer steps."""

from __future__ import annotations

import math

from xlt_ray.spec.facts import TaskFacts


def train_size(size: int | str, facts: TaskFacts, language: str) -> int:
    """``all`` or a number, as a number of examples."""
    there = facts.splits[language, "train"].num_examples
    return there if isinstance(size, str) else size


def num_steps(num_examples: int, epochs: int, batch_size: int) -> int:
    """Optimizer steps of a training over ``epochs`` passes; the last batch may wrap around."""
    return math.ceil(num_examples * epochs / batch_size)


def trunk_steps(num_steps: int, decay: float) -> int:
    """Steps of a warm-up, constant, decay training before its decay, which has one at least.

    >>> trunk_steps(100, 0.2), trunk_steps(1, 0.2)
    (80, 0)
    """
    return num_steps - max(round(num_steps * decay), 1)


def evaluation_points(num_steps: int, evaluations: int) -> frozenset[int]:
    """Steps after which the dev set is scored: evenly spread, the last one among them.

    >>> sorted(evaluation_points(10, 4))
    [3, 5, 8, 10]
    """
    return frozenset(
        math.ceil(num_steps * turn / evaluations) for turn in range(1, evaluations + 1)
    )
