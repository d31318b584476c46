"""Batches of sentences and their translations, each encoded by itself.

A row is a pair: ``input_ids`` and ``attention_mask`` are those of a sentence, ``other_input_ids``
and ``other_attention_mask`` (and token types, where the model has them) those of its
translation. ``sentence`` ``(batch,)`` numbers the meaning, so that a sentence that was drawn
twice, in whatever languages, is no negative of itself; ``labels`` ``(batch,)`` is the place of
a row in its group. Batch ``step`` is a pure function of (seed, step).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xlt_ray.data.collate import Batch, collate
from xlt_ray.data.encode import Template, template_of
from xlt_ray.data.parallel import SentencePairs, sentence_pairs
from xlt_ray.data.source import Source
from xlt_ray.data.streams import generator
from xlt_ray.spec.methods import Contrastive

OTHER = "other_"


class ContrastBatches:
    """Pairs of random languages and sentences, an endless sequence of batches."""

    def __init__(
        self, pairs: SentencePairs, template: Template, knobs: Contrastive, seed: int
    ) -> None:
        self._pairs, self._template, self._knobs, self._seed = pairs, template, knobs, seed
        names = sorted({name for places in pairs.places.values() for name in places})
        numbers = {name: number for number, name in enumerate(names)}
        self._meanings = {
            language: np.array([numbers[name] for name in places], np.int64)
            for language, places in pairs.places.items()
        }

    def batch(self, step: int) -> Batch:
        random, knobs = generator("contrast", self._seed, step), self._knobs
        drawn = [self._pairs.draw(random) for _ in range(knobs.batch_size)]
        rows = [self._pairs.sentences(one) for one in drawn]
        batch, _ = collate([(first,) for first, _ in rows], self._template, knobs.max_length)
        other, _ = collate([(second,) for _, second in rows], self._template, knobs.max_length)
        return {
            **batch,
            **{f"{OTHER}{name}": array for name, array in other.items()},
            "sentence": np.array([self._meanings[one.first][one.one] for one in drawn]),
            "labels": np.arange(knobs.batch_size) % knobs.group_size,
        }


def contrast_batches(
    source: Source,
    knobs: Contrastive,
    tokenizer: Any,
    tokenizer_digest: str,
    seed: int,
    cache_dir: Path,
) -> ContrastBatches:
    """Batches of translations; DataError where the languages share no sentence."""
    pairs = sentence_pairs(source, knobs, tokenizer, tokenizer_digest, cache_dir)
    return ContrastBatches(pairs, template_of(tokenizer), knobs, seed)
