"""What happens while a path is walked, as values that the trainable turns into Tune's results.

The driver reads them as well, so nothing here imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage


@dataclass(frozen=True)
class Evaluated:
    """The source-language dev set was scored during training."""

    stage: Stage
    step: int
    examples: int
    """Seen in this stage so far."""
    metrics: Mapping[str, float]
    """Dev metrics by name, and ``loss``: the mean training loss since the last evaluation."""

    is_replay: bool = False
    """Whether it happened earlier: before an interruption, or when a stored stage was made."""
    by_language: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics on the dev sets of watched languages."""
    system: Mapping[str, float] = field(default_factory=dict, compare=False)
    """Memory of the leader's process, and examples per second since its last evaluation; empty for
    a replay."""
    time_ms: int | None = field(default=None, compare=False)
    """When it happened, in milliseconds since 1970; None for a replay."""


@dataclass(frozen=True)
class Committed:
    """A stage is in the store, made just now or earlier."""

    stage: Stage
    record: StageRecord
    reused: bool


@dataclass(frozen=True)
class Waiting:
    """Another process is making this stage; nothing is trained meanwhile."""

    stage: Stage
    holder: str


@dataclass(frozen=True)
class Ticked:
    """A stage is being trained; yielded about once a second, so that the caller can react."""

    stage: Stage
    examples: int
    """Seen in this stage so far."""


Event = Evaluated | Committed | Waiting | Ticked


class Stop(Exception):
    """Thrown into a walk at a :class:`Ticked` or :class:`Evaluated`: save progress, then end."""
