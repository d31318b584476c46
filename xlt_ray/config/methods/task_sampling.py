"""Sampling: which of several intermediate tasks a step trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xlt_ray.config.methods.base import ConfigModel, Method


class Sampling(ConfigModel):
    """How the task of a step is drawn, where an intermediate stage trains several."""

    cap: int | None = Field(default=None, ge=1)
    """Examples of a task in one language that count at most; all of them where it is left out."""


class ProportionalSampling(Sampling):
    method: Literal["proportional"] = "proportional"


class TemperatureSampling(Sampling):
    method: Literal["temperature"]
    temperature: float = Field(ge=1.0)
    """T: 1 draws in proportion to the examples, a large number draws all tasks alike."""


SAMPLINGS: tuple[Method, ...] = (
    Method(
        "proportional",
        ProportionalSampling,
        "xlt_ray.data.batches.mixture_batches:proportional",
        "a task is drawn in proportion to its examples, of which at most cap count",
        "arXiv 1910.10683 (T5), section 3.5.2",
    ),
    Method(
        "temperature",
        TemperatureSampling,
        "xlt_ray.data.batches.mixture_batches:by_temperature",
        "the same to the power of 1 / temperature: small tasks are drawn more often",
        "arXiv 1910.10683 (T5), section 3.5.2",
    ),
)
