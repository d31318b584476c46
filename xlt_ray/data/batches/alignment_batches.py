"""Batches of parallel text for alignment stages and for the masked LM of mixtures.

Batch ``step`` is a pure function of (seed, step). Rows are drawn with replacement: the language, or
the pair of languages, first (uniformly, so that small ones are not drowned), then a sentence. Those
of masked LM are put together by length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Generic, TypeVar

import numpy as np

from xlt_ray.config.methods import (
    ALIGNMENTS,
    Alignment,
    CodeSwitchMlm,
    Contrastive,
    MaskedAlignment,
    MonolingualLm,
    TranslationLm,
    Weam,
    method_named,
)
from xlt_ray.data.batches.length_pools import DrawnPools, weighted
from xlt_ray.data.sampling import generator
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.code_switching import SwitchableTable
from xlt_ray.data.text.parallel import (
    HELD_OUT_STREAM,
    Drawn,
    encoded_parallel,
    held_out_names,
    languages_of,
    sentence_pairs,
)
from xlt_ray.data.text.pipeline import (
    IGNORED,
    Batch,
    Batches,
    Encoded,
    Row,
    Sentence,
    TextPipeline,
    encode_words,
    union,
)
from xlt_ray.data.text.word_alignment import WordAlignments, word_alignments
from xlt_ray.errors import DataError

Place = TypeVar("Place")
"""What says which sentence, or which pair of them, a row shows."""
SentencePlace = tuple[int, int]
"""Number of a table, and of a sentence in it."""


def alignment_batches(
    source: Source, settings: Alignment, pipeline: TextPipeline, seed: int
) -> Batches:
    """Batches of the objective that ``settings`` name.

    Raises:
        DataError: the source has no parallel text for the languages, or lacks the lexicon
            that the objective needs.
    """
    objective: str = settings.objective  # type: ignore[attr-defined]
    batches: Batches = method_named(ALIGNMENTS, objective).load()(source, settings, pipeline, seed)
    return batches


class Masking:
    """Chooses the pieces of a batch that are to be predicted, and hides them.

    Of the chosen pieces 80 % are masked, 10 % replaced by a random piece and 10 % kept. Special
    pieces are never chosen.

    Raises:
        DataError: the tokenizer has no mask token.
    """

    def __init__(self, pipeline: TextPipeline, mask: float) -> None:
        template = pipeline.template
        if template.mask_id is None:
            raise DataError(
                "masked language modelling needs a mask token, and this tokenizer has none",
                remedy="choose a model that was pre-trained with masks, or train no masked LM",
            )
        self._pipeline, self._mask_id, self._mask = pipeline, template.mask_id, mask
        self._plain = np.setdiff1d(np.arange(template.num_pieces), list(template.special_ids))

    def batch(
        self, rows: Sequence[Row], random: np.random.Generator
    ) -> tuple[Batch, list[list[slice]]]:
        """Masked rows with ``labels``, the hidden pieces; and where their sentences stand."""
        batch, places = self._pipeline.collated(rows)
        ids = batch["input_ids"]
        is_maskable = np.zeros(ids.shape, bool)
        for number, sentences in enumerate(places):
            for place in sentences:
                is_maskable[number, place] = True
        chosen = is_maskable & (random.random(ids.shape) < self._mask)
        if not chosen.any():
            # A loss over nothing is undefined: a tiny batch gives up its first piece.
            chosen[tuple(np.argwhere(is_maskable)[0])] = True
        fate = random.random(ids.shape)
        replacements = random.choice(self._plain, ids.shape)
        masked = np.where(fate < 0.8, self._mask_id, replacements)
        hidden = {
            "input_ids": np.where(chosen & (fate < 0.9), masked, ids),
            "labels": np.where(chosen, ids, IGNORED),
        }
        return {**batch, **hidden}, places


class MaskedBatches(Generic[Place]):
    """Masked rows; ``position_ids`` begin anew at every sentence where positions are reset.

    Args:
        draw: draws what a row shows.
        plain: that row as it is, by whose length rows are put together.
        switched: that row with words switched by chance; None to show the plain one.
        coverage: share of the words that the lexicon has, where words are switched.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator], Place],
        plain: Callable[[Place], Row],
        settings: MaskedAlignment,
        pipeline: TextPipeline,
        seed: int,
        *,
        switched: Callable[[Place, np.random.Generator], Row] | None = None,
        coverage: float | None = None,
    ) -> None:
        self.coverage = {} if coverage is None else {"lexicon": coverage}
        self._drawn = DrawnPools(
            "alignment",
            seed,
            settings.batch_size,
            draw,
            lambda place: _length(plain(place)),
            is_by_pieces=settings.batching == "pieces",
        )
        self._row = switched or (lambda place, _: plain(place))
        self._settings, self._seed = settings, seed
        self._masking = Masking(pipeline, settings.mask)

    def batch(self, step: int) -> Batch:
        settings = self._settings
        random = generator("masking", self._seed, step)
        rows = [self._row(place, random) for place in self._drawn.batch(step)]
        batch, places = self._masking.batch(rows, random)
        if isinstance(settings, TranslationLm) and settings.reset_positions:
            batch["position_ids"] = _positions(batch["input_ids"].shape, places)
        if settings.batching == "pieces":
            batch = weighted(batch, len(rows), settings.batch_size)
        return batch

    def vocabulary(self) -> None:
        """Any piece may stand in the place of a masked one, and all are predicted."""


