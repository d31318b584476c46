"""Batches of parallel text for alignment stages and for the masked LM of mixtures.

Batch ``step`` is a pure function of (seed, step). Rows are drawn with replacement: the language, or
the pair of languages, first (uniformly, so that small ones are not drowned), then a sentence.

- Masked LM: ``labels`` are the pieces to predict; of the chosen ones 80 % are masked, 10 % replaced
  by a random piece and 10 % kept. Special tokens are never chosen.
- Contrast: a row is a sentence (``input_ids``, ``attention_mask``) and its translation (the same
  names after ``other_``), each encoded by itself. ``sentence`` ``(batch,)`` numbers the meaning, so
  that a sentence that was drawn twice is not a negative of itself; ``labels`` ``(batch,)`` is the
  place of a row in its group.
- Word swaps: masked translations as in TLM, with ``swap`` ``(batch, length, length)`` float32.
  Where the word of a piece is aligned, its row has equal weights, summing to 1, on all pieces of
  the aligned words; else 1 on the piece itself, as for special pieces and padding. Pieces that
  ``max_length`` cut off get no weight.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

import numpy as np

from xlt_ray.config.methods import (
    ALIGNMENTS,
    Alignment,
    CodeSwitchMlm,
    Contrastive,
    MonolingualLm,
    TranslationLm,
    Weam,
    method_named,
)
from xlt_ray.data.sampling import generator
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.code_switching import SwitchableTable, Switching
from xlt_ray.data.text.parallel import (
    Drawn,
    Row,
    SentencePairs,
    encoded_parallel,
    languages_of,
    sentence_pairs,
)
from xlt_ray.data.text.pipeline import (
    IGNORED,
    Batch,
    Encoded,
    Sentence,
    Template,
    TextPipeline,
)
from xlt_ray.data.text.word_alignment import WordAlignments, word_alignments
from xlt_ray.errors import DataError


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
                "masked language modelling needs a mask token, and this tokenizer has none",
                remedy="choose a model that was pre-trained with masks, or train no masked LM",
            )
        self._mask_id, self._mask = template.mask_id, mask
        self._plain = np.setdiff1d(np.arange(template.num_pieces), list(template.special_ids))

    def hide(self, batch: Batch, places: list[list[slice]], random: np.random.Generator) -> None:
        """Set ``labels`` and change ``input_ids``; ``places`` are where sentences stand."""
        ids = batch["input_ids"]
        may = np.zeros(ids.shape, bool)
        for number, sentences in enumerate(places):
            for place in sentences:
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
        pipeline: TextPipeline,
        *,
        mask: float,
        batch_size: int,
        seed: int,
        reset_positions: bool = False,
        coverage: float | None = None,
    ) -> None:
        """``coverage``: share of the words that a lexicon has, where words are switched by one."""
        self.batch_size = batch_size
        self.coverage = {} if coverage is None else {"lexicon": coverage}
        self._rows, self._masking = rows, Masking(pipeline.template, mask)
        self._pipeline, self._seed = pipeline, seed
        self._reset_positions = reset_positions

    def batch(self, step: int) -> Batch:
        random = generator("alignment", self._seed, step)
        rows = [self._rows.row(random) for _ in range(self.batch_size)]
        batch, places = self._pipeline.collated(rows)
        self._masking.hide(batch, places, random)
        if self._reset_positions:
            batch["position_ids"] = _positions(batch["input_ids"].shape, places)
        return batch


def alignment_batches(
    source: Source,
    settings: Alignment,
    pipeline: TextPipeline,
    seed: int,
) -> AlignmentBatches:
    """Batches of the objective that ``settings`` name.

    Raises:
        DataError: the source has no parallel text for the languages, or lacks the lexicon
            that the objective needs.
    """
    objective: str = settings.objective  # type: ignore[attr-defined]
    make = method_named(ALIGNMENTS, objective).load()
    batches: AlignmentBatches = make(source, settings, pipeline, seed)
    return batches


def code_switched_batches(
    source: Source,
    settings: CodeSwitchMlm,
    pipeline: TextPipeline,
    seed: int,
) -> MaskedBatches:
    """Single sentences with words switched into the other languages of the stage."""
    languages = languages_of(source, settings)
    tables = []
    for language in languages:
        text = source.parallel(language)
        table = encoded_parallel(source, language, text, pipeline)
        switching = Switching(source, language, languages, pipeline)
        tables.append(SwitchableTable(table, (one.split() for one in text.values()), switching))
    if settings.switch > 0 and not any(table.coverage for table in tables):
        raise DataError(
            f"code_switch_mlm needs a lexicon between the languages {', '.join(languages)} that has"
            " words of their parallel text",
            remedy="add lexicon/SOURCE-TARGET.tsv (word TAB word) below the data root, or choose"
            " align.objective tlm",
        )
    rows, coverage = _SwitchedRows(tables, settings.switch), [table.coverage for table in tables]
    return _masked(rows, pipeline, settings, settings.mask, seed, coverage=float(np.mean(coverage)))


def monolingual_batches(
    source: Source,
    settings: MonolingualLm,
    pipeline: TextPipeline,
    seed: int,
) -> MaskedBatches:
    """Single sentences as they are: what alignment objectives are to be compared with."""
    tables = [
        encoded_parallel(source, language, source.parallel(language), pipeline)
        for language in languages_of(source, settings)
    ]
    return _masked(_PlainRows(tables), pipeline, settings, settings.mask, seed)


def translation_batches(
    source: Source,
    settings: TranslationLm,
    pipeline: TextPipeline,
    seed: int,
) -> MaskedBatches:
    """A sentence and its translation (XLM, arXiv 1901.07291, section 3.3).

    XLM begins positions anew at the second sentence, so that a word and its translation have
    nearly the same; encoders that were pre-trained on pairs without it need not profit, and
    here it is a setting that is off by default. XLM's language embeddings are left out.
    """
    pairs = sentence_pairs(source, settings, pipeline)
    return _masked(pairs, pipeline, settings, settings.mask, seed, settings.reset_positions)


def _masked(
    rows: Rows,
    pipeline: TextPipeline,
    settings: Alignment,
    mask: float,
    seed: int,
    reset_positions: bool = False,
    coverage: float | None = None,
) -> MaskedBatches:
    return MaskedBatches(
        rows,
        pipeline,
        mask=mask,
        batch_size=settings.batch_size,
        seed=seed,
        reset_positions=reset_positions,
        coverage=coverage,
    )


def _positions(shape: tuple[int, ...], places: list[list[slice]]) -> np.ndarray:
    """(batch, length): counted from 0 over the row, and from 0 again at the second sentence."""
    positions = np.tile(np.arange(shape[1]), (shape[0], 1))
    for number, sentences in enumerate(places):
        for place in sentences[1:]:
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


OTHER = "other_"


class ContrastBatches:
    """Pairs of random languages and sentences, an endless sequence of batches."""

    def __init__(
        self, pairs: SentencePairs, pipeline: TextPipeline, settings: Contrastive, seed: int
    ) -> None:
        self._pairs, self._pipeline, self._settings, self._seed = pairs, pipeline, settings, seed
        names = sorted({name for places in pairs.places.values() for name in places})
        numbers = {name: number for number, name in enumerate(names)}
        self._meanings = {
            language: np.array([numbers[name] for name in places], np.int64)
            for language, places in pairs.places.items()
        }

    def batch(self, step: int) -> Batch:
        random, settings = generator("contrast", self._seed, step), self._settings
        drawn = [self._pairs.draw(random) for _ in range(settings.batch_size)]
        rows = [self._pairs.sentences(pair) for pair in drawn]
        batch, _ = self._pipeline.collated([(first,) for first, _ in rows])
        translations, _ = self._pipeline.collated([(second,) for _, second in rows])
        return {
            **batch,
            **{f"{OTHER}{name}": array for name, array in translations.items()},
            "sentence": np.array([self._meanings[pair.first][pair.one] for pair in drawn]),
            "labels": np.arange(settings.batch_size) % settings.group_size,
        }


def contrast_batches(
    source: Source,
    settings: Contrastive,
    pipeline: TextPipeline,
    seed: int,
) -> ContrastBatches:
    """Batches of translations; DataError where the languages share no sentence."""
    pairs = sentence_pairs(source, settings, pipeline)
    return ContrastBatches(pairs, pipeline, settings, seed)


class SwappedBatches:
    """Masked translations and their swaps, an endless sequence of batches.

    Words of two languages are aligned, or read from the cache, when they are first drawn.
    """

    def __init__(
        self,
        source: Source,
        pairs: SentencePairs,
        pipeline: TextPipeline,
        settings: Weam,
        seed: int,
    ) -> None:
        self._source, self._pairs, self._pipeline = source, pairs, pipeline
        self._settings, self._seed = settings, seed
        self._masking = Masking(pipeline.template, settings.mask)
        self._alignments = cache(self._aligned)

    def batch(self, step: int) -> Batch:
        random, settings = generator("word-swaps", self._seed, step), self._settings
        drawn = [self._pairs.draw(random) for _ in range(settings.batch_size)]
        rows = [self._pairs.sentences(pair) for pair in drawn]
        batch, places = self._pipeline.collated(rows)
        self._masking.hide(batch, places, random)
        length = batch["input_ids"].shape[1]
        swap = np.tile(np.eye(length, dtype=np.float32), (len(rows), 1, 1))
        for number, (pair, row) in enumerate(zip(drawn, rows, strict=True)):
            _fill(swap[number], self._links(pair), row, places[number])
        return {**batch, "swap": swap}

    def _links(self, drawn: Drawn) -> np.ndarray:
        """(num_links, 2): places of words in the sentence drawn first, in its translation."""
        first, second, one, other = drawn
        if first < second:
            alignments, numbers = self._alignments(first, second)
            return alignments[int(numbers[one])]
        alignments, numbers = self._alignments(second, first)
        return alignments[int(numbers[other])][:, ::-1]

    def _aligned(self, first: str, second: str) -> tuple[WordAlignments, np.ndarray]:
        """Alignments, and the number among them of every sentence of the first language."""
        alignments = word_alignments(
            self._source,
            first,
            second,
            aligner=self._settings.aligner,
            symmetrise=self._settings.symmetrise,
            cache_dir=self._pipeline.cache_dir,
        )
        numbers = np.full(len(self._pairs.tables[first]), -1, np.int64)
        shared = self._pairs.shared(first, second)
        numbers[shared[:, 0]] = np.arange(len(shared))
        return alignments, numbers


def swapped_batches(
    source: Source,
    settings: Weam,
    pipeline: TextPipeline,
    seed: int,
) -> SwappedBatches:
    """Batches of translations with swaps; DataError where the languages share no sentence."""
    pairs = sentence_pairs(source, settings, pipeline)
    return SwappedBatches(source, pairs, pipeline, settings, seed)


def _fill(
    swap: np.ndarray, links: np.ndarray, row: tuple[Sentence, Sentence], places: list[slice]
) -> None:
    """Write the rows of aligned pieces into one matrix (length, length) in place."""
    partners: dict[int, list[int]] = {}
    for first_word, second_word in links.tolist():
        ours, theirs = (
            _pieces(sentence, word, place)
            for sentence, word, place in zip(row, (first_word, second_word), places, strict=True)
        )
        for place in ours:
            partners.setdefault(place, []).extend(theirs)
        for place in theirs:
            partners.setdefault(place, []).extend(ours)
    for place, partner_places in partners.items():
        if partner_places:
            swap[place] = 0.0
            swap[place, partner_places] = 1.0 / len(partner_places)


def _pieces(sentence: Sentence, word: int, place: slice) -> range:
    """Positions of the pieces of a word that were not cut off."""
    begin, end = int(sentence.starts[word]), int(sentence.ends[word])
    return range(min(place.start + begin, place.stop), min(place.start + end, place.stop))
