"""One concrete trial: no distributions, every default filled in.

Each assignment of the distributions of a sweep (:mod:`xlt_ray.config.search_space`) gives one
:class:`TrialSpec`. Files, overrides, Optuna, MLflow and tables spell a setting by its dotted path
(``target.fusion.layer``). The functions at the top compute what follows from a section.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from itertools import product
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from xlt_ray.config import methods
from xlt_ray.config.diagnostics import DiagnosticName
from xlt_ray.config.facts import Facts, TaskFacts
from xlt_ray.config.methods import (
    Alignment,
    ConfigModel,
    LinearSchedule,
    NoFusion,
    NoPeft,
    NoRobust,
    ProportionalSampling,
    SeedScope,
    Training,
)
from xlt_ray.config.task_types import KINDS, TaskKind


def each_once(value: Any) -> Any:
    """The setting; ValueError if it is a list that is empty or repeats a name.

    >>> each_once(("en", "de")), each_once("all")
    (('en', 'de'), 'all')
    """
    if isinstance(value, tuple):
        if not value:
            raise ValueError("the list is empty")
        twice = [name for name in value if value.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is named twice; name each once")
    return value


def train_size(size: int | str, facts: TaskFacts, language: str) -> int:
    """``all`` or a number, as a number of examples; KeyError if there is no training data."""
    num_examples = facts.splits[language, "train"].num_examples
    return num_examples if isinstance(size, str) else size


def num_steps(num_examples: int, epochs: int, batch_size: int) -> int:
    """Optimizer steps of a training over ``epochs`` passes, the last batch included."""
    return math.ceil(num_examples * epochs / batch_size)


def trunk_steps(num_steps: int, decay: float) -> int:
    """Steps of a warm-up, constant, decay training before its decay of at least one step.

    >>> trunk_steps(100, 0.2), trunk_steps(1, 0.2)
    (80, 0)
    """
    return num_steps - max(round(num_steps * decay), 1)


def evaluation_points(num_steps: int, evaluations: int) -> frozenset[int]:
    """Steps after which the dev set is scored: evenly spread, the last one among them.

    >>> sorted(evaluation_points(10, 4))
    [3, 5, 8, 10]
    """
    return frozenset(
        math.ceil(num_steps * number / evaluations) for number in range(1, evaluations + 1)
    )


def with_lengths(trial: TrialSpec, facts: Facts) -> TrialSpec:
    """The trial with every ``max_length`` that it leaves out.

    That of an intermediate stage is for the most demanding kind of its tasks, that of a few-shot
    stage is the target's.
    """
    longest = facts.models[trial.model.label].max_positions
    filled: dict[str, Training] = {}
    if trial.intermediate is not None and trial.intermediate.max_length is None:
        kinds = [facts.tasks[name].kind for name in trial.intermediate.tasks]
        length = default_length(kinds, longest)
        filled["intermediate"] = trial.intermediate.model_copy(update={"max_length": length})
    length = trial.target.max_length or default_length(
        [facts.tasks[trial.target.task].kind], longest
    )
    filled["target"] = trial.target.model_copy(update={"max_length": length})
    if trial.few_shot is not None and trial.few_shot.max_length is None:
        filled["few_shot"] = trial.few_shot.model_copy(update={"max_length": length})
    return trial.model_copy(update=filled)


def default_length(kinds: Iterable[TaskKind], max_positions: int) -> int:
    """Most pieces of a row of these kinds for a model that reads ``max_positions``.

    >>> default_length(["span"], 512), default_length(["pair", "span"], 256)
    (384, 256)
    >>> default_length(["pair"], 512)
    128
    """
    return min(max(KINDS[kind].max_length for kind in kinds), max_positions)


class FewShot(Training):
    """Training on a few labelled examples of one target language, after the target stage."""

    max_length: int | None = Field(default=None, ge=8)
    """Most pieces of a row, special ones included; by default that of the target."""
    language: str
    """The language of the examples; the trial is evaluated in it and in the source language."""
    shots: int = Field(ge=1)
    """K, the number of examples: the first of the sample's order, so that numbers are nested."""
    sample: Literal["per_trial"] | Annotated[int, Field(ge=0)] = "per_trial"
    """Order in which examples are drawn, the same in every language; ``per_trial`` takes the seed
    of the repeat, so that repeats have different examples."""
    split: Literal["dev", "train"] = "dev"
    """Where the examples come from; never from the test set."""
    steps: int = Field(default=100, ge=1)
    """Optimizer steps; a batch larger than ``shots`` repeats examples."""

    def sample_of(self, seed: int) -> int:
        """Number of the sample in a repeat with this seed.

        >>> [FewShot(language="de", shots=5, sample=sample).sample_of(7)
        ...  for sample in ("per_trial", 2)]
        [7, 2]
        """
        return seed if self.sample == "per_trial" else self.sample


