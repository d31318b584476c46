"""The record of a committed stage: how it was made, and its results.

A record is JSON and is written last: a stage is committed if its record exists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xlt_ray.config.supervision import supervision_label
from xlt_ray.errors import StageConflict
from xlt_ray.store.canonical import Json, from_fields

Role = Literal["target", "pairs", "further", "average", "few_shot"]
"""What a score is for: the target task in one language; its sentence pairs in two languages;
another task; the target task with averaged weights; the target task after few shots of a target
language. Only scores of the first may be averaged over languages."""


@dataclass(frozen=True)
class Score:
    """One number: a metric of a task in a language on a split.

    A pair has the task ``TASK-pairs`` and the language ``FIRST:SECOND``, averaged weights the task
    ``TASK-average``, few shots ``TASK-few-shot``, so no target score has any of these names.
    """

    task: str
    language: str
    split: str
    metric: str
    value: float
    num_examples: int
    role: Role = "target"
    num_dropped: int = 0
    """For a pair: rows of either language that the other one lacks."""
    cut: float | None = None
    """Share of the examples that ``max_length`` shortened: of words for tags (a word longer than a
    row), of questions for spans (whose answers were all cut off). None for an old score, like the
    next four."""
    num_items: int | None = None
    """Number of units for resampling: examples, sentences of tags, or queries."""
    top_share: float | None = None
    """Share of the most frequent prediction (of words for tags), or, if vectors are compared, of
    queries that are nearest to the same candidate. Not a metric: nothing is selected by it."""
    gold_top_share: float | None = None
    """The same for the right answers."""
    chance: float | None = None
    """The metric without looking at the text: with the most frequent right answer for everything,
    or with a random order of the candidates; 0 for correlations."""

    @property
    def is_near_constant(self) -> bool:
        """Whether the network gives nearly the same answer to everything.

        Answers other than its most frequent one are less than a tenth as frequent as in the gold
        answers: with two equally frequent labels, it predicts one of them for more than 95 %.

        >>> from dataclasses import replace
        >>> score = Score("xnli", "sw", "test", "accuracy", 0.34, 90, num_items=90)
        >>> replace(score, top_share=0.95, gold_top_share=1 / 3).is_near_constant
        True
        >>> replace(score, top_share=0.9, gold_top_share=0.85).is_near_constant
        False
        """
        if self.top_share is None or self.gold_top_share is None or not self.num_items:
            return False
        return 1 - self.top_share < (1 - self.gold_top_share) / 10


@dataclass(frozen=True)
class Profile:
    """One diagnostic of an encoder between the source language and another, layer by layer."""

    diagnostic: str
    source_language: str
    language: str
    values: tuple[float | None, ...]
    """Embeddings, then every layer; None where the value is undefined."""
    num_sentences: int
    step: int | None = None
    """Step of the training; None for a finished encoder."""
    examples: int | None = None
    """Examples seen in that stage so far."""


def values_by_language(
    scores: Iterable[Score], split: str, metric: str, role: Role = "target"
) -> dict[str, float]:
    """A metric of the target task by language.

    Only scores of the role ``target`` may be averaged over languages.
    """
    return {
        score.language: score.value
        for score in scores
        if score.role == role and score.split == split and score.metric == metric
    }


@dataclass(frozen=True)
class FileEntry:
    """Size and digest of one file of a result."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class StageRecord:
    """The record of one committed stage."""

    key: str
    payload: Mapping[str, Json]
    label: str
    files: Mapping[str, FileEntry]
    scores: tuple[Score, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    """Evaluations during training: step, examples, the source-language dev metrics, memory and
    speed of the process (``system``), and the time (``time_ms`` since 1970)."""
    selected_step: int | None = None
    """The step whose weights the training selected; None is the last."""
    profiles: tuple[Profile, ...] = ()
    """Diagnostics at the beginning and the evaluations of a training, or of the encoder that an
    evaluation stage evaluates."""
    coverage: Mapping[str, float] = field(default_factory=dict)
    """Share of words found in the ``lexicon`` or the lists of ``neighbours``, if these are used."""
    num_examples: int = 0
    """Examples that were trained to make it."""
    seconds: float = 0.0
    """Of training steps alone, or of the whole evaluation."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """``wall_s`` from its lease to its result, in the process that finished it;
    ``peak_memory_gib`` of that process and ``peak_gpu_gib`` of its tensors; empty for an old
    record."""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    """Numeric fields of the runtime, which may change the last bits."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """Sweep, trial, host, commit, versions, time."""

    @property
    def kind(self) -> str:
        return str(self.payload["kind"])

    @property
    def supervision(self) -> str:
        """Which labels the network of an evaluation learned from."""
        settings: Any = self.payload["settings"]
        return supervision_label(settings)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> StageRecord:
        """Raises KeyError or TypeError if ``tree`` is not a record."""
        return from_fields(
            cls,
            {
                **tree,
                "files": {
                    name: from_fields(FileEntry, entry) for name, entry in tree["files"].items()
                },
                "scores": tuple(from_fields(Score, row) for row in tree["scores"]),
                "history": tuple(tree["history"]),
                "profiles": profiles_from_json(tree.get("profiles", ())),
            },
        )


def profiles_from_json(rows: Iterable[Mapping[str, Any]]) -> tuple[Profile, ...]:
    """Profiles as :func:`dataclasses.asdict` wrote them."""
    return tuple(from_fields(Profile, {**row, "values": tuple(row["values"])}) for row in rows)


def agreed(first: StageRecord, second: StageRecord) -> StageRecord:
    """The record that stands after two commits of a stage: the first.

    Raises:
        StageConflict: both have the same numeric runtime, but other bits.
    """
    same_runtime = dict(first.runtime) == dict(second.runtime)
    if same_runtime and bits_of(first) != bits_of(second):
        raise StageConflict(
            "was made twice under the same runtime, with different bits", key=first.key
        )
    return first


def bits_of(record: StageRecord) -> object:
    """Digests of weights, and scores: equal if two results of a stage are the same."""
    weights = {
        name: entry.sha256 for name, entry in record.files.items() if name.endswith(".safetensors")
    }
    return weights, record.scores
