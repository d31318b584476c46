"""How a cross-lingual training batch says its examples: translated, or code-switched."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from xlt_ray.data.augment import Sentences
from xlt_ray.data.encode import Encoded, Sentence
from xlt_ray.data.kinds.kind import Row, Rows, kind_of
from xlt_ray.data.switching import SwitchableTable, weighted
from xlt_ray.data.task import Task

SWITCH_PROBABILITY = 0.5
"""Of a word of a code-switched batch."""


class Crossing(Protocol):
    """How a cross-lingual batch says its examples."""

    def row(self, place: int, random: np.random.Generator) -> Row:
        """Example ``place`` of the source language's train split, with other words."""


class Translated:
    """Sentence 1 in one language and sentence 2 in another, joined by the example's id.

    The ordered pair of different languages is uniform over those that have the example, or,
    by size, either language in proportion to the examples there are in it, the second one among
    the others. An example that exists in the source language alone stays as it is.
    """

    def __init__(
        self,
        source_language: str,
        tables: dict[str, Encoded],
        ids: dict[str, list[str]],
        *,
        is_by_size: bool = False,
    ) -> None:
        own = {name: place for place, name in enumerate(ids[source_language])}
        self._tables = [tables[language] for language in tables]
        self._sizes = (
            np.array([len(ids[language]) for language in tables], float) if is_by_size else None
        )
        # (languages, examples): place of the example in each language, -1 where it is missing.
        self._places = np.full((len(tables), len(own)), -1, np.int64)
        for row, language in enumerate(tables):
            for place, name in enumerate(ids[language]):
                if name in own:
                    self._places[row, own[name]] = place

    def row(self, place: int, random: np.random.Generator) -> Row:
        there = np.flatnonzero(self._places[:, place] >= 0)
        draws = random.random(2)
        if self._sizes is None:
            first = int(draws[0] * len(there))
            # Uniform over the others: step 1 .. n - 1 places on from the first one.
            second = first
            if len(there) > 1:
                second = (first + 1 + int(draws[1] * (len(there) - 1))) % len(there)
            one, other = there[first], there[second]
        else:
            one = other = weighted(there, self._sizes[there], draws[0])
            others = there[there != one]
            if len(others):
                other = weighted(others, self._sizes[others], draws[1])
        return (
            self._tables[one][2 * int(self._places[one, place])],
            self._tables[other][2 * int(self._places[other, place]) + 1],
        )


class Switched:
    """Words of the sentences that a kind lets be switched, replaced by translations."""

    def __init__(self, task: Task, rows: Rows, table: SwitchableTable) -> None:
        kind = kind_of(task)
        self._width, self._slots = kind.width(task), frozenset(kind.switched(task))
        self._rows, self._table = rows, table

    def row(self, place: int, random: np.random.Generator) -> Row:
        return tuple(
            self._table.switched(self._width * place + slot, SWITCH_PROBABILITY, random)
            if slot in self._slots
            else sentence
            for slot, sentence in enumerate(self._rows[place])
        )


class OfCopies:
    """A crossing of examples that are there several times, copy by copy."""

    def __init__(self, crossing: Crossing, num_examples: int) -> None:
        self._crossing, self._num_examples = crossing, num_examples

    def row(self, place: int, random: np.random.Generator) -> Row:
        return self._crossing.row(place % self._num_examples, random)


class Unswitched:
    """Copies of a table in which the sentences that must keep their words do keep them."""

    def __init__(self, task: Task, table: Encoded, copies: Sentences) -> None:
        kind = kind_of(task)
        self._width, self._slots = kind.width(task), frozenset(kind.switched(task))
        self._table, self._copies = table, copies

    def __len__(self) -> int:
        return len(self._copies)

    def __getitem__(self, number: int) -> Sentence:
        if number % self._width in self._slots:
            return self._copies[number]
        return self._table[number % len(self._table)]