def code_switched_batches(
    source: Source, settings: CodeSwitchMlm, pipeline: TextPipeline, seed: int
) -> MaskedBatches[SentencePlace]:
    """Single sentences with words switched into the other languages of the stage."""
    languages = languages_of(source, settings)
    plain, tables = [], []
    for language in languages:
        text = source.parallel(language)
        plain.append(encoded_parallel(source, language, text, pipeline))
        words = (sentence.split() for sentence in text.values())
        tables.append(SwitchableTable(plain[-1], words, source, language, languages, pipeline))
    if settings.switch > 0 and not any(table.coverage for table in tables):
        raise DataError(
            f"code_switch_mlm needs a lexicon between the languages {', '.join(languages)} that has"
            " words of their parallel text",
            remedy="add lexicon/SOURCE-TARGET.tsv (word TAB word) below the data root, or choose"
            " align.objective tlm",
        )

    def switched(place: SentencePlace, random: np.random.Generator) -> Row:
        table, number = place
        return (tables[table].switched(number, settings.switch, random),)

    coverage = float(np.mean([table.coverage for table in tables]))
    draw, row = _sentences_of(plain)
    return MaskedBatches(draw, row, settings, pipeline, seed, switched=switched, coverage=coverage)


def monolingual_batches(
    source: Source, settings: MonolingualLm, pipeline: TextPipeline, seed: int
) -> MaskedBatches[SentencePlace]:
    """Single sentences as they are: what alignment objectives are to be compared with."""
    tables = [
        encoded_parallel(source, language, source.parallel(language), pipeline)
        for language in languages_of(source, settings)
    ]
    return MaskedBatches(*_sentences_of(tables), settings, pipeline, seed)


def translation_batches(
    source: Source, settings: TranslationLm, pipeline: TextPipeline, seed: int
) -> MaskedBatches[Drawn]:
    """A sentence and its translation (XLM, arXiv 1901.07291, section 3.3).

    XLM begins positions anew at the second sentence, so that a word and its translation have
    nearly the same; encoders that were pre-trained on pairs without it need not profit, and
    here it is a setting that is off by default. XLM's language embeddings are left out.
    """
    pairs = sentence_pairs(source, settings, pipeline)
    return MaskedBatches(pairs.draw, pairs.sentences, settings, pipeline, seed)


