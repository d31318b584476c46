"""States of sentences and words at every layer, pooled as they come out of the encoder.

Of a batch's states of all layers, ``(num_layers + 1) x (batch, length, hidden)``, the means over
sentences and over words are kept and the rest is let go, so that memory is that of one batch and
of the means: ``4 (num_layers + 1) hidden`` bytes for every sentence, and for every word where
words are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlt_ray.modeling.fusion.dlfa import masked_mean

Links = Sequence[Tensor]
"""Of each sentence pair ``(num_links, 2)`` int64: places of aligned words in either."""


@dataclass(frozen=True)
class States:
    """Of n sentences of one language; ``sentences`` is ``(num_layers + 1, n, hidden)``."""

    sentences: Tensor
    words: Tensor | None = None
    """``(num_layers + 1, num_words, hidden)``: the words of all sentences, one after another."""
    ends: tuple[int, ...] = (0,)
    """Where the words of sentence i begin; one more than there are sentences."""

    def taken(self, numbers: Sequence[int]) -> States:
        """The states of some sentences, in that order."""
        places = torch.as_tensor(numbers, dtype=torch.long, device=self.sentences.device)
        sentences = self.sentences[:, places]
        if self.words is None:
            return States(sentences)
        spans = [range(self.ends[one], self.ends[one + 1]) for one in numbers]
        words = torch.tensor([word for span in spans for word in span], device=places.device)
        ends = [0]
        for span in spans:
            ends.append(ends[-1] + len(span))
        return States(sentences, self.words[:, words.long()], tuple(ends))


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
    wide = [one.float() for one in layers]
    sentences = torch.stack([masked_mean(one, attention_mask).squeeze(1) for one in wide])
    if word_weights is None:
        return sentences, None
    return sentences, torch.stack([word_weights.float() @ one for one in wide])


def joined(parts: Sequence[States], order: Sequence[int]) -> States:
    """Parts one after another, then put back: ``order[i]`` is the sentence that row i is of."""
    sentences = torch.cat([one.sentences for one in parts], dim=1)
    words, ends = None, [0]
    if all(one.words is not None for one in parts):
        words = torch.cat([one.words for one in parts if one.words is not None], dim=1)
        for one in parts:
            before = ends[-1]
            ends += [before + end for end in one.ends[1:]]
    place_of = sorted(range(len(order)), key=order.__getitem__)
    return States(sentences, words, tuple(ends)).taken(place_of)
