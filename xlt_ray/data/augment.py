"""Copies of training text whose words are replaced by neighbours: randomised smoothing by data.

RS-DA of arXiv 2104.08645 as in its authors' code. Of every sentence there are n copies; in each,
every word that has neighbours is replaced by a uniform draw from the word itself and its
neighbours, each sentence of a pair by itself::

    x'_i ~ Uniform({x_i} + N(x_i)),   i = 1 .. number of words

The copies are trained on in the place of the sentence, which is not added by itself; the loss
is the plain one. A word is looked up as it is written, nothing else decides. Neighbours and
their number are the data's (:mod:`xlt_ray.data.neighbours`); the authors used 10 copies for
PAWS-X and 3 for XNLI, with counter-fitted synonyms.

Copy c of sentence s follows from (seed, c, s) alone: the same in every epoch and after a resume,
and nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xlt_ray.data.encode import Encoded, Sentence, encoded
from xlt_ray.data.neighbours import lexicon_neighbours, neighbour_lists, neighbours_digest
from xlt_ray.data.source import Source
from xlt_ray.data.streams import digest_of, generator
from xlt_ray.data.switching import respelt
from xlt_ray.errors import DataError
from xlt_ray.spec.methods import AugmentRobust


class Sentences(Protocol):
    """What rows are taken from."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Sentence: ...


class AugmentedTable:
    """``copies`` times the sentences of a table, copy by copy, words replaced by neighbours.

    Sentence ``number`` is copy ``number // len(table)`` of sentence ``number % len(table)``.
    """

    def __init__(
        self,
        table: Encoded,
        sentences: Iterable[Sequence[str]],
        neighbours: Sequence[Sequence[list[int]]],
        numbers: dict[str, int],
        *,
        copies: int,
        seed: int,
    ) -> None:
        self._table, self._neighbours = table, neighbours
        self._copies, self._seed = copies, seed
        self._entries = np.fromiter(
            (numbers.get(word, -1) for words in sentences for word in words), np.int32
        )
        self._choices = np.array([1 + len(others) for others in neighbours] + [1], np.int64)

    def __len__(self) -> int:
        return self._copies * len(self._table)

    def __getitem__(self, number: int) -> Sentence:
        copy, place = divmod(int(number), len(self._table))
        sentence, offsets = self._table[place], self._table.word_offsets()
        entries = self._entries[offsets[place] : offsets[place + 1]]
        # Entry -1, a word without neighbours, has the last place: one choice, itself.
        draws = generator("augment", self._seed, copy, place).random(len(entries))
        chosen = (draws * self._choices[entries]).astype(np.int64)
        if not chosen.any():
            return sentence
        words = [
            self._neighbours[entry][choice - 1] if choice else None
            for entry, choice in zip(entries.tolist(), chosen.tolist(), strict=True)
        ]
        return respelt(sentence, words)


def augmented_table(
    source: Source,
    language: str,
    knobs: AugmentRobust,
    table: Encoded,
    sentences: Iterable[Sequence[str]],
    tokenizer: Any,
    tokenizer_digest: str,
    seed: int,
    cache_dir: Path,
) -> AugmentedTable:
    """The copies of ``table``, whose words are ``sentences``.

    Raises:
        DataError: the source has no neighbours for words of the language.
    """
    if knobs.neighbours == "lists":
        found, digest = neighbour_lists(source, language), neighbours_digest(source, language)
    else:
        found = lexicon_neighbours(source, language)
        digest = source.lexicon_digest(language) if found else ""
    if not found:
        raise DataError(
            "augmentation needs neighbours of words",
            language=language,
            remedy=f"add neighbours/{language}.tsv (word TAB neighbour) or "
            f"lexicon/{language}-TARGET.tsv below the data root",
        )
    spellings = sorted({one for others in found.values() for one in others})
    pieces = encoded(
        (spelling.split() for spelling in spellings),
        tokenizer,
        tokenizer_digest=tokenizer_digest,
        content_digest=digest_of("neighbour-spellings", knobs.neighbours, digest),
        cache_dir=cache_dir,
    )
    number_of = {spelling: number for number, spelling in enumerate(spellings)}
    return AugmentedTable(
        table,
        sentences,
        [[pieces[number_of[one]].pieces.tolist() for one in others] for others in found.values()],
        {word: number for number, word in enumerate(found)},
        copies=knobs.copies,
        seed=seed,
    )
