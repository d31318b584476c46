"""The kinds of task: each is an entry here, a file of ``data/types/`` and a head.

An entry names the two classes that implement it as ``module:class``, imported at first
use: a :class:`xlt_ray.data.types.base.TaskType` (examples, batches, decoding, scores) and a
:class:`xlt_ray.modeling.heads.Head` (logits and loss; none if nothing is trained).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Annotated, Any

from pydantic import AfterValidator


def known_kind(name: str) -> str:
    """The name of a kind; ValueError if there is no such kind."""
    if name not in KINDS:
        raise ValueError(f"there is no kind {name!r}; expected one of {', '.join(KINDS)}")
    return name


TaskKind = Annotated[str, AfterValidator(known_kind)]
"""Name of a kind of task: a key of :data:`KINDS`."""

PAIRS_SUFFIX = "-pairs"
"""End of the name of a task whose two sentences are in two languages."""
AVERAGE_SUFFIX = "-average"
"""End of the name of a task that averaged weights are scored on."""
FEW_SHOT_SUFFIX = "-few-shot"
"""End of the name of a task that a network is scored on after few shots."""

TOO_FEW_ITEMS = 100
"""A score of fewer test items is marked wherever it is shown."""

UNNAMED_METRICS: dict[str, frozenset[str]] = {
    name: frozenset(metrics.split())
    for name, metrics in {
        "pair": "accuracy macro_f1",
        "score": "pearson spearman",
        "choice": "accuracy",
        "span": "f1 em",
        "retrieval": "accuracy accuracy_into_pivot accuracy_from_pivot margin_accuracy",
        "ranking": "map_at_20 map_at_20_own accuracy",
        "mewsli-x": "map_at_20 accuracy",
        "mining": "f1 precision recall f1_cosine precision_cosine recall_cosine",
        "ccg": "accuracy",
        "tag": "accuracy macro_f1",
        "pos": "accuracy macro_f1 conll_f1",
        "pos-masakha": "accuracy macro_f1 conll_f1",
        "ner-panx": "conll_f1 f1 accuracy",
        "ner-uner": "conll_f1 f1 accuracy",
        "ner-masakha": "conll_f1 f1 accuracy",
    }.items()
}
"""Metrics by task, or else by kind, from before evaluations named them. An evaluation with just
these metrics names none, so that the earlier ones are reused. This table never changes."""


@dataclass(frozen=True)
class Metric:
    """A metric of a kind whose examples have one label or number each."""

    name: str
    measure: str
    """``module:function`` of gold and predictions; it returns None if gold leaves it undefined."""
    without: str = ""
    """The same for an (n,) array of the metric without each item; else each is measured."""

    def measured(self, gold: Sequence[Any], predicted: Sequence[Any]) -> float | None:
        value: float | None = resolve_name(self.measure)(gold, predicted)
        return value


LABEL_METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "xlt_ray.data.metrics:accuracy"),
        Metric(
            "macro_f1",
            "xlt_ray.data.metrics:macro_f1",
            "xlt_ray.data.item_scores:macro_f1_without_each",
        ),
        Metric(
            "weighted_f1",
            "xlt_ray.data.metrics:weighted_f1",
            "xlt_ray.data.item_scores:weighted_f1_without_each",
        ),
    )
}
SCORE_METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "pearson", "xlt_ray.data.metrics:pearson", "xlt_ray.data.item_scores:pearson_without"
        ),
        Metric(
            "spearman", "xlt_ray.data.metrics:spearman", "xlt_ray.data.item_scores:spearman_without"
        ),
    )
}


@dataclass(frozen=True)
class TaskTypeEntry:
    """One entry of the registry."""

    name: TaskKind
    examples: str
    """Class of the data room: reading, batches, decoding, scores."""
    head: str
    """Class of the modeling room; empty if nothing is trained and the encoder alone is scored."""
    formats: tuple[str, ...]
    """Endings of the files that its examples are read from."""
    columns: tuple[str, ...]
    """Columns that a row of a data set on the hub must have; ``id`` is optional."""
    metrics: tuple[str, ...]
    summary: str
    has_labels: bool = False
    """Whether its tasks list their labels."""
    max_length: int = 128
    """Most pieces of a row by default, as in XTREME's scripts."""
    has_entities: bool = False
    """Whether its labels may mark entities (``scheme: iob2``), which ``f1`` counts whole."""
    is_by_piece: bool = False
    """Whether its head classifies every piece, and not a sentence as a whole."""
    is_crossed: bool = False
    """Whether the two sentences of a training example may come from different languages."""
    optional_columns: tuple[str, ...] = ()
    is_embedded: bool = False
    """Whether only vectors of sentences are scored, which an encoder alone can give."""
    is_tuned: bool = False
    """Whether scoring a test set uses the dev set of the same language."""
    settings: tuple[str, ...] = ()
    """Fields of a task that change the meaning of its files and enter the digest of its data."""

    @property
    def is_trained(self) -> bool:
        """Whether there is a head to train; otherwise its tasks are for ``evaluate.also`` only."""
        return bool(self.head)

    def load_examples(self) -> Any:
        """The class in the data room, made by ``TaskType(task)``."""
        return resolve_name(self.examples)

    def load_head(self) -> Any:
        """The class of the head, made by ``Head(hidden_size, num_labels, dropout)``."""
        return resolve_name(self.head)


