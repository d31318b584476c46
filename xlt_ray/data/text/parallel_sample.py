"""Parallel sentences that are only measured on: a sample for diagnostics, and a held-out set for
masked LM.

Both follow from sentence ids alone: sentences are ordered by a digest of their ids, and the first
ones are taken. So they are the same in every process and at every step, a smaller sample is the
beginning of a larger one, and no label of any task is looked at.

- The sample has, for every pair of languages, the first n sentences that both have. A sentence that
  repeats the text of an earlier one in its language is skipped: its translation could not be told
  from the other's.
- Held-out ids are the same in all languages, so training sees no translation of a held-out sentence
  either. Pieces are hidden by a random stream of their own (80 % masked, 10 % replaced, 10 % kept),
  the same at every step and for every objective: one plain sentence a row, whatever training sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np

from xlt_ray.config.methods import MaskedAlignment
from xlt_ray.data.batches.alignment_batches import Masking
from xlt_ray.data.sampling import digest_of, generator
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.parallel import languages_of
from xlt_ray.data.text.pipeline import (
    Batch,
    Sentence,
    TextPipeline,
    collate,
    encode_words,
    template_of,
)
from xlt_ray.errors import DataError

_HELD_OUT_STREAM = "held-out"


class _Rest:
    """A source whose parallel text lacks some sentences; all else is the source's."""

    def __init__(self, source: Source, names: frozenset[str]) -> None:
        self._source, self._names = source, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def parallel(self, language: str) -> Mapping[str, str]:
        text = self._source.parallel(language)
        rest = {name: sentence for name, sentence in text.items() if name not in self._names}
        if not rest:
            raise DataError(
                f"all {len(text)} parallel sentences are held out, so none is left to train on",
                language=language,
                remedy="a smaller align.held_out",
            )
        return rest

    def parallel_digest(self, language: str) -> str:
        return digest_of(
            _HELD_OUT_STREAM, self._source.parallel_digest(language), *sorted(self._names)
        )


def held_out_names(source: Source, settings: MaskedAlignment) -> frozenset[str]:
    """Ids of the sentences that are kept out, in all languages of the stage."""
    every = {
        name for language in languages_of(source, settings) for name in source.parallel(language)
    }
    return frozenset(
        sorted(every, key=lambda name: digest_of(_HELD_OUT_STREAM, name))[: settings.held_out]
    )


def rest_of(source: Source, settings: MaskedAlignment) -> Source:
    """What is trained on: the source without the sentences that are kept out."""
    return cast("Source", _Rest(source, held_out_names(source, settings)))


def held_out_batches(
    source: Source, settings: MaskedAlignment, pipeline: TextPipeline, batch_size: int
) -> dict[str, list[Batch]]:
    """Masked sentences that are kept out, by language, those of like length together.

    A language that has none of them is left out.
    """
    held_out, masking = held_out_names(source, settings), Masking(pipeline.template, settings.mask)
    batches: dict[str, list[Batch]] = {}
    for language in languages_of(source, settings):
        text = source.parallel(language)
        ids = sorted(name for name in held_out if name in text)
        sentences = encode_words([text[name].split() for name in ids], pipeline.tokenizer)
        sentences.sort(key=lambda sentence: len(sentence.pieces))
        for begin in range(0, len(sentences), batch_size):
            rows = [(sentence,) for sentence in sentences[begin : begin + batch_size]]
            batch, places = pipeline.collated(rows)
            masking.hide(batch, places, generator(_HELD_OUT_STREAM, language, begin))
            batches.setdefault(language, []).append(batch)
    return batches


_SAMPLE_STREAM = "diagnostics"


@dataclass(frozen=True)
class SampledPair:
    """The sampled sentences of a language, and what they are translations of."""

    language: str
    source_rows: tuple[int, ...]
    """Of each of them, the place of its translation among those of the source language."""
    links: tuple[np.ndarray, ...] | None
    """Gold alignment of words, ``(num_links, 2)`` int64 each; None where the data has none."""


class SampleBatch(NamedTuple):
    """Some sentences of one language, ready to be encoded."""

    numbers: list[int]
    arrays: Batch
    word_weights: np.ndarray
    """``(batch, words, length)`` float32: rows sum to 1, to 0 beyond a sentence's words."""
    num_words: list[int]
    """Of each sentence, those of which a piece was kept."""


