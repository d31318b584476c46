"""Which words of a sentence and its translation mean each other: given by the data, or learned.

Learned by IBM model 1 (Brown et al. 1993): with t(f | e) the probability that word e of a
sentence, or the empty word NULL, is said as f::

    p(f_1 .. f_n | e_1 .. e_m)  ~  prod_j  sum_{i = 0 .. m} t(f_j | e_i),     e_0 = NULL

by expectation maximisation from uniform t. Every f is aligned with its likeliest e, or with
nothing where that is NULL; among equal words the one nearest the diagonal is taken, which model 1
itself does not decide. Both directions are learned and made one:

- ``intersection``: links that both directions have;
- ``grow-diag-final-and`` (Koehn, Och, Marcu 2003): the intersection; then, again and again, links
  of either direction that neighbour one, diagonals included, and have a word not aligned yet;
  last, links of either direction both of whose words are not.

Words are what whitespace separates, in lower case: text without spaces has to be segmented
before. Alignments are made once for a pair of languages and kept beside the encoded tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from xlt_ray.data.cache import cached
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source

_VERSION = 1
ITERATIONS = 5
"""Of expectation maximisation, as usual for this model; toy text needs three."""

Links = set[tuple[int, int]]
"""Places of aligned words: in the first sentence, in the second."""


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

    ``aligner`` ``auto`` takes those of the data, where it has any for the two languages, and
    learns them else; ``ibm1`` learns them. From the cache where they are there.
    """
    given = source.alignment_digest(first, second) if aligner == "auto" else ""
    digests = [source.parallel_digest(one) for one in (first, second)]
    how = f"given:{given}" if given else f"ibm1:{ITERATIONS}:{symmetrise}"
    key = digest_of("word-alignments", _VERSION, first, second, *digests, how)
    folder = Path(cache_dir) / "alignments" / key

    def make(aside: Path) -> None:
        text, other = source.parallel(first), source.parallel(second)
        names = [name for name in text if name in other]
        if given:
            told = source.alignments(first, second)
            found: list[Links] = [set(told.get(name, ())) for name in names]
        else:
            found = aligned(
                [text[name].lower().split() for name in names],
                [other[name].lower().split() for name in names],
                symmetrise,
            )
        _write(found, aside)

    cached(folder, make)
    return WordAlignments(
        *(np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in _FILES)
    )


def aligned(
    first: Sequence[Sequence[str]], second: Sequence[Sequence[str]], symmetrise: str
) -> list[Links]:
    """Learned links of sentence pairs."""
    forward = model_one(first, second)
    backward = model_one(second, first)
    join = {"intersection": intersection, "grow-diag-final-and": grow_diag_final_and}[symmetrise]
    return [
        join(
            {(int(place), number) for number, place in enumerate(one) if place >= 0},
            {(number, int(place)) for number, place in enumerate(other) if place >= 0},
        )
        for one, other in zip(forward, backward, strict=True)
    ]


def model_one(
    given: Sequence[Sequence[str]], said: Sequence[Sequence[str]], iterations: int = ITERATIONS
) -> list[np.ndarray]:
    """For every word of ``said``, the place of its word in ``given``, or -1: (num_words,) each.

    Memory is about 100 bytes for every pair of words that stand in a pair of sentences.
    """
    numbers = [_numbers(given), _numbers(said)]
    if not sum(len(words) for words in numbers[1]):
        return [np.zeros(0, np.int64) for _ in said]
    # One entry for every word of ``said`` (a token) and every word it may come from.
    tokens, sources, targets, places, nearness = [], [], [], [], []
    num_tokens = 0
    for ones, others in zip(*numbers, strict=True):
        width, height = len(ones) + 1, len(others)
        tokens.append(np.repeat(np.arange(num_tokens, num_tokens + height), width))
        sources.append(np.tile(np.concatenate(([0], ones)), height))
        targets.append(np.repeat(others, width))
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
    ends = np.cumsum([0, *(len(words) for words in said)])
    return [chosen[begin:end] for begin, end in pairwise(ends.tolist())]


def intersection(forward: Links, backward: Links) -> Links:
    """Links that both directions have."""
    return forward & backward


def grow_diag_final_and(forward: Links, backward: Links) -> Links:
    """The intersection, grown into the union."""
    found, union = forward & backward, forward | backward
    rows, columns = {row for row, _ in found}, {column for _, column in found}

    def add(link: tuple[int, int]) -> None:
        found.add(link)
        rows.add(link[0])
        columns.add(link[1])

    has_grown = True
    while has_grown:
        has_grown = False
        for row, column in sorted(found):
            for link in _around(row, column):
                is_free = link[0] not in rows or link[1] not in columns
                if is_free and link in union and link not in found:
                    add(link)
                    has_grown = True
    for direction in (forward, backward):
        for link in sorted(direction - found):
            if link[0] not in rows and link[1] not in columns:
                add(link)
    return found


def _around(row: int, column: int) -> Iterable[tuple[int, int]]:
    steps = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
    return ((row + down, column + right) for down, right in steps)


def _numbers(sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Words as numbers from 1; 0 is NULL."""
    known: dict[str, int] = {}
    return [
        np.array([known.setdefault(word, len(known) + 1) for word in words], np.int64)
        for words in sentences
    ]


_FILES = ("links.npy", "ends.npy")


def _write(found: Sequence[Links], folder: Path) -> None:
    links = [link for one in found for link in sorted(one)]
    ends = np.cumsum([0, *(len(one) for one in found)])
    np.save(folder / _FILES[0], np.array(links, np.int32).reshape(-1, 2), allow_pickle=False)
    np.save(folder / _FILES[1], ends.astype(np.int64), allow_pickle=False)
