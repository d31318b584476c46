"""One trial, concrete: no distributions in it, every default filled in.

A sweep file is split into a tree of fixed values and distributions first
(:mod:`xlt_ray.spec.space`); each assignment of the distributions gives one
:class:`TrialSpec`. Its dotted paths (``target.fusion.layer``) are the one spelling
of a knob in files, overrides, Optuna, MLflow and tables.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from xlt_ray.spec.diagnostics import DiagnosticName
from xlt_ray.spec.lists import each_once
from xlt_ray.spec.methods import (
    ALIGNMENTS,
    FUSIONS,
    ROBUST,
    SAMPLINGS,
    SCHEDULES,
    Alignment,
    ConfigModel,
    LinearSchedule,
    NoFusion,
    NoRobust,
    ProportionalSampling,
    SeedScope,
    Training,
)
from xlt_ray.spec.shots import FewShot

if TYPE_CHECKING:
    from xlt_ray.spec.methods import Robust as RobustKnobs
    from xlt_ray.spec.methods import Sampling as SamplingKnobs

    Align = Alignment
    Robust = RobustKnobs
    Sampling = SamplingKnobs
    Fusion = ConfigModel
    Schedule = ConfigModel
else:
    Align = Annotated[
        reduce(or_, [entry.knobs for entry in ALIGNMENTS]), Field(discriminator="objective")
    ]
    Fusion = Annotated[
        reduce(or_, [entry.knobs for entry in FUSIONS]), Field(discriminator="method")
    ]
    Robust = Annotated[
        reduce(or_, [entry.knobs for entry in ROBUST]), Field(discriminator="method")
    ]
    Sampling = Annotated[
        reduce(or_, [entry.knobs for entry in SAMPLINGS]), Field(discriminator="method")
    ]
    Schedule = Annotated[
        reduce(or_, [entry.knobs for entry in SCHEDULES]), Field(discriminator="method")
    ]

Precision = Literal["fp32", "bf16"]
Size = Literal["all"] | Annotated[int, Field(ge=1)]


class ToyData(ConfigModel):
    """A generated language family: no download, the same on every machine."""

    source: Literal["toy"]
    seed: int = 0
    """Which world is generated."""


class FilesData(ConfigModel):
    """A folder with one folder a task and files ``{language}.{split}.{format}``."""

    source: Literal["files"]
    root: str
    """The folder that holds the task folders."""


class HubData(ConfigModel):
    """Data sets of the Hugging Face Hub, or of a folder that holds them as the hub does."""

    source: Literal["hub"]
    root: str | None = None
    """A folder with ``OWNER/NAME`` for each data set, instead of the hub (no network)."""
    revisions: dict[str, str] = Field(default_factory=dict)
    """Data set -> branch, tag or commit of the hub, the default branch of those that are not named;
    a root is taken as it lies there."""
    cache: str | None = None
    """Where the library keeps downloads and Arrow files; HF_DATASETS_CACHE where left out."""
    texts: str | None = None
    """A folder with ``parallel/``, ``alignments/``, ``lexicon/`` and ``neighbours/`` as the files
    source has, and with the folders of tasks that are not on the hub."""


Data = Annotated[ToyData | FilesData | HubData, Field(discriminator="source")]


class Model(ConfigModel):
    """The encoder that a trial starts from; a bare name is short for ``{name: ...}``."""

    name: str
    """Hugging Face id, local folder, or toy preset (``toy:LAYERSxWIDTH``)."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id; its default branch where it is left out. Results
    follow the commit that it stands for, however it is named."""
    trust_remote_code: bool = False
    """Run code that comes with the model; only for models you trust."""

    @property
    def label(self) -> str:
        """What tells it from all others of a sweep: its name, and its revision where it has one.

        >>> Model(name="a/b").label, Model(name="a/b", revision="v2").label
        ('a/b', 'a/b@v2')
        """
        return f"{self.name}@{self.revision}" if self.revision else self.name


class Mlm(ConfigModel):
    """Masked LM between the batches of an intermediate stage (after arXiv 2005.13013)."""

    share: float = Field(gt=0.0, lt=1.0)
    """Share of the batches that are masked LM; they come on top of ``size``."""
    languages: Literal["source", "all"] | tuple[str, ...] = "all"
    """Languages of the unlabelled text, drawn alike; ``all`` that the data source has."""
    mask: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Probability that a piece is to be predicted (80 % masked, 10 % random, 10 % kept)."""


class Ranking(ConfigModel):
    """How a task of the kind ranking is trained; nothing of any other."""

    temperature: float = Field(default=0.05, gt=0.0)
    """Cosines are divided by it; 0.01 is that of XTREME-R."""
    negatives: int = Field(default=7, ge=1)
    """Wrong candidates of every query, from other rows of its batch: each costs a sequence."""


