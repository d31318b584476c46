"""Code-switching: words of a sentence replaced by their translations into other languages.

After CoSDA-ML (arXiv 2006.06402). Words are looked up as :mod:`xlt_ray.data.text.lexicon` says, and
punctuation that hangs on one hangs on its translation, too; a word that no lexicon knows stays.
The language of every replaced word is drawn anew over those that have a translation for it,
uniformly or in proportion to the sizes of their word lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.lexicon import Lookup, normal
from xlt_ray.data.text.pipeline import Encoded, Sentence, Spellings, TextPipeline

_Choices = tuple[tuple[str, ...], ...]
"""Of one word: for every language with a translation, its translations."""


class Switching:
    """The translations of one language's words into ``targets``, as pieces."""

    def __init__(
        self,
        source: Source,
        language: str,
        targets: Iterable[str],
        pipeline: TextPipeline,
        *,
        is_by_size: bool = False,
    ) -> None:
        wanted = set(targets) - {language}
        lexicon = source.lexicon(language) if source.lexicon_languages(language) else {}
        self._lexicon = {
            word: {target: words for target, words in by_target.items() if target in wanted}
            for word, by_target in lexicon.items()
            if wanted.intersection(by_target)
        }
        spellings = sorted(
            {
                normal(word)
                for by_target in self._lexicon.values()
                for words in by_target.values()
                for word in words
            }
        )
        self._pieces = Spellings(
            spellings,
            pipeline,
            content_digest=digest_of("lexicon", source.lexicon_digest(language), *sorted(wanted)),
        )
        self._lookup = Lookup(self._lexicon)
        self._numbers: dict[str, int] = {}
        self._forms: list[tuple[str, _Choices, str]] = []
        self._languages: list[tuple[str, ...]] = []
        self._sizes = (
            Counter(target for by_target in self._lexicon.values() for target in by_target)
            if is_by_size
            else None
        )

    def __len__(self) -> int:
        """How many words of the lexicon can be replaced."""
        return len(self._lexicon)

    def entries(self, sentences: Iterable[Sequence[str]]) -> np.ndarray:
        """(num_words over all sentences,) int32: each word's entry here, -1 for none."""
        return np.fromiter(
            (self._entry(word) for words in sentences for word in words),
            np.int32,
        )

    def _entry(self, word: str) -> int:
        if word not in self._numbers:
            found, number = self._lookup.find(word), -1
            if found is not None:
                into: dict[str, dict[str, None]] = {}
                for key in found.keys:
                    for target, words in self._lexicon[key].items():
                        into.setdefault(target, {}).update(dict.fromkeys(map(normal, words)))
                number = len(self._forms)
                choices = tuple(tuple(words) for words in into.values())
                self._forms.append((found.prefix, choices, found.suffix))
                self._languages.append(tuple(into))
            self._numbers[word] = number
        return self._numbers[word]

    def switched(
        self,
        sentence: Sentence,
        entries: np.ndarray,
        probability: float,
        random: np.random.Generator,
    ) -> Sentence:
        """Each word that has an entry replaced with ``probability``."""
        draws = random.random((3, len(entries)))
        replaced = ((draws[0] < probability) & (entries >= 0)).tolist()
        if not any(replaced):
            return sentence
        words: list[list[int] | None] = [None] * len(replaced)
        for place in (place for place, is_replaced in enumerate(replaced) if is_replaced):
            prefix, choices, suffix = self._forms[entries[place]]
            into = choices[self._drawn(entries[place], draws[1, place])]
            words[place] = self._pieces[prefix + into[int(draws[2, place] * len(into))] + suffix]
        return respelt(sentence, words)

    def _drawn(self, entry: int, draw: float) -> int:
        """Which of an entry's languages."""
        languages = self._languages[entry]
        if self._sizes is None:
            return int(draw * len(languages))
        sizes = np.array([self._sizes[language] for language in languages], float)
        return int(weighted(np.arange(len(languages)), sizes, draw))


def weighted(items: np.ndarray, weights: np.ndarray, draw: float) -> Any:
    """The item that a uniform ``draw`` in [0, 1) falls on, each as wide as its weight."""
    ends = weights.cumsum()
    place = int(np.searchsorted(ends, draw * ends[-1], side="right"))
    # The product may be rounded up to the last end.
    return items[min(place, len(items) - 1)]


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


class SwitchableTable:
    """A table of sentences whose words know their entries."""

    def __init__(
        self, table: Encoded, sentences: Iterable[Sequence[str]], switching: Switching
    ) -> None:
        self._table, self._switching = table, switching
        self._entries = switching.entries(sentences)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def coverage(self) -> float:
        """Share of the words that can be replaced; 0.0 of none."""
        return float((self._entries >= 0).mean()) if len(self._entries) else 0.0

    def switched(self, number: int, probability: float, random: np.random.Generator) -> Sentence:
        offsets = self._table.word_offsets()
        entries = self._entries[offsets[number] : offsets[number + 1]]
        return self._switching.switched(self._table[number], entries, probability, random)
