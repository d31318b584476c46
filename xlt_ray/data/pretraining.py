"""Batches for alignment stages: masked language modelling on parallel text.

Batch ``step`` is a pure function of (seed, step). Rows are drawn with replacement: the
language first (uniformly, so that small ones are not drowned), then a sentence of it.
Labels are the pieces to be predicted; of the chosen ones 80 % are masked, 10 % replaced
by a random piece and 10 % kept. Special tokens are never chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xlt_ray.data.collate import IGNORED, Batch, collate
from xlt_ray.data.encode import Encoded, Sentence, Template, encoded, template_of
from xlt_ray.data.source import Source
from xlt_ray.data.streams import digest_of, generator
from xlt_ray.data.switching import SwitchableTable, Switching
from xlt_ray.errors import DataError, nearest
from xlt_ray.spec.methods import ALIGNMENTS, Alignment, CodeSwitchMlm, TranslationLm, method_named

Row = tuple[Sentence, ...]


class Rows(Protocol):
    """Where the rows of an alignment batch come from."""

    def row(self, random: np.random.Generator) -> Row:
        """One random row of one or two sentences."""


class AlignmentBatches:
    """An endless sequence of masked batches."""

    def __init__(
        self,
        rows: Rows,
        template: Template,
        *,
        mask: float,
        max_length: int,
        batch_size: int,
        seed: int,
    ) -> None:
        if template.mask_id is None:
            raise DataError(
                "masked language modelling needs a mask token, this tokenizer has none",
                remedy="choose a model that was pre-trained with masks, or align: null",
            )
        self.batch_size = batch_size
        self._mask_id = template.mask_id
        self._rows, self._template, self._mask = rows, template, mask
        self._max_length, self._seed = max_length, seed
        self._plain = np.setdiff1d(np.arange(template.num_pieces), list(template.special_ids))

    def batch(self, step: int) -> Batch:
        """Batch ``step`` = 0, 1, ...: the same arrays whenever and however often it is asked."""
        random = generator("alignment", self._seed, step)
        rows = [self._rows.row(random) for _ in range(self.batch_size)]
        batch, places = collate(rows, self._template, self._max_length)
        ids = batch["input_ids"]
        may = np.zeros(ids.shape, bool)
        for number, found in enumerate(places):
            for place in found:
                may[number, place] = True
        chosen = may & (random.random(ids.shape) < self._mask)
        if not chosen.any():
            # A loss over nothing is undefined: a tiny batch gives up its first piece.
            chosen[tuple(np.argwhere(may)[0])] = True
        fate = random.random(ids.shape)
        replacements = random.choice(self._plain, ids.shape)
        batch["labels"] = np.where(chosen, ids, IGNORED)
        masked = np.where(fate < 0.8, self._mask_id, replacements)
        batch["input_ids"] = np.where(chosen & (fate < 0.9), masked, ids)
        return batch


def alignment_batches(
    source: Source,
    knobs: Alignment,
    tokenizer: Any,
    tokenizer_digest: str,
    seed: int,
    cache_dir: Path,
) -> AlignmentBatches:
    """Batches of the objective that ``knobs`` name.

    Raises:
        DataError: the source has no parallel text for the languages, or lacks the lexicon
            that the objective needs.
    """
    objective: str = knobs.objective  # type: ignore[attr-defined]
    make = method_named(ALIGNMENTS, objective).load()
    rows: Rows = make(source, knobs, tokenizer, tokenizer_digest, cache_dir)
    return AlignmentBatches(
        rows,
        template_of(tokenizer),
        mask=knobs.mask,  # type: ignore[attr-defined]
        max_length=knobs.max_length,
        batch_size=knobs.batch_size,
        seed=seed,
    )


def code_switched_rows(
    source: Source,
    knobs: CodeSwitchMlm,
    tokenizer: Any,
    tokenizer_digest: str,
    cache_dir: Path,
) -> Rows:
    """Single sentences with words switched into the other languages of the stage."""
    languages = _languages(source, knobs)
    tables, num_switchable = [], 0
    for language in languages:
        text = source.parallel(language)
        table = _encoded_parallel(source, language, text, tokenizer, tokenizer_digest, cache_dir)
        switching = Switching(source, language, languages, tokenizer, tokenizer_digest, cache_dir)
        num_switchable += len(switching)
        tables.append(SwitchableTable(table, (one.split() for one in text.values()), switching))
    if knobs.switch > 0 and not num_switchable:
        raise DataError(
            f"code_switch_mlm needs a lexicon between the languages {', '.join(languages)}",
            remedy="add lexicon/SOURCE-TARGET.tsv (word TAB word) below the data root, or choose"
            " align.objective tlm",
        )
    return _SwitchedRows(tables, knobs.switch)


def translation_rows(
    source: Source,
    knobs: TranslationLm,
    tokenizer: Any,
    tokenizer_digest: str,
    cache_dir: Path,
) -> Rows:
    """A sentence and its translation (XLM, arXiv 1901.07291), without XLM's reset of positions."""
    languages = _languages(source, knobs)
    text = {language: source.parallel(language) for language in languages}
    pairs = [
        pair for pair in permutations(languages, 2) if text[pair[0]].keys() & text[pair[1]].keys()
    ]
    if not pairs:
        raise DataError(
            f"the languages {', '.join(languages)} share no parallel sentence",
            remedy="choose languages of one corpus: see the folders in parallel/",
        )
    tables = {
        language: _encoded_parallel(
            source, language, text[language], tokenizer, tokenizer_digest, cache_dir
        )
        for language in languages
    }
    places = {
        language: {name: place for place, name in enumerate(text[language])}
        for language in languages
    }
    return _TranslationRows(tables, places, pairs)


