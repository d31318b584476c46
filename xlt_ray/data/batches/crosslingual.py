"""How a cross-lingual training batch shows its examples: translated, or code-switched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Hybrid
from xlt_ray.data.label_access import LabelAccess, texts
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task
from xlt_ray.data.text.code_switching import SwitchableTable, Switching, weighted
from xlt_ray.data.text.neighbours import Sentences
from xlt_ray.data.text.pipeline import Encoded, Sentence, TextPipeline
from xlt_ray.data.types.base import Example, Row, Rows, kind_of
from xlt_ray.errors import DataError

SWITCH_PROBABILITY = 0.5
"""Of a word of a code-switched batch."""


class Crossing(Protocol):
    """How a cross-lingual batch says its examples."""

    def row(self, place: int, random: np.random.Generator) -> Row:
        """Example ``place`` of the source language's train split, with other words."""

    def row_in(self, language: int, place: int) -> Row | None:
        """The same example as a whole in language number ``language``, 0 being the source; None
        where it is not there."""

    @property
    def num_languages(self) -> int:
        """Languages that examples are there in as a whole, the source included."""

    @property
    def coverage(self) -> dict[str, float]:
        """``lexicon``: share of the words of the text that it has; empty where none is used."""


class Translated:
    """Sentence 1 in one language and sentence 2 in another, joined by the example's id.

    The ordered pair of different languages is uniform over those that have the example, or,
    by size, either language in proportion to the examples there are in it, the second one among
    the others. An example that exists in the source language alone stays as it is.

    Args:
        tables: sentences by language, the source language first.
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

    @property
    def num_languages(self) -> int:
        return len(self._tables)

    @property
    def coverage(self) -> dict[str, float]:
        return {}

    def row_in(self, language: int, place: int) -> Row | None:
        row = int(self._places[language, place])
        if row < 0:
            return None
        table = self._tables[language]
        return table[2 * row], table[2 * row + 1]

    def row(self, place: int, random: np.random.Generator) -> Row:
        languages = np.flatnonzero(self._places[:, place] >= 0)
        draws = random.random(2)
        if self._sizes is None:
            first = int(draws[0] * len(languages))
            # Uniform over the others: step 1 .. n - 1 places on from the first one.
            second = first
            if len(languages) > 1:
                second = (first + 1 + int(draws[1] * (len(languages) - 1))) % len(languages)
            first_language, second_language = languages[first], languages[second]
        else:
            first_language = second_language = weighted(languages, self._sizes[languages], draws[0])
            others = languages[languages != first_language]
            if len(others):
                second_language = weighted(others, self._sizes[others], draws[1])
        return (
            self._tables[first_language][2 * int(self._places[first_language, place])],
            self._tables[second_language][2 * int(self._places[second_language, place]) + 1],
        )


class Switched:
    """Words of the sentences that a kind lets be switched, replaced by translations."""

    def __init__(self, task: Task, rows: Rows, table: SwitchableTable) -> None:
        kind = kind_of(task)
        self._width, self._slots = kind.width(task), frozenset(kind.switched(task))
        self._rows, self._table = rows, table

    @property
    def num_languages(self) -> int:
        return 1

    @property
    def coverage(self) -> dict[str, float]:
        return {"lexicon": self._table.coverage}

    def row_in(self, language: int, place: int) -> Row | None:
        return None

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

    @property
    def num_languages(self) -> int:
        return self._crossing.num_languages

    @property
    def coverage(self) -> dict[str, float]:
        return self._crossing.coverage

    def row_in(self, language: int, place: int) -> Row | None:
        return self._crossing.row_in(language, place % self._num_examples)

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


def crossing_of(
    source: Source,
    task: Task,
    permit: LabelAccess,
    hybrid: Hybrid,
    examples: Sequence[Example],
    table: Callable[[str, Sequence[Example]], Encoded],
    pipeline: TextPipeline,
) -> Crossing:
    """How hybrid batches say the ``examples`` of the source language's train split.

    Args:
        table: the sentences of examples of a language as pieces.

    Raises:
        DataError: neither translations nor a lexicon, or ``mono: uniform`` without translations.
    """
    source_language = permit.source_language
    own, is_by_size = table(source_language, examples), hybrid.pairs == "by_size"
    others = _other_languages(source, task, source_language, hybrid)
    if others:
        tables, ids = (
            {source_language: own},
            {source_language: [example.id for example in examples]},
        )
        for language in others:
            rows = texts(source, permit, task, language, "train")
            tables[language], ids[language] = table(language, rows), [row.id for row in rows]
        return Translated(source_language, tables, ids, is_by_size=is_by_size)
    if hybrid.mono == "uniform":
        raise DataError(
            "batches in other languages need training text that is translated row by row",
            task=task.name,
            language=source_language,
            remedy="set hybrid.mono to source",
        )
    asked = hybrid.languages
    targets = source.lexicon_languages(source_language) if asked == "all" else asked
    switching = Switching(source, source_language, targets, pipeline, is_by_size=is_by_size)
    if not len(switching):
        raise DataError(
            "cross-lingual batches need training text in other languages or a lexicon",
            task=task.name,
            language=source_language,
            remedy=f"add lexicon/{source_language}-LANGUAGE.tsv (word TAB word) below the data "
            "root, or set hybrid.ratio to 0",
        )
    words = (sentence for example in examples for sentence in example.sentences())
    rows_of = Rows(own, kind_of(task).width(task), len(examples))
    switchable = SwitchableTable(own, words, switching)
    if not switchable.coverage:
        raise DataError(
            "the lexicon has no word of the training text, so cross-lingual batches would be those "
            "of the source language",
            task=task.name,
            language=source_language,
            remedy="a lexicon of words as the text writes them (separated by blanks), or "
            "hybrid.ratio: 0",
        )
    return Switched(task, rows_of, switchable)


def _other_languages(
    source: Source, task: Task, source_language: str, hybrid: Hybrid
) -> tuple[str, ...]:
    """Languages with translated training text that hybrid batches may use, sorted."""
    if not KINDS[task.kind].is_crossed or hybrid.text == "switched":
        return ()
    translated = {language for language, split in source.splits(task) if split == "train"}
    wanted = translated if hybrid.languages == "all" else translated & set(hybrid.languages)
    return tuple(sorted(wanted - {source_language}))
