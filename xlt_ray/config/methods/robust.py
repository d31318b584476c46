"""Robust training: the loss on perturbed examples."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from xlt_ray.config.methods.base import ConfigModel, Method


class Robust(ConfigModel):
    """What all methods of robust training say."""

    perturbs: ClassVar[Literal["nothing", "embeddings", "text"]] = "nothing"
    repeated_by: ClassVar[str] = ""
    """The setting that tells it, where training is longer than plain training."""

    @property
    def repeats(self) -> int:
        """How many times the steps of plain training are made."""
        return int(getattr(self, self.repeated_by)) if self.repeated_by else 1


class NoRobust(Robust):
    repeated_by = "matched_steps"

    method: Literal["none"] = "none"
    matched_steps: int = Field(default=1, ge=1)
    """Times the steps, as a baseline for a robust method that costs so many passes a step."""


class AdversarialRobust(Robust):
    perturbs = "embeddings"

    method: Literal["adversarial"]
    steps: int = Field(default=2, ge=1)
    """Steps of gradient ascent; the training makes so many passes more in each step."""
    step_size: float = Field(gt=0.0)
    """Length of a step of ascent, of every piece by itself, in the units of the embeddings."""
    epsilon: float = Field(gt=0.0)
    """Largest perturbation of a piece's embedding."""
    norm: Literal["l2", "linf"] = "l2"
    """What is measured: the length of a piece's perturbation, or its largest component."""


class RandomRobust(Robust):
    perturbs = "embeddings"

    method: Literal["random"]
    epsilon: float = Field(gt=0.0)
    """Largest perturbation of a piece's embedding."""
    norm: Literal["l2", "linf"] = "linf"
    """What is measured: the length of a piece's perturbation, or its largest component."""
    draws: int = Field(default=3, ge=1)
    """Perturbations a step, over which the loss is averaged; each costs a pass and its memory."""


class AugmentRobust(Robust):
    perturbs = "text"
    repeated_by = "copies"

    method: Literal["augment"]
    copies: int = Field(default=3, ge=1)
    """Copies of every example, which are what is trained on instead of the example itself."""
    neighbours: Literal["lists", "lexicon"] = "lists"
    """What a word is replaced by: neighbours in its own language, or its translations."""


ROBUST: tuple[Method, ...] = (
    Method("none", NoRobust, "xlt_ray.modeling.network:Network", "the examples as they are"),
    Method(
        "adversarial",
        AdversarialRobust,
        "xlt_ray.modeling.objectives.adversarial:Adversarial",
        "the loss at the worst perturbation of the word embeddings that gradient ascent finds",
        "arXiv 2104.08645 (ADV, reconstruction); ascent after arXiv 1706.06083",
    ),
    Method(
        "random",
        RandomRobust,
        "xlt_ray.modeling.objectives.smoothing:Smoothing",
        "the mean loss over random perturbations of the word embeddings",
        "arXiv 2104.08645 (RS-RP, reconstruction)",
    ),
    Method(
        "augment",
        AugmentRobust,
        "xlt_ray.data.text.neighbours:AugmentedTable",
        "copies of every example, words replaced by neighbours",
        "arXiv 2104.08645 (RS-DA) as in its authors' code",
    ),
)
