"""Words of running text looked up in a list of words: a lexicon, or neighbours.

Text and lists come from different hands. The same word may be composed in one and decomposed in
the other (NFC, NFD), capital in one alone, and in text that is not tokenised punctuation hangs on
it (``dog,``). A word is looked for as it is, then in lower case, then both without the punctuation
and symbols around it, each time after NFC. Lists are read alike.

What no list has stays as it is in silence, so how much of a text is found is told: a lexicon that
covers nothing would make cross-lingual batches those of the source language.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple


class Found(NamedTuple):
    """Which words of a list stand for a word of text, and what hangs on it."""

    keys: tuple[str, ...]
    """As the list has them: one, or those that differ in composition or case alone."""
    prefix: str
    suffix: str


class Lookup:
    """A list of words, ready to be asked.

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
        """What the list has for a word of text; None where it has nothing."""
        whole = normal(word)
        core = whole.strip(_outer(whole))
        for form in dict.fromkeys(form for form in (whole, core) if form):
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
    """Text in the composition that texts and lists are compared in."""
    return unicodedata.normalize("NFC", text)


def _outer(word: str) -> str:
    """The characters of a word that are punctuation or symbols."""
    return "".join(one for one in word if unicodedata.category(one)[0] in "PS")
