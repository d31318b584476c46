"""How often a training saves its progress."""

from __future__ import annotations

from pydantic import Field, model_validator

from xlt_ray.config.methods import ConfigModel

SHORTEST_S, LONGEST_S = 1.0, 300.0
"""Seconds between two saves, where their number follows from a share of the time."""
FIRST_WEIGHTS_PER_S = 4e7
"""What the first save of a training is assumed to cost; it is about 500 MB a second."""


class ProgressSettings(ConfigModel):
    share: float = Field(default=0.01, gt=0, le=1)
    """Most of the training time that saving takes; two saves are 1 to 300 seconds apart."""
    every: float | None = Field(default=None, gt=0)
    """Seconds between two saves, in place of ``share``."""

    @model_validator(mode="after")
    def _one_interval(self) -> ProgressSettings:
        # A sweep that is kept beside its ledger has both, share with its default.
        if self.every is not None and self.share != type(self).model_fields["share"].default:
            raise ValueError("needs either share or every")
        return self

    def interval(self, cost_s: float) -> float:
        """Seconds from one save to the next, if a save costs ``cost_s``: the most that a killed
        process loses.

        >>> [ProgressSettings().interval(cost_s) for cost_s in (0.001, 0.5, 20.0)]
        [1.0, 50.0, 300.0]
        >>> ProgressSettings(every=5).interval(0.5)
        5.0
        """
        if self.every is not None:
            return self.every
        return min(max(cost_s / self.share, SHORTEST_S), LONGEST_S)
