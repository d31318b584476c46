"""The methods that a sweep may choose from: their settings, and an entry for each.

An entry below the settings names the implementation as text, so that reading a sweep file imports
no heavy library. The docstrings of the settings are their help.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

SeedScope = Literal["shared", "per_trial"]


class ConfigModel(BaseModel):
    """Settings of one method or section: closed, frozen, documented in place."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
    added: ClassVar[frozenset[str]] = frozenset()
    """Settings that were added later: part of a key only when they differ from their default."""

    def hashed(self, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """The values that enter a stage's key: all but ``exclude`` and neutral added ones."""
        fields = type(self).model_fields
        neutral = {name for name in self.added if getattr(self, name) == fields[name].default}
        return self.model_dump(exclude={*exclude, *neutral})


class Training(ConfigModel):
    """What every training stage sets."""

    learning_rate: float = Field(default=2e-5, gt=0.0)
    """Peak learning rate of AdamW."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences per optimizer step, over all workers and accumulation steps."""
    batching: Literal["examples", "pieces"] = "examples"
    """What all batches have equally many of; with ``pieces``, ``batch_size`` is the mean over
    batches, and those of short rows have more of them."""
    max_length: int | None = Field(default=None, ge=8)
    """Most pieces of a row. Left out: 384 for passages, else 128, or as many as the model reads."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW weight decay (none on biases and LayerNorm)."""
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of all steps over which the learning rate rises to its peak, linearly."""
    clip: float = Field(default=1.0, ge=0.0)
    """Largest gradient norm; 0 leaves gradients as they are."""


@dataclass(frozen=True)
class Method:
    """One entry of a family."""

    name: str
    settings: type[ConfigModel]
    implementation: str
    """``module:object``, imported when the method is used."""
    summary: str
    source: str = ""
    network: str = ""
    """What builds the network of an alignment objective; empty means masked LM."""

    def load(self) -> Any:
        """Import and return the object that implements the method."""
        return resolve_name(self.implementation)

    def load_network(self) -> Any:
        """Import and return what builds the network, ``(encoder, settings, seed) -> nn.Module``."""
        return resolve_name(self.network or "xlt_ray.modeling.network:masked_lm")


def method_named(registry: tuple[Method, ...], name: str) -> Method:
    """The entry with this name; KeyError if there is none."""
    return {entry.name: entry for entry in registry}[name]


# -- fusion: how layers of the encoder become the states that a head reads -------------------------


class NoFusion(ConfigModel):
    method: Literal["none"] = "none"


class LayerFusion(ConfigModel):
    """What fusions of the last layer with one lower layer have in common."""

    added = frozenset({"placement"})
    narrowest: ClassVar[int] = 4  # inner width: a norm over 1 is a constant, over 2 a sign

    layer: int = Field(ge=0)
    """Lower layer to fuse with the last one: 0 is the embeddings, at most num_layers - 1."""
    reduction: int = Field(default=4, ge=1)
    """Bottleneck ratio r of the attention branches (inner width = hidden / r)."""
    placement: Literal["pieces", "first", "mean"] = "pieces"
    """Fuse every piece, or one state a sentence: that of the first piece or the mean of all."""


class DlfaFusion(LayerFusion):
    method: Literal["dlfa"]


class AifFusion(LayerFusion):
    method: Literal["aif"]


class MixFusion(ConfigModel):
    method: Literal["mix"]


FUSIONS: tuple[Method, ...] = (
    Method("none", NoFusion, "xlt_ray.modeling.fusion.none:NoFusion", "the last layer alone"),
    Method(
        "dlfa",
        DlfaFusion,
        "xlt_ray.modeling.fusion.dlfa:DlfaFusion",
        "last layer and layer k, weighted by local and global attention",
        "arXiv 2205.08497 (reconstruction after AFF, arXiv 2009.14082)",
    ),
    Method(
        "aif",
        AifFusion,
        "xlt_ray.modeling.fusion.aif:AifFusion",
        "as dlfa, its result weighted once more by attention of its own",
        "arXiv 2205.08497 (reconstruction after iAFF, arXiv 2009.14082)",
    ),
    Method(
        "mix",
        MixFusion,
        "xlt_ray.modeling.fusion.mix:MixFusion",
        "learned scalar weights over all layers",
        "arXiv 1802.05365 (ELMo), eq. 1",
    ),
)


# -- parameter-efficient fine-tuning: few new weights, and an encoder that stays as it is ----------


class NoPeft(ConfigModel):
    method: Literal["none"] = "none"


class LoraPeft(ConfigModel):
    method: Literal["lora"]
    rank: int = Field(default=8, ge=1)
    """Inner width r of the product that is added to a layer's weights."""
    alpha: float = Field(default=16.0, gt=0.0)
    """The product is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout of the inputs of the product."""
    modules: Literal["attention", "all"] = "attention"
    """Layers that get one: queries and values of the attention, or all linear layers."""


class Ia3Peft(ConfigModel):
    method: Literal["ia3"]


PEFT: tuple[Method, ...] = (
    Method("none", NoPeft, "xlt_ray.modeling.network:Network", "the whole encoder is trained"),
    Method(
        "lora",
        LoraPeft,
        "xlt_ray.modeling.peft.lora:lora",
        "a product of two narrow matrices is added to the weights of linear layers",
        "arXiv 2106.09685",
    ),
    Method(
        "ia3",
        Ia3Peft,
        "xlt_ray.modeling.peft.ia3:ia3",
        "keys, values and inputs of output layers are scaled by learned vectors",
        "arXiv 2205.05638",
    ),
)


# -- robust training: the loss on perturbed examples -----------------------------------------------


class Robust(ConfigModel):
    """What all methods of robust training have in common."""

    perturbs: ClassVar[Literal["nothing", "embeddings", "text"]] = "nothing"
    repeated_by: ClassVar[str] = ""
    """The setting that says how many times longer than plain training it is, if it is longer."""

    @property
    def repeats(self) -> int:
        """Steps of the training, as a multiple of those of plain training."""
        return int(getattr(self, self.repeated_by)) if self.repeated_by else 1


class NoRobust(Robust):
    repeated_by = "matched_steps"

    method: Literal["none"] = "none"
    matched_steps: int = Field(default=1, ge=1)
    """Multiple of the steps, for a baseline that costs as much as a robust method."""


class AdversarialRobust(Robust):
    perturbs = "embeddings"

    method: Literal["adversarial"]
    steps: int = Field(default=2, ge=1)
    """Steps of gradient ascent; each is another pass in every step of the training."""
    step_size: float = Field(gt=0.0)
    """Length of a step of ascent, for every piece separately, in the units of the embeddings."""
    epsilon: float = Field(gt=0.0)
    """Largest perturbation of a piece's embedding."""
    norm: Literal["l2", "linf"] = "l2"
    """Measure of a piece's perturbation: its length, or its largest component."""


class RandomRobust(Robust):
    perturbs = "embeddings"

    method: Literal["random"]
    epsilon: float = Field(gt=0.0)
    """Largest perturbation of a piece's embedding."""
    norm: Literal["l2", "linf"] = "linf"
    """Measure of a piece's perturbation: its length, or its largest component."""
    draws: int = Field(default=3, ge=1)
    """Perturbations a step, over which the loss is averaged; each costs a pass and its memory."""


class AugmentRobust(Robust):
    perturbs = "text"
    repeated_by = "copies"

    method: Literal["augment"]
    copies: int = Field(default=3, ge=1)
    """Copies of every example, which replace the example in training."""
    neighbours: Literal["lists", "lexicon"] = "lists"
    """What replaces a word: neighbours in the same language, or its translations."""


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


# -- alignment: training on parallel text before any task is trained -------------------------------


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
        "xlt_ray.data.batches.alignment_batches:ContrastBatches",
        "a sentence's mean state is nearer to its translation's than to those of others",
        "InfoNCE, arXiv 1807.03748, on mean-pooled sentence vectors",
        network="xlt_ray.modeling.objectives.contrastive:ContrastiveNetwork",
    ),
    Method(
        "weam",
        Weam,
        "xlt_ray.data.batches.alignment_batches:SwappedBatches",
        "masked LM from a piece's own states and from those of the words aligned with it",
        "arXiv 2106.01732 (reconstruction)",
        network="xlt_ray.modeling.objectives.weam:WeamNetwork",
    ),
)


