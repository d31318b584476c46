"""Batches for supervised training and for evaluation, as padded numpy arrays.

Training batch ``step`` is a pure function of (seed, step): a run that died goes on from
the number of its next step. Examples are walked through in one shuffle per epoch; a
batch has exactly ``batch_size`` of them, the last one of an epoch goes on into the next
epoch's order. An example is one row, but for sentences of tags that are split: they have a row for
each part. With a hybrid ratio a batch, or each row of it, is cross-lingual with that
probability (after arXiv 2408.10536): pairs take their two sentences from different languages
where row-aligned training text exists, all else is code-switched by a lexicon. The others are in
the source language, or in one that is drawn for the batch. A batch that is cross-lingual as a whole
may be scaled: it begins where it would, and shows fewer examples, or some of the next batch
besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.config.methods import AugmentRobust
from xlt_ray.config.trial import Hybrid, Ranking, Size
from xlt_ray.data.batches.crosslingual import (
    Crossing,
    JoinedTable,
    OfCopies,
    Unswitched,
    crossing_of,
    joined,
)
from xlt_ray.data.label_access import LabelAccess, labelled
from xlt_ray.data.sampling import digest_of, first_of, generator
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task
from xlt_ray.data.text.neighbours import Sentences, augmented_table
from xlt_ray.data.text.pipeline import Batch, Encoded, Template, encoded, template_of
from xlt_ray.data.types.base import Example, Frame, Row, Rows, Table, kind_of
from xlt_ray.errors import DataError

MONOLINGUAL = Hybrid()
"""No cross-lingual batches."""


class TrainBatches:
    """Labelled examples of one language as an endless sequence of batches."""

    def __init__(
        self,
        task: Task,
        template: Template,
        table: Sentences,
        examples: Sequence[Example],
        places: np.ndarray,
        *,
        max_length: int,
        batch_size: int,
        seed: int,
        hybrid: Hybrid = MONOLINGUAL,
        crossing: Crossing | None = None,
        is_nested: bool = False,
        num_negatives: int = Ranking().negatives,
        plain: Sentences | None = None,
        coverage: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """``plain``: the sentences as they are read, where ``table`` holds copies with other words;
        copies follow each other. ``coverage``: share of the words that lists have, by list."""
        self.task, self.batch_size, self.coverage = task, batch_size, dict(coverage)
        self._kind, self._frame = kind_of(task), Frame(template, max_length, num_negatives)
        width = self._kind.width(task)
        self._rows = Rows(table, width, len(examples))
        self._plain = self._rows if plain is None else Rows(plain, width, len(plain) // width)
        self._places, self._seed = places, seed
        self._labels = [self._kind.numbers(task, example) for example in examples]
        self._hybrid, self._crossing = hybrid, crossing
        self._is_nested = is_nested
        self._order = lru_cache(maxsize=4)(self._shuffle)

    @property
    def num_examples(self) -> int:
        return len(self._places)

    def num_steps(self, epochs: int) -> int:
        """Steps that see every example at least ``epochs`` times."""
        return -(-self.num_examples * epochs // self.batch_size)

    def crossed(self, step: int) -> np.ndarray:
        """(rows of batch ``step``,) bool: which of them are cross-lingual."""
        return self._crossed(generator("hybrid", self._seed, step))

    def batch(self, step: int) -> Batch:
        """Batch ``step`` = 0, 1, ...: the same arrays whenever and however often it is asked."""
        random = generator("hybrid", self._seed, step)
        crossed = self._crossed(random).tolist()
        language = self._language(random)
        places = [self._place(step * self.batch_size + row) for row in range(len(crossed))]
        rows = [
            self._crossing.row(place, random)
            if is_crossed and self._crossing is not None
            else self._row_in(language, place)
            for place, is_crossed in zip(places, crossed, strict=True)
        ]
        labels = [self._labels[place] for place in places]
        plain = [self._plain[place % len(self._plain)] for place in places]
        stream = ("items", self._seed, step)
        items = self._kind.train_items(self.task, rows, plain, labels, self._frame, stream)
        return self._kind.batch(
            self.task, [item for _, item in items], [labels[row] for row, _ in items], self._frame
        )

    def _language(self, random: np.random.Generator) -> int:
        """Number of the language of what is not cross-lingual in a batch, 0 being the source."""
        if self._hybrid.mono == "source" or self._crossing is None:
            return 0
        return int(random.integers(self._crossing.num_languages))

    def _row_in(self, language: int, place: int) -> Row:
        """An example in one language, or in the source language where it is there alone."""
        if language == 0 or self._crossing is None:
            return self._rows[place]
        return self._crossing.row_in(language, place) or self._rows[place]

    def _crossed(self, random: np.random.Generator) -> np.ndarray:
        hybrid = self._hybrid
        if self._crossing is None:
            return np.zeros(self.batch_size, bool)
        if hybrid.mixing == "in_batch":
            return random.random(self.batch_size) < hybrid.ratio
        if random.random() >= hybrid.ratio:
            return np.zeros(self.batch_size, bool)
        return np.ones(max(round(self.batch_size * hybrid.batch_scale), 1), bool)

    def _place(self, position: int) -> int:
        epoch, place = divmod(position, self.num_examples)
        return int(self._order(epoch)[place])

    def _shuffle(self, epoch: int) -> np.ndarray:
        if self._is_nested:
            return self._places
        return generator("train-order", self._seed, epoch).permutation(self._places)


class EvalBatches:
    """One split of one language in fixed batches of similar length, longest first.

    Iterating yields (numbers, batch): row k of the batch is item ``numbers[k]``. Items are the
    examples themselves, but for kinds that show one part of a long text at a time.
    """

    def __init__(
        self,
        task: Task,
        language: str,
        template: Template,
        table: Table,
        examples: tuple[Example, ...],
        *,
        max_length: int,
        batch_size: int,
        num_dropped: int = 0,
    ) -> None:
        self.task, self.language = task, language
        self.examples = examples
        self.num_dropped = num_dropped
        self._kind, self._frame = kind_of(task), Frame(template, max_length)
        self._rows = Rows(table, self._kind.width(task), len(examples))
        self._views = self._kind.views(task, self._rows, self._frame)
        self._batch_size = batch_size

    @property
    def num_items(self) -> int:
        return len(self._views.owners)

    def __len__(self) -> int:
        """Number of batches."""
        return -(-self.num_items // self._batch_size)

    @property
    def gold(self) -> tuple[Any, ...]:
        """By example: what a prediction is compared with."""
        return tuple(example.gold for example in self.examples)

    @property
    def cut(self) -> float:
        """Share of the examples (of the words, for tags) that ``max_length`` takes a part of."""
        return self._kind.cut(self.task, self._rows, self.examples, self._frame)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Batch]]:
        order = np.argsort(-self._views.lengths, kind="stable")
        owners = self._views.owners
        for begin in range(0, len(order), self._batch_size):
            numbers = order[begin : begin + self._batch_size]
            items = [self._views[number] for number in numbers.tolist()]
            labels = [
                self._kind.numbers(self.task, self.examples[owner])
                for owner in owners[numbers].tolist()
            ]
            yield numbers, self._kind.batch(self.task, items, labels, self._frame)

    def decode(self, numbers: np.ndarray, predicted: np.ndarray) -> list[Any]:
        """What the network's answers to a batch say of each of its items."""
        items = [self._views[number] for number in np.asarray(numbers).tolist()]
        return self._kind.decode(self.task, items, predicted, self._frame)

    def by_example(self, decoded: Sequence[Any]) -> list[list[Any]]:
        """What was decoded for every item, item by item of every example."""
        parts: list[list[Any]] = [[] for _ in self.examples]
        for owner, part in zip(self._views.owners.tolist(), decoded, strict=True):
            parts[owner].append(part)
        return parts

    def predictions(self, decoded: Sequence[Any]) -> list[Any]:
        """By example: what its decoded items say together, in the form of its gold."""
        return [
            self._kind.joined(self.task, example, said)
            for example, said in zip(self.examples, self.by_example(decoded), strict=True)
        ]

    def score(self, decoded: Sequence[Any]) -> dict[str, float]:
        """The task's metrics, of what was decoded for every item."""
        predicted = self.predictions(decoded)
        return self._kind.score(self.task, self.language, self.gold, predicted)


