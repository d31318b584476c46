"""Sentence retrieval: which sentence of the pivot language is this one's translation?

Read from TSV files of translations with a header. Nothing is trained and there are no labels: a
sentence is the mean of its pieces at one layer, and its translation is looked for among all of
the file. Both directions are scored: from the language into the pivot, and back.

Two measures of nearness: the cosine (XTREME, arXiv 2003.11080, which scores the direction from the
pivot alone), and the ratio margin of Artetxe and Schwenk (arXiv 1811.01136; ``score`` in LASER's
``mine_bitexts.py``, seen), for vectors x and y

    cos(x, y) / (mean of cos(x, z) over the k nearest z of x  +  the same of y) * 2

with k = 4, which takes from sentences that are near to everything. The mean is over neighbours of
the other language, as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import ItemScores, Parts, each, ratio, top_share
from xlt_ray.data.task import Task
from xlt_ray.data.text.lines import RAISED, Faults, cells, line_error
from xlt_ray.data.types.base import Frame, Row, Rows, Views
from xlt_ray.data.types.sentence_vectors import NUM_NEIGHBOURS, SentenceVectorsType, of_length_one


@dataclass(frozen=True, slots=True)
class RetrievalExample:
    """A sentence and its translation into the pivot language."""

    id: str
    sentence: str
    translation: str

    @property
    def gold(self) -> None:
        """Its place among the others is all there is to find."""
        return None

    def hidden(self) -> RetrievalExample:
        return self

    def sentences(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.sentence.split()), tuple(self.translation.split()))


class Sides:
    """Sentence and translation of every example as items of their own."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.owners = np.repeat(np.arange(len(rows)), 2)
        self.lengths = np.array(
            [len(row.pieces) for number in range(len(rows)) for row in rows[number]], np.int64
        )

    def __getitem__(self, number: int) -> Row:
        example, side = divmod(number, 2)
        return (self._rows[example][side],)


class RetrievalType(SentenceVectorsType):
    """Predictions are two vectors for each example: of the sentence and of its translation."""

    def width(self, task: Task) -> int:
        return 2

    def read(
        self, path: Path, task: Task, split: Split, faults: Faults = RAISED
    ) -> Iterator[RetrievalExample]:
        """Rows of which a side is empty are left out; ids are numbers of lines."""
        rows = cells(path)
        _, first = next(rows, (1, []))
        header = [cell.strip() for cell in first]
        wanted = (task.columns.first, task.columns.second)
        missing = [column for column in wanted if column not in header]
        if missing:
            raise line_error(path, 1, f"the header lacks {', '.join(missing)}")
        for number, row in rows:
            with faults:
                if len(row) != len(header):
                    problem = f"has {len(row)} columns, the header {len(header)}"
                    raise line_error(path, number, problem)
                sentence, translation = (row[header.index(column)].strip() for column in wanted)
                if sentence and translation:
                    yield RetrievalExample(str(number), sentence, translation)

    def of_row(
        self, task: Task, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> RetrievalExample | None:
        sentence, translation = (str(row[side] or "").strip() for side in ("first", "second"))
        return RetrievalExample(name, sentence, translation) if sentence and translation else None

    def views(self, task: Task, rows: Rows, frame: Frame) -> Views:
        return Sides(rows)

    def joined(
        self, task: Task, example: RetrievalExample, parts: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        sentence, translation = parts
        return sentence, translation

    def item_scores(
        self,
        task: Task,
        language: str,
        gold: Sequence[None],
        predicted: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> ItemScores:
        """The pool of candidates stays what it is: it is part of the task."""
        num_items = len(predicted)
        if len(gold) != num_items:
            raise ValueError(f"{len(gold)} examples, {num_items} pairs of vectors")
        parts: dict[str, Parts] = {}
        hub = 0.0
        if predicted:
            nearness = cosines(
                np.stack([one for one, _ in predicted]), np.stack([other for _, other in predicted])
            )
            into, out_of = found(nearness), found(nearness.T)
            margin = ratio_margin(nearness, NUM_NEIGHBOURS)
            by_metric = {
                "accuracy": (into + out_of) / 2,
                "accuracy_into_pivot": into,
                "accuracy_from_pivot": out_of,
                "margin_accuracy": (found(margin) + found(margin.T)) / 2,
            }
            parts = {metric: each(by_metric[metric]) for metric in task.metrics}
            hub = max(top_share(nearness.argmax(axis=one).tolist()) for one in (0, 1))
        return ItemScores(
            owners=np.arange(num_items),
            parts=parts,
            values={metric: ratio(*both) for metric, both in parts.items()},
            top_share=hub,
            gold_top_share=1 / num_items if num_items else 0.0,
            chance=dict.fromkeys(parts, 1 / num_items if num_items else 0.0),
        )


KIND = RetrievalType()


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) float64 of vectors (n, width) and (m, width); 0 for a vector of zeros."""
    one, other = (of_length_one(np.asarray(side, np.float64)) for side in (first, second))
    product: np.ndarray = one @ other.T
    return product


def ratio_margin(nearness: np.ndarray, num_neighbours: int) -> np.ndarray:
    """Every cosine over the mean of those of the nearest neighbours of its row and its column.

    With fewer candidates than ``num_neighbours`` all of them are the neighbours. 0 where the
    neighbours' mean is not positive, as a ratio to it says nothing.
    """
    by_row, by_column = (
        -np.sort(-side, axis=1)[:, :num_neighbours].mean(axis=1) for side in (nearness, nearness.T)
    )
    mean = (by_row[:, None] + by_column[None, :]) / 2
    return np.divide(nearness, mean, out=np.zeros_like(nearness), where=mean > 0)


def found(nearness: np.ndarray) -> np.ndarray:
    """(n,) 1.0 of rows whose nearest column is their own; a tie with another column is a miss."""
    own = np.diagonal(nearness)
    others = np.where(np.eye(len(nearness), dtype=bool), -np.inf, nearness)
    return np.asarray(own > others.max(axis=1), np.float64)
