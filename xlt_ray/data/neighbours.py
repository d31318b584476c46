"""Words that may stand for one another in a language: lists of neighbours, or a lexicon.

Lists hold words of the same language: synonyms, or the nearest words in an embedding space such
as the counter-fitted one of arXiv 1603.00892. The ``files`` source reads them from
``neighbours/LANGUAGE.tsv`` (word TAB neighbour, a line for each); in the ``toy`` world they are
the other form of a word's meaning. A lexicon's neighbours are a word's translations, which lie
near it in the space of a multilingual encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xlt_ray.data.lines import Gathered, cells, line_error
from xlt_ray.data.source import Source
from xlt_ray.data.streams import digest_of
from xlt_ray.data.toy.source import ToySource
from xlt_ray.data.toy.tongues import TONGUES, world

Neighbours = Mapping[str, tuple[str, ...]]
"""Word -> other words, at least one each."""


def neighbour_lists(source: Source, language: str) -> Neighbours:
    """Neighbours within the language; nothing where the source has no lists for it.

    Raises:
        DataErrors: lines that are not a word and its neighbour.
    """
    if isinstance(source, ToySource):
        words = world(source.seed).words[language] if language in TONGUES else {}
        return {
            form: tuple(other for other in forms if other != form)
            for forms in words.values()
            for form in forms
            if len(forms) > 1
        }
    file = _file(source, language)
    return _read(file) if file is not None and file.is_file() else {}


def lexicon_neighbours(source: Source, language: str) -> Neighbours:
    """The translations of every word into all languages, each spelling once."""
    if not source.lexicon_languages(language):
        return {}
    return {
        word: tuple(
            dict.fromkeys(one for target in sorted(into) for one in into[target] if one != word)
        )
        for word, into in source.lexicon(language).items()
        if any(one != word for spellings in into.values() for one in spellings)
    }


def neighbours_digest(source: Source, language: str) -> str:
    """Digest of :func:`neighbour_lists`; empty where there are none."""
    found = neighbour_lists(source, language)
    if not found:
        return ""
    entries = [f"{word}>{' '.join(others)}" for word, others in sorted(found.items())]
    return digest_of("neighbours", language, *entries)


def _file(source: Source, language: str) -> Path | None:
    root = getattr(source, "root", None)
    return Path(root) / "neighbours" / f"{language}.tsv" if root is not None else None


def _read(file: Path) -> Neighbours:
    found: dict[str, tuple[str, ...]] = {}
    gathered = Gathered()
    for number, row in cells(file):
        with gathered:
            if len(row) != 2 or not all(cell.strip() for cell in row):
                raise line_error(file, number, "is not `word TAB neighbour`")
            word, neighbour = (cell.strip() for cell in row)
            if neighbour != word and neighbour not in found.get(word, ()):
                found[word] = (*found.get(word, ()), neighbour)
    gathered.refuse()
    return found