def _sentences_of(
    tables: Sequence[Encoded],
) -> tuple[Callable[[np.random.Generator], SentencePlace], Callable[[SentencePlace], Row]]:
    """What draws a table, then one of its sentences; and what reads the sentence."""

    def draw(random: np.random.Generator) -> SentencePlace:
        draws = random.random(2)
        table = int(draws[0] * len(tables))
        return table, int(draws[1] * len(tables[table]))

    return draw, lambda place: (tables[place[0]][place[1]],)


def _length(row: Row) -> int:
    """Pieces of all sentences of a row."""
    return sum(len(sentence.pieces) for sentence in row)


def _positions(shape: tuple[int, ...], places: list[list[slice]]) -> np.ndarray:
    """(batch, length): counted from 0 over the row, and from 0 again at the second sentence."""
    positions = np.tile(np.arange(shape[1]), (shape[0], 1))
    for number, sentences in enumerate(places):
        for place in sentences[1:]:
            positions[number, place.start :] -= positions[number, place.start]
    return positions


def held_out_batches(
    source: Source, settings: MaskedAlignment, pipeline: TextPipeline, batch_size: int
) -> dict[str, list[Batch]]:
    """Held-out sentences by language, masked, those of like length together.

    One plain sentence a row and a random stream of their own make the batches the same at every
    step and for every objective. A language without held-out sentences is left out.
    """
    held_out, masking = held_out_names(source, settings), Masking(pipeline, settings.mask)
    batches: dict[str, list[Batch]] = {}
    for language in languages_of(source, settings):
        text = source.parallel(language)
        ids = sorted(name for name in held_out if name in text)
        sentences = encode_words([text[name].split() for name in ids], pipeline.tokenizer)
        sentences.sort(key=lambda sentence: len(sentence.pieces))
        for begin in range(0, len(sentences), batch_size):
            rows = [(sentence,) for sentence in sentences[begin : begin + batch_size]]
            batch, _ = masking.batch(rows, generator(HELD_OUT_STREAM, language, begin))
            batches.setdefault(language, []).append(batch)
    return batches


OTHER = "other_"
"""Arrays of translations are named so, which have a length of their own."""
SWAP = "swap"


class ContrastBatches:
    """Sentences and their translations, each encoded by itself.

    A translation has the names of its sentence after ``other_``. ``sentence`` ``(batch,)`` numbers
    the meaning, so that a sentence that was drawn twice is not a negative of itself; ``labels``
    ``(batch,)`` is the place of a row in its group. Rows are compared with each other, so they stay
    as they were drawn: among those of like length others would be hard to tell apart.
    """

    def __init__(
        self, source: Source, settings: Contrastive, pipeline: TextPipeline, seed: int
    ) -> None:
        self._pairs = sentence_pairs(source, settings, pipeline)
        self._settings, self._pipeline, self._seed = settings, pipeline, seed
        names = sorted({name for places in self._pairs.places.values() for name in places})
        numbers = {name: number for number, name in enumerate(names)}
        self._meanings = {
            language: np.array([numbers[name] for name in places], np.int64)
            for language, places in self._pairs.places.items()
        }

    def batch(self, step: int) -> Batch:
        random = generator("contrast", self._seed, step)
        drawn = [self._pairs.draw(random) for _ in range(self._settings.batch_size)]
        rows = [self._pairs.sentences(pair) for pair in drawn]
        batch, translations = (
            self._pipeline.collated([(row[side],) for row in rows])[0] for side in (0, 1)
        )
        return {
            **batch,
            **{f"{OTHER}{name}": array for name, array in translations.items()},
            "sentence": np.array([self._meanings[pair.first][pair.first_place] for pair in drawn]),
            "labels": np.arange(len(rows)) % self._settings.group_size,
        }

    def vocabulary(self) -> np.ndarray | None:
        """As :meth:`xlt_ray.data.text.pipeline.Batches.vocabulary`."""
        tables = [table.vocabulary() for table in self._pairs.tables.values()]
        return union([self._pipeline.template.vocabulary, *tables])