class Intermediate(Training):
    """Supervised training on other tasks before the target task; the encoder is carried over."""

    task: str | tuple[str, ...]
    """One task, or a list of tasks that are trained together, with a head for each."""
    source_language: str | None = None
    """Language of the training data; the target's source language where it is left out."""
    languages: Literal["all"] | tuple[str, ...] | None = None
    """Languages of the training data, where there are several: of each task those it has;
    the source language alone where it is left out."""
    sampling: Sampling = ProportionalSampling()
    """How tasks and languages are drawn; a bare name is short for ``{method: ...}``."""
    mlm: Mlm | None = None
    """Masked LM mixed in."""
    ranking: Ranking = Ranking()
    size: Size = "all"
    """Training examples over all tasks and languages, each giving its share: the first ones of one
    fixed shuffle, so that sizes are nested."""
    epochs: int = Field(default=1, ge=1)
    seed: SeedScope = "shared"
    """Whether repeats of a configuration share this stage or train their own."""
    schedule: Schedule = LinearSchedule()
    """Of the learning rate; a bare name is short for ``{method: ...}``."""

    @field_validator("schedule", "sampling", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @field_validator("task", "languages")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        return each_once(value)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks, sorted: their order in the file means nothing."""
        return tuple(sorted({self.task} if isinstance(self.task, str) else self.task))


class Hybrid(ConfigModel):
    """Batches in several languages mixed into training (after arXiv 2408.10536, section 3)."""

    added = frozenset({"text", "pairs", "mixing", "batch_scale", "mono"})

    ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that a batch is cross-lingual instead of in one language."""
    mono: Literal["source", "uniform"] = "source"
    """Language of a batch that is not cross-lingual: the source language, or one drawn for the
    batch, uniformly over the source and ``languages`` (translated training text)."""
    languages: Literal["all"] | tuple[str, ...] = "all"
    """Languages that hybrid batches draw from, besides the source language."""
    text: Literal["auto", "translated", "switched"] = "auto"
    """What other languages are taken from: translated training text or words switched by a
    lexicon; ``auto`` is translated where the task has it."""
    pairs: Literal["uniform", "by_size"] = "uniform"
    """How languages of cross-lingual batches are drawn: alike, or in proportion to their training
    text or word lists."""
    mixing: Literal["per_batch", "in_batch"] = "per_batch"
    """Whether ``ratio`` is of whole batches, or of the examples within every batch."""
    batch_scale: float = Field(default=1.0, gt=0.0)
    """Examples of a cross-lingual batch, as a multiple of ``batch_size``."""

    @property
    def is_used(self) -> bool:
        """Whether any batch has text that is not the source language's own."""
        return self.ratio > 0 or self.mono == "uniform"


class Target(Training):
    """Training on the target task in the source language."""

    task: str
    source_language: str = "en"
    size: Size = "all"
    """Training examples: the first n of one fixed shuffle, so that sizes are nested."""
    epochs: int = Field(default=3, ge=1)
    fusion: Fusion = NoFusion()
    robust: Robust = NoRobust()
    hybrid: Hybrid = Hybrid()
    ranking: Ranking = Ranking()
    evaluations: int = Field(default=4, ge=1)
    """How often the source-language dev set is scored, evenly over the training."""
    select: Literal["best", "last"] = "best"
    """Which weights are kept and scored: those of the evaluation with the highest score on the
    source-language dev set, by the task's first metric (of equals the first), or the last."""
    average: int = Field(default=1, ge=1)
    """Weights averaged over so many last evaluations are scored besides those selected (all
    evaluations where there are fewer); 1 averages nothing."""


class Evaluate(ConfigModel):
    """Zero-shot evaluation of the final weights."""

    languages: Literal["all"] | tuple[str, ...] = "all"
    """Languages to score; ``all`` that have a test set."""
    dev: Literal["source", "all"] = "source"
    """Languages whose dev set is scored besides the test set; ``all`` is oracle information."""
    examples: Size = "all"
    """At most so many examples of each language and split, the first ones."""
    pairs: Literal["none", "all"] | tuple[tuple[str, str], ...] = "none"
    """Test rows with the first sentence in one language and the second in another: ``all`` ordered
    pairs of the languages that are scored, or ``[[en, de], ...]``; never averaged with those."""
    also: tuple[str, ...] = ()
    """Further tasks whose test sets are scored without training: retrieval, mining, or tasks of the
    target's kind and labels."""
    retrieval_layer: int | None = Field(default=None, ge=0)
    """Layer that retrieval takes sentences from, 0 being the embeddings; two thirds of the way up
    where it is left out (8 of 12)."""
    retrieval_encoder: Literal["target", "before"] = "target"
    """Whose sentences retrieval takes: those of the finished encoder, or of the one that the
    target training began with, as XTREME scores retrieval."""
    diagnostics: tuple[DiagnosticName, ...] = ()
    """What the encoder is looked at for in every layer, on parallel text of the source language
    and each language that is scored, while it is trained and when it is finished."""
    diagnostic_sentences: int = Field(default=256, ge=4)
    """Most sentences of each language that diagnostics are measured on."""


class TrialSpec(ConfigModel):
    """Everything that decides what one trial computes, but its seed."""

    data: Data
    model: Model
    align: Align | None = None
    intermediate: Intermediate | None = None
    target: Target
    few_shot: FewShot | None = None
    """Such a trial is not zero-shot: its scores stand apart from those of all others."""
    evaluate: Evaluate = Evaluate()
    precision: Precision = "fp32"
    """Of the training arithmetic: bf16 keeps fp32 master weights."""

    @field_validator("model", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value
