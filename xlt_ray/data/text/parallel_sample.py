"""A sample of parallel sentences for diagnostics of an encoder.

It follows from sentence ids alone: for every pair of languages the first n sentences that both
have, ordered by a digest of their ids. So it is the same in every process and at every step, a
smaller sample is the beginning of a larger one, and no label of any task is read. A sentence that
repeats the text of an earlier one in its language is skipped: its translation could not be
distinguished from the other's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.diagnostics import Diagnosis
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.pipeline import Batch, Sentence, collate, encode_words, template_of
from xlt_ray.errors import DataError

_STREAM = "diagnostics"


@dataclass(frozen=True)
class SampledPair:
    """The sampled sentences of a language, and what they are translations of."""

    language: str
    source_rows: tuple[int, ...]
    """The place of each sentence's translation among the sentences of the source language."""
    links: tuple[np.ndarray, ...] | None
    """Gold alignment of words, ``(num_links, 2)`` int64 each; None where the data has none."""


class SampleBatch(NamedTuple):
    """Some sentences of one language, ready to be encoded."""

    numbers: list[int]
    arrays: Batch
    word_weights: np.ndarray
    """``(batch, words, length)`` float32: rows sum to 1, to 0 beyond a sentence's words."""
    num_words: list[int]
    """Words of each sentence of which a piece was kept."""


class ParallelSample:
    """The sampled sentences of every language as pieces, and which are translations."""

    def __init__(
        self,
        diagnosis: Diagnosis,
        pairs: tuple[SampledPair, ...],
        sentences: Mapping[str, list[Sentence]],
        tokenizer: Any,
    ) -> None:
        self.diagnosis, self.pairs = diagnosis, pairs
        self._sentences, self._template = sentences, template_of(tokenizer)
        self.batches = cache(self._batches)
        """``batches(language, batch_size)``: all its sentences, those of like length together."""

    def _batches(self, language: str, batch_size: int) -> tuple[SampleBatch, ...]:
        sentences = self._sentences[language]
        batches: list[SampleBatch] = []
        order = sorted(range(len(sentences)), key=lambda number: len(sentences[number].pieces))
        for begin in range(0, len(order), batch_size):
            numbers = order[begin : begin + batch_size]
            rows = [(sentences[number],) for number in numbers]
            arrays, places = collate(rows, self._template, self.diagnosis.max_length)
            batches.append(SampleBatch(numbers, arrays, *_word_weights(rows, places, arrays)))
        return tuple(batches)


def parallel_sample(source: Source, diagnosis: Diagnosis, tokenizer: Any) -> ParallelSample:
    """The sentences that the source language of a diagnosis shares with each of its languages.

    Diagnostics of words read the data's gold alignment; where a pair of languages has one, its
    sample has aligned sentences only.

    Raises:
        DataError: a language has no parallel text, or shares no sentence with the source's.
    """
    code = diagnosis.source_language
    text = source.parallel(code)
    ordered = sorted(text, key=lambda name: digest_of(_STREAM, name))
    texts, names = {code: text}, dict[str, list[str]]()
    links: dict[str, Mapping[str, Any]] = {}
    for language in diagnosis.languages:
        texts[language] = source.parallel(language)
        if diagnosis.needs_links and source.alignment_digest(code, language):
            links[language] = source.alignments(code, language)
        candidates = [name for name in ordered if name in links.get(language, text)]
        names[language] = _shared(candidates, text, texts[language], diagnosis.num_sentences)
        if not names[language]:
            raise DataError(
                f"shares no parallel sentence with {code}",
                language=language,
                remedy="leave it out of evaluate.languages, or evaluate.diagnostics: []",
            )
    sampled = {name for of_pair in names.values() for name in of_pair}
    names_of_source = [name for name in ordered if name in sampled]
    row_of = {name: row for row, name in enumerate(names_of_source)}
    pairs = tuple(
        SampledPair(
            language,
            tuple(row_of[name] for name in of_pair),
            tuple(np.array(links[language][name], np.int64).reshape(-1, 2) for name in of_pair)
            if language in links
            else None,
        )
        for language, of_pair in names.items()
    )
    sentences = {
        language: encode_words([texts[language][name].split() for name in ids], tokenizer)
        for language, ids in {code: names_of_source, **names}.items()
    }
    return ParallelSample(diagnosis, pairs, sentences, tokenizer)


def _shared(
    candidates: list[str], text: Mapping[str, str], translations: Mapping[str, str], most: int
) -> list[str]:
    """The first ids that both have, without sentences whose text was there before."""
    names: list[str] = []
    seen, seen_translations = set[str](), set[str]()
    for name in candidates:
        if len(names) == most:
            break
        sentence, translation = text[name], translations.get(name)
        if translation is None or sentence in seen or translation in seen_translations:
            continue
        seen.add(sentence)
        seen_translations.add(translation)
        names.append(name)
    return names


def _word_weights(
    rows: list[tuple[Sentence]], places: list[list[slice]], arrays: Batch
) -> tuple[np.ndarray, list[int]]:
    num_words = [
        int((sentence.starts < place.stop - place.start).sum())
        for (sentence,), (place,) in zip(rows, places, strict=True)
    ]
    weights = np.zeros((len(rows), max([1, *num_words]), arrays["input_ids"].shape[1]), np.float32)
    for row, ((sentence,), (place,)) in enumerate(zip(rows, places, strict=True)):
        for word in range(num_words[row]):
            begin = place.start + int(sentence.starts[word])
            end = min(place.start + int(sentence.ends[word]), place.stop)
            weights[row, word, begin:end] = 1 / (end - begin)
    return weights, num_words
