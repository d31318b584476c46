"""Schedules of the learning rate of an intermediate stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xlt_ray.config.methods.base import ConfigModel, Method


class LinearSchedule(ConfigModel):
    """The learning rate rises over the share ``warmup`` of all steps, then falls to zero."""

    method: Literal["linear"] = "linear"


class WsdSchedule(ConfigModel):
    """Warm-up, constant rate, short decay: what is constant is shared between dataset sizes."""

    method: Literal["wsd"]
    warmup_examples: int = Field(default=256, ge=0)
    """Examples over which the rate rises; a number, because a share would differ by size."""
    decay: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of the steps, the last ones, over which the rate falls to zero."""
    several_epochs: Literal["refuse", "separate"] = "refuse"
    """Several passes share nothing between sizes: refuse them, or train every size by itself."""


SCHEDULES: tuple[Method, ...] = (
    Method(
        "linear",
        LinearSchedule,
        "xlt_ray.training.schedules:linear",
        "warm-up, then linear decay over all steps; sizes share nothing",
    ),
    Method(
        "wsd",
        WsdSchedule,
        "xlt_ray.training.schedules:warmup_stable_decay",
        "warm-up, constant, short decay; a larger size goes on from the trunk of a smaller one",
        "arXiv 2405.18392 (1 - sqrt cooldown)",
    ),
)
