"""What stages depend on outside the sweep file: depth and weights of models, size and digests of
data. :mod:`xlt_ray.sweep.read_facts` reads them once for a sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from xlt_ray.config.task_types import UNNAMED_METRICS, TaskKind

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class ModelFacts:
    """``weights`` is the digest of configuration, weights and tokenizer; empty if the shape is
    only assumed, which is enough to check a sweep.
    """

    name: str
    num_layers: int
    hidden_size: int
    max_positions: int
    weights: str
    reads_positions: bool = True
    """False if the model reads distances of pieces and not their positions."""
    vocabulary_size: int = 0
    """Rows of its table of pieces; 0 where it is not known."""
    intermediate_size: int = 0
    """Width between the two layers of a feed-forward block; 0 for four times the hidden size."""
    num_heads: int = 0
    layer_weights: int = 0
    """Weights of the matrices of one layer; 0 for those of BERT."""
    shares_layers: bool = False
    """Whether all layers are one and the same (ALBERT)."""
    embedding_size: int = 0
    """Width of the table of pieces; 0 for the hidden size."""
    has_position_table: bool = True
    """False if positions turn states (rotary) or are distances."""
    is_causal: bool = False
    """Whether no piece sees those after it, as in decoder-only models."""

    @property
    def feed_forward(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def layer_matrices(self) -> int:
        """Weights of the matrices of one layer: in BERT four of attention, two of the feed-forward
        block."""
        width = self.hidden_size
        return self.layer_weights or 4 * width**2 + 2 * width * self.feed_forward

    @property
    def layer_parameters(self) -> int:
        """Of one layer: its matrices, and biases and norms as BERT has them.

        >>> ModelFacts("xlm-roberta-base", 12, 768, 512, "").layer_parameters
        7087872
        """
        return self.layer_matrices + 9 * self.hidden_size + self.feed_forward

    @property
    def embedding_width(self) -> int:
        return self.embedding_size or self.hidden_size

    @property
    def embedding_parameters(self) -> int:
        """Of the tables of pieces and positions, and what turns their width into the hidden one."""
        width, positions = self.embedding_width, self.max_positions * self.has_position_table
        widened = 0 if width == self.hidden_size else width * self.hidden_size
        return (self.vocabulary_size + positions) * width + widened

    def parameters_of(self, num_layers: int) -> int:
        """Parameters of its lowest ``num_layers`` layers; layers that are shared count once."""
        return (1 if self.shares_layers else num_layers) * self.layer_parameters

    @property
    def num_parameters(self) -> int:
        """Without heads.

        >>> ModelFacts("xlm-roberta-base", 12, 768, 512, "", True, 250002).num_parameters
        277449216
        """
        return self.embedding_parameters + self.parameters_of(self.num_layers)

    def bounds(self) -> dict[str, int]:
        """The names that a distribution's bounds may use."""
        return {"num_layers": self.num_layers, "hidden_size": self.hidden_size}


@dataclass(frozen=True)
class SplitFacts:
    """``digest`` covers texts and labels of a split in one language, as one task reads them."""

    num_examples: int
    digest: str
    content: str = ""
    """Digest of the same independent of the task; empty if the source does not know it."""
    rows: str = ""
    """Digest of the examples without their ids; empty where ``content`` covers the examples."""
    repeated: tuple[str, ...] = ()
    """Ids that occur several times, if the source has read them."""

    def is_same(self, other: SplitFacts) -> bool:
        """Whether both have the same examples.

        >>> SplitFacts(9, "stsb de", "f").is_same(SplitFacts(9, "stsb-score de", "f"))
        True
        """
        return self.digest == other.digest or bool(self.content and self.content == other.content)


