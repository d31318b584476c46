"""Few-shot training: what a sweep file says of a few labelled examples of one target language."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xlt_ray.spec.methods import Training


class FewShot(Training):
    """Training on a few labelled examples of one target language, after the target stage."""

    max_length: int | None = Field(default=None, ge=8)
    """Most pieces of a row, special ones included; those of the target where it is left out."""
    language: str
    """The language of the examples; the trial is evaluated in it and in the source language."""
    shots: int = Field(ge=1)
    """K, the examples in all: the first ones of the sample's order, so that numbers are nested."""
    sample: Literal["per_trial"] | Annotated[int, Field(ge=0)] = "per_trial"
    """Which order the examples are drawn in, the same in every language; ``per_trial`` is the
    seed of the repeat, so that repeats differ in it, too."""
    split: Literal["dev", "train"] = "dev"
    """Where the examples come from; never from the test set."""
    steps: int = Field(default=100, ge=1)
    """Optimizer steps; a batch that is larger than ``shots`` has examples several times."""

    def sample_of(self, seed: int) -> int:
        """Number of the sample in a repeat with this seed.

        >>> [FewShot(language="de", shots=5, sample=one).sample_of(7) for one in ("per_trial", 2)]
        [7, 2]
        """
        return seed if self.sample == "per_trial" else self.sample
