"""Sentence retrieval: which sentence of the pivot language is this one's translation?

Read from TSV files of translations with a header; nothing is trained. The translation is looked for
among all of the file, in both directions, by the cosine (XTREME, arXiv 2003.11080, which scores the
direction from the pivot alone) and by the ratio margin (arXiv 1811.01136; ``score`` in LASER's
``mine_bitexts.py``, seen), which takes from sentences that are near to everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.item_scores import ItemScores, Parts, each, ratio, top_share
from xlt_ray.data.text.lines import RAISED, Faults
from xlt_ray.data.types.base import Example, Predictions
from xlt_ray.data.types.pair import both_sentences, column_rows
from xlt_ray.data.types.sentence_vectors import (
    NUM_NEIGHBOURS,
    SentenceVectorsType,
    of_length_one,
    over_mean,
)


@dataclass(frozen=True, slots=True)
class RetrievalExample(Example):
    """A sentence and its translation into the pivot language."""

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


class RetrievalType(SentenceVectorsType):
    """Predictions are two vectors for each example: of the sentence and of its translation."""

    example = RetrievalExample
    width = 2

    def read(self, path: Path, split: Split, faults: Faults = RAISED) -> Iterator[RetrievalExample]:
        """Rows of which a side is empty are left out; ids are numbers of lines."""
        columns = (self.task.columns.first, self.task.columns.second)
        for number, row in column_rows(path, columns, faults):
            if all(row):
                yield RetrievalExample(str(number), *row)

    def of_row(
        self, row: Mapping[str, Any], name: str, path: Path, number: int
    ) -> RetrievalExample | None:
        both = both_sentences(row)
        return RetrievalExample(name, *both) if all(both) else None

    def item_scores(self, split: Predictions) -> ItemScores:
        """The pool of candidates stays what it is: it is part of the task."""
        num_items = len(split.predicted)
        if len(split.gold) != num_items:
            raise ValueError(f"{len(split.gold)} examples, {num_items} pairs of vectors")
        parts: dict[str, Parts] = {}
        hub = 0.0
        if num_items:
            nearness = cosines(*(np.stack(side) for side in zip(*split.predicted, strict=True)))
            into, out_of = hits(nearness), hits(nearness.T)
            margin = ratio_margin(nearness, NUM_NEIGHBOURS)
            by_metric = {
                "accuracy": (into + out_of) / 2,
                "accuracy_into_pivot": into,
                "accuracy_from_pivot": out_of,
                "margin_accuracy": (hits(margin) + hits(margin.T)) / 2,
            }
            parts = {metric: each(by_metric[metric]) for metric in self.task.metrics}
            hub = max(top_share(nearness.argmax(axis=side).tolist()) for side in (0, 1))
        chance = 1 / num_items if num_items else 0.0
        return ItemScores(
            owners=np.arange(num_items),
            parts=parts,
            values={metric: ratio(*both) for metric, both in parts.items()},
            top_share=hub,
            gold_top_share=chance,
            chance=dict.fromkeys(parts, chance),
        )


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) float64 of vectors (n, width) and (m, width); 0 for a vector of zeros."""
    sides = [of_length_one(np.asarray(side, np.float64)) for side in (first, second)]
    return np.asarray(sides[0] @ sides[1].T)


def ratio_margin(nearness: np.ndarray, num_neighbours: int) -> np.ndarray:
    """Every cosine over the mean of those of the nearest neighbours of its row and its column.

    With fewer candidates than ``num_neighbours`` all of them are the neighbours.
    """
    by_row, by_column = (
        -np.sort(-side, axis=1)[:, :num_neighbours].mean(axis=1) for side in (nearness, nearness.T)
    )
    return over_mean(nearness, (by_row[:, None] + by_column[None, :]) / 2)


def hits(nearness: np.ndarray) -> np.ndarray:
    """(n,) 1.0 of rows whose nearest column is their own; a tie with another column is a miss."""
    others = np.where(np.eye(len(nearness), dtype=bool), -np.inf, nearness)
    return np.asarray(np.diagonal(nearness) > others.max(axis=1), np.float64)