def train_batches(
    source: Source,
    task: Task,
    permit: LabelAccess,
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
    augment: AugmentRobust | None = None,
    num_negatives: int = Ranking().negatives,
) -> TrainBatches:
    """The first ``size`` training examples of ``source_language`` in the fixed shuffle.

    Args:
        is_nested: whether they are walked through in that very order, so that the batches of a
            smaller size are the first ones of a larger; else in a shuffle of their own.
        augment: copies with other words to train on instead; cross-lingual batches, and those of
            another language, keep the words.
        num_negatives: wrong candidates of every row of a ranking task.

    Raises:
        ForbiddenLabels: the permit is not one to train this task in this language.
        DataError: no such data, fewer examples than ``size``, cross-lingual batches without
            translations and without a lexicon, or batches in other languages without translations.
    """
    examples = labelled(source, permit, task, source_language, "train")
    places = first_of(len(examples), size, task=task.name, language=source_language)
    if not len(places):
        raise DataError("is empty", task=task.name, language=source_language, split="train")

    def table(language: str, rows: Sequence[Example]) -> Encoded:
        return encoded_split(
            source, task, language, "train", rows, tokenizer, tokenizer_digest, cache_dir
        )

    own = table(source_language, examples)
    crossing: Crossing | None = None
    if hybrid.is_used:
        rest = (tokenizer, tokenizer_digest, cache_dir)
        crossing = crossing_of(
            source, task, permit, source_language, hybrid, examples, table, *rest
        )
    said: Sentences = own
    coverage = {} if crossing is None else crossing.coverage
    if augment is not None:
        words = (sentence for example in examples for sentence in example.sentences())
        copies = augmented_table(
            source, source_language, augment, own, words, tokenizer, tokenizer_digest, seed,
            cache_dir,
        )  # fmt: skip
        said = Unswitched(task, own, copies)
        coverage = {**coverage, "neighbours": copies.coverage}
        if crossing is not None:
            crossing = OfCopies(crossing, len(examples))
        places = np.concatenate([places + copy * len(examples) for copy in range(augment.copies)])
        examples = examples * augment.copies
    return TrainBatches(
        task,
        template_of(tokenizer),
        said,
        examples,
        places,
        max_length=max_length,
        batch_size=batch_size,
        seed=seed,
        hybrid=hybrid,
        crossing=crossing,
        is_nested=is_nested,
        num_negatives=num_negatives,
        plain=own,
        coverage=coverage,
    )


