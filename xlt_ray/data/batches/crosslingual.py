"""How a cross-lingual training batch shows its examples: translated, or code-switched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Hybrid
from xlt_ray.data.example_table import ids_of
from xlt_ray.data.label_access import LabelAccess, texts
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task
from xlt_ray.data.text.code_switching import SwitchableTable, weighted
from xlt_ray.data.text.pipeline import Encoded, Sentence, TextPipeline, union
from xlt_ray.data.types.base import Example, Row, Rows, kind_of
from xlt_ray.errors import DataError

SWITCH_PROBABILITY = 0.5
"""Probability that a word of a code-switched batch is switched."""


class Crossing(ABC):
    """How a cross-lingual batch shows its examples."""

    hybrid: Hybrid
    """Which batches, or rows of them, are cross-lingual."""
    num_languages = 1
    """Languages in which whole examples exist, the source included."""
    coverage: Mapping[str, float] = MappingProxyType({})
    """``lexicon``: share of the words of the text that it has; empty where none is used."""

    @abstractmethod
    def row(self, place: int, random: np.random.Generator) -> Row:
        """Example ``place`` of the source language's train split, with other words."""

    @abstractmethod
    def vocabulary(self) -> np.ndarray | None:
        """(num_ids,) int64, ascending: ids of all pieces that its rows may have; None if it would
        take long to know."""

    def row_in(self, language: int, place: int) -> Row | None:
        """The same example as a whole in language number ``language``, 0 being the source; None
        if that language lacks it."""
        return None


class Translated(Crossing):
    """Sentence 1 in one language and sentence 2 in another, joined by the example's id.

    The ordered pair of different languages is uniform over those that have the example, or, with
    ``pairs: by_size``, either language in proportion to its number of examples, the second one
    among the others. An example that exists in the source language alone stays as it is.

    Args:
        tables: sentences by language, the source language first.
    """

    def __init__(
        self,
        hybrid: Hybrid,
        source_language: str,
        tables: dict[str, Encoded],
        ids: dict[str, list[str]],
    ) -> None:
        self.hybrid = hybrid
        place_of = {name: place for place, name in enumerate(ids[source_language])}
        self._tables, self.num_languages = list(tables.values()), len(tables)
        sizes = np.array([len(ids[language]) for language in tables], float)
        self._sizes = sizes if hybrid.pairs == "by_size" else None
        # (languages, examples): place of the example in each language, -1 where it is missing.
        self._places = np.full((len(tables), len(place_of)), -1, np.int64)
        for row, language in enumerate(tables):
            for place, name in enumerate(ids[language]):
                if name in place_of:
                    self._places[row, place_of[name]] = place

    def row_in(self, language: int, place: int) -> Row | None:
        if self._places[language, place] < 0:
            return None
        return self._sentence(language, place, 0), self._sentence(language, place, 1)

    def row(self, place: int, random: np.random.Generator) -> Row:
        languages = np.flatnonzero(self._places[:, place] >= 0)
        draws = random.random(2)
        if self._sizes is None:
            first = int(draws[0] * len(languages))
            # Uniform over the others: step 1 .. n - 1 places on from the first one.
            others = np.concatenate((languages[first + 1 :], languages[:first]))
        else:
            first = weighted(np.arange(len(languages)), self._sizes[languages], draws[0])
            others = languages[languages != languages[first]]
        second_language = first_language = languages[first]
        if len(others):
            sizes = None if self._sizes is None else self._sizes[others]
            second_language = weighted(others, sizes, draws[1])
        return self._sentence(first_language, place, 0), self._sentence(second_language, place, 1)

    def vocabulary(self) -> np.ndarray | None:
        return union(table.vocabulary() for table in self._tables)

    def _sentence(self, language: int, place: int, slot: int) -> Sentence:
        return self._tables[language][2 * int(self._places[language, place]) + slot]


class Switched(Crossing):
    """Words of the sentences that a kind lets be switched, replaced by translations."""

    def __init__(self, hybrid: Hybrid, task: Task, rows: Rows, table: SwitchableTable) -> None:
        self.hybrid, kind = hybrid, kind_of(task)
        self._width, self._slots = kind.width, frozenset(kind.switched)
        self._rows, self._table = rows, table
        self.coverage = {"lexicon": table.coverage}

    def row(self, place: int, random: np.random.Generator) -> Row:
        return tuple(
            self._table.switched(self._width * place + slot, SWITCH_PROBABILITY, random)
            if slot in self._slots
            else sentence
            for slot, sentence in enumerate(self._rows[place])
        )

    def vocabulary(self) -> np.ndarray | None:
        return self._table.vocabulary()


def crossing_of(
    source: Source,
    task: Task,
    access: LabelAccess,
    hybrid: Hybrid,
    examples: Sequence[Example],
    table: Callable[[str, Sequence[Example]], Encoded],
    pipeline: TextPipeline,
) -> Crossing:
    """How hybrid batches show the ``examples`` of the source language's train split.

    Args:
        table: the sentences of examples of a language as pieces.

    Raises:
        DataError: neither translations nor a lexicon, or ``mono: uniform`` without translations.
    """
    source_language = access.source_language
    plain = table(source_language, examples)
    translated = _translated_languages(source, task, source_language, hybrid)
    if translated:
        tables = {source_language: plain}
        ids = {source_language: ids_of(examples)}
        for language in translated:
            rows = texts(source, access, task, language, "train")
            tables[language], ids[language] = table(language, rows), ids_of(rows)
        return Translated(hybrid, source_language, tables, ids)
    if hybrid.mono == "uniform":
        raise DataError(
            "batches in other languages need training text that is translated row by row",
            task=task.name,
            language=source_language,
            remedy="set hybrid.mono to source",
        )
    targets = hybrid.languages
    if targets == "all":
        targets = source.lexicon_languages(source_language)
    words = (sentence for example in examples for sentence in example.sentences())
    switchable = SwitchableTable(
        plain,
        words,
        source,
        source_language,
        targets,
        pipeline,
        is_by_size=hybrid.pairs == "by_size",
    )
    if not switchable.num_lexicon_words:
        raise DataError(
            "cross-lingual batches need training text in other languages or a lexicon",
            task=task.name,
            language=source_language,
            remedy=f"add lexicon/{source_language}-LANGUAGE.tsv (word TAB word) below the data "
            "root, or set hybrid.ratio to 0",
        )
    if not switchable.coverage:
        raise DataError(
            "the lexicon has no word of the training text, so cross-lingual batches would be those "
            "of the source language",
            task=task.name,
            language=source_language,
            remedy="a lexicon of words as the text writes them (separated by blanks), or "
            "hybrid.ratio: 0",
        )
    return Switched(hybrid, task, Rows(plain, kind_of(task).width, len(examples)), switchable)


def _translated_languages(
    source: Source, task: Task, source_language: str, hybrid: Hybrid
) -> tuple[str, ...]:
    """Languages with translated training text that hybrid batches may use, sorted."""
    if not KINDS[task.kind].is_crossed or hybrid.text == "switched":
        return ()
    translated = {language for language, split in source.splits(task) if split == "train"}
    wanted = translated if hybrid.languages == "all" else translated & set(hybrid.languages)
    return tuple(sorted(wanted - {source_language}))
