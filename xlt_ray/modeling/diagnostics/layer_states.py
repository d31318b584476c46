"""States of sentences and words at every layer, pooled as they come out of the encoder.

Of a batch's states of all layers, ``(num_layers + 1) x (batch, length, hidden)``, the means over
sentences and over words are kept and the rest is let go, so that memory is that of one batch and
of the means: ``4 (num_layers + 1) hidden`` bytes for every sentence, and for every word where
words are asked for. Words are kept once, however many samples of their sentences are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Links = Sequence[Tensor]
"""Of each sentence pair ``(num_links, 2)`` int64: places of aligned words in either."""


@dataclass(frozen=True)
class Words:
    """Of n sentences; which words are whose stands on the CPU, whatever the encoder runs on."""

    directions: Tensor
    """``(num_layers + 1, num_words, hidden)``, each of length 1."""
    begins: Tensor
    """``(n,)``: where the words of each sentence begin, one after another from there."""
    counts: Tensor
    """``(n,)``: how many each has."""

    def taken(self, places: Tensor) -> Words:
        return Words(self.directions, self.begins[places], self.counts[places])


@dataclass(frozen=True)
class States:
    """Of n sentences of one language; ``sentences`` is ``(num_layers + 1, n, hidden)``."""

    sentences: Tensor
    words: Words | None = None

    def taken(self, numbers: Sequence[int]) -> States:
        """The states of some sentences, in that order."""
        places = torch.as_tensor(numbers, dtype=torch.long)
        sentences = self.sentences[:, places.to(self.sentences.device)]
        return States(sentences, None if self.words is None else self.words.taken(places))


def pooled(
    layers: Sequence[Tensor], attention_mask: Tensor, word_weights: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Means over the pieces of each row, and over those of each word, float32.

    Args:
        layers: states of one batch, ``(batch, length, hidden)`` each.
        word_weights: ``(batch, words, length)``, rows that sum to 1, or to 0 where a row has
            fewer words; None where words are not asked for.

    Returns:
        ``(num_layers + 1, batch, hidden)`` and ``(num_layers + 1, batch, words, hidden)``.
    """
    mask = attention_mask.unsqueeze(1).float()
    weights = mask / mask.sum(dim=-1, keepdim=True).clamp(min=1.0)
    if word_weights is not None:
        weights = torch.cat([weights, word_weights.float()], dim=1)
    means = torch.stack([weights @ layer.float() for layer in layers])
    # A copy: a view would keep the states of words that only fill up rows.
    return means[:, :, 0].contiguous(), None if word_weights is None else means[:, :, 1:]


def words_of(states: Tensor, num_words: Sequence[int]) -> Words:
    """The words of a batch without those that only fill up its rows.

    Args:
        states: ``(num_layers + 1, batch, words, hidden)``.
        num_words: of each row.
    """
    counts = torch.as_tensor(num_words, dtype=torch.long)
    is_word = torch.arange(states.shape[2]) < counts[:, None]
    places = is_word.flatten().nonzero().squeeze(1).to(states.device)
    directions = functional.normalize(states.flatten(1, 2)[:, places], dim=-1)
    return Words(directions, counts.cumsum(0) - counts, counts)


def joined(parts: Sequence[States], order: Sequence[int]) -> States:
    """Parts one after another, then put back: ``order[i]`` is the sentence that row i is of."""
    sentences = torch.cat([part.sentences for part in parts], dim=1)
    place_of = sorted(range(len(order)), key=order.__getitem__)
    those = [part.words for part in parts if part.words is not None]
    if not those:
        return States(sentences).taken(place_of)
    ends = torch.tensor([one.directions.shape[1] for one in those]).cumsum(0)
    words = Words(
        torch.cat([one.directions for one in those], dim=1),
        torch.cat([one.begins + end for one, end in zip(those, [0, *ends[:-1]], strict=True)]),
        torch.cat([one.counts for one in those]),
    )
    return States(sentences, words).taken(place_of)
