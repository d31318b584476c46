"""Which words of a sentence and its translation mean each other: given by the data, or learned.

Learned by IBM model 1 (:func:`model_one`) in both directions, which are made one: by
``intersection``, or by ``grow-diag-final-and`` (:func:`grow_diag_final_and`). Words are what
whitespace separates, in lower case: text without spaces has to be segmented before. Alignments are
made once for a pair of languages and kept beside the encoded tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from xlt_ray.data.cache import cached
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source

_VERSION = 1
ITERATIONS = 5
"""Iterations of expectation maximisation, as usual for this model; toy text needs three."""

Links = set[tuple[int, int]]
"""Places of aligned words in the first sentence and in the second."""


class WordAlignments:
    """Links of many sentence pairs; ``alignments[n]`` is (num_links, 2) int32."""

    def __init__(self, links: np.ndarray, ends: np.ndarray) -> None:
        self._links, self._ends = links, ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        return self._links[self._ends[number] : self._ends[number + 1]]


def word_alignments(
    source: Source,
    first: str,
    second: str,
    *,
    aligner: str,
    symmetrise: str,
    cache_dir: Path,
) -> WordAlignments:
    """Alignments of the sentences that both languages have, in the order of the first's text.

    ``aligner`` ``auto`` uses those of the data, where it has any for the two languages, and
    learns them otherwise; ``ibm1`` learns them. They are cached.
    """
    given = source.alignment_digest(first, second) if aligner == "auto" else ""
    digests = [source.parallel_digest(language) for language in (first, second)]
    how = f"given:{given}" if given else f"ibm1:{ITERATIONS}:{symmetrise}"
    key = digest_of("word-alignments", _VERSION, first, second, *digests, how)
    folder = Path(cache_dir) / "alignments" / key

    def make(aside: Path) -> None:
        texts = source.parallel(first), source.parallel(second)
        names = [name for name in texts[0] if name in texts[1]]
        if given:
            gold = source.alignments(first, second)
            links: list[Links] = [set(gold.get(name, ())) for name in names]
        else:
            words = [[text[name].lower().split() for name in names] for text in texts]
            links = aligned(words[0], words[1], symmetrise)
        _write(links, aside)

    cached(folder, make)
    return WordAlignments(
        *(np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in _FILES)
    )


def aligned(
    first: Sequence[Sequence[str]], second: Sequence[Sequence[str]], symmetrise: str
) -> list[Links]:
    """Learned links of sentence pairs."""
    join = set.intersection if symmetrise == "intersection" else grow_diag_final_and
    return [
        join(
            {(int(place), number) for number, place in enumerate(forward) if place >= 0},
            {(number, int(place)) for number, place in enumerate(backward) if place >= 0},
        )
        for forward, backward in zip(
            model_one(first, second), model_one(second, first), strict=True
        )
    ]


def model_one(
    given: Sequence[Sequence[str]],
    translations: Sequence[Sequence[str]],
    iterations: int = ITERATIONS,
) -> list[np.ndarray]:
    """The place in ``given`` of the word that each word of ``translations`` comes from, or -1.

    With t(f | e) the probability that word e of a sentence, or the empty word NULL, is translated
    as f (Brown et al. 1993)::

        p(f_1 .. f_n | e_1 .. e_m)  ~  prod_j  sum_{i = 0 .. m} t(f_j | e_i),     e_0 = NULL

    t is learned by expectation maximisation from uniform t. Every f is aligned with its likeliest
    e, or with nothing where that is NULL; among equal words the one nearest the diagonal is taken,
    which model 1 itself does not decide. Memory is about 100 bytes for every pair of words that
    stand in a pair of sentences.
    """
    numbers = [_numbers(given), _numbers(translations)]
    if not sum(len(words) for words in numbers[1]):
        return [np.zeros(0, np.int64) for _ in translations]
    # One entry for every word of ``translations`` (a token) and every word it may come from.
    tokens, sources, targets, places, nearness = [], [], [], [], []
    num_tokens = 0
    for given_words, words in zip(*numbers, strict=True):
        width, height = len(given_words) + 1, len(words)
        tokens.append(np.repeat(np.arange(num_tokens, num_tokens + height), width))
        sources.append(np.tile(np.concatenate(([0], given_words)), height))
        targets.append(np.repeat(words, width))
        places.append(np.tile(np.arange(-1, width - 1), height))
        line = (np.arange(width - 1) + 0.5) / max(width - 1, 1)
        column = (np.arange(height) + 0.5) / max(height, 1)
        away = np.abs(line[None, :] - column[:, None])
        nearness.append(np.concatenate((np.ones((height, 1)), away), axis=1).ravel())
        num_tokens += height
    token = np.concatenate(tokens)
    num_targets = max(int(target.max(initial=0)) for target in targets) + 1
    pair = np.concatenate(sources) * num_targets + np.concatenate(targets)
    kinds, kind = np.unique(pair, return_inverse=True)
    source_of = kinds // num_targets
    chance = np.ones(len(kinds))
    for _ in range(iterations):
        share = chance[kind]
        share /= np.bincount(token, share, num_tokens)[token]
        counts = np.bincount(kind, share, len(kinds))
        chance = counts / np.bincount(source_of, counts)[source_of]
    # Equal words have equal chances; a millionth decides for the one nearer the diagonal.
    worth = chance[kind] * (1 - 1e-6 * np.concatenate(nearness))
    begins = np.flatnonzero(np.diff(token, prepend=-1))
    best = np.maximum.reduceat(worth, begins)[token]
    first_best = np.flatnonzero(worth == best)
    chosen = np.full(num_tokens, -1, np.int64)
    chosen[token[first_best][::-1]] = np.concatenate(places)[first_best][::-1]
    ends = np.cumsum([0, *(len(words) for words in translations)])
    return [chosen[begin:end] for begin, end in pairwise(ends.tolist())]


_STEPS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def grow_diag_final_and(forward: Links, backward: Links) -> Links:
    """The intersection, grown into the union (Koehn, Och, Marcu 2003).

    Again and again, links of either direction are added that neighbour one, diagonals included,
    and have a word that is not aligned yet; last, links of either direction both of whose words
    are not.
    """
    links, union = forward & backward, forward | backward
    rows, columns = {row for row, _ in links}, {column for _, column in links}

    def add(link: tuple[int, int]) -> None:
        links.add(link)
        rows.add(link[0])
        columns.add(link[1])

    has_grown = True
    while has_grown:
        has_grown = False
        for row, column in sorted(links):
            for link in ((row + down, column + right) for down, right in _STEPS):
                is_free = link[0] not in rows or link[1] not in columns
                if is_free and link in union and link not in links:
                    add(link)
                    has_grown = True
    for direction in (forward, backward):
        for link in sorted(direction - links):
            if link[0] not in rows and link[1] not in columns:
                add(link)
    return links


def _numbers(sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Words as numbers from 1; 0 is NULL."""
    known: dict[str, int] = {}
    return [
        np.array([known.setdefault(word, len(known) + 1) for word in words], np.int64)
        for words in sentences
    ]


_FILES = ("links.npy", "ends.npy")


def _write(links: Sequence[Links], folder: Path) -> None:
    flat = [link for of_sentence in links for link in sorted(of_sentence)]
    ends = np.cumsum([0, *map(len, links)])
    np.save(folder / _FILES[0], np.array(flat, np.int32).reshape(-1, 2), allow_pickle=False)
    np.save(folder / _FILES[1], ends.astype(np.int64), allow_pickle=False)
