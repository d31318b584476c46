"""What happens while a trial walks its path; the trainable turns these into Tune's results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xlt_ray.stages.record import StageRecord
from xlt_ray.stages.stage import Stage


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
    """Whether it happened before an interruption, or when a stage that was found was made."""
    by_language: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics of the dev sets of the languages that are watched."""


@dataclass(frozen=True)
class Committed:
    """A stage is in the store: made just now, or found there."""

    stage: Stage
    record: StageRecord
    reused: bool


@dataclass(frozen=True)
class Waiting:
    """Somebody else is making this stage; nothing is trained meanwhile."""

    stage: Stage
    holder: str


@dataclass(frozen=True)
class Ticked:
    """A stage is at work; about once a second, so that whoever walks can look up."""

    stage: Stage
    examples: int
    """Trained on in this stage so far."""


Event = Evaluated | Committed | Waiting | Ticked


class Stop(Exception):
    """Thrown into a walk at a :class:`Ticked`: keep what was trained so far, then end."""
