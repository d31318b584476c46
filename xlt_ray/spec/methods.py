"""The methods a sweep may choose from: each is one entry here and one file of ``modeling/``.

An entry holds the method's knobs (a frozen pydantic model, whose field docstrings
are its help) and names the object that implements it as ``module:object``, so that
this room stays light. Adding a method means adding its knobs and its entry; nothing
else is edited.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Knobs(BaseModel):
    """Settings of one method or section: closed, frozen, documented in place."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Method:
    """One entry of a registry."""

    name: str
    knobs: type[Knobs]
    implementation: str
    summary: str
    source: str = ""

    def load(self) -> Any:
        """Import and return the object that implements the method."""
        module, _, name = self.implementation.partition(":")
        return getattr(importlib.import_module(module), name)


class NoFusion(Knobs):
    method: Literal["none"] = "none"


class DlfaFusion(Knobs):
    method: Literal["dlfa"]
    layer: int = Field(ge=0)
    """Lower layer to fuse with the last one: 0 is the embeddings, at most num_layers - 1."""
    reduction: int = Field(default=4, ge=1)
    """Bottleneck ratio r of both attention branches (inner width = hidden / r)."""


class MixFusion(Knobs):
    method: Literal["mix"]


FUSIONS: tuple[Method, ...] = (
    Method(
        "none",
        NoFusion,
        "xlt_ray.modeling.fusion.none:NoFusion",
        "the last layer alone",
    ),
    Method(
        "dlfa",
        DlfaFusion,
        "xlt_ray.modeling.fusion.dlfa:DlfaFusion",
        "last layer and layer k, weighted by local and global attention",
        "arXiv 2205.08497 (reconstruction after AFF, arXiv 2009.14082)",
    ),
    Method(
        "mix",
        MixFusion,
        "xlt_ray.modeling.fusion.mix:MixFusion",
        "learned scalar weights over all layers",
        "arXiv 1802.05365 (ELMo), eq. 1",
    ),
)


class Training(Knobs):
    """What every training stage sets."""

    learning_rate: float = Field(default=2e-5, gt=0.0)
    """Peak learning rate of AdamW."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences per optimizer step, over all workers and accumulation steps."""
    max_length: int = Field(default=128, ge=8)
    """Longest sequence in pieces, special tokens included; longer ones are cut."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW weight decay (none on biases and LayerNorm)."""
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of all steps over which the learning rate rises to its peak, linearly."""
    clip: float = Field(default=1.0, ge=0.0)
    """Largest gradient norm; 0 leaves gradients as they are."""


class LinearSchedule(Knobs):
    """The learning rate rises over the share ``warmup`` of all steps, then falls to zero."""

    method: Literal["linear"] = "linear"


class WsdSchedule(Knobs):
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


SeedScope = Literal["shared", "per_trial"]


class Alignment(Training):
    """What every alignment objective sets."""

    steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    languages: Literal["all"] | tuple[str, ...] = "all"
    """Languages whose parallel text is used; ``all`` that the data source has."""
    seed: SeedScope = "shared"
    """Whether repeats of a configuration share this stage or train their own."""


class CodeSwitchMlm(Alignment):
    objective: Literal["code_switch_mlm"]
    switch: float = Field(default=0.4, ge=0.0, le=1.0)
    """Probability that a word is replaced by its translation into another language."""
    mask: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Probability that a piece is to be predicted (80 % masked, 10 % random, 10 % kept)."""


class TranslationLm(Alignment):
    objective: Literal["tlm"]
    mask: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Probability that a piece is to be predicted (80 % masked, 10 % random, 10 % kept)."""


ALIGNMENTS: tuple[Method, ...] = (
    Method(
        "code_switch_mlm",
        CodeSwitchMlm,
        "xlt_ray.data.pretraining:code_switched_rows",
        "masked LM on sentences whose words are partly switched to other languages",
        "after arXiv 2006.06402 (CoSDA-ML); needs a lexicon",
    ),
    Method(
        "tlm",
        TranslationLm,
        "xlt_ray.data.pretraining:translation_rows",
        "masked LM on the two sides of a parallel sentence pair",
        "arXiv 1901.07291 (XLM), section 3.3",
    ),
)


def method_named(registry: tuple[Method, ...], name: str) -> Method:
    """The entry called ``name``; a KeyError is our own mistake, users are refused earlier."""
    return {entry.name: entry for entry in registry}[name]
