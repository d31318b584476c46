"""What evaluation reads: a split of one language, or rows of a sentence in each of two languages.

Rows in two languages are the generalized cross-lingual evaluation of arXiv 2104.08645: they are
joined by id, and a row that one of the languages lacks is dropped and counted, as is one whose
sentence is empty or marked as not translated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.config.trial import Size
from xlt_ray.data.batches.supervised import encoded_split
from xlt_ray.data.label_access import LabelAccess, labelled
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task
from xlt_ray.data.text.pipeline import Batch, Sentence, TextPipeline
from xlt_ray.data.types.base import Example, Frame, Items, Predictions, Rows, Table, kind_of
from xlt_ray.errors import DataError


class EvalBatches:
    """One split of one language in fixed batches of similar length, longest first.

    Iterating yields (numbers, batch): row k of the batch is item ``numbers[k]``. Items are the
    examples themselves, but for kinds that show one part of a long text at a time.
    """

    def __init__(
        self,
        task: Task,
        language: str,
        frame: Frame,
        table: Table,
        examples: tuple[Example, ...],
        *,
        batch_size: int,
        num_dropped: int = 0,
    ) -> None:
        self.task, self.language = task, language
        self.examples = examples
        self.num_dropped = num_dropped
        self._kind, self._frame = kind_of(task), frame
        self._rows = Rows(table, self._kind.width, len(examples))
        self._items = Items(self._kind, self._rows, frame)
        self._batch_size = batch_size

    @property
    def num_items(self) -> int:
        return len(self._items.owners)

    def __len__(self) -> int:
        """Number of batches."""
        return -(-self.num_items // self._batch_size)

    @property
    def gold(self) -> tuple[Any, ...]:
        """What each prediction is compared with."""
        return tuple(example.gold for example in self.examples)

    @property
    def cut(self) -> float:
        """Share of the examples (of the words, for tags) that ``max_length`` takes a part of."""
        return self._kind.cut(self._rows, self.examples, self._frame)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Batch]]:
        order = np.argsort(-self._items.lengths, kind="stable")
        owners = self._items.owners
        for begin in range(0, len(order), self._batch_size):
            numbers = order[begin : begin + self._batch_size]
            items = [self._items[number] for number in numbers.tolist()]
            labels = [
                self._kind.numbers(self.examples[owner]) for owner in owners[numbers].tolist()
            ]
            yield numbers, self._kind.batch(items, labels, self._frame)

    def decode(self, numbers: np.ndarray, predicted: np.ndarray) -> list[Any]:
        """The meaning of the network's answers to a batch, item by item."""
        items = [self._items[number] for number in np.asarray(numbers).tolist()]
        return self._kind.decode(items, predicted, self._frame)

    def by_example(self, decoded: Sequence[Any]) -> list[list[Any]]:
        """The decoded items of every example."""
        parts: list[list[Any]] = [[] for _ in self.examples]
        for owner, part in zip(self._items.owners.tolist(), decoded, strict=True):
            parts[owner].append(part)
        return parts

    def predictions(self, decoded: Sequence[Any]) -> list[Any]:
        """The prediction for every example, from its decoded items, in the form of its gold."""
        return [
            self._kind.joined(example, parts)
            for example, parts in zip(self.examples, self.by_example(decoded), strict=True)
        ]

    def score(self, decoded: Sequence[Any]) -> dict[str, float]:
        """The task's metrics of the decoded items."""
        predicted = self.predictions(decoded)
        return self._kind.score(Predictions(self.language, self.gold, predicted))


def eval_batches(
    source: Source,
    task: Task,
    permit: LabelAccess,
    language: str,
    split: Split,
    limit: Size,
    pipeline: TextPipeline,
    batch_size: int,
) -> EvalBatches:
    """One split for scoring: the first ``limit`` examples, or all where there are fewer.

    A pair of languages is ``FIRST:SECOND``, and ``limit`` counts its joined rows. Sentences are
    encoded once for each language, whatever pairs it is in.

    Raises:
        ForbiddenLabels: the permit neither evaluates nor selects on this split.
        DataError: rows of two languages do not join.
    """
    codes = language.split(":")
    rows = [labelled(source, permit, task, code, split) for code in codes]
    tables = [
        encoded_split(source, task, code, split, examples, pipeline)
        for code, examples in zip(codes, rows, strict=True)
    ]
    table: Table = tables[0]
    examples, num_dropped = rows[0], 0
    if len(codes) == 2:
        examples, places, num_dropped = joined(*rows, task=task.name, language=language)
        table = JoinedTable(tables, places)
    return EvalBatches(
        task,
        language,
        Frame(pipeline.template, pipeline.max_length),
        table,
        tuple(examples if limit == "all" else examples[:limit]),
        batch_size=batch_size,
        num_dropped=num_dropped,
    )


class Joined(NamedTuple):
    """Rows that two languages have, in the order of the first one."""

    examples: tuple[Example, ...]
    places: tuple[tuple[int, int], ...]
    """The number of each row in the first language and in the second."""
    num_dropped: int
    """Ids of one language that the other one lacks."""


class JoinedTable:
    """The sentences of joined rows, taken from the tables of both languages."""

    def __init__(self, tables: Sequence[Table], places: Sequence[tuple[int, int]]) -> None:
        self._tables, self._places = tables, places

    def __getitem__(self, number: int) -> Sentence:
        row, slot = divmod(number, 2)
        return self._tables[slot][2 * self._places[row][slot] + slot]


def joined(
    first: Sequence[Any], second: Sequence[Any], *, task: str = "", language: str = ""
) -> Joined:
    """Pairs whose first sentence is of ``first`` and whose second is of ``second``.

    Args:
        language: what the pair is called in complaints.

    Raises:
        DataError: the languages share no row, or a row's labels differ, so that its id does not
            mean the same example.
    """
    first_numbers, second_numbers = (
        {row.id: number for number, row in enumerate(rows) if row.is_whole}
        for rows in (first, second)
    )
    places = [
        (number, second_numbers[name])
        for name, number in first_numbers.items()
        if name in second_numbers
    ]
    if not places:
        raise DataError(
            "the languages have no row in common",
            task=task,
            language=language,
            split="test",
            remedy="leave the pair out of evaluate.pairs",
        )
    examples = []
    for row, translation in ((first[number], second[place]) for number, place in places):
        if row.gold != translation.gold:
            raise DataError(
                f"row {row.id!r} is labelled {row.gold!r} in one language and "
                f"{translation.gold!r} in the other",
                task=task,
                language=language,
                split="test",
                remedy="one id must mean the same example in all languages; else pairs: none",
            )
        examples.append(replace(row, second=translation.second))
    num_dropped = len(first_numbers) + len(second_numbers) - 2 * len(examples)
    return Joined(tuple(examples), tuple(places), num_dropped)