KINDS: dict[TaskKind, TaskTypeEntry] = {
    entry.name: entry
    for entry in (
        TaskTypeEntry(
            "tag",
            "xlt_ray.data.types.tag:TagType",
            "xlt_ray.modeling.heads:TagHead",
            formats=("conllu", "conll"),
            columns=("words", "labels"),
            metrics=("accuracy", "macro_f1", "f1", "conll_f1"),
            summary="one label per word",
            has_labels=True,
            has_entities=True,
            is_by_piece=True,
        ),
        TaskTypeEntry(
            "pair",
            "xlt_ray.data.types.pair:PairType",
            "xlt_ray.modeling.heads:PairHead",
            formats=("tsv",),
            columns=("first", "second", "label"),
            metrics=tuple(LABEL_METRICS),
            summary="one label for two sentences",
            has_labels=True,
            is_crossed=True,
        ),
        TaskTypeEntry(
            "text",
            "xlt_ray.data.types.text:TextType",
            "xlt_ray.modeling.heads:PairHead",
            formats=("tsv",),
            columns=("text", "label"),
            metrics=tuple(LABEL_METRICS),
            summary="one label for a text",
            has_labels=True,
        ),
        TaskTypeEntry(
            "score",
            "xlt_ray.data.types.score:ScoreType",
            "xlt_ray.modeling.heads:ScoreHead",
            formats=("tsv",),
            columns=("first", "second", "label"),
            metrics=tuple(SCORE_METRICS),
            summary="a number for two sentences",
            is_crossed=True,
            settings=("range",),
        ),
        TaskTypeEntry(
            "choice",
            "xlt_ray.data.types.choice:ChoiceType",
            "xlt_ray.modeling.heads:ChoiceHead",
            formats=("jsonl",),
            columns=("options", "label"),
            optional_columns=("context", "question"),
            metrics=("accuracy",),
            summary="the right one of several options",
            settings=("options", "questions"),
        ),
        TaskTypeEntry(
            "span",
            "xlt_ray.data.types.span:SpanType",
            "xlt_ray.modeling.heads:SpanHead",
            formats=("json",),
            columns=("question", "passage", "answers"),
            metrics=("f1", "em"),
            summary="the part of a passage that answers a question",
            max_length=384,
            is_by_piece=True,
            settings=("spans",),
        ),
        TaskTypeEntry(
            "retrieval",
            "xlt_ray.data.types.retrieval:RetrievalType",
            "",
            formats=("tsv",),
            columns=("first", "second"),
            metrics=(
                "accuracy",
                "accuracy_into_pivot",
                "accuracy_from_pivot",
                "margin_accuracy",
            ),
            summary="a sentence's translation among all others; nothing is trained",
            is_embedded=True,
            settings=("pivot",),
        ),
        TaskTypeEntry(
            "ranking",
            "xlt_ray.data.types.ranking:RankingType",
            "xlt_ray.modeling.heads:RankingHead",
            formats=("jsonl",),
            columns=("query", "candidate"),
            optional_columns=("language", "relevant"),
            metrics=("map_at_20", "map_at_20_own", "accuracy"),
            summary="candidates in many languages, the right ones first",
            is_crossed=True,
            is_embedded=True,
        ),
        TaskTypeEntry(
            "mining",
            "xlt_ray.data.types.mining:MiningType",
            "",
            formats=("jsonl",),
            columns=("sentence", "language"),
            optional_columns=("gold",),
            metrics=(
                "f1",
                "precision",
                "recall",
                "f1_cosine",
                "precision_cosine",
                "recall_cosine",
            ),
            summary="the translations among two collections of sentences; nothing is trained",
            is_embedded=True,
            is_tuned=True,
            settings=("pivot",),
        ),
    )
}


def is_by_encoder(kind: TaskKind, target: TaskKind) -> bool:
    """Whether a further task is scored by the encoder alone, without the head of the target.

    >>> is_by_encoder("retrieval", "pair"), is_by_encoder("ranking", "ranking")
    (True, False)
    """
    return KINDS[kind].is_embedded and kind != target
