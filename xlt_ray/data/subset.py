"""Size n of a split is the first n of one fixed shuffle, so that sizes are nested."""

from __future__ import annotations

import numpy as np

from xlt_ray.data.streams import generator
from xlt_ray.errors import DataError
from xlt_ray.spec.trial import Size


def order(num_examples: int) -> np.ndarray:
    """The fixed shuffle: every place once, (num_examples,) int64."""
    return generator("subset", 0, num_examples).permutation(num_examples)


def first_of(num_examples: int, size: Size, *, task: str = "", language: str = "") -> np.ndarray:
    """Places of a subset in its fixed order; ``all`` is the whole shuffle.

    >>> bool((first_of(100, 10) == first_of(100, 20)[:10]).all())
    True

    Raises:
        DataError: more is asked than there is.
    """
    if size == "all":
        return order(num_examples)
    if size > num_examples:
        raise DataError(
            f"{size} examples are asked, there are {num_examples}",
            task=task,
            language=language,
            split="train",
            remedy=f"set size to at most {num_examples}, or to all",
        )
    return order(num_examples)[:size]
