"""Named random streams: what is drawn at a step follows from the stage's seed and the step.

No generator carries state from one step to the next, which is what makes a resumed training
bit-identical to an unbroken one.
"""

from __future__ import annotations

import torch

from xlt_ray.data.streams import digest_of


def seed_step(seed: int, step: int, rank: int) -> None:
    """Set PyTorch's generators (dropout) for one optimizer step of one worker."""
    torch.manual_seed(int(digest_of("step", seed, step, rank)[:16], 16) >> 1)
