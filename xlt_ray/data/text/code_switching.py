"""Code-switching: words of a sentence replaced by their translations into other languages.

After CoSDA-ML (arXiv 2006.06402). Words are looked up as :mod:`xlt_ray.data.text.lexicon` says; the
punctuation around a word stays, and so does a word that the lexicon lacks. The language of every
replaced word is drawn anew from those that have a translation for it, uniformly or in proportion
to the sizes of their word lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.lexicon import Found, Lookup, ReplaceableTable, Spellings, normal, respelt
from xlt_ray.data.text.pipeline import Encoded, Sentence, TextPipeline, union


class SwitchableTable(ReplaceableTable):
    """A table of sentences in one language whose words can be switched into ``targets``."""

    def __init__(
        self,
        table: Encoded,
        sentences: Iterable[Sequence[str]],
        source: Source,
        language: str,
        targets: Iterable[str],
        pipeline: TextPipeline,
        *,
        is_by_size: bool = False,
    ) -> None:
        wanted = set(targets) - {language}
        self._lexicon = translations(source, language, wanted)
        self._pieces = Spellings(
            {word for into in self._lexicon.values() for words in into.values() for word in words},
            pipeline,
            content_digest=digest_of("lexicon", source.lexicon_digest(language), *sorted(wanted)),
        )
        self._lookup = Lookup(self._lexicon)
        self._options: list[tuple[Found, tuple[tuple[str, ...], ...], np.ndarray | None]] = []
        """By entry: the word, its translations by language, and the sizes of these languages."""
        counts = Counter(target for into in self._lexicon.values() for target in into)
        self._sizes = counts if is_by_size else None
        super().__init__(table, sentences, self._entry)

    @property
    def num_lexicon_words(self) -> int:
        """Words of the lexicon that have a translation."""
        return len(self._lexicon)

    def _entry(self, word: str) -> int:
        found = self._lookup.find(word)
        if found is None:
            return -1
        into: dict[str, dict[str, None]] = {}
        for key in found.keys:
            for target, words in self._lexicon[key].items():
                into.setdefault(target, {}).update(dict.fromkeys(map(normal, words)))
        sizes = None
        if self._sizes is not None:
            sizes = np.array([self._sizes[target] for target in into], float)
        self._options.append((found, tuple(map(tuple, into.values())), sizes))
        return len(self._options) - 1

    def vocabulary(self) -> np.ndarray | None:
        """(num_ids,) int64, ascending: ids of the words and of their translations; None if it
        would take long to know."""
        translated = self._pieces.vocabulary(
            f"{found.prefix}{word}{found.suffix}"
            for found, by_language, _ in self._options
            if found.prefix or found.suffix
            for words in by_language
            for word in words
        )
        return union([self._table.vocabulary(), translated])

    def switched(self, number: int, probability: float, random: np.random.Generator) -> Sentence:
        """A sentence in which each word that has an entry is replaced with ``probability``."""
        sentence, entries = self.sentence(number)
        draws = random.random((3, len(entries)))
        replaced = np.flatnonzero((draws[0] < probability) & (entries >= 0)).tolist()
        if not replaced:
            return sentence
        words: list[list[int] | None] = [None] * len(entries)
        for place in replaced:
            found, by_language, sizes = self._options[entries[place]]
            into = weighted(by_language, sizes, draws[1, place])
            word = into[int(draws[2, place] * len(into))]
            words[place] = self._pieces[found.prefix + word + found.suffix]
        return respelt(sentence, words)


def translations(
    source: Source, language: str, targets: Iterable[str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Words of a language with their translations by target language, as far as there are any."""
    lexicon = source.lexicon(language) if source.lexicon_languages(language) else {}
    wanted = set(targets) - {language}
    return {
        word: {target: words for target, words in into.items() if target in wanted}
        for word, into in lexicon.items()
        if wanted.intersection(into)
    }


def weighted(items: Sequence[Any] | np.ndarray, weights: np.ndarray | None, draw: float) -> Any:
    """The item that a uniform ``draw`` in [0, 1) falls on, each as wide as its weight, or all
    equally wide."""
    if weights is None:
        return items[int(draw * len(items))]
    ends = weights.cumsum()
    place = int(np.searchsorted(ends, draw * ends[-1], side="right"))
    # The product may be rounded up to the last end.
    return items[min(place, len(items) - 1)]
