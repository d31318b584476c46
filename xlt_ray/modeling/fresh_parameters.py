"""Fresh parameters from a seed and a name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Run the block with PyTorch's CPU generator set from ``(seed, name)``, then put it back.

    ``name`` keeps parts apart: a head starts from the same values whether or not a fusion
    was made before it. Other generators (CUDA, numpy, ``random``) are not touched.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    try:
        yield
    finally:
        torch.set_rng_state(before)
