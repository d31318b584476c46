"""Parallel text as pieces: sentences of every language, and which of them are translations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import permutations
from typing import Any, NamedTuple, cast

import numpy as np

from xlt_ray.config.methods import Alignment, MaskedAlignment
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.pipeline import Encoded, Sentence, TextPipeline
from xlt_ray.errors import DataError, nearest


class Drawn(NamedTuple):
    """A sentence and its translation, each by its language and its place in that text."""

    first: str
    second: str
    first_place: int
    second_place: int


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
        second_places = self.places[second]
        both = ((place, second_places.get(name)) for name, place in self.places[first].items())
        return np.array([pair for pair in both if pair[1] is not None])

    def draw(self, random: np.random.Generator) -> Drawn:
        """The pair of languages first, uniformly, then a sentence that both have."""
        draws = random.random(2)
        first, second = self._pairs[int(draws[0] * len(self._pairs))]
        shared = self.shared(first, second)
        return Drawn(first, second, *shared[int(draws[1] * len(shared))].tolist())

    def sentences(self, drawn: Drawn) -> tuple[Sentence, Sentence]:
        """The two as pieces."""
        first, second, first_place, second_place = drawn
        return self.tables[first][first_place], self.tables[second][second_place]


def sentence_pairs(source: Source, settings: Alignment, pipeline: TextPipeline) -> SentencePairs:
    """The pairs of the languages that ``settings`` name; DataError without parallel text, or if no
    two of the languages share a sentence."""
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
    tables = {code: encoded_parallel(source, code, text[code], pipeline) for code in languages}
    places = {code: {name: place for place, name in enumerate(text[code])} for code in languages}
    return SentencePairs(tables, places, pairs)


def languages_of(source: Source, settings: Alignment) -> tuple[str, ...]:
    """The languages of a stage, sorted; DataError if one of them has no parallel text."""
    available = source.parallel_languages()
    if not available:
        raise DataError(
            f"the {source.name} source has no parallel text",
            remedy="add parallel/CORPUS/LANGUAGE.tsv (id TAB sentence), or align: null",
        )
    if settings.languages == "all":
        return available
    for language in settings.languages:
        if language not in available:
            raise DataError(
                "there is no parallel text in this language",
                language=language,
                remedy=nearest(language, available),
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


HELD_OUT_STREAM = "held-out"


class _TrainingText:
    """A source whose parallel text lacks the held-out sentences; all else is the source's."""

    def __init__(self, source: Source, held_out: frozenset[str]) -> None:
        self._source, self._held_out = source, held_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def parallel(self, language: str) -> Mapping[str, str]:
        text = self._source.parallel(language)
        rest = {name: sentence for name, sentence in text.items() if name not in self._held_out}
        if not rest:
            raise DataError(
                f"all {len(text)} parallel sentences are held out, so none is left to train on",
                language=language,
                remedy="a smaller align.held_out",
            )
        return rest

    def parallel_digest(self, language: str) -> str:
        return digest_of(
            HELD_OUT_STREAM, self._source.parallel_digest(language), *sorted(self._held_out)
        )


def held_out_names(source: Source, settings: MaskedAlignment) -> frozenset[str]:
    """Ids of the held-out sentences, the same in all languages of the stage.

    Sentences are ordered by a digest of their ids and the first ones are taken, so they are the
    same in every process, and training sees no translation of a held-out sentence either.
    """
    ids = {name for code in languages_of(source, settings) for name in source.parallel(code)}
    ordered = sorted(ids, key=lambda name: digest_of(HELD_OUT_STREAM, name))
    return frozenset(ordered[: settings.held_out])


def rest_of(source: Source, settings: MaskedAlignment) -> Source:
    """The source without the held-out sentences, which is trained on."""
    return cast("Source", _TrainingText(source, held_out_names(source, settings)))
