"""Sentence pairs: one label for two sentences, read from TSV files with a header."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import (
    ItemScores,
    each,
    label_counts,
    macro_f1_without,
    most_frequent,
    of_jackknife,
    top_share,
)
from xlt_ray.data.metrics import accuracy, defined, macro_f1
from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, Names, cells, line_error
from xlt_ray.data.text.pipeline import Batch, collate
from xlt_ray.data.types.base import Frame, Row, TaskType, class_shares

_NOT_TRANSLATED = "NS"


@dataclass(frozen=True, slots=True)
class TwoSentences:
    """What examples of sentence pairs have in common."""

    id: str
    first: str
    second: str

    @property
    def is_whole(self) -> bool:
        """Whether both sentences are there: neither is empty or marked as not translated."""
        return all(one and one != _NOT_TRANSLATED for one in (self.first, self.second))

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.first.split()), tuple(self.second.split()))


@dataclass(frozen=True, slots=True)
class PairExample(TwoSentences):
    """Two sentences and their relation; ``label`` is None where only the text may be seen."""

    label: str | None

    @property
    def gold(self) -> str | None:
        return self.label

    def hidden(self) -> PairExample:
        return replace(self, label=None)


class SentencePairType(TaskType):
    """Two sentences a row, and one label for both, whatever it is."""

    def width(self, task: Task) -> int:
        return 2

    def count(self, path: Path, task: Task, split: Split) -> int:
        """Rows that :meth:`read` gives; no label is looked at."""
        return sum(1 for _ in pair_rows(path, task, split))

    def is_whole(self, example: TwoSentences) -> bool:
        return example.is_whole

    @abstractmethod
    def unlabelled(self, task: Task, name: str, first: str, second: str) -> TwoSentences:
        """An example whose label is a placeholder."""

    def read_unlabelled(self, path: Path, task: Task) -> Iterator[Any]:
        """Two columns, or columns with a header that names the task's two sentences."""
        names = Names()
        for number, name, first, second in unlabelled_rows(path, task):
            yield self.unlabelled(task, names.unique(name or f"line{number}"), first, second)

    def batch(
        self, task: Task, items: Sequence[Row], labels: Sequence[np.ndarray], frame: Frame
    ) -> Batch:
        """``labels`` (batch,)."""
        batch, _ = collate(items, frame.template, frame.max_length)
        batch["labels"] = np.stack(labels)
        return batch


class PairType(SentencePairType):
    """Gold and predictions are one label per pair."""

    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[PairExample]:
        names = Names()
        for number, (name, first, second, label) in pair_rows(path, task, split, faults):
            with faults:
                known = task.known(label, path, number)
                yield PairExample(names.unique(name), first, second, known)

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> PairExample | None:
        return PairExample(
            name, *both_sentences(row), task.known(str(row["label"]).strip(), path, number)
        )

    def unlabelled(self, task: Task, name: str, first: str, second: str) -> PairExample:
        return PairExample(name, first, second, task.labels[0])

    def numbers(self, task: Task, example: PairExample) -> np.ndarray:
        """()."""
        assert example.label is not None, "text without labels cannot be trained or scored"
        return np.array(task.number_of(example.label), np.int64)

    def decode(
        self, task: Task, items: Sequence[Row], predicted: np.ndarray, frame: Frame
    ) -> list[str]:
        """``predicted`` (batch,): numbers of labels."""
        return [task.labels[number] for number in np.asarray(predicted).tolist()]

    def certainties(self, logits: Any, labels: np.ndarray) -> list[Any]:
        return class_shares(logits)

    def probability(
        self, task: Task, answer: str, parts: Sequence[str], certainties: Sequence[Any]
    ) -> tuple[Any, dict[str, float] | None]:
        """The softmax of the logits, by label."""
        by_label = dict(zip(task.labels, certainties[0].tolist(), strict=True))
        return by_label[answer], by_label

    def score(
        self, task: Task, language: str, gold: Sequence[str], predicted: Sequence[str]
    ) -> dict[str, float]:
        measures = {"accuracy": accuracy, "macro_f1": macro_f1}
        return defined({metric: measures[metric](gold, predicted) for metric in task.metrics})

    def item_scores(
        self, task: Task, language: str, gold: Sequence[str], predicted: Sequence[str]
    ) -> ItemScores:
        values = self.score(task, language, gold, predicted)
        parts = {"accuracy": each([one == two for one, two in zip(gold, predicted, strict=True)])}
        if "macro_f1" in values:
            counts = label_counts([[one] for one in gold], [[one] for one in predicted])
            parts["macro_f1"] = of_jackknife(values["macro_f1"], macro_f1_without(*counts))
        return ItemScores(
            owners=np.arange(len(gold)),
            parts={metric: parts[metric] for metric in values},
            values=values,
            top_share=top_share(predicted),
            gold_top_share=top_share(gold),
            chance=self.score(task, language, gold, [most_frequent(gold) or ""] * len(gold)),
        )


KIND = PairType()


def both_sentences(row: Mapping[str, Any]) -> tuple[str, str]:
    """The two sentences of a row."""
    first, second = (str(row[side] or "").strip() for side in ("first", "second"))
    return first, second


def pair_rows(
    path: Path, task: Task, split: Split, faults: Faults = RAISED
) -> Iterator[tuple[int, tuple[str, str, str, str]]]:
    """Line number, and id, sentences and label of every row, in training of every whole one.

    Raises:
        DataError: the header lacks a column of the task, or a row is of another width.
    """
    rows = cells(path)
    _, row = next(rows, (1, []))
    header = [cell.strip() for cell in row]
    wanted = (task.columns.id, task.columns.first, task.columns.second, task.columns.label)
    missing = [column for column in wanted if column not in header]
    if missing:
        raise line_error(path, 1, f"the header lacks {', '.join(missing)}")
    for column in wanted:
        if header.count(column) > 1:
            raise line_error(path, 1, f"the header has {column} {header.count(column)} times")
    places = [header.index(column) for column in wanted]
    for number, row in rows:
        with faults:
            if len(row) != len(header):
                raise line_error(path, number, f"has {len(row)} columns, the header {len(header)}")
            name, first, second, label = (row[place].strip() for place in places)
            if split != "train" or TwoSentences(name, first, second).is_whole:
                yield number, (name, first, second, label)


def unlabelled_rows(path: Path, task: Task) -> Iterator[tuple[int, str, str, str]]:
    """Line number, id (empty where there is none) and both sentences of every row."""
    columns = task.columns
    rows = cells(path)
    _, row = next(rows, (1, []))
    header = [cell.strip() for cell in row]
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
