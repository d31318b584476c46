"""How the rows of a batch are shared out: over workers, accumulation steps and passes.

A pass is what a network computes at once. On a CPU a pass costs as much as its cells, padding
included, so rows of unlike length are computed in several passes, each as long as its longest row.
The sum of their losses is that of the whole batch but for rounding.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from xlt_ray.data.batches.alignment_batches import OTHER, SWAP
from xlt_ray.data.batches.length_pools import WEIGHT
from xlt_ray.data.text.pipeline import Batch
from xlt_ray.modeling.heads import IGNORED
from xlt_ray.training.load import tensors_of

Pass = dict[str, Tensor]

SPLITS = (1, 2, 4)
"""Numbers of passes that are considered on a CPU."""
PASS_CELLS = 64
"""What a pass of its own costs, in cells of a batch."""


def passes_of(
    batch: Batch,
    rank: int,
    workers: int,
    accumulation: int,
    device: torch.device,
    *,
    is_divisible: bool = True,
) -> list[list[Pass]]:
    """The passes of each accumulation step of worker ``rank``.

    DeepSpeed averages over workers and accumulation steps, so each pass has a ``denominator`` that
    makes the passes add up: its sum is divided by the labels of the *whole* batch over the number
    of parts. A batch of another size than usual is split as evenly as possible; an empty part
    computes one row, which counts nothing. The mean over the labels of a batch by pieces is
    multiplied by its weight.

    Args:
        is_divisible: whether any rows may be computed together; else the rows of a part stay in
            their order and in one pass.
    """
    parts, num_rows = workers * accumulation, len(batch["labels"])
    num_labels = int((batch["labels"] != IGNORED).sum())
    weight = float(batch.get(WEIGHT, 1.0))
    batch = {name: array for name, array in batch.items() if name != WEIGHT}
    denominator = torch.tensor(max(num_labels, 1) / parts / weight, device=device)
    bounds = [num_rows * part // parts for part in range(parts + 1)]
    bounds = bounds[rank * accumulation : (rank + 1) * accumulation + 1]
    order, lengths = np.arange(num_rows), _lengths(batch)
    if is_divisible:
        own = slice(bounds[0], bounds[-1])
        order[own] = order[own][np.argsort(lengths[own], kind="stable")]
    accumulated = []
    for begin, end in pairwise(bounds):
        is_empty = begin == end
        rows = order[:1] if is_empty else order[begin:end]
        divisor = denominator * math.inf if is_empty else denominator
        # ZeRO 3 gathers weights in every pass, so workers must have the same number of passes.
        is_split = is_divisible and device.type == "cpu" and workers == 1
        some_rows = np.array_split(rows, cheapest_split(lengths[rows]) if is_split else 1)
        # Kernels of GPUs are made for multiples of 8.
        multiple = 1 if device.type == "cpu" else 8
        accumulated.append(
            [
                {
                    **tensors_of(_taken(batch, rows, int(lengths[rows].max()), multiple), device),
                    "denominator": divisor,
                }
                for rows in some_rows
            ]
        )
    return accumulated


def cheapest_split(lengths: np.ndarray) -> int:
    """Number of passes that compute rows of ascending ``lengths`` (n,) at the least cost.

    >>> cheapest_split(np.array([30, 30, 30, 31])), cheapest_split(np.array([8, 9, 9, 90]))
    (1, 2)
    """

    def cost(num_passes: int) -> int:
        passes = np.array_split(lengths, num_passes)
        return sum(PASS_CELLS + len(rows) * int(rows[-1]) for rows in passes)

    return min((split for split in SPLITS if split <= len(lengths)), key=cost)


def _lengths(batch: Batch) -> np.ndarray:
    """(rows,): places up to the last piece of each row, over all its sentences."""
    mask = batch["attention_mask"]
    return np.asarray((mask * np.arange(1, mask.shape[-1] + 1)).reshape(len(mask), -1).max(axis=1))


def _taken(batch: Batch, rows: np.ndarray, longest: int, multiple: int) -> Batch:
    """Some rows of a batch, as long as the longest of them or the next ``multiple``."""
    width = batch["attention_mask"].shape[-1]
    longest = min(-(-longest // multiple) * multiple, width)
    taken = {}
    for name, array in batch.items():
        part = array[rows]
        if not name.startswith(OTHER) and part.ndim > 1 and part.shape[-1] == width:
            part = part[..., :longest]
        if name == SWAP:
            part = part[:, :longest]
        taken[name] = np.ascontiguousarray(part)
    return taken
