"""Batches for a GPU are made while it computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
_END: Any = object()


def prefetched(items: Iterable[Item], device: torch.device) -> Iterator[Item]:
    """The same items in the same order; a thread makes each while the one before it is used.

    On a CPU there is no thread, because it would take its time from the training. What making an
    item raises is raised in its place.
    """
    if device.type == "cpu":
        yield from items
        return
    remaining = iter(items)
    with ThreadPoolExecutor(1, "prefetch") as thread:
        coming = thread.submit(next, remaining, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, remaining, _END)
            yield item
