"""Parallel text that masked LM is scored on, kept out of its training.

Which sentences they are follows from their ids alone: the first ones in the order of a digest,
the same ids in all languages, so that no translation of theirs is trained on either. Pieces are
hidden by numbers of their own (80 % masked, 10 % replaced, 10 % kept), the same at every step and
for every objective: one sentence a row, as it is, whatever rows are trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from xlt_ray.data.collate import Batch, collate
from xlt_ray.data.encode import encode_words, template_of
from xlt_ray.data.parallel import languages_of
from xlt_ray.data.pretraining import Masking
from xlt_ray.data.source import Source
from xlt_ray.data.streams import digest_of, generator
from xlt_ray.errors import DataError
from xlt_ray.spec.methods import MaskedAlignment

_NAME = "held-out"


class _Rest:
    """A source whose parallel text lacks some sentences; all else is the source's."""

    def __init__(self, source: Source, names: frozenset[str]) -> None:
        self._source, self._names = source, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def parallel(self, language: str) -> Mapping[str, str]:
        text = self._source.parallel(language)
        left = {name: one for name, one in text.items() if name not in self._names}
        if not left:
            raise DataError(
                f"all {len(text)} parallel sentences are held out, and none is left to train on",
                language=language,
                remedy="a smaller align.held_out",
            )
        return left

    def parallel_digest(self, language: str) -> str:
        return digest_of(_NAME, self._source.parallel_digest(language), *sorted(self._names))


def held_out_names(source: Source, knobs: MaskedAlignment) -> frozenset[str]:
    """Ids of the sentences that are kept out, in all languages of the stage."""
    every = {name for one in languages_of(source, knobs) for name in source.parallel(one)}
    return frozenset(sorted(every, key=lambda name: digest_of(_NAME, name))[: knobs.held_out])


def rest_of(source: Source, knobs: MaskedAlignment) -> Source:
    """What is trained on: the source without the sentences that are kept out."""
    return cast("Source", _Rest(source, held_out_names(source, knobs)))


def held_out_batches(
    source: Source, knobs: MaskedAlignment, tokenizer: Any, batch_size: int
) -> dict[str, list[Batch]]:
    """Masked sentences that are kept out, by language, those of like length together.

    A language that has none of them is left out.
    """
    template, names = template_of(tokenizer), held_out_names(source, knobs)
    masking = Masking(template, knobs.mask)
    found: dict[str, list[Batch]] = {}
    for language in languages_of(source, knobs):
        text = source.parallel(language)
        own = sorted(name for name in names if name in text)
        sentences = encode_words([text[name].split() for name in own], tokenizer)
        sentences.sort(key=lambda one: len(one.pieces))
        for begin in range(0, len(sentences), batch_size):
            rows = [(one,) for one in sentences[begin : begin + batch_size]]
            batch, places = collate(rows, template, knobs.max_length)
            masking.hide(batch, places, generator(_NAME, language, begin))
            found.setdefault(language, []).append(batch)
    return found