def eval_batches(
    source: Source,
    task: Task,
    permit: LabelAccess,
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
    table = encoded_split(
        source, task, language, split, examples, tokenizer, tokenizer_digest, cache_dir
    )
    return EvalBatches(
        task,
        language,
        template_of(tokenizer),
        table,
        examples if limit == "all" else examples[:limit],
        max_length=max_length,
        batch_size=batch_size,
    )


def pair_batches(
    source: Source,
    task: Task,
    permit: LabelAccess,
    languages: tuple[str, str],
    limit: Size,
    tokenizer: Any,
    tokenizer_digest: str,
    max_length: int,
    batch_size: int,
    cache_dir: Path,
) -> EvalBatches:
    """Test rows with the first sentence in one language and the second in the other.

    The language of the batches is ``FIRST:SECOND``; of the joined rows the first ``limit`` are
    taken. Sentences are encoded once for each language, whatever pairs it is in.

    Raises:
        ForbiddenLabels: the permit does not evaluate. DataError: no such data, or rows that do not
        join (:func:`xlt_ray.data.batches.crosslingual.joined`).
    """
    rows = [labelled(source, permit, task, language, "test") for language in languages]
    tables = [
        encoded_split(source, task, one, "test", part, tokenizer, tokenizer_digest, cache_dir)
        for one, part in zip(languages, rows, strict=True)
    ]
    name = ":".join(languages)
    both = joined(*rows, task=task.name, language=name)
    return EvalBatches(
        task,
        name,
        template_of(tokenizer),
        JoinedTable(tables[0], tables[1], both.places),
        both.examples if limit == "all" else both.examples[:limit],
        max_length=max_length,
        batch_size=batch_size,
        num_dropped=both.num_dropped,
    )


def encoded_split(
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
        (words for example in examples for words in example.sentences()),
        tokenizer,
        tokenizer_digest=tokenizer_digest,
        content_digest=digest_of("split", task.name, task.version, language, split, facts.digest),
        cache_dir=cache_dir,
        with_places=kind_of(task).has_places,
    )