class ParallelSample:
    """The sampled sentences of every language as pieces, and which are translations."""

    def __init__(
        self,
        source_language: str,
        pairs: tuple[SampledPair, ...],
        sentences: Mapping[str, list[Sentence]],
        tokenizer: Any,
        max_length: int,
    ) -> None:
        self.source_language, self.pairs = source_language, pairs
        self._sentences, self._max_length = sentences, max_length
        self._template = template_of(tokenizer)
        self.batches = cache(self._batches)
        """``batches(language, batch_size)``: all its sentences, those of like length together."""

    def _batches(self, language: str, batch_size: int) -> tuple[SampleBatch, ...]:
        sentences = self._sentences[language]
        batches: list[SampleBatch] = []
        order = sorted(
            range(len(sentences)), key=lambda number: (len(sentences[number].pieces), number)
        )
        for begin in range(0, len(order), batch_size):
            numbers = order[begin : begin + batch_size]
            rows = [sentences[number] for number in numbers]
            arrays, places = collate([(row,) for row in rows], self._template, self._max_length)
            weights, counts = _word_weights(rows, [place[0] for place in places], arrays)
            batches.append(SampleBatch(numbers, arrays, weights, counts))
        return tuple(batches)


def parallel_sample(
    source: Source,
    source_language: str,
    languages: tuple[str, ...],
    num_sentences: int,
    tokenizer: Any,
    max_length: int,
    *,
    with_links: bool = False,
) -> ParallelSample:
    """At most ``num_sentences`` pairs of ``source_language`` with each of ``languages``.

    Args:
        with_links: read the data's gold alignment of words; of a pair of languages that has any
            the sentences that it is told of are taken alone.

    Raises:
        DataError: a language has no parallel text, or shares no sentence with the source's.
    """
    own = _by_digest(source.parallel(source_language))
    texts = {source_language: source.parallel(source_language)}
    names: dict[str, list[str]] = {}
    links: dict[str, Mapping[str, Any]] = {}
    for language in languages:
        texts[language] = source.parallel(language)
        order = own
        if with_links and source.alignment_digest(source_language, language):
            links[language] = source.alignments(source_language, language)
            order = [name for name in own if name in links[language]]
        names[language] = _shared(order, texts[source_language], texts[language], num_sentences)
        if not names[language]:
            raise DataError(
                f"shares no parallel sentence with {source_language}",
                language=language,
                remedy="leave it out of evaluate.languages, or evaluate.diagnostics: []",
            )
    chosen = {name for found in names.values() for name in found}
    names_of_source = [name for name in own if name in chosen]
    row_of = {name: row for row, name in enumerate(names_of_source)}
    pairs = tuple(
        SampledPair(
            code,
            tuple(row_of[name] for name in found),
            _links(links[code], found) if code in links else None,
        )
        for code, found in names.items()
    )
    sentences = {
        code: encode_words([texts[code][name].split() for name in found], tokenizer)
        for code, found in {source_language: names_of_source, **names}.items()
    }
    return ParallelSample(source_language, pairs, sentences, tokenizer, max_length)


def _by_digest(text: Mapping[str, str]) -> list[str]:
    return sorted(text, key=lambda name: digest_of(_SAMPLE_STREAM, name))


def _shared(
    order: list[str], text: Mapping[str, str], translations: Mapping[str, str], most: int
) -> list[str]:
    names: list[str] = []
    seen: tuple[set[str], set[str]] = (set(), set())
    for name in order:
        if len(names) == most:
            break
        if name not in translations or text[name] in seen[0] or translations[name] in seen[1]:
            continue
        seen[0].add(text[name])
        seen[1].add(translations[name])
        names.append(name)
    return names


def _links(given: Mapping[str, Any], names: list[str]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(given[name], np.int64).reshape(-1, 2) for name in names)


def _word_weights(
    sentences: list[Sentence], places: list[slice], arrays: Batch
) -> tuple[np.ndarray, list[int]]:
    counts = []
    for sentence, place in zip(sentences, places, strict=True):
        counts.append(int((sentence.starts < place.stop - place.start).sum()))
    weights = np.zeros((len(sentences), max([1, *counts]), arrays["input_ids"].shape[1]))
    for row, (sentence, place) in enumerate(zip(sentences, places, strict=True)):
        for word in range(counts[row]):
            begin = place.start + int(sentence.starts[word])
            end = min(place.start + int(sentence.ends[word]), place.stop)
            weights[row, word, begin:end] = 1 / (end - begin)
    return weights.astype(np.float32), counts
