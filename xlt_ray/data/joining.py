"""Sentence pairs in two languages: the first sentence of one, the second of the other.

Generalized cross-lingual evaluation (arXiv 2104.08645): rows are joined by id, and a row that one
of the languages lacks is dropped and counted. A row whose sentence is empty or marked as not
translated counts as lacking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from xlt_ray.data.encode import Sentence
from xlt_ray.data.kinds.kind import Example, Table
from xlt_ray.errors import DataError


class Joined(NamedTuple):
    """Rows that two languages have, in the order of the first one."""

    examples: tuple[Example, ...]
    places: tuple[tuple[int, int], ...]
    """Of each row, its number in the first language and in the second."""
    num_dropped: int
    """Ids of either language that the other one lacks."""


class JoinedTable:
    """The sentences of joined rows, taken from the tables of both languages."""

    def __init__(self, first: Table, second: Table, places: Sequence[tuple[int, int]]) -> None:
        self._tables, self._places = (first, second), places

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
    own, numbers = (
        {row.id: number for number, row in enumerate(rows) if row.is_whole}
        for rows in (first, second)
    )
    examples, places = [], []
    for name, number in own.items():
        row, other = first[number], numbers.get(name)
        if other is None:
            continue
        if row.gold != second[other].gold:
            raise DataError(
                f"row {row.id!r} is labelled {row.gold!r} in one language and "
                f"{second[other].gold!r} in the other",
                task=task,
                language=language,
                split="test",
                remedy="one id has to mean one example in all languages; else pairs: none",
            )
        examples.append(replace(row, second=second[other].second))
        places.append((number, other))
    if not examples:
        raise DataError(
            "the languages have no row in common",
            task=task,
            language=language,
            split="test",
            remedy="leave the pair out of evaluate.pairs",
        )
    num_dropped = len(own) + len(numbers) - 2 * len(examples)
    return Joined(tuple(examples), tuple(places), num_dropped)
