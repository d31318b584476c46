"""Batches for supervised training and for evaluation, as padded numpy arrays.

Training batch ``step`` is a pure function of (seed, step): a run that died goes on from
the number of its next step. Examples are walked through in one shuffle per epoch; a
batch has always exactly ``batch_size`` rows, the last one of an epoch goes on into the
next epoch's order. With a hybrid ratio a batch is cross-lingual with that probability
(after arXiv 2408.10536): pairs take their two sentences from different languages where
row-aligned training text exists, all else is code-switched by a lexicon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xlt_ray.data.collate import IGNORED, Batch, collate, tag_places
from xlt_ray.data.encode import Encoded, Sentence, Template, encoded, template_of
from xlt_ray.data.examples import Example, TagExample, sentences
from xlt_ray.data.permit import Permit, labelled, texts
from xlt_ray.data.source import Source
from xlt_ray.data.streams import digest_of, generator
from xlt_ray.data.subset import first_of
from xlt_ray.data.switching import SwitchableTable, Switching
from xlt_ray.data.task import Task
from xlt_ray.errors import DataError
from xlt_ray.spec.facts import Split
from xlt_ray.spec.trial import Hybrid, Size

SWITCH_PROBABILITY = 0.5
"""Of a word of a code-switched batch."""

Row = tuple[Sentence, ...]


class Crossing(Protocol):
    """How a cross-lingual batch says its examples."""

    def row(self, place: int, random: np.random.Generator) -> Row:
        """Example ``place`` of the source language's train split, with other words."""


class TrainBatches:
    """Labelled examples of one language as an endless sequence of batches."""

    def __init__(
        self,
        task: Task,
        template: Template,
        table: Encoded,
        examples: Sequence[Example],
        places: np.ndarray,
        *,
        max_length: int,
        batch_size: int,
        seed: int,
        ratio: float = 0.0,
        crossing: Crossing | None = None,
        is_nested: bool = False,
    ) -> None:
        self.task = task
        self.batch_size = batch_size
        self._template, self._table, self._places = template, table, places
        self._labels = [_label_numbers(task, example) for example in examples]
        self._max_length, self._seed = max_length, seed
        self._ratio, self._crossing = ratio, crossing
        self._is_nested = is_nested
        self._order = lru_cache(maxsize=4)(self._shuffle)

    @property
    def num_examples(self) -> int:
        return len(self._places)

    def num_steps(self, epochs: int) -> int:
        """Steps that see every example at least ``epochs`` times."""
        return -(-self.num_examples * epochs // self.batch_size)

    def is_crossed(self, step: int) -> bool:
        """Whether batch ``step`` is cross-lingual."""
        return self._crossing is not None and self._crosses(generator("hybrid", self._seed, step))

    def batch(self, step: int) -> Batch:
        """Batch ``step`` = 0, 1, ...: the same arrays whenever and however often it is asked."""
        places = [self._place(step * self.batch_size + row) for row in range(self.batch_size)]
        random = generator("hybrid", self._seed, step)
        if self._crossing is not None and self._crosses(random):
            rows = [self._crossing.row(place, random) for place in places]
        else:
            rows = [_row(self._table, self.task, place) for place in places]
        labels = [self._labels[place] for place in places]
        return _labelled_batch(self.task, rows, labels, self._template, self._max_length)

    def _crosses(self, random: np.random.Generator) -> bool:
        return bool(random.random() < self._ratio)

    def _place(self, position: int) -> int:
        epoch, place = divmod(position, self.num_examples)
        return int(self._order(epoch)[place])

    def _shuffle(self, epoch: int) -> np.ndarray:
        if self._is_nested:
            return self._places
        return generator("train-order", self._seed, epoch).permutation(self._places)


class EvalBatches:
    """One split of one language in fixed batches of similar length, longest first.

    Iterating yields (indices, batch): row k of the batch is ``examples[indices[k]]``.
    """

    def __init__(
        self,
        task: Task,
        template: Template,
        table: Encoded,
        examples: tuple[Example, ...],
        *,
        max_length: int,
        batch_size: int,
    ) -> None:
        self.task = task
        self.examples = examples
        self._template, self._table = template, table
        self._max_length, self._batch_size = max_length, batch_size

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.examples) // self._batch_size)

    @property
    def gold(self) -> tuple[Any, ...]:
        """By example: the label of a pair, the tuple of tags of a sentence."""
        return tuple(
            example.tags if isinstance(example, TagExample) else example.label
            for example in self.examples
        )

    def __iter__(self) -> Iterator[tuple[np.ndarray, Batch]]:
        width = 1 if self.task.kind == "tag" else 2
        lengths = self._table.num_pieces()[: len(self.examples) * width].reshape(-1, width).sum(1)
        order = np.argsort(-lengths, kind="stable")
        for begin in range(0, len(order), self._batch_size):
            indices = order[begin : begin + self._batch_size]
            rows = [_row(self._table, self.task, place) for place in indices.tolist()]
            labels = [_label_numbers(self.task, self.examples[place]) for place in indices.tolist()]
            yield (
                indices,
                _labelled_batch(self.task, rows, labels, self._template, self._max_length),
            )

    def decode(self, indices: np.ndarray, predicted: np.ndarray) -> list[Any]:
        """Predicted label numbers of a batch as labels, in the form of ``gold``.

        ``predicted`` is (batch,) for pairs and (batch, length) for tags, where a word has
        the prediction at its first piece. A word that ``max_length`` cut off was predicted
        by nobody: it gets ``O`` where tags mark entities, else ``_``, which is no label
        and therefore always wrong.
        """
        labels = self.task.labels
        if self.task.kind == "pair":
            return [labels[number] for number in np.asarray(predicted).tolist()]
        missing = "O" if self.task.scheme == "iob2" else "_"
        rows = [_row(self._table, self.task, place) for place in np.asarray(indices).tolist()]
        _, places = collate(rows, self._template, self._max_length)
        found = []
        for row, (place,), numbers in zip(rows, places, np.asarray(predicted), strict=True):
            tags = [labels[number] for number in numbers[tag_places(row[0], place)].tolist()]
            found.append((*tags, *[missing] * (len(row[0].ends) - len(tags))))
        return found


