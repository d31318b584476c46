"""Words that may replace one another, and training text copied with words replaced by them.

Neighbours are words of the same language: synonyms, or the nearest words in an embedding space such
as the counter-fitted one of arXiv 1603.00892. The ``files`` source reads them from
``neighbours/LANGUAGE.tsv`` (word TAB neighbour, one a line); in the ``toy`` world they are the
other form of a concept. In a lexicon, the neighbours of a word are its translations, which are near
it in the space of a multilingual encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xlt_ray.config.methods import AugmentRobust
from xlt_ray.data.sampling import digest_of, generator
from xlt_ray.data.sources.base import Source
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.sources.toy_world import TOY_LANGUAGES, toy_words
from xlt_ray.data.text.lexicon import Lookup, ReplaceableTable, Spellings, normal, respelt
from xlt_ray.data.text.lines import Gathered, cells, line_error
from xlt_ray.data.text.pipeline import Encoded, Sentence, TextPipeline, union
from xlt_ray.errors import DataError

Neighbours = Mapping[str, tuple[str, ...]]
"""Word -> other words, at least one each."""


def neighbour_lists(source: Source, language: str) -> Neighbours:
    """Neighbours within the language, empty if the source has no lists for it; DataErrors about
    lines that are not a word and its neighbour."""
    if isinstance(source, ToySource):
        words = toy_words(source.seed)[language] if language in TOY_LANGUAGES else {}
        return {
            form: tuple(other for other in forms if other != form)
            for forms in words.values()
            for form in forms
            if len(forms) > 1
        }
    root = getattr(source, "root", None)
    file = Path(root) / "neighbours" / f"{language}.tsv" if root is not None else None
    return _read(file) if file is not None and file.is_file() else {}


def lexicon_neighbours(source: Source, language: str) -> Neighbours:
    """The translations of every word into all languages, each spelling once."""
    lexicon = source.lexicon(language) if source.lexicon_languages(language) else {}
    neighbours = {
        word: tuple(
            dict.fromkeys(
                spelling for target in sorted(into) for spelling in into[target] if spelling != word
            )
        )
        for word, into in lexicon.items()
    }
    return {word: spellings for word, spellings in neighbours.items() if spellings}


def neighbours_digest(source: Source, language: str) -> str:
    """Digest of :func:`neighbour_lists`; empty where there are none."""
    neighbours = neighbour_lists(source, language)
    if not neighbours:
        return ""
    entries = [f"{word}>{' '.join(others)}" for word, others in sorted(neighbours.items())]
    return digest_of("neighbours", language, *entries)


def _read(file: Path) -> Neighbours:
    neighbours: dict[str, tuple[str, ...]] = {}
    gathered = Gathered()
    for number, row in cells(file):
        with gathered:
            if len(row) != 2 or not all(cell.strip() for cell in row):
                raise line_error(file, number, "is not `word TAB neighbour`")
            word, neighbour = (cell.strip() for cell in row)
            if neighbour != word and neighbour not in neighbours.get(word, ()):
                neighbours[word] = (*neighbours.get(word, ()), neighbour)
    gathered.refuse()
    return neighbours


class AugmentedTable(ReplaceableTable):
    """``copies`` times the sentences of a table, copy by copy, words replaced by neighbours.

    RS-DA of arXiv 2104.08645 (randomised smoothing by data) as in its authors' code. In each copy
    every word with neighbours becomes a uniform draw from the word and its neighbours, in each
    sentence of a pair independently::

        x'_i ~ Uniform({x_i} + N(x_i)),   i = 1 .. number of words

    Training sees the copies instead of the sentence, with the plain loss. Words are looked up with
    their capitals, as in that code; ours adds NFC, and keeps the punctuation around a word. The
    authors used 10 copies for PAWS-X and 3 for XNLI, with counter-fitted synonyms. Sentence
    ``number`` is copy ``number // len(table)`` of sentence ``number % len(table)``, and follows
    from the seed and these two numbers alone.
    """

    def __init__(
        self,
        table: Encoded,
        sentences: Iterable[Sequence[str]],
        neighbours: Neighbours,
        pieces: Spellings,
        *,
        copies: int,
        seed: int,
        is_kept: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """``is_kept``: whether a sentence of the table keeps its words."""
        self._pieces, self._seed, self._is_kept = pieces, seed, is_kept
        self.num_copies = copies
        lookup = Lookup(neighbours, ignores_case=False)
        self._others: list[tuple[str, ...]] = []

        def entry(word: str) -> int:
            found = lookup.find(word)
            if found is None:
                return -1
            others = dict.fromkeys(normal(other) for key in found.keys for other in neighbours[key])
            self._others.append(tuple(f"{found.prefix}{other}{found.suffix}" for other in others))
            return len(self._others) - 1

        super().__init__(table, sentences, entry)
        self._choices = np.array([1 + len(others) for others in self._others] + [1], np.int64)

    def __len__(self) -> int:
        return self.num_copies * super().__len__()

    def vocabulary(self) -> np.ndarray | None:
        """(num_ids,) int64, ascending: ids of the words and of what may replace them; None if it
        would take long to know."""
        others = self._pieces.vocabulary(other for others in self._others for other in others)
        return union([self._table.vocabulary(), others])

    def __getitem__(self, number: int) -> Sentence:
        copy, place = divmod(int(number), super().__len__())
        sentence, entries = self.sentence(place)
        if self._is_kept(place):
            return sentence
        # Entry -1, a word without neighbours, has the last place: one choice, itself.
        draws = generator("augment", self._seed, copy, place).random(len(entries))
        chosen = (draws * self._choices[entries]).astype(np.int64)
        if not chosen.any():
            return sentence
        words = [
            self._pieces[self._others[entry][choice - 1]] if choice else None
            for entry, choice in zip(entries.tolist(), chosen.tolist(), strict=True)
        ]
        return respelt(sentence, words)


def augmented_table(
    source: Source,
    language: str,
    settings: AugmentRobust,
    table: Encoded,
    sentences: Iterable[Sequence[str]],
    pipeline: TextPipeline,
    seed: int,
    is_kept: Callable[[int], bool] = lambda _: False,
) -> AugmentedTable:
    """The copies of ``table``, whose words are ``sentences``.

    Raises:
        DataError: the source has no neighbours for words of the language, or for none of these.
    """
    if settings.neighbours == "lists":
        neighbours, digest = neighbour_lists(source, language), neighbours_digest(source, language)
    else:
        neighbours = lexicon_neighbours(source, language)
        digest = source.lexicon_digest(language) if neighbours else ""
    if not neighbours:
        raise DataError(
            "augmentation needs neighbours of words",
            language=language,
            remedy=f"add neighbours/{language}.tsv (word TAB neighbour) or "
            f"lexicon/{language}-TARGET.tsv below the data root",
        )
    pieces = Spellings(
        (other for others in neighbours.values() for other in others),
        pipeline,
        content_digest=digest_of("neighbour-spellings", settings.neighbours, digest),
    )
    copies = AugmentedTable(
        table,
        sentences,
        neighbours,
        pieces,
        copies=settings.copies,
        seed=seed,
        is_kept=is_kept,
    )
    if not copies.coverage:
        raise DataError(
            "no word of the training text has a neighbour, so its copies would be the text itself",
            language=language,
            remedy="neighbours of words as the text writes them, or robust: {method: none}",
        )
    return copies