def _any_of(family: tuple[methods.Method, ...], tag: str = "method") -> Any:
    """The settings of one method of a family, which ``tag`` names."""
    return Annotated[reduce(or_, [entry.settings for entry in family]), Field(discriminator=tag)]


if TYPE_CHECKING:
    Align = Alignment
    Robust = methods.Robust
    Sampling = methods.Sampling
    Fusion = ConfigModel
    Peft = ConfigModel
    Schedule = ConfigModel
else:
    Align = _any_of(methods.ALIGNMENTS, "objective")
    Fusion = _any_of(methods.FUSIONS)
    Peft = _any_of(methods.PEFT)
    Robust = _any_of(methods.ROBUST)
    Sampling = _any_of(methods.SAMPLINGS)
    Schedule = _any_of(methods.SCHEDULES)

Precision = Literal["fp32", "tf32", "bf16-mixed", "bf16"]
Size = Literal["all"] | Annotated[int, Field(ge=1)]


class ToyData(ConfigModel):
    """A generated language family: no download, the same on every machine."""

    source: Literal["toy"]
    seed: int = 0
    """Seed of the generated languages."""


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
    """Data set -> branch, tag or commit of the hub, by default the default branch; not for data
    below a root."""
    cache: str | None = None
    """Where the library keeps downloads and Arrow files; by default HF_DATASETS_CACHE."""
    texts: str | None = None
    """A folder with ``parallel/``, ``alignments/``, ``lexicon/`` and ``neighbours/`` as the files
    source has, and with the folders of tasks that are not on the hub."""


Data = Annotated[ToyData | FilesData | HubData, Field(discriminator="source")]


class Freeze(ConfigModel):
    """Parts of the encoder that all trainings of a trial leave as they are."""

    embeddings: bool = False
    """Whether they leave the embeddings of pieces, positions and token types, and what stands
    between these and the first layer."""
    layers: int = Field(default=0, ge=0)
    """How many layers they leave, from the lowest up; not all."""


class Model(ConfigModel):
    """The encoder that a trial starts from; a bare name is short for ``{name: ...}``."""

    name: str
    """Hugging Face id, local folder, or toy preset (``toy:LAYERSxWIDTH``)."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id, by default its default branch. Results belong to
    the commit, however it is named."""
    trust_remote_code: bool = False
    """Run code that comes with the model; only for models you trust."""
    layers: int | None = Field(default=None, ge=1)
    """How many layers are kept, from the lowest up; by default all."""
    pooling: Literal["first", "mean", "last"] = "first"
    """What heads of whole sequences read: the state of the first piece, the mean over the pieces,
    which suits encoders that were tuned for sentence vectors, or the state of the last piece, which
    is the only one of a decoder-only model that has seen them all."""
    attention: Literal["as_trained", "bidirectional"] = "as_trained"
    """Whether every piece of a decoder-only model also sees those after it (LLM2Vec, arXiv
    2404.05961); a masked LM then teaches it to use them."""
    freeze: Freeze = Freeze()
    """Parts that no training changes."""

    @property
    def label(self) -> str:
        """Its name, and its revision if it has one.

        >>> Model(name="a/b").label, Model(name="a/b", revision="v2").label
        ('a/b', 'a/b@v2')
        """
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def title(self) -> str:
        """Its label, and what differs from the model as it comes.

        >>> Model(name="a/b").title, Model(name="a/b", layers=6).title
        ('a/b', 'a/b (6 layers)')
        """
        changes = [] if self.layers is None else [f"{self.layers} layers"]
        changes += [] if self.pooling == "first" else [f"{self.pooling} pooling"]
        changes += [] if self.attention == "as_trained" else [f"{self.attention} attention"]
        return f"{self.label} ({', '.join(changes)})" if changes else self.label

    def num_layers(self, facts: Facts) -> int:
        """How many layers the encoder of a trial has."""
        return self.layers or facts.models[self.label].num_layers


