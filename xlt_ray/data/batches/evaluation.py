"""What evaluation reads: splits of languages, or rows of a sentence in each of two languages.

All splits of a task are sorted by length together, because a language has too few rows for that.

Rows in two languages are the generalized cross-lingual evaluation of arXiv 2104.08645: they are
joined by id, and a row that one of the languages lacks is dropped and counted, as is one whose
sentence is empty or marked as not translated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
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


class EvalSplit:
    """One split of one language, as items to be predicted: the examples themselves, but for kinds
    that show one part of a long text at a time."""

    def __init__(
        self,
        task: Task,
        language: str,
        frame: Frame,
        table: Table,
        examples: tuple[Example, ...],
        *,
        num_dropped: int = 0,
    ) -> None:
        self.task, self.language, self.frame = task, language, frame
        self.examples = examples
        self.num_dropped = num_dropped
        self._kind = kind_of(task)
        self._rows = Rows(table, self._kind.width, len(examples))
        self._items = Items(self._kind, self._rows, frame)

    @property
    def num_items(self) -> int:
        return len(self._items.owners)

    @property
    def lengths(self) -> np.ndarray:
        """(num_items,) int64: see :attr:`Items.lengths`."""
        return self._items.lengths

    @property
    def gold(self) -> tuple[Any, ...]:
        """What each prediction is compared with."""
        return tuple(example.gold for example in self.examples)

    @property
    def cut(self) -> float:
        """Share of the examples (of the words, for tags) that ``max_length`` takes a part of."""
        return self._kind.cut(self._rows, self.examples, self.frame)

    def item(self, number: int) -> tuple[Any, np.ndarray]:
        """An item, and the label of its example as numbers."""
        owner = int(self._items.owners[number])
        return self._items[number], self._kind.numbers(self.examples[owner])

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


class EvalBatch(NamedTuple):
    """Some items of :class:`EvalBatches`, a row each."""

    numbers: np.ndarray
    """(rows,) int64: which items, counted over all splits."""
    items: list[Any]
    arrays: Batch

    @property
    def inputs(self) -> Batch:
        """The arrays without labels."""
        return {name: array for name, array in self.arrays.items() if name != "labels"}


MIN_FILL = 0.75
"""A row in a batch is at least this long, as a share of the longest one. There are some ten more
batches for it, however many rows."""


class EvalBatches:
    """Splits of one task in batches of similar length, longest first, whatever their language.

    A batch has as many rows of its own length as fit into the cells of ``batch_size`` rows of the
    greatest length, so batches of short items have more rows.
    """

    def __init__(self, splits: Sequence[EvalSplit], batch_size: int) -> None:
        self._splits = splits
        self._kind, self._frame = kind_of(splits[0].task), splits[0].frame
        self._ends = np.cumsum([split.num_items for split in splits])
        lengths = np.concatenate([split.lengths for split in splits])
        self._order = np.argsort(-lengths, kind="stable")
        descending = lengths[self._order]
        begin, self._begins = 0, [0]
        while begin < len(descending):
            longest = int(descending[begin])
            num_rows = max(batch_size * self._frame.max_length // longest, 1)
            end = int(np.searchsorted(-descending, -MIN_FILL * longest, side="right"))
            begin = min(begin + num_rows, end)
            self._begins.append(begin)

    @property
    def num_items(self) -> int:
        return len(self._order)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._begins) - 1

    def __iter__(self) -> Iterator[EvalBatch]:
        for begin, end in pairwise(self._begins):
            numbers = self._order[begin:end]
            items, labels = zip(*map(self._item, numbers.tolist()), strict=True)
            yield EvalBatch(numbers, list(items), self._kind.batch(items, labels, self._frame))

    def _item(self, number: int) -> tuple[Any, np.ndarray]:
        place = int(np.searchsorted(self._ends, number, side="right"))
        split = self._splits[place]
        return split.item(number - int(self._ends[place]) + split.num_items)

    def decode(self, batch: EvalBatch, predicted: np.ndarray) -> list[Any]:
        """The meaning of the network's answers to a batch, item by item."""
        return self._kind.decode(batch.items, predicted, self._frame)

    def by_split(self, of_batches: Iterable[tuple[np.ndarray, Iterable[Any]]]) -> list[list[Any]]:
        """From what belongs to the items of every batch, with their numbers, to a list for each
        split, in the order of its items."""
        in_order: list[Any] = [None] * self.num_items
        for numbers, of_batch in of_batches:
            for number, of_item in zip(numbers.tolist(), of_batch, strict=True):
                in_order[number] = of_item
        return [
            in_order[end - split.num_items : end]
            for split, end in zip(self._splits, self._ends.tolist(), strict=True)
        ]


def eval_split(
    source: Source,
    task: Task,
    access: LabelAccess,
    language: str,
    split: Split,
    limit: Size,
    pipeline: TextPipeline,
) -> EvalSplit:
    """One split for scoring: the first ``limit`` examples, or all where there are fewer.

    A pair of languages is ``FIRST:SECOND``, and ``limit`` counts its joined rows. Sentences are
    encoded once for each language, whatever pairs it is in.

    Raises:
        ForbiddenLabels: the access is neither for evaluating nor for selecting on this split.
        DataError: rows of two languages do not join.
    """
    codes = language.split(":")
    rows = [labelled(source, access, task, code, split) for code in codes]
    tables = [
        encoded_split(source, task, code, split, examples, pipeline)
        for code, examples in zip(codes, rows, strict=True)
    ]
    table: Table = tables[0]
    examples, num_dropped = rows[0], 0
    if len(codes) == 2:
        examples, places, num_dropped = joined(*rows, task=task.name, language=language)
        table = JoinedTable(tables, places)
    return EvalSplit(
        task,
        language,
        Frame(pipeline.template, pipeline.max_length),
        table,
        tuple(examples if limit == "all" else examples[:limit]),
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
