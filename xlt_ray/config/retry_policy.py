"""What happens after a failed attempt: a policy for each cause, and when silence is a hang."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from xlt_ray.config.methods import ConfigModel

Cause = Literal[
    "oom",
    "lost",
    "preempted",
    "timeout",
    "device",
    "storage",
    "disk",
    "nan",
    "data",
    "tracking",
    "bug",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)

OF_PROCESSES = ("lost", "preempted", "timeout", "device")
"""Causes after which the trial's process is gone or useless."""

LONGEST_PAUSE_S = 600.0


class Policy(ConfigModel):
    """What happens when an attempt fails for one cause."""

    action: Literal["fail", "retry", "wait", "shrink"]
    """fail: give up; retry: continue from the last progress; wait: continue after a pause; shrink
    (oom only): continue with half the sequences in a pass, at the same effective batch."""
    times: int = Field(default=2, ge=0)
    """Further attempts of a trial for this cause, over all its processes; each cause counts its
    own."""
    seconds: float = Field(default=10.0, gt=0)
    """First pause of ``wait``; each further one is twice as long, up to ten minutes."""

    def allows(self, tries: int) -> bool:
        """Whether another attempt follows ``tries`` of them for this cause."""
        return self.action != "fail" and tries < self.times

    def pause(self, tries: int) -> float:
        """Seconds before the next attempt, after ``tries`` of them."""
        if self.action != "wait":
            return 0.0
        # A power of a large count does not fit a float.
        return min(self.seconds * 2.0 ** min(tries, 32), LONGEST_PAUSE_S)


class RepeatedBug(ConfigModel):
    """When a repeated bug ends the sweep."""

    times: int = Field(default=3, ge=1)
    """Identical failures in one run that end the sweep, if ..."""
    share: float = Field(default=0.1, ge=0, le=1)
    """... they are at least this share of the trials that have ended in it."""

    def is_met(self, alike: int, ended: int) -> bool:
        """Whether ``alike`` failures by one bug among ``ended`` trials are enough.

        >>> [RepeatedBug().is_met(3, ended) for ended in (3, 30, 31)]
        [True, True, False]
        """
        return alike >= self.times and alike >= self.share * ended


class Failures(ConfigModel):
    """How a trial is retried. What a policy omits is as in the default policy of its cause."""

    hang_after: float = Field(default=1800.0, gt=0)
    """Seconds without activity after which a trial counts as hanging, and its process is ended."""
    repeated_bug: RepeatedBug = RepeatedBug()
    """When identical failures end the sweep, because further trials would fail as well."""
    leave_node_after: int = Field(default=3, ge=1)
    """Attempts that fail for ``device`` on a node, with no stage made in between, after which the
    node gets no further trial in this run; a sweep that has no other node ends."""
    oom: Policy = Policy(action="shrink", times=4)
    """Memory of the GPU or of the machine was not enough."""
    lost: Policy = Policy(action="retry", times=2)
    """A process or node died."""
    preempted: Policy = Policy(action="retry", times=20)
    """A node was taken away with notice, or a process received a signal to end."""
    timeout: Policy = Policy(action="retry", times=1)
    """A trial hung (see hang_after)."""
    device: Policy = Policy(action="retry", times=2)
    """A GPU failed or is not available; the process cannot be used any more."""
    storage: Policy = Policy(action="wait", times=6)
    """Files, the stage store or the network could not be reached."""
    disk: Policy = Policy(action="fail")
    """A disk is full."""
    nan: Policy = Policy(action="fail")
    """The loss or a gradient is not a number."""
    data: Policy = Policy(action="fail")
    """Data or a model is damaged or inconsistent."""
    tracking: Policy = Policy(action="fail")
    """MLflow could not be written."""
    bug: Policy = Policy(action="fail")
    """Everything else."""

    @field_validator(*CAUSES, mode="before")
    @classmethod
    def _filled_up(cls, value: Any, info: ValidationInfo) -> Any:
        default: Policy = cls.model_fields[info.field_name or ""].default
        if isinstance(value, Mapping) and value.get("action", default.action) == default.action:
            return {**default.model_dump(), **value}
        return value

    @field_validator(*CAUSES)
    @classmethod
    def _helps(cls, policy: Policy, info: ValidationInfo) -> Policy:
        if policy.action == "shrink" and info.field_name != "oom":
            raise ValueError("shrink only helps against oom; use retry, wait or fail")
        if policy.action == "wait" and info.field_name in OF_PROCESSES:
            raise ValueError("the process that would wait is gone; use retry or fail")
        return policy

    def policy(self, cause: Cause) -> Policy:
        policy: Policy = getattr(self, cause)
        return policy
