"""Alignment: training on parallel text before any task is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xlt_ray.config.methods.base import Method, SeedScope, Training


class Alignment(Training):
    """What every alignment objective sets."""

    max_length: int = Field(default=128, ge=8)
    """Most pieces of a row, special ones included; longer ones are cut."""
    steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    languages: Literal["all"] | tuple[str, ...] = "all"
    """Languages whose parallel text is used; ``all`` that the data source has."""
    seed: SeedScope = "shared"
    """Whether repeats of a configuration share this stage or train their own."""


class MaskedAlignment(Alignment):
    """What objectives that predict hidden pieces set."""

    added = frozenset({"held_out"})

    mask: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Probability that a piece is to be predicted (80 % masked, 10 % random, 10 % kept)."""
    held_out: int = Field(default=0, ge=0)
    """Parallel sentences that are not trained on, and on which each language is scored instead."""


class CodeSwitchMlm(MaskedAlignment):
    objective: Literal["code_switch_mlm"]
    switch: float = Field(default=0.4, ge=0.0, le=1.0)
    """Probability that a word is replaced by its translation into another language."""
    mask: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Probability that a piece is to be predicted (80 % masked, 10 % random, 10 % kept)."""


class MonolingualLm(MaskedAlignment):
    objective: Literal["mlm"]


class TranslationLm(MaskedAlignment):
    added = frozenset({"held_out", "reset_positions"})

    objective: Literal["tlm"]
    reset_positions: bool = False
    """Whether positions begin anew at the second sentence."""


class Contrastive(Alignment):
    objective: Literal["contrastive"]
    temperature: float = Field(default=0.05, gt=0.0)
    """What cosines are divided by before the softmax."""
    layer: int | None = Field(default=None, ge=0)
    """Layer whose states are averaged, 0 for the embeddings; the last one where it is left out."""
    group: Literal["batch"] | Annotated[int, Field(ge=2)] = "batch"
    """Sentence pairs that are negatives of each other; a pass holds whole groups only."""

    @property
    def group_size(self) -> int:
        return self.batch_size if self.group == "batch" else self.group


class Weam(MaskedAlignment):
    objective: Literal["weam"]
    weight: float = Field(default=1.0, ge=0.0)
    """Lambda: weight of the prediction from swapped states beside that from a piece's own."""
    aligner: Literal["auto", "ibm1"] = "auto"
    """Word alignments: those of the data where it has any, else learned ones; or learned ones."""
    symmetrise: Literal["intersection", "grow-diag-final-and"] = "grow-diag-final-and"
    """How learned alignments of the two directions become one."""


ALIGNMENTS: tuple[Method, ...] = (
    Method(
        "code_switch_mlm",
        CodeSwitchMlm,
        "xlt_ray.data.batches.alignment_batches:code_switched_batches",
        "masked LM on sentences whose words are partly switched to other languages",
        "after arXiv 2006.06402 (CoSDA-ML); needs a lexicon",
    ),
    Method(
        "tlm",
        TranslationLm,
        "xlt_ray.data.batches.alignment_batches:translation_batches",
        "masked LM on the two sides of a parallel sentence pair",
        "arXiv 1901.07291 (XLM), section 3.3",
    ),
    Method(
        "mlm",
        MonolingualLm,
        "xlt_ray.data.batches.alignment_batches:monolingual_batches",
        "masked LM on the sides of the parallel text, each sentence by itself",
        "arXiv 1810.04805 (BERT), section 3.1",
    ),
    Method(
        "contrastive",
        Contrastive,
        "xlt_ray.data.batches.alignment_batches:contrast_batches",
        "a sentence's mean state is nearer to its translation's than to those of others",
        "InfoNCE, arXiv 1807.03748, on mean-pooled sentence vectors",
        network="xlt_ray.modeling.objectives.contrastive:ContrastiveNetwork",
    ),
    Method(
        "weam",
        Weam,
        "xlt_ray.data.batches.alignment_batches:swapped_batches",
        "masked LM from a piece's own states and from those of the words aligned with it",
        "arXiv 2106.01732 (reconstruction)",
        network="xlt_ray.modeling.objectives.weam:WeamNetwork",
    ),
)
