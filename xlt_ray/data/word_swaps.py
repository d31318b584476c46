"""Masked sentence pairs with the matrix that swaps the states of aligned words.

As in TLM a row is a sentence and its translation, masked. ``swap`` ``(batch, length, length)``
float32 has a row for every position of the row: where the word of a piece is aligned, equal
weights, summing to 1, on all pieces of the words that it is aligned with; else 1 on the piece
itself. Special pieces and padding keep themselves, and pieces that ``max_length`` cut off are
nobody's. Batch ``step`` is a pure function of (seed, step).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.data.collate import Batch, collate
from xlt_ray.data.encode import Sentence, Template, template_of
from xlt_ray.data.parallel import Drawn, SentencePairs, sentence_pairs
from xlt_ray.data.pretraining import Masking
from xlt_ray.data.source import Source
from xlt_ray.data.streams import generator
from xlt_ray.data.word_alignment import WordAlignments, word_alignments
from xlt_ray.spec.methods import Weam


class SwappedBatches:
    """Masked translations and their swaps, an endless sequence of batches.

    Words of two languages are aligned, or read from the cache, when they are first drawn.
    """

    def __init__(
        self,
        source: Source,
        pairs: SentencePairs,
        template: Template,
        knobs: Weam,
        seed: int,
        cache_dir: Path,
    ) -> None:
        self._source, self._cache_dir = source, cache_dir
        self._pairs, self._template, self._knobs, self._seed = pairs, template, knobs, seed
        self._masking = Masking(template, knobs.mask)
        self._alignments = cache(self._aligned)

    def batch(self, step: int) -> Batch:
        random, knobs = generator("word-swaps", self._seed, step), self._knobs
        drawn = [self._pairs.draw(random) for _ in range(knobs.batch_size)]
        rows = [self._pairs.sentences(one) for one in drawn]
        batch, places = collate(rows, self._template, knobs.max_length)
        self._masking.hide(batch, places, random)
        length = batch["input_ids"].shape[1]
        swap = np.tile(np.eye(length, dtype=np.float32), (len(rows), 1, 1))
        for number, (one, row) in enumerate(zip(drawn, rows, strict=True)):
            _fill(swap[number], self._links(one), row, places[number])
        return {**batch, "swap": swap}

    def _links(self, drawn: Drawn) -> np.ndarray:
        """(num_links, 2): places of words in the sentence drawn first, in its translation."""
        first, second, one, other = drawn
        if first < second:
            alignments, numbers = self._alignments(first, second)
            return alignments[int(numbers[one])]
        alignments, numbers = self._alignments(second, first)
        return alignments[int(numbers[other])][:, ::-1]

    def _aligned(self, first: str, second: str) -> tuple[WordAlignments, np.ndarray]:
        """Alignments, and the number among them of every sentence of the first language."""
        alignments = word_alignments(
            self._source,
            first,
            second,
            aligner=self._knobs.aligner,
            symmetrise=self._knobs.symmetrise,
            cache_dir=self._cache_dir,
        )
        numbers = np.full(len(self._pairs.tables[first]), -1, np.int64)
        shared = self._pairs.shared(first, second)
        numbers[shared[:, 0]] = np.arange(len(shared))
        return alignments, numbers


def swapped_batches(
    source: Source,
    knobs: Weam,
    tokenizer: Any,
    tokenizer_digest: str,
    seed: int,
    cache_dir: Path,
) -> SwappedBatches:
    """Batches of translations with swaps; DataError where the languages share no sentence."""
    pairs = sentence_pairs(source, knobs, tokenizer, tokenizer_digest, cache_dir)
    return SwappedBatches(source, pairs, template_of(tokenizer), knobs, seed, cache_dir)


def _fill(
    swap: np.ndarray, links: np.ndarray, row: tuple[Sentence, Sentence], places: list[slice]
) -> None:
    """Write the rows of aligned pieces into one matrix (length, length) in place."""
    partners: dict[int, list[int]] = {}
    for one, other in links.tolist():
        ours, theirs = (
            _pieces(sentence, word, place)
            for sentence, word, place in zip(row, (one, other), places, strict=True)
        )
        for place in ours:
            partners.setdefault(place, []).extend(theirs)
        for place in theirs:
            partners.setdefault(place, []).extend(ours)
    for place, others in partners.items():
        if others:
            swap[place] = 0.0
            swap[place, others] = 1.0 / len(others)


def _pieces(sentence: Sentence, word: int, place: slice) -> range:
    """Positions of the pieces of a word that were not cut off."""
    begin, end = int(sentence.starts[word]), int(sentence.ends[word])
    return range(min(place.start + begin, place.stop), min(place.start + end, place.stop))
