"""States of sentences and words at every layer, pooled batch by batch.

Only the means over sentences and over words of a batch's states, ``(num_layers + 1) x (batch,
length, hidden)``, are kept, so the memory is that of one batch and of the means: ``4 (num_layers
+ 1) hidden`` bytes for every sentence and, if needed, for every word. Samples of the same sentences
share their words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Links = Sequence[Tensor]
"""For each sentence pair ``(num_links, 2)`` int64: places of aligned words in both sentences."""


@dataclass(frozen=True)
class Words:
    """The words of n sentences; ``begins`` and ``counts`` are on the CPU, whatever the device."""

    directions: Tensor
    """``(num_layers + 1, num_words, hidden)``, each of length 1."""
    begins: Tensor
    """``(n,)``: the first word of each sentence."""
    counts: Tensor
    """``(n,)``: the number of words of each sentence."""

    def taken(self, places: Tensor) -> Words:
        return Words(self.directions, self.begins[places], self.counts[places])


@dataclass(frozen=True)
class States:
    """States of n sentences of one language; ``sentences`` is ``(num_layers + 1, n, hidden)``."""

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
            fewer words; None if words are not needed.

    Returns:
        ``(num_layers + 1, batch, hidden)`` and ``(num_layers + 1, batch, words, hidden)``.
    """
    mask = attention_mask.unsqueeze(1).float()
    weights = mask / mask.sum(dim=-1, keepdim=True).clamp(min=1.0)
    if word_weights is not None:
        weights = torch.cat([weights, word_weights.float()], dim=1)
    means = torch.stack([weights @ layer.float() for layer in layers])
    # A copy: a view would keep the states of padding words in memory.
    return means[:, :, 0].contiguous(), None if word_weights is None else means[:, :, 1:]


def words_of(states: Tensor, num_words: Sequence[int]) -> Words:
    """The words of a batch without padding.

    Args:
        states: ``(num_layers + 1, batch, words, hidden)``.
        num_words: number of words of each row.
    """
    counts = torch.as_tensor(num_words, dtype=torch.long)
    is_word = torch.arange(states.shape[2]) < counts[:, None]
    places = is_word.flatten().nonzero().squeeze(1).to(states.device)
    directions = functional.normalize(states.flatten(1, 2)[:, places], dim=-1)
    return Words(directions, counts.cumsum(0) - counts, counts)


def joined(parts: Sequence[States], order: Sequence[int]) -> States:
    """Parts one after another, put back in order: row i is sentence ``order[i]``."""
    sentences = torch.cat([part.sentences for part in parts], dim=1)
    place_of = sorted(range(len(order)), key=order.__getitem__)
    all_words = [part.words for part in parts if part.words is not None]
    if not all_words:
        return States(sentences).taken(place_of)
    directions = torch.cat([words.directions for words in all_words], dim=1)
    counts = torch.cat([words.counts for words in all_words])
    # The words of each part are one after another, as words_of gives them.
    return States(sentences, Words(directions, counts.cumsum(0) - counts, counts)).taken(place_of)