class Mlm(ConfigModel):
    """Masked LM between the batches of an intermediate stage (after arXiv 2005.13013)."""

    share: float = Field(gt=0.0, lt=1.0)
    """Share of batches that are masked LM, in addition to ``size``."""
    languages: Literal["source", "all"] | tuple[str, ...] = "all"
    """Languages of the unlabelled text, drawn uniformly; ``all`` that the data source has."""
    mask: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Probability that a piece is to be predicted (80 % masked, 10 % random, 10 % kept)."""


class Ranking(ConfigModel):
    """How tasks of the kind ranking are trained."""

    temperature: float = Field(default=0.05, gt=0.0)
    """Cosines are divided by it; 0.01 is that of XTREME-R."""
    negatives: int = Field(default=7, ge=1)
    """Wrong candidates of every query, from other rows of its batch; each costs a sequence."""


class Intermediate(Training):
    """Supervised training on other tasks before the target task, which continues its encoder."""

    task: str | tuple[str, ...]
    """One task, or a list of tasks that are trained together with a head for each."""
    source_language: str | None = None
    """Language of the training data; by default the target's source language."""
    languages: Literal["all"] | tuple[str, ...] | None = None
    """Languages of the training data, as far as each task has them; by default only the source
    language."""
    sampling: Sampling = ProportionalSampling()
    """How tasks and languages are drawn; a name is short for ``{method: ...}``."""
    mlm: Mlm | None = None
    """Masked LM mixed in."""
    peft: Peft = NoPeft()
    """What is trained instead of the encoder's weights."""
    ranking: Ranking = Ranking()
    """Temperature and wrong candidates of tasks of the kind ranking."""
    size: Size = "all"
    """Training examples over all tasks and languages, in proportion: the first of one fixed
    shuffle, so that sizes are nested."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the training examples."""
    seed: SeedScope = "shared"
    """Whether repeats of a configuration share this stage or train their own."""
    schedule: Schedule = LinearSchedule()
    """Schedule of the learning rate; a name is short for ``{method: ...}``."""

    @field_validator("schedule", "sampling", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    _each_once = field_validator("task", "languages")(each_once)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks, sorted."""
        return tuple(sorted({self.task} if isinstance(self.task, str) else self.task))


class Hybrid(ConfigModel):
    """Batches in several languages mixed into training (after arXiv 2408.10536, section 3)."""

    added = frozenset({"text", "pairs", "mixing", "batch_scale", "mono"})

    ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that a batch is cross-lingual."""
    mono: Literal["source", "uniform"] = "source"
    """Language of a batch that is not cross-lingual: the source, or one drawn uniformly over the
    source and ``languages`` (translated training text)."""
    languages: Literal["all"] | tuple[str, ...] = "all"
    """Languages that hybrid batches draw from, besides the source language."""
    text: Literal["auto", "translated", "switched"] = "auto"
    """Text in other languages: translated training text, or words switched by a lexicon; ``auto``
    is translated if the task has it."""
    pairs: Literal["uniform", "by_size"] = "uniform"
    """How languages of cross-lingual batches are drawn: uniformly, or in proportion to their
    training text or word lists."""
    mixing: Literal["per_batch", "in_batch"] = "per_batch"
    """Whether ``ratio`` is a share of batches, or of the examples in every batch."""
    batch_scale: float = Field(default=1.0, gt=0.0)
    """Examples of a cross-lingual batch, as a multiple of ``batch_size``."""

    @property
    def is_used(self) -> bool:
        """Whether any batch has text that is not the source language's own."""
        return self.ratio > 0 or self.mono == "uniform"

    def translations(self, task: TaskFacts, source: str) -> tuple[str, ...]:
        """All languages but the source whose training text batches can be translated by."""
        if not KINDS[task.kind].is_crossed or self.text == "switched":
            return ()
        return tuple(language for language in task.languages("train") if language != source)

    def translated_languages(self, task: TaskFacts, source: str) -> tuple[str, ...]:
        """Languages besides the source whose training text has the source's labels; empty where
        words are switched by a lexicon, or no batch is hybrid."""
        return tuple(
            language
            for language in (self.translations(task, source) if self.is_used else ())
            if self.languages == "all" or language in self.languages
        )

    def drawn_languages(self, task: TaskFacts, facts: Facts, source: str) -> tuple[str, ...]:
        """Languages besides the source that batches draw from: those with translated training
        text, or else those of a lexicon."""
        known = self.translations(task, source)
        if not known and source in facts.lexicon:
            known = facts.lexicon[source].languages
        return tuple(sorted(known if self.languages == "all" else self.languages))


class Target(Training):
    """Training on the target task in the source language."""

    task: str
    """The task to transfer; `xlt list tasks` shows all."""
    source_language: str = "en"
    """Language of the labels that are trained on."""
    size: Size = "all"
    """Training examples: the first of one fixed shuffle, so that sizes are nested."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the training examples."""
    fusion: Fusion = NoFusion()
    """How layers of the encoder become the states that the head reads."""
    head_seed: int | None = Field(default=None, ge=0)
    """Seed of the new weights of head and fusion; by default that of the trial. With one for all
    seeds, `xlt merge` can merge them."""
    peft: Peft = NoPeft()
    """What is trained instead of the encoder's weights."""
    robust: Robust = NoRobust()
    """Training on perturbed examples."""
    hybrid: Hybrid = Hybrid()
    """Batches in several languages."""
    ranking: Ranking = Ranking()
    """Temperature and wrong candidates of a task of the kind ranking."""
    evaluations: int = Field(default=4, ge=1)
    """How often the source-language dev set is scored, evenly over the training."""
    select: Literal["best", "last"] = "best"
    """Weights that are kept and scored: the last, or those of the first evaluation with the highest
    score on the source-language dev set, by the task's first metric."""
    average: int = Field(default=1, ge=1)
    """Number of last evaluations whose averaged weights are scored as well; 1 averages nothing."""


class Evaluate(ConfigModel):
    """Zero-shot evaluation of the final weights."""

    languages: Literal["all"] | tuple[str, ...] = "all"
    """Languages to score; ``all`` that have a test set."""
    dev: Literal["source", "all"] = "source"
    """Languages whose dev set is scored as well; ``all`` is oracle information."""
    examples: Size = "all"
    """Most examples of each language and split; the first ones are scored."""
    pairs: Literal["none", "all"] | tuple[tuple[str, str], ...] = "none"
    """Test rows with the first sentence in one language and the second in another: ``all`` ordered
    pairs of scored languages, or ``[[en, de], ...]``. Their scores are reported separately."""
    also: tuple[str, ...] = ()
    """Further tasks whose test sets are scored without training: retrieval, mining, or tasks of the
    target's kind and labels."""
    retrieval_layer: int | None = Field(default=None, ge=0)
    """Layer that retrieval takes sentences from, 0 for the embeddings; by default two thirds of the
    way up (8 of 12)."""
    retrieval_encoder: Literal["target", "before"] = "target"
    """Encoder for retrieval: the finished one, or the one that the target training began with, as
    in XTREME."""
    diagnostics: tuple[DiagnosticName, ...] = ()
    """Measures of every layer of the encoder during and after training, on parallel text of the
    source language and each scored language."""
    diagnostic_sentences: int = Field(default=256, ge=4)
    """Most sentences of each language that diagnostics are measured on."""

    def languages_tested(self, task: TaskFacts, source: str) -> tuple[str, ...]:
        """Languages whose test set of a task is scored: ``languages`` and the source."""
        return tuple(
            language
            for language in task.languages("test")
            if language == source or self.languages == "all" or language in self.languages
        )

    def language_pairs(self, languages: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Languages of first and second sentence; ``all`` pairs each of ``languages`` with each.

        >>> Evaluate(pairs="all").language_pairs(("de", "en"))
        (('de', 'de'), ('de', 'en'), ('en', 'de'), ('en', 'en'))
        """
        if self.pairs == "none":
            return ()
        if self.pairs == "all":
            return tuple(product(sorted(languages), sorted(languages)))
        return tuple(sorted(set(self.pairs)))

    def layer_of_retrieval(self, num_layers: int) -> int:
        """The layer that retrieval takes sentences from.

        >>> [Evaluate().layer_of_retrieval(depth) for depth in (2, 12, 24)]
        [1, 8, 16]
        """
        layer = self.retrieval_layer
        return round(2 * num_layers / 3) if layer is None else layer


class TrialSpec(ConfigModel):
    """Everything but the seed that decides what a trial computes."""

    data: Data
    """Where examples come from."""
    model: Model
    """The encoder that a trial starts from; a name, or a block."""
    align: Align | None = None
    """Training on unlabelled or parallel text before any task."""
    intermediate: Intermediate | None = None
    """Training on other tasks before the target task."""
    target: Target
    """Training on the task to transfer, in the source language."""
    few_shot: FewShot | None = None
    """Such a trial is not zero-shot; its scores are reported separately."""
    evaluate: Evaluate = Evaluate()
    """What is scored at the end, without training."""
    precision: Precision = "fp32"
    """Precision of the training arithmetic, as in ``resources``."""

    @field_validator("model", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value
