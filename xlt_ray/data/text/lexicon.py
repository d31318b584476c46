"""Words of running text looked up in a list of words, a lexicon or neighbours, and replaced.

Text and lists come from different sources. One may write a word composed and the other decomposed
(NFC, NFD), one may capitalise it, and in text that is not tokenised punctuation is attached to it
(``dog,``). A word is looked up as it is, then in lower case, then both without the punctuation and
symbols around it, each time after NFC. A word that no list has stays, so the share of words that
are found is recorded as coverage.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from xlt_ray.data.text.pipeline import (
    Encoded,
    Sentence,
    TextPipeline,
    encode_words,
    union,
)

MOST_FURTHER = 20_000
"""Spellings that are tokenised, in about a second, to know which pieces a training can show."""


class Found(NamedTuple):
    """The words of a list that match a word of text, and the punctuation around it."""

    keys: tuple[str, ...]
    """As the list has them: one, or those that differ in composition or case alone."""
    prefix: str
    suffix: str


class Lookup:
    """A list of words to look words of text up in.

    >>> lookup = Lookup(["dog", "CAT"])
    >>> lookup.find("(Dog),")
    Found(keys=('dog',), prefix='(', suffix='),')
    >>> lookup.find("cat"), lookup.find("bird")
    (Found(keys=('CAT',), prefix='', suffix=''), None)
    """

    def __init__(self, words: Iterable[str], *, ignores_case: bool = True) -> None:
        self._ignores_case = ignores_case
        self._exact: dict[str, tuple[str, ...]] = {}
        self._lower: dict[str, tuple[str, ...]] = {}
        for word in words:
            form = normal(word)
            self._exact[form] = (*self._exact.get(form, ()), word)
            if ignores_case:
                lower = form.lower()
                self._lower[lower] = (*self._lower.get(lower, ()), word)

    def find(self, word: str) -> Found | None:
        """The entries for a word of text; None if the list has none."""
        whole = normal(word)
        outer = "".join(char for char in whole if unicodedata.category(char)[0] in "PS")
        for form in dict.fromkeys(form for form in (whole, whole.strip(outer)) if form):
            keys = self._keys(form)
            if keys:
                prefix, _, suffix = whole.partition(form)
                return Found(keys, prefix, suffix)
        return None

    def _keys(self, form: str) -> tuple[str, ...]:
        keys = self._exact.get(form, ())
        if keys or not self._ignores_case:
            return keys
        lower = form.lower()
        return self._exact.get(lower) or self._lower.get(lower, ())


def normal(text: str) -> str:
    """Text in the composition in which texts and lists are compared."""
    return unicodedata.normalize("NFC", text)


class Spellings:
    """Pieces of single words and phrases by their spelling.

    The ``named`` ones are tokenised at once and kept in a table, others at first use.
    """

    def __init__(
        self, named: Iterable[str], pipeline: TextPipeline, *, content_digest: str
    ) -> None:
        spellings = sorted({normal(spelling) for spelling in named})
        self._tokenizer = pipeline.tokenizer
        table = pipeline.encoded((spelling.split() for spelling in spellings), content_digest)
        self._named = table.vocabulary()
        self._pieces = {
            spelling: table[place].pieces.tolist() for place, spelling in enumerate(spellings)
        }

    def vocabulary(self, further: Iterable[str]) -> np.ndarray | None:
        """(num_ids,) int64, ascending: ids of the named spellings and of ``further`` ones; None if
        these are more than :data:`MOST_FURTHER`."""
        unknown: set[str] = set()
        for spelling in further:
            if spelling not in self._pieces:
                unknown.add(spelling)
            if len(unknown) > MOST_FURTHER:
                return None
        encoded = encode_words([spelling.split() for spelling in unknown], self._tokenizer)
        return union([self._named, *(sentence.pieces for sentence in encoded)])

    def __getitem__(self, spelling: str) -> list[int]:
        if spelling not in self._pieces:
            (sentence,) = encode_words([spelling.split()], self._tokenizer)
            self._pieces[spelling] = sentence.pieces.tolist()
        return self._pieces[spelling]


class ReplaceableTable:
    """A table of sentences that knows for each word what may replace it.

    Args:
        entry: the number of a word's replacements, -1 if it has none.
    """

    def __init__(
        self, table: Encoded, sentences: Iterable[Sequence[str]], entry: Callable[[str], int]
    ) -> None:
        self._table, entry = table, cache(entry)
        words = (word for sentence in sentences for word in sentence)
        self._entries = np.fromiter(map(entry, words), np.int32)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def coverage(self) -> float:
        """Share of the words that can be replaced; 0.0 without words."""
        return float((self._entries >= 0).mean()) if len(self._entries) else 0.0

    def sentence(self, number: int) -> tuple[Sentence, np.ndarray]:
        """A sentence, and the entries of its words."""
        offsets = self._table.word_offsets()
        return self._table[number], self._entries[offsets[number] : offsets[number + 1]]


def respelt(sentence: Sentence, words: Sequence[list[int] | None]) -> Sentence:
    """The sentence with the pieces of ``words``; a word that is None stays."""
    # Plain lists: for a dozen words they are five times as fast as numpy.
    old, begin = sentence.pieces.tolist(), 0
    pieces: list[int] = []
    ends: list[int] = []
    for word, end in zip(words, sentence.ends.tolist(), strict=True):
        pieces += old[begin:end] if word is None else word
        ends.append(len(pieces))
        begin = end
    return Sentence(np.array(pieces, np.int32), np.array(ends, np.int32))
