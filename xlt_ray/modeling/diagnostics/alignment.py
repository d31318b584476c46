"""Are words nearest to what they are translated as?

A word is the mean of its pieces. Two words of a sentence and its translation are aligned where
each is the nearest of the other by cosine (SimAlign, arXiv 2004.08728, section 2.2.1: Argmax).
With A all links that are found, S those of gold that are sure and P those that are possible, S
among them, over all sentences (Och and Ney 2003)::

    AER = 1 - (|A & S| + |A & P|) / (|A| + |S|)

Gold of this package knows sure links only, P = S. SimAlign's matrix of likeness is that of pieces
or of words; here it is of words, without its corrections for distortion and null words.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from xlt_ray.modeling.diagnostics.states import Links, States

CHUNK = 64
"""Sentences whose likenesses are in memory together."""


def alignment(first: States, second: States, links: Links | None) -> Tensor:
    """Between 0 (as gold) and 1; NaN without gold links.

    Of words that were cut off nothing is asked: gold links of theirs are left out.
    """
    num_layers = len(first.sentences)
    found = torch.zeros(num_layers, dtype=torch.float64)
    right = torch.zeros(num_layers, dtype=torch.float64)
    sure = 0
    for begin in range(0, len(links or ()), CHUNK):
        assert links is not None
        numbers = range(begin, min(begin + CHUNK, len(links)))
        one, one_is = _padded(first, numbers)
        other, other_is = _padded(second, numbers)
        aligned = mutual(one @ other.transpose(-1, -2), one_is, other_is).cpu()
        gold = _gold(links, numbers, one_is, other_is)
        found += aligned.sum(dim=(1, 2, 3)).double()
        right += (aligned & gold).sum(dim=(1, 2, 3)).double()
        sure += int(gold.sum())
    if not sure:
        return torch.full((num_layers,), torch.nan, dtype=torch.float64)
    return error_rate(found, right, right, sure)


def error_rate(found: Tensor, in_sure: Tensor, in_possible: Tensor, sure: int) -> Tensor:
    """AER of numbers of links: all that were found, those of them in S and in P, and all of S."""
    return 1 - (in_sure + in_possible) / (found + sure)


def mutual(likeness: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Where row and column are each other's likeliest, ``(layers, n, words, words)`` bool.

    ``likeness`` is of that shape, ``rows`` and ``columns`` ``(n, words)`` say which words there
    are. Among equal ones the first is taken.
    """
    there = rows[:, :, None] & columns[:, None, :]
    likeness = likeness.masked_fill(~there, -torch.inf)
    shape = likeness.shape
    by_row = functional.one_hot(likeness.argmax(dim=-1), shape[-1]).bool()
    by_column = functional.one_hot(likeness.argmax(dim=-2), shape[-2]).bool().transpose(-1, -2)
    return by_row & by_column & there


def _padded(states: States, numbers: range) -> tuple[Tensor, Tensor]:
    """Words of length 1, ``(layers, n, words, hidden)``, and which there are, ``(n, words)``."""
    assert states.words is not None, "states of words are asked for"
    ends = states.ends[numbers.start : numbers.stop + 1]
    counts = [end - begin for begin, end in pairwise(ends)]
    device = states.words.device
    width = torch.arange(max([1, *counts]), device=device)
    is_there = width < torch.tensor(counts, device=device)[:, None]
    places = torch.tensor(ends[:-1], device=device)[:, None] + width
    words = states.words[:, ends[0] : ends[-1]]
    if not words.shape[1]:
        return words.new_zeros(len(words), *is_there.shape, words.shape[-1]), is_there
    taken = words[:, torch.where(is_there, places - ends[0], 0)]
    return functional.normalize(taken, dim=-1), is_there


def _gold(links: Links, numbers: range, rows: Tensor, columns: Tensor) -> Tensor:
    """``(n, words, words)`` bool, on the CPU."""
    gold = torch.zeros(len(numbers), rows.shape[1], columns.shape[1], dtype=torch.bool)
    for place, number in enumerate(numbers):
        own = links[number]
        kept = own[(own[:, 0] < int(rows[place].sum())) & (own[:, 1] < int(columns[place].sum()))]
        gold[place, kept[:, 0], kept[:, 1]] = True
    return gold