# -- schedules of the learning rate of an intermediate stage ---------------------------------------


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


# -- sampling: which of several intermediate tasks a step trains -----------------------------------


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


# -- merging: one network from the weights of several ----------------------------------------------


class Merge(ConfigModel):
    """How the weights of several trained networks become those of one."""

    needs_base: ClassVar[bool] = False
    """Whether it reads the weights that the trainings began with."""


class MeanMerge(Merge):
    method: Literal["mean"] = "mean"


class ArithmeticMerge(Merge):
    needs_base = True

    method: Literal["arithmetic"]
    scale: float = 1.0
    """Factor of the sum of all changes."""


class TiesMerge(Merge):
    needs_base = True

    method: Literal["ties"]
    density: float = Field(default=0.2, gt=0.0, le=1.0)
    """Share of each tensor's changes that is kept, the largest."""
    scale: float = 1.0
    """Factor of the merged change."""


class LayerSwapMerge(Merge):
    method: Literal["layer-swap"]
    bottom: int = Field(default=1, ge=0)
    """Lowest layers, and with any the embeddings, that come from the language model."""
    top: int = Field(default=1, ge=0)
    """Highest layers that come from the language model."""


MERGES: tuple[Method, ...] = (
    Method(
        "mean",
        MeanMerge,
        "xlt_ray.modeling.merging.mean:mean",
        "the mean of all weights",
        "arXiv 2203.05482 (model soups)",
    ),
    Method(
        "arithmetic",
        ArithmeticMerge,
        "xlt_ray.modeling.merging.arithmetic:arithmetic",
        "what the trainings began with, plus scale times the sum of what they changed",
        "arXiv 2212.04089 (task arithmetic)",
    ),
    Method(
        "ties",
        TiesMerge,
        "xlt_ray.modeling.merging.ties:ties",
        "the same with small changes left out, and of the others those of the prevailing sign",
        "arXiv 2306.01708 (TIES), section 4; trimmed tensor by tensor",
    ),
    Method(
        "layer-swap",
        LayerSwapMerge,
        "xlt_ray.modeling.merging.layer_swap:layer_swap",
        "lowest and highest layers from a language model, everything else from the task's",
        "arXiv 2410.01335 (layer swapping)",
    ),
)