class _SwitchedRows:
    def __init__(self, tables: list[SwitchableTable], switch: float) -> None:
        self._tables, self._switch = tables, switch

    def row(self, random: np.random.Generator) -> Row:
        draws = random.random(2)
        table = self._tables[int(draws[0] * len(self._tables))]
        return (table.switched(int(draws[1] * len(table)), self._switch, random),)


class _TranslationRows:
    def __init__(
        self,
        tables: dict[str, Encoded],
        places: dict[str, dict[str, int]],
        pairs: list[tuple[str, str]],
    ) -> None:
        self._tables, self._places, self._pairs = tables, places, pairs
        self._shared = cache(self._join)

    def _join(self, first: str, second: str) -> np.ndarray:
        """(num_shared, 2): places of the sentences both languages have, in the first's order."""
        other = self._places[second]
        return np.array(
            [(place, other[name]) for name, place in self._places[first].items() if name in other]
        )

    def row(self, random: np.random.Generator) -> Row:
        draws = random.random(2)
        first, second = self._pairs[int(draws[0] * len(self._pairs))]
        shared = self._shared(first, second)
        one, other = shared[int(draws[1] * len(shared))].tolist()
        return (self._tables[first][one], self._tables[second][other])


def _languages(source: Source, knobs: Alignment) -> tuple[str, ...]:
    there = source.parallel_languages()
    if not there:
        raise DataError(
            f"the {source.name} source has no parallel text",
            remedy="add parallel/CORPUS/LANGUAGE.tsv (id TAB sentence), or align: null",
        )
    if knobs.languages == "all":
        return there
    for language in knobs.languages:
        if language not in there:
            raise DataError(
                "there is no parallel text in this language",
                language=language,
                remedy=nearest(language, there),
            )
    return tuple(sorted(set(knobs.languages)))


def _encoded_parallel(
    source: Source,
    language: str,
    text: Mapping[str, str],
    tokenizer: Any,
    tokenizer_digest: str,
    cache_dir: Path,
) -> Encoded:
    return encoded(
        (sentence.split() for sentence in text.values()),
        tokenizer,
        tokenizer_digest=tokenizer_digest,
        content_digest=digest_of("parallel", language, source.parallel_digest(language)),
        cache_dir=cache_dir,
    )
