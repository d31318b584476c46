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

import torch
from torch import Tensor

from xlt_ray.modeling.diagnostics.layer_states import Links, States, Words

CHUNK = 64
"""Sentences whose likenesses are in memory together."""


def alignment(first: States, second: States, links: Links | None) -> Tensor:
    """Between 0 (as gold) and 1; NaN without gold links.

    Of words that were cut off nothing is asked: gold links of theirs are left out.
    """
    num_layers = len(first.sentences)
    assert first.words is not None, "states of words are asked for"
    assert second.words is not None, "states of words are asked for"
    gold = _gold(links or (), first.words, second.words)
    if not len(gold):
        return torch.full((num_layers,), torch.nan, dtype=torch.float64)
    found = torch.zeros(num_layers, dtype=torch.float64)
    right = torch.zeros(num_layers, dtype=torch.float64)
    for numbers in torch.arange(len(first.words.counts)).split(CHUNK):
        one, one_is = _padded(first.words.taken(numbers))
        other, other_is = _padded(second.words.taken(numbers))
        partners = mutual(one @ other.transpose(-1, -2), one_is, other_is).cpu()
        rows, words, others = gold[torch.isin(gold[:, 0], numbers)].unbind(dim=1)
        found += (partners >= 0).sum(dim=(1, 2))
        right += (partners[:, rows - numbers[0], words] == others).sum(dim=1)
    return error_rate(found, right, right, len(gold))


def error_rate(found: Tensor, in_sure: Tensor, in_possible: Tensor, sure: int) -> Tensor:
    """AER of numbers of links: all that were found, those of them in S and in P, and all of S."""
    return 1 - (in_sure + in_possible) / (found + sure)


def mutual(likeness: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of each row the column where either is the other's likeliest, ``(layers, n, rows)``; else -1.

    ``likeness`` is ``(layers, n, rows, columns)``, ``rows`` and ``columns`` say of each sentence
    which words there are. Among equal ones the first is taken.
    """
    there = rows[:, :, None] & columns[:, None, :]
    likeness = likeness.masked_fill(~there, -torch.inf)
    partner = likeness.argmax(dim=-1)
    back = likeness.argmax(dim=-2).gather(-1, partner)
    is_mutual = back == torch.arange(likeness.shape[-2], device=likeness.device)
    return partner.masked_fill(~(is_mutual & there.any(dim=-1)), -1)


def _padded(words: Words) -> tuple[Tensor, Tensor]:
    """Directions as ``(layers, n, words, hidden)``, and which there are, ``(n, words)``."""
    directions = words.directions
    width = torch.arange(max(1, int(words.counts.max())))
    is_there = width < words.counts[:, None]
    places = torch.where(is_there, words.begins[:, None] + width, 0)
    if not directions.shape[1]:
        padded = directions.new_zeros(len(directions), *places.shape, directions.shape[-1])
    else:
        padded = directions[:, places.to(directions.device)]
    return padded, is_there.to(directions.device)


def _gold(links: Links, first: Words, second: Words) -> Tensor:
    """Sentence and both words of every gold link, ``(num_links, 3)``, in the sentences' order."""
    if not links:
        return torch.zeros(0, 3, dtype=torch.long)
    numbers = torch.arange(len(links)).repeat_interleave(
        torch.tensor([len(link) for link in links])
    )
    every = torch.cat([numbers[:, None], torch.cat(list(links))], dim=1)
    kept = (every[:, 1] < first.counts[numbers]) & (every[:, 2] < second.counts[numbers])
    return every[kept].unique(dim=0)
