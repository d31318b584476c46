"""Are words nearest to their translations?

A word is the mean of its pieces. Two words of a sentence and its translation are aligned if each
is the nearest of the other by cosine (SimAlign, arXiv 2004.08728, section 2.2.1: Argmax). With A
all predicted links, S the sure gold links and P the possible ones, which include S, over all
sentences (Och and Ney 2003)::

    AER = 1 - (|A & S| + |A & P|) / (|A| + |S|)

The gold data of this package has only sure links, P = S. SimAlign compares pieces or words; here
words are compared, without its corrections for distortion and null words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlt_ray.modeling.diagnostics.layer_states import Links, States, Words

CHUNK = 64
"""Sentences whose similarities are in memory together."""


def alignment(first: States, second: States, links: Links | None) -> Tensor:
    """Between 0 (as gold) and 1; NaN without gold links. Links of words that were cut off are left
    out."""
    num_layers = len(first.sentences)
    assert first.words is not None
    assert second.words is not None
    gold = _gold(links or (), first.words, second.words)
    if not len(gold):
        return torch.full((num_layers,), torch.nan, dtype=torch.float64)
    predicted = torch.zeros(num_layers, dtype=torch.float64)
    right = torch.zeros(num_layers, dtype=torch.float64)
    for numbers in torch.arange(len(first.words.counts)).split(CHUNK):
        sources, is_source = _padded(first.words.taken(numbers))
        targets, is_target = _padded(second.words.taken(numbers))
        partners = mutual(sources @ targets.transpose(-1, -2), is_source, is_target).cpu()
        rows, source_words, target_words = gold[torch.isin(gold[:, 0], numbers)].unbind(dim=1)
        predicted += (partners >= 0).sum(dim=(1, 2))
        right += (partners[:, rows - numbers[0], source_words] == target_words).sum(dim=1)
    return error_rate(predicted, right, right, len(gold))


def error_rate(predicted: Tensor, in_sure: Tensor, in_possible: Tensor, sure: int) -> Tensor:
    """AER from numbers of links: all predicted ones, those of them in S and in P, and all of S."""
    return 1 - (in_sure + in_possible) / (predicted + sure)


def mutual(similarity: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """For each row the column if they are each other's nearest, else -1; ``(layers, n, rows)``.

    ``similarity`` is ``(layers, n, rows, columns)``; ``rows`` and ``columns`` say which words each
    sentence has. Among equal ones the first is taken.
    """
    exists = rows[:, :, None] & columns[:, None, :]
    similarity = similarity.masked_fill(~exists, -torch.inf)
    partner = similarity.argmax(dim=-1)
    back = similarity.argmax(dim=-2).gather(-1, partner)
    is_mutual = back == torch.arange(similarity.shape[-2], device=similarity.device)
    return partner.masked_fill(~(is_mutual & exists.any(dim=-1)), -1)


def _padded(words: Words) -> tuple[Tensor, Tensor]:
    """Directions as ``(layers, n, words, hidden)``, and which words exist, ``(n, words)``."""
    directions = words.directions
    width = torch.arange(max(1, int(words.counts.max())))
    exists = width < words.counts[:, None]
    places = torch.where(exists, words.begins[:, None] + width, 0)
    if not directions.shape[1]:
        padded = directions.new_zeros(len(directions), *places.shape, directions.shape[-1])
    else:
        padded = directions[:, places.to(directions.device)]
    return padded, exists.to(directions.device)


def _gold(links: Links, first: Words, second: Words) -> Tensor:
    """Sentence and both words of every gold link, ``(num_links, 3)``, ordered by sentence."""
    if not links:
        return torch.zeros(0, 3, dtype=torch.long)
    numbers = torch.arange(len(links)).repeat_interleave(
        torch.tensor([len(link) for link in links])
    )
    every = torch.cat([numbers[:, None], torch.cat(list(links))], dim=1)
    kept = (every[:, 1] < first.counts[numbers]) & (every[:, 2] < second.counts[numbers])
    return every[kept].unique(dim=0)