class SwappedBatches:
    """Masked translations as in TLM, with ``swap`` ``(batch, length, length)`` float32.

    Where the word of a piece is aligned, its row of ``swap`` has equal weights, summing to 1, on
    all pieces of the aligned words; else 1 on the piece itself, as for special pieces and padding.
    Pieces that ``max_length`` cut off get no weight. Words of two languages are aligned, or read
    from the cache, when they are first drawn.
    """

    def __init__(self, source: Source, settings: Weam, pipeline: TextPipeline, seed: int) -> None:
        self._pairs = sentence_pairs(source, settings, pipeline)
        self._source, self._settings, self._seed = source, settings, seed
        self._cache_dir = pipeline.cache_dir
        self._drawn = DrawnPools(
            "alignment",
            seed,
            settings.batch_size,
            self._pairs.draw,
            lambda pair: _length(self._pairs.sentences(pair)),
            is_by_pieces=settings.batching == "pieces",
        )
        self._masking = Masking(pipeline, settings.mask)
        self._alignments = cache(self._aligned)

    def batch(self, step: int) -> Batch:
        drawn = self._drawn.batch(step)
        rows = [self._pairs.sentences(pair) for pair in drawn]
        random = generator("masking", self._seed, step)
        batch, places = self._masking.batch(rows, random)
        length = batch["input_ids"].shape[1]
        swap = np.tile(np.eye(length, dtype=np.float32), (len(rows), 1, 1))
        for number, (pair, row) in enumerate(zip(drawn, rows, strict=True)):
            _fill(swap[number], self._links(pair), row, places[number])
        if self._settings.batching == "pieces":
            batch = weighted(batch, len(rows), self._settings.batch_size)
        return {**batch, SWAP: swap}

    def vocabulary(self) -> None:
        """As of :class:`MaskedBatches`."""

    def _links(self, pair: Drawn) -> np.ndarray:
        """(num_links, 2): places of words in the sentence drawn first, in its translation."""
        if pair.first < pair.second:
            alignments, numbers = self._alignments(pair.first, pair.second)
            return alignments[int(numbers[pair.first_place])]
        alignments, numbers = self._alignments(pair.second, pair.first)
        return alignments[int(numbers[pair.second_place])][:, ::-1]

    def _aligned(self, first: str, second: str) -> tuple[WordAlignments, np.ndarray]:
        """Alignments, and the number among them of every sentence of the first language."""
        how = {"aligner": self._settings.aligner, "symmetrise": self._settings.symmetrise}
        alignments = word_alignments(self._source, first, second, **how, cache_dir=self._cache_dir)
        numbers = np.full(len(self._pairs.tables[first]), -1, np.int64)
        shared = self._pairs.shared(first, second)
        numbers[shared[:, 0]] = np.arange(len(shared))
        return alignments, numbers


def _fill(swap: np.ndarray, links: np.ndarray, row: Row, places: list[slice]) -> None:
    """Write the rows of aligned pieces into one matrix (length, length) in place."""
    partners: dict[int, list[int]] = {}
    for link in links.tolist():
        first, second = map(_pieces, row, link, places)
        for place in first:
            partners.setdefault(place, []).extend(second)
        for place in second:
            partners.setdefault(place, []).extend(first)
    for place, partner_places in partners.items():
        if partner_places:
            swap[place] = 0.0
            swap[place, partner_places] = 1.0 / len(partner_places)


def _pieces(sentence: Sentence, word: int, place: slice) -> range:
    """Positions of the pieces of a word that were not cut off."""
    begin, end = int(sentence.starts[word]), int(sentence.ends[word])
    return range(min(place.start + begin, place.stop), min(place.start + end, place.stop))