@dataclass(frozen=True)
class TaskFacts:
    """One task as a data source has it; ``splits`` is keyed by (language, split)."""

    name: str
    kind: TaskKind
    version: int
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    splits: Mapping[tuple[str, Split], SplitFacts]
    is_parallel: bool = False
    """Whether rows of one id are translations of each other in all languages."""
    place: str = ""
    """Where its files lie, as ``FOLDER/LANGUAGE.SPLIT.tsv``; empty on the hub."""

    def file_of(self, language: str, split: Split) -> str:
        """The end of a remedy for a missing split: the file that would hold it."""
        file = self.place.replace("LANGUAGE", language).replace("SPLIT", split)
        return f"; it would be {file}" if file else ""

    def languages(self, split: Split) -> tuple[str, ...]:
        return tuple(sorted(language for language, name in self.splits if name == split))

    @property
    def scoring(self) -> dict[str, Any]:
        """The task's part of an evaluation's key: its version, and its metrics unless they are
        those of :data:`xlt_ray.config.task_types.UNNAMED_METRICS`.

        >>> TaskFacts("nli", "pair", 1, ("no", "yes"), ("macro_f1", "accuracy"), {}).scoring
        {'version': 1}
        >>> TaskFacts("nli", "pair", 1, ("no", "yes"), ("accuracy", "mcc"), {}).scoring
        {'version': 1, 'metrics': ['accuracy', 'mcc']}
        """
        unnamed = UNNAMED_METRICS.get(self.name, UNNAMED_METRICS.get(self.kind))
        named = {} if unnamed == set(self.metrics) else {"metrics": sorted(self.metrics)}
        return {"version": self.version, **named}

    def dev_content(self, language: str) -> dict[str, str]:
        """``{"dev": digest}`` of the dev set in ``language``; empty if there is none.

        >>> task = TaskFacts("nli", "pair", 1, ("no", "yes"), ("accuracy",),
        ...                  {("en", "dev"): SplitFacts(9, "d")})
        >>> task.dev_content("en"), task.dev_content("de")
        ({'dev': 'd'}, {})
        """
        split = self.splits.get((language, "dev"))
        return {"dev": split.digest} if split else {}


@dataclass(frozen=True)
class LexiconFacts:
    """Word translations from one language: into which languages, and their digest."""

    languages: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Coverage:
    """How much of a text a list of words covers."""

    key: str
    """Key of the sweep file that uses the list."""
    words: str
    """The list, as messages say it."""
    text: str
    share: float
    """Share of the words of the text, each as often as it occurs."""

    def __str__(self) -> str:
        return f"{self.words} has {100 * self.share:.1f} % of the words of {self.text}"


@dataclass(frozen=True)
class Facts:
    """``models`` are by :attr:`xlt_ray.config.trial.Model.label`.

    ``parallel`` maps a language to the digest of its text, ``lexicon`` to its word lists,
    ``neighbours`` to the digest of its lists of similar words."""

    models: Mapping[str, ModelFacts]
    tasks: Mapping[str, TaskFacts]
    parallel: Mapping[str, str] = field(default_factory=dict)
    lexicon: Mapping[str, LexiconFacts] = field(default_factory=dict)
    neighbours: Mapping[str, str] = field(default_factory=dict)
    has_links: bool = False
    """Whether the data knows which words of parallel text are aligned."""
    links: Mapping[str, str] = field(default_factory=dict)
    """``FIRST-SECOND``, sorted -> digest of the word alignments that the data adds to its texts."""

    coverage: tuple[Coverage, ...] = ()
    """Coverage of the word lists that trials use on real text; part of no key."""

    def model_bounds(self, label: str) -> dict[str, int]:
        """What the bounds of distributions may name of one model."""
        return self.models[label].bounds()

    @property
    def model_names(self) -> tuple[str, ...]:
        """Name of each model once, whatever its revisions."""
        return tuple(dict.fromkeys(model.name for model in self.models.values()))

    def links_among(self, languages: Iterable[str]) -> dict[str, dict[str, str]]:
        """``{"alignments": links}`` between any two of the languages; empty if there are none.

        >>> facts = Facts({}, {}, links={"de-en": "d", "de-sw": "e"})
        >>> facts.links_among(["en", "de"]), facts.links_among(["en", "sw"])
        ({'alignments': {'de-en': 'd'}}, {})
        """
        pairs = map("-".join, combinations(sorted(set(languages)), 2))
        links = {pair: self.links[pair] for pair in pairs if pair in self.links}
        return {"alignments": links} if links else {}
