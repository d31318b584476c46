"""Batches of masked language modelling on parallel text, for alignment stages and mixtures.

Batch ``step`` is a pure function of (seed, step). Rows are drawn with replacement: the
language first (uniformly, so that small ones are not drowned), then a sentence of it.
Labels are the pieces to be predicted; of the chosen ones 80 % are masked, 10 % replaced
by a random piece and 10 % kept. Special tokens are never chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xlt_ray.data.collate import IGNORED, Batch, collate
from xlt_ray.data.encode import Encoded, Template, template_of
from xlt_ray.data.parallel import Row, encoded_parallel, languages_of, sentence_pairs
from xlt_ray.data.source import Source
from xlt_ray.data.streams import generator
from xlt_ray.data.switching import SwitchableTable, Switching
from xlt_ray.errors import DataError
from xlt_ray.spec.methods import (
    ALIGNMENTS,
    Alignment,
    CodeSwitchMlm,
    MonolingualLm,
    TranslationLm,
    method_named,
)


class AlignmentBatches(Protocol):
    """What every objective trains on, an endless sequence."""

    def batch(self, step: int) -> Batch:
        """Batch ``step`` = 0, 1, ...: the same arrays whenever and however often it is asked."""


class Rows(Protocol):
    """Where the rows of a batch come from."""

    def row(self, random: np.random.Generator) -> Row:
        """One random row of one or two sentences."""


class Masking:
    """Chooses the pieces of a batch that are to be predicted, and hides them.

    Raises:
        DataError: the tokenizer has no mask token.
    """

    def __init__(self, template: Template, mask: float) -> None:
        if template.mask_id is None:
            raise DataError(
                "masked language modelling needs a mask token, this tokenizer has none",
                remedy="choose a model that was pre-trained with masks, or train no masked LM",
            )
        self._mask_id, self._mask = template.mask_id, mask
        self._plain = np.setdiff1d(np.arange(template.num_pieces), list(template.special_ids))

    def hide(self, batch: Batch, places: list[list[slice]], random: np.random.Generator) -> None:
        """Set ``labels`` and change ``input_ids``; ``places`` are where sentences stand."""
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


class MaskedBatches:
    """Masked rows; ``position_ids`` begin anew at every sentence where positions are reset."""

    def __init__(
        self,
        rows: Rows,
        template: Template,
        *,
        mask: float,
        max_length: int,
        batch_size: int,
        seed: int,
        reset_positions: bool = False,
        coverage: float | None = None,
    ) -> None:
        """``coverage``: share of the words that a lexicon has, where words are switched by one."""
        self.batch_size = batch_size
        self.coverage = {} if coverage is None else {"lexicon": coverage}
        self._rows, self._template, self._masking = rows, template, Masking(template, mask)
        self._max_length, self._seed = max_length, seed
        self._reset_positions = reset_positions

    def batch(self, step: int) -> Batch:
        random = generator("alignment", self._seed, step)
        rows = [self._rows.row(random) for _ in range(self.batch_size)]
        batch, places = collate(rows, self._template, self._max_length)
        self._masking.hide(batch, places, random)
        if self._reset_positions:
            batch["position_ids"] = _positions(batch["input_ids"].shape, places)
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
    batches: AlignmentBatches = make(source, knobs, tokenizer, tokenizer_digest, seed, cache_dir)
    return batches


def code_switched_batches(
    source: Source,
    knobs: CodeSwitchMlm,
    tokenizer: Any,
    tokenizer_digest: str,
    seed: int,
    cache_dir: Path,
) -> MaskedBatches:
    """Single sentences with words switched into the other languages of the stage."""
    languages = languages_of(source, knobs)
    tables = []
    for language in languages:
        text = source.parallel(language)
        table = encoded_parallel(source, language, text, tokenizer, tokenizer_digest, cache_dir)
        switching = Switching(source, language, languages, tokenizer, tokenizer_digest, cache_dir)
        tables.append(SwitchableTable(table, (one.split() for one in text.values()), switching))
    if knobs.switch > 0 and not any(table.coverage for table in tables):
        raise DataError(
            f"code_switch_mlm needs a lexicon between the languages {', '.join(languages)} that has"
            " words of their parallel text",
            remedy="add lexicon/SOURCE-TARGET.tsv (word TAB word) below the data root, or choose"
            " align.objective tlm",
        )
    rows, coverage = _SwitchedRows(tables, knobs.switch), [table.coverage for table in tables]
    return _masked(rows, tokenizer, knobs, knobs.mask, seed, coverage=float(np.mean(coverage)))


def monolingual_batches(
    source: Source,
    knobs: MonolingualLm,
    tokenizer: Any,
    tokenizer_digest: str,
    seed: int,
    cache_dir: Path,
) -> MaskedBatches:
    """Single sentences as they are: what alignment objectives are to be compared with."""
    tables = [
        encoded_parallel(
            source, language, source.parallel(language), tokenizer, tokenizer_digest, cache_dir
        )
        for language in languages_of(source, knobs)
    ]
    return _masked(_PlainRows(tables), tokenizer, knobs, knobs.mask, seed)


def translation_batches(
    source: Source,
    knobs: TranslationLm,
    tokenizer: Any,
    tokenizer_digest: str,
    seed: int,
    cache_dir: Path,
) -> MaskedBatches:
    """A sentence and its translation (XLM, arXiv 1901.07291, section 3.3).

    XLM begins positions anew at the second sentence, so that a word and its translation have
    nearly the same; encoders that were pre-trained on pairs without it need not profit, and
    here it is a knob that is off by default. XLM's language embeddings are left out.
    """
    pairs = sentence_pairs(source, knobs, tokenizer, tokenizer_digest, cache_dir)
    return _masked(pairs, tokenizer, knobs, knobs.mask, seed, knobs.reset_positions)


def _masked(
    rows: Rows,
    tokenizer: Any,
    knobs: Alignment,
    mask: float,
    seed: int,
    reset_positions: bool = False,
    coverage: float | None = None,
) -> MaskedBatches:
    return MaskedBatches(
        rows,
        template_of(tokenizer),
        mask=mask,
        max_length=knobs.max_length,
        batch_size=knobs.batch_size,
        seed=seed,
        reset_positions=reset_positions,
        coverage=coverage,
    )


def _positions(shape: tuple[int, ...], places: list[list[slice]]) -> np.ndarray:
    """(batch, length): counted from 0 over the row, and from 0 again at the second sentence."""
    positions = np.tile(np.arange(shape[1]), (shape[0], 1))
    for number, found in enumerate(places):
        for place in found[1:]:
            positions[number, place.start :] -= positions[number, place.start]
    return positions


class _PlainRows:
    def __init__(self, tables: list[Encoded]) -> None:
        self._tables = tables

    def row(self, random: np.random.Generator) -> Row:
        draws = random.random(2)
        table = self._tables[int(draws[0] * len(self._tables))]
        return (table[int(draws[1] * len(table))],)


class _SwitchedRows:
    def __init__(self, tables: list[SwitchableTable], switch: float) -> None:
        self._tables, self._switch = tables, switch

    def row(self, random: np.random.Generator) -> Row:
        draws = random.random(2)
        table = self._tables[int(draws[0] * len(self._tables))]
        return (table.switched(int(draws[1] * len(table)), self._switch, random),)