def train_batches(
    source: Source,
    task: Task,
    permit: Permit,
    size: Size,
    source_language: str,
    hybrid: Hybrid,
    tokenizer: Any,
    tokenizer_digest: str,
    max_length: int,
    batch_size: int,
    seed: int,
    cache_dir: Path,
    *,
    is_nested: bool = False,
) -> TrainBatches:
    """The first ``size`` training examples of ``source_language`` in the fixed shuffle.

    Args:
        is_nested: whether they are walked through in that very order, so that the batches of a
            smaller size are the first ones of a larger; else in a shuffle of their own.

    Raises:
        ForbiddenLabels: the permit is not one to train this task in this language.
        DataError: no such data, fewer examples than ``size``, or cross-lingual batches
            without translations and without a lexicon.
    """
    examples = labelled(source, permit, task, source_language, "train")
    places = first_of(len(examples), size, task=task.name, language=source_language)
    if not len(places):
        raise DataError("is empty", task=task.name, language=source_language, split="train")

    def table(language: str, rows: Sequence[Example]) -> Encoded:
        return _encoded_split(
            source, task, language, "train", rows, tokenizer, tokenizer_digest, cache_dir
        )

    own = table(source_language, examples)
    crossing: Crossing | None = None
    if hybrid.ratio > 0:
        others = _other_languages(source, task, source_language, hybrid)
        if task.kind == "pair" and others:
            tables, ids = {source_language: own}, {source_language: [one.id for one in examples]}
            for language in others:
                rows = texts(source, permit, task, language, "train")
                tables[language], ids[language] = table(language, rows), [one.id for one in rows]
            crossing = _Translated(source_language, tables, ids)
        else:
            targets = (
                source.lexicon_languages(source_language)
                if hybrid.languages == "all"
                else hybrid.languages
            )
            switching = Switching(
                source, source_language, targets, tokenizer, tokenizer_digest, cache_dir
            )
            if not len(switching):
                raise DataError(
                    "cross-lingual batches need training text in other languages or a lexicon",
                    task=task.name,
                    language=source_language,
                    remedy=f"add lexicon/{source_language}-LANGUAGE.tsv (word TAB word) below the"
                    " data root, or set hybrid.ratio to 0",
                )
            words = (one for example in examples for one in sentences(example))
            crossing = _Switched(task, SwitchableTable(own, words, switching))
    return TrainBatches(
        task,
        template_of(tokenizer),
        own,
        examples,
        places,
        max_length=max_length,
        batch_size=batch_size,
        seed=seed,
        ratio=hybrid.ratio,
        crossing=crossing,
        is_nested=is_nested,
    )


