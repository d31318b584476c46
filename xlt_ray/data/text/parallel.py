"""Parallel text as pieces: sentences of every language, and which of them are translations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np

from xlt_ray.config.methods import Alignment
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.pipeline import Encoded, Sentence, TextPipeline
from xlt_ray.errors import DataError, nearest

Row = tuple[Sentence, ...]


class Drawn(NamedTuple):
    """A sentence and its translation, each by its language and its place in that text."""

    first: str
    second: str
    one: int
    other: int


class SentencePairs:
    """Translations of all ordered pairs of languages.

    ``places[language]`` maps the join id of a sentence to its place in ``tables[language]``.
    """

    def __init__(
        self,
        tables: dict[str, Encoded],
        places: dict[str, dict[str, int]],
        pairs: list[tuple[str, str]],
    ) -> None:
        self.tables, self.places, self._pairs = tables, places, pairs
        self.shared = cache(self._join)

    def _join(self, first: str, second: str) -> np.ndarray:
        """(num_shared, 2): places of the sentences both languages have, in the first's order."""
        other = self.places[second]
        return np.array(
            [(place, other[name]) for name, place in self.places[first].items() if name in other]
        )

    def draw(self, random: np.random.Generator) -> Drawn:
        """The pair of languages first, uniformly, then a sentence that both have."""
        draws = random.random(2)
        first, second = self._pairs[int(draws[0] * len(self._pairs))]
        shared = self.shared(first, second)
        one, other = shared[int(draws[1] * len(shared))].tolist()
        return Drawn(first, second, one, other)

    def sentences(self, drawn: Drawn) -> tuple[Sentence, Sentence]:
        """The two as pieces."""
        return self.tables[drawn.first][drawn.one], self.tables[drawn.second][drawn.other]

    def row(self, random: np.random.Generator) -> Row:
        """One random pair."""
        return self.sentences(self.draw(random))


def sentence_pairs(source: Source, settings: Alignment, pipeline: TextPipeline) -> SentencePairs:
    """The pairs of the languages that ``settings`` name.

    Raises:
        DataError: no parallel text, or no sentence that two of the languages have.
    """
    languages = languages_of(source, settings)
    text = {language: source.parallel(language) for language in languages}
    pairs = [
        pair for pair in permutations(languages, 2) if text[pair[0]].keys() & text[pair[1]].keys()
    ]
    if not pairs:
        raise DataError(
            f"the languages {', '.join(languages)} share no parallel sentence",
            remedy="choose languages of one corpus: see the folders in parallel/",
        )
    tables = {
        language: encoded_parallel(source, language, text[language], pipeline)
        for language in languages
    }
    places = {
        language: {name: place for place, name in enumerate(text[language])}
        for language in languages
    }
    return SentencePairs(tables, places, pairs)


def languages_of(source: Source, settings: Alignment) -> tuple[str, ...]:
    """The languages of a stage, sorted.

    Raises:
        DataError: one of them has no parallel text.
    """
    there = source.parallel_languages()
    if not there:
        raise DataError(
            f"the {source.name} source has no parallel text",
            remedy="add parallel/CORPUS/LANGUAGE.tsv (id TAB sentence), or align: null",
        )
    if settings.languages == "all":
        return there
    for language in settings.languages:
        if language not in there:
            raise DataError(
                "there is no parallel text in this language",
                language=language,
                remedy=nearest(language, there),
            )
    return tuple(sorted(set(settings.languages)))


def encoded_parallel(
    source: Source, language: str, text: Mapping[str, str], pipeline: TextPipeline
) -> Encoded:
    """The table of one language's text, in the text's order."""
    return pipeline.encoded(
        (sentence.split() for sentence in text.values()),
        digest_of("parallel", language, source.parallel_digest(language)),
    )
