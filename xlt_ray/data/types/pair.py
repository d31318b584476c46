"""Sentence pairs: one label for two sentences, read from TSV files with a header."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, Names, cells, line_error
from xlt_ray.data.text.pipeline import Batch
from xlt_ray.data.types.base import AnswersType, Example, Frame, Row
from xlt_ray.data.types.labelled import LabelledType, labelled_batch

_NOT_TRANSLATED = "NS"


@dataclass(frozen=True, slots=True)
class TwoSentences(Example):
    """Two sentences, whatever their label is."""

    first: str
    second: str

    @property
    def is_whole(self) -> bool:
        return are_whole(self.first, self.second)

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.first.split()), tuple(self.second.split()))


@dataclass(frozen=True, slots=True)
class PairExample(TwoSentences):
    """Two sentences and their relation."""

    label_field = "label"
    label: str | None


class SentencePairType(AnswersType):
    """Two sentences a row, and one label for both, whatever it is."""

    width = 2

    @abstractmethod
    def of_text(
        self, name: str, first: str, second: str, label: str, path: Path, number: int
    ) -> Any:
        """The example of a row, or the fault of its ``label``."""

    @abstractmethod
    def unlabelled(self, name: str, first: str, second: str) -> Any:
        """An example whose label is a placeholder."""

    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[Any]:
        names = Names()
        for number, (name, first, second, label) in pair_rows(path, self.task, split, faults):
            with faults:
                yield self.of_text(names.unique(name), first, second, label, path, number)

    def of_row(self, row: Mapping[str, Any], name: str, path: Path, number: int) -> Any:
        label = str(row["label"]).strip()
        return self.of_text(name, *both_sentences(row), label, path, number)

    def count(self, path: Path, split: Split) -> int:
        """Rows that :meth:`read` gives; no label is looked at."""
        return sum(1 for _ in pair_rows(path, self.task, split))

    def is_whole(self, example: TwoSentences) -> bool:
        return example.is_whole

    def read_unlabelled(self, path: Path) -> Iterator[Any]:
        """Two columns, or columns with a header that names the task's two sentences."""
        names = Names()
        for number, name, first, second in unlabelled_rows(path, self.task):
            yield self.unlabelled(names.unique(name or f"line{number}"), first, second)

    def batch(self, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame) -> Batch:
        """``labels`` (batch,)."""
        return labelled_batch(items, labels, frame)


class PairType(LabelledType, SentencePairType):
    """Gold and predictions are one label per pair."""

    example = PairExample

    def of_text(
        self, name: str, first: str, second: str, label: str, path: Path, number: int
    ) -> PairExample:
        return PairExample(name, first, second, self.task.known(label, path, number))

    def unlabelled(self, name: str, first: str, second: str) -> PairExample:
        return PairExample(name, first, second, self.task.labels[0])


def are_whole(*sentences: str) -> bool:
    """Whether all sentences are there: none is empty or marked as not translated."""
    return all(text and text != _NOT_TRANSLATED for text in sentences)


def both_sentences(row: Mapping[str, Any]) -> tuple[str, str]:
    """The two sentences of a row of a data set."""
    first, second = (str(row[side] or "").strip() for side in ("first", "second"))
    return first, second


def column_rows(
    path: Path, columns: Sequence[str], faults: Faults
) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row, in the order of ``columns``.

    Raises:
        DataError: the header lacks a column or has it twice, or a row is of another width.
    """
    rows = cells(path)
    header = [cell.strip() for cell in next(rows, (1, []))[1]]
    if missing := [column for column in columns if column not in header]:
        raise line_error(path, 1, f"the header lacks {', '.join(missing)}")
    for column in columns:
        if header.count(column) > 1:
            raise line_error(path, 1, f"the header has {column} {header.count(column)} times")
    places = [header.index(column) for column in columns]
    for number, row in rows:
        with faults:
            if len(row) != len(header):
                raise line_error(path, number, f"has {len(row)} columns, the header {len(header)}")
            yield number, [row[place].strip() for place in places]


def pair_rows(
    path: Path, task: Task, split: Split, faults: Faults = RAISED
) -> Iterator[tuple[int, list[str]]]:
    """Line number, and id, sentences and label of every row, in training of every whole one."""
    columns = task.columns
    wanted = (columns.id, columns.first, columns.second, columns.label)
    for number, row in column_rows(path, wanted, faults):
        if split != "train" or are_whole(row[1], row[2]):
            yield number, row


def unlabelled_rows(path: Path, task: Task) -> Iterator[tuple[int, str, str, str]]:
    """Line number, id (empty where there is none) and both sentences of every row."""
    columns = task.columns
    rows = cells(path)
    header = [cell.strip() for cell in next(rows, (1, []))[1]]
    places, width = (0, 1), 2
    remedy = f"two sentences, or a header with {columns.first} and {columns.second}"
    if {columns.first, columns.second} <= set(header):
        places, width = (header.index(columns.first), header.index(columns.second)), len(header)
        remedy = "as many as the header"
    else:
        header, rows = [], cells(path)
    for number, row in rows:
        if len(row) != width:
            raise line_error(path, number, f"has {len(row)} columns, not {width}", remedy)
        first, second = (row[place].strip() for place in places)
        if not first or not second:
            raise line_error(path, number, "a sentence is empty")
        name = row[header.index(columns.id)].strip() if columns.id in header else ""
        yield number, name, first, second