def eval_batches(
    source: Source,
    task: Task,
    permit: Permit,
    language: str,
    split: Split,
    limit: Size,
    tokenizer: Any,
    tokenizer_digest: str,
    max_length: int,
    batch_size: int,
    cache_dir: Path,
) -> EvalBatches:
    """One split for scoring: the first ``limit`` examples, or all where there are fewer.

    Raises:
        ForbiddenLabels: the permit neither evaluates nor selects on this split.
        DataError: no such data.
    """
    examples = labelled(source, permit, task, language, split)
    table = _encoded_split(
        source, task, language, split, examples, tokenizer, tokenizer_digest, cache_dir
    )
    return EvalBatches(
        task,
        template_of(tokenizer),
        table,
        examples if limit == "all" else examples[:limit],
        max_length=max_length,
        batch_size=batch_size,
    )


class _Translated:
    """Sentence 1 in one language and sentence 2 in another, joined by the example's id.

    The ordered pair of different languages is uniform over those that have the example;
    one that exists in the source language alone stays as it is.
    """

    def __init__(
        self, source_language: str, tables: dict[str, Encoded], ids: dict[str, list[str]]
    ) -> None:
        own = {name: place for place, name in enumerate(ids[source_language])}
        self._tables = [tables[language] for language in tables]
        # (languages, examples): place of the example in each language, -1 where it is missing.
        self._places = np.full((len(tables), len(own)), -1, np.int64)
        for row, language in enumerate(tables):
            for place, name in enumerate(ids[language]):
                if name in own:
                    self._places[row, own[name]] = place

    def row(self, place: int, random: np.random.Generator) -> Row:
        there = np.flatnonzero(self._places[:, place] >= 0)
        draws = random.random(2)
        first = int(draws[0] * len(there))
        # Uniform over the others: step 1 .. n - 1 places on from the first one.
        second = first
        if len(there) > 1:
            second = (first + 1 + int(draws[1] * (len(there) - 1))) % len(there)
        one, other = there[first], there[second]
        return (
            self._tables[one][2 * int(self._places[one, place])],
            self._tables[other][2 * int(self._places[other, place]) + 1],
        )


class _Switched:
    """Words of both sentences, or of the tagged one, replaced by translations."""

    def __init__(self, task: Task, table: SwitchableTable) -> None:
        self._width = 1 if task.kind == "tag" else 2
        self._table = table

    def row(self, place: int, random: np.random.Generator) -> Row:
        return tuple(
            self._table.switched(self._width * place + slot, SWITCH_PROBABILITY, random)
            for slot in range(self._width)
        )


def _other_languages(
    source: Source, task: Task, source_language: str, hybrid: Hybrid
) -> tuple[str, ...]:
    """Languages with training text that cross-lingual batches may use, sorted."""
    there = {language for language, split in source.splits(task) if split == "train"}
    wanted = there if hybrid.languages == "all" else there & set(hybrid.languages)
    return tuple(sorted(wanted - {source_language}))


def _encoded_split(
    source: Source,
    task: Task,
    language: str,
    split: Split,
    examples: Sequence[Example],
    tokenizer: Any,
    tokenizer_digest: str,
    cache_dir: Path,
) -> Encoded:
    facts = source.splits(task)[language, split]
    return encoded(
        (words for example in examples for words in sentences(example)),
        tokenizer,
        tokenizer_digest=tokenizer_digest,
        content_digest=digest_of("split", task.name, task.version, language, split, facts.digest),
        cache_dir=cache_dir,
    )


def _row(table: Encoded, task: Task, place: int) -> Row:
    if task.kind == "tag":
        return (table[place],)
    return (table[2 * place], table[2 * place + 1])


def _label_numbers(task: Task, example: Example) -> np.ndarray:
    """() for a pair, (num_words,) for tags."""
    if isinstance(example, TagExample):
        assert example.tags is not None, "text without labels cannot be trained or scored"
        return np.array([task.number_of(tag) for tag in example.tags], np.int64)
    assert example.label is not None, "text without labels cannot be trained or scored"
    return np.array(task.number_of(example.label), np.int64)


def _labelled_batch(
    task: Task,
    rows: Sequence[Row],
    labels: Sequence[np.ndarray],
    template: Template,
    max_length: int,
) -> Batch:
    batch, places = collate(rows, template, max_length)
    if task.kind == "pair":
        batch["labels"] = np.stack(labels)
        return batch
    tags = np.full(batch["input_ids"].shape, IGNORED, np.int64)
    for number, (row, (place,), numbers) in enumerate(zip(rows, places, labels, strict=True)):
        at = tag_places(row[0], place)
        tags[number, at] = numbers[: len(at)]
    batch["labels"] = tags
    return batch
