"""From text to padded arrays of pieces: tokenised once, cached in memory-mapped tables, collated.

A sentence is a list of words, each word one or more piece ids, without special tokens. The
:class:`Template` of a tokenizer says which special ids go around one or two sentences, so that
batches are collated without calling the tokenizer again, and a word can be replaced or masked as a
whole. Tables hold text and no labels: labelled and unlabelled reading share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from xlt_ray.data.cache import cached
from xlt_ray.data.sampling import digest_of
from xlt_ray.errors import DataError

Batch = dict[str, np.ndarray]
"""``input_ids``, ``attention_mask``, ``token_type_ids`` (where the template has them), each
(batch, length) int64; ``labels`` (batch,) or (batch, length) int64, -100 where ignored."""

IGNORED = -100


def union(vocabularies: Iterable[np.ndarray | None]) -> np.ndarray | None:
    """The ids of all vocabularies, ascending; None if any of them is unknown (None)."""
    ids: list[np.ndarray] = []
    for vocabulary in vocabularies:
        if vocabulary is None:
            return None
        ids.append(vocabulary)
    return np.unique(np.concatenate(ids))


class Batches(Protocol):
    """Training data as a pure function of the step."""

    def batch(self, step: int) -> Batch:
        """Batch ``step`` = 0, 1, ...: the same arrays in every process and in any order."""

    def vocabulary(self) -> np.ndarray | None:
        """Ids of all pieces that batches may have, ascending; None if any piece may occur, or it
        would take long to know."""


def collate(
    rows: Sequence[tuple[Sentence, ...]], template: Template, max_length: int
) -> tuple[Batch, list[list[slice]]]:
    """The arrays of ``rows`` without labels, and where each row's sentences stand in them.

    A batch is as long as its longest row, at most ``max_length``. Rows that are too long lose
    pieces from the end; of a pair the longer sentence loses first.
    """
    parts = template.parts(len(rows[0]))
    layouts = _layouts(rows, template, max_length)
    shape = (len(rows), max(layout[-1].stop for layout in layouts))
    ids = np.full(shape, template.pad_id, np.int64)
    mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, (row, layout) in enumerate(zip(rows, layouts, strict=True)):
        for part, place in zip(parts, layout, strict=True):
            kept = place.stop - place.start
            ids[number, place] = part.ids if part.slot is None else row[part.slot].pieces[:kept]
            types[number, place] = part.token_type
        mask[number, : layout[-1].stop] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if template.has_token_types:
        batch["token_type_ids"] = types
    return batch, _of_sentences(parts, layouts)


def places_of(
    rows: Sequence[tuple[Sentence, ...]], template: Template, max_length: int
) -> list[list[slice]]:
    """Where each row's sentences stand in the arrays of :func:`collate`."""
    return _of_sentences(template.parts(len(rows[0])), _layouts(rows, template, max_length))


def _layouts(
    rows: Sequence[tuple[Sentence, ...]], template: Template, max_length: int
) -> list[list[slice]]:
    """Where each part of the template stands, row by row."""
    num_sentences = len(rows[0])
    parts = template.parts(num_sentences)
    room = max_length - template.num_special(num_sentences)
    if room < num_sentences:
        raise DataError(
            f"max_length {max_length} leaves no room beside the special tokens",
            remedy=f"at least {template.num_special(num_sentences) + num_sentences} is needed",
        )
    layouts = []
    for row in rows:
        kept = _kept([len(sentence.pieces) for sentence in row], room)
        sizes = [len(part.ids) if part.slot is None else kept[part.slot] for part in parts]
        layouts.append(
            [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
        )
    return layouts


def _of_sentences(parts: Sequence[Part], layouts: Sequence[list[slice]]) -> list[list[slice]]:
    return [
        [place for part, place in zip(parts, layout, strict=True) if part.slot is not None]
        for layout in layouts
    ]


def _kept(lengths: list[int], room: int) -> list[int]:
    """How many pieces of each sentence stay when ``room`` is all there is."""
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    half = room // 2
    if min(first, second) > half:
        return [room - half, half]
    return [first, room - first] if first <= second else [room - second, second]


class Sentence(NamedTuple):
    """``pieces`` (num_pieces,) int32; ``ends`` (num_words,): pieces up to the end of each word.

    ``places`` (num_pieces, 2), where it is kept: begin and end of every piece, counted in
    characters over all words without what stands between them. What a tokenizer normalises
    (case, accents, width) is counted as it stood in the words.
    """

    pieces: np.ndarray
    ends: np.ndarray
    places: np.ndarray | None = None

    @property
    def starts(self) -> np.ndarray:
        """(num_words,): place of each word's first piece."""
        return np.concatenate(([0], self.ends[:-1])) if len(self.ends) else self.ends


Row = tuple[Sentence, ...]
"""One example as pieces: its sentences."""


@dataclass(frozen=True)
class Part:
    """A run of special ids (``slot`` None) or the place of sentence ``slot``."""

    slot: int | None
    ids: tuple[int, ...]
    token_type: int


@dataclass(frozen=True)
class Template:
    """How a tokenizer frames one sentence (``single``) and two (``pair``)."""

    single: tuple[Part, ...]
    pair: tuple[Part, ...]
    pad_id: int
    mask_id: int | None
    special_ids: frozenset[int]
    num_pieces: int

    @property
    def vocabulary(self) -> np.ndarray:
        """(num_ids,) int64, ascending: ids that rows may have whatever their sentences are."""
        framing = (id_ for part in (*self.single, *self.pair) for id_ in part.ids)
        return np.array(sorted({*framing, *self.special_ids, self.pad_id}), np.int64)

    @property
    def has_token_types(self) -> bool:
        """Whether its post-processor tells sentences apart by token types; the input names of many
        tokenizer classes leave token types out although their models read them."""
        return any(part.token_type for part in (*self.single, *self.pair))

    def parts(self, num_sentences: int) -> tuple[Part, ...]:
        return self.single if num_sentences == 1 else self.pair

    def num_special(self, num_sentences: int) -> int:
        """Special tokens of a row with one or two sentences."""
        return sum(len(part.ids) for part in self.parts(num_sentences))


def template_of(tokenizer: Any) -> Template:
    """Read the template off any fast Hugging Face tokenizer by framing a word with itself.

    Tokenizers of decoder-only models may put nothing between two sentences, where the end of text
    stands then, and have no mask, for which LLM2Vec (arXiv 2404.05961) took an underscore.
    """
    pair = _parts(tokenizer, ["a"], ["a"])
    second = next(place for place, part in enumerate(pair) if part.slot == 1)
    if pair[second - 1].slot == 0 and tokenizer.eos_token_id is not None:
        pair = (*pair[:second], Part(None, (int(tokenizer.eos_token_id),), 0), *pair[second:])
    return Template(
        single=_parts(tokenizer, ["a"]),
        pair=pair,
        pad_id=int(tokenizer.pad_token_id),
        mask_id=_mask_id(tokenizer),
        special_ids=frozenset(int(id_) for id_ in tokenizer.all_special_ids),
        num_pieces=len(tokenizer),
    )


def _mask_id(tokenizer: Any) -> int | None:
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    underscore = tokenizer.convert_tokens_to_ids("_")
    return None if underscore in (None, tokenizer.unk_token_id) else int(underscore)


def _parts(tokenizer: Any, *sentences: list[str]) -> tuple[Part, ...]:
    framed = tokenizer(
        *sentences, is_split_into_words=True, return_token_type_ids=True, add_special_tokens=True
    )
    types = framed.get("token_type_ids") or [0] * len(framed["input_ids"])
    parts: list[Part] = []
    # A piece that belongs to no sequence was put there by the template.
    for piece, slot, token_type in zip(
        framed["input_ids"], framed.sequence_ids(0), types, strict=True
    ):
        last = parts[-1] if parts else None
        if slot is not None:
            if last is None or last.slot != slot:
                parts.append(Part(slot, (), token_type))
        elif last is not None and last.slot is None and last.token_type == token_type:
            parts[-1] = Part(None, (*last.ids, piece), token_type)
        else:
            parts.append(Part(None, (piece,), token_type))
    return tuple(parts)


_TABLE_VERSION = 3
_CHUNK = 1000
"""Sentences that are tokenised at once."""


class Encoded:
    """A table of sentences; ``encoded[n]`` is a :class:`Sentence` of views into memory maps.

    Args:
        columns: pieces of all sentences, and where each sentence ends among them; ends of words,
            counted in each sentence, and where each sentence ends among these; places of pieces.
    """

    def __init__(self, columns: Sequence[np.ndarray]) -> None:
        self._pieces, self._piece_ends, self._words, self._word_ends, *places = columns
        self._places = places[0] if places else None

    @staticmethod
    def joined(tables: Sequence[Encoded]) -> Encoded:
        """The sentences of all tables as one, which is in memory unless it is the only one."""
        if len(tables) == 1:
            return tables[0]
        return Encoded(_joined([table._counted() for table in tables]))

    def _counted(self) -> list[np.ndarray]:
        """The columns with numbers of pieces and words instead of ends."""
        places = [] if self._places is None else [self._places]
        return [self._pieces, self.num_pieces(), self._words, np.diff(self._word_ends), *places]

    def __len__(self) -> int:
        return len(self._piece_ends) - 1

    def __getitem__(self, number: int) -> Sentence:
        pieces = slice(self._piece_ends[number], self._piece_ends[number + 1])
        return Sentence(
            self._pieces[pieces],
            self._words[self._word_ends[number] : self._word_ends[number + 1]],
            None if self._places is None else self._places[pieces],
        )

    def vocabulary(self) -> np.ndarray:
        """(num_ids,) int64: the ids that occur, ascending."""
        return np.flatnonzero(np.bincount(self._pieces))

    def num_pieces(self) -> np.ndarray:
        """(num_sentences,) int64: pieces of every sentence."""
        return np.diff(self._piece_ends)

    def word_offsets(self) -> np.ndarray:
        """(num_sentences + 1,) int64: where each sentence's words begin, counted over all."""
        return self._word_ends


def encode_words(
    sentences: Sequence[Sequence[str]], tokenizer: Any, *, with_places: bool = False
) -> list[Sentence]:
    """Pieces of every word; a word the tokenizer has nothing for becomes its unknown piece."""
    table = Encoded(_joined([WordPieces(tokenizer, with_places=with_places).columns(sentences)]))
    return [table[number] for number in range(len(table))]


class WordPieces:
    """Pieces of words, each tokenised once: of a list a tokenizer reads every word by itself."""

    def __init__(self, tokenizer: Any, *, with_places: bool = False) -> None:
        self._tokenizer, self._with_places = tokenizer, with_places
        self._space = _space_before_words(tokenizer)
        self._pieces: dict[str, np.ndarray] = {}
        self._places: dict[str, np.ndarray] = {}

    def columns(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """The columns of :class:`Encoded`, numbers of pieces and words instead of ends."""
        words = [word for sentence in sentences for word in sentence]
        num_words = np.array([len(sentence) for sentence in sentences], np.int64)
        self._learn(words)
        pieces = [self._pieces[word] for word in words]
        lengths = np.array([len(part) for part in pieces], np.int64)
        ends, num_pieces = _ends_in_sentences(lengths, num_words)
        joined = np.concatenate([_NO_PIECES, *pieces])
        columns = [joined, num_pieces, ends.astype(np.int32), num_words]
        if self._with_places:
            num_chars = np.array([len(word) for word in words], np.int64)
            begins = _ends_in_sentences(num_chars, num_words)[0] - num_chars
            places = np.concatenate([_NO_PLACES, *(self._places[word] for word in words)])
            columns.append((places + np.repeat(begins, lengths)[:, None]).astype(np.int32))
        return columns

    def _learn(self, words: Iterable[str]) -> None:
        if len(self._pieces) > _MOST_WORDS:
            self._pieces.clear()
            self._places.clear()
        unknown = list(dict.fromkeys(word for word in words if word not in self._pieces))
        if not unknown:
            return
        encoding = self._tokenizer(
            [[self._space + word] for word in unknown],
            is_split_into_words=True,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=self._with_places,
            verbose=False,
        )
        for number, word in enumerate(unknown):
            # Some characters (zero-width, control) are normalised away; a tag still needs a place.
            ids = encoding["input_ids"][number] or [self._tokenizer.unk_token_id or 0]
            self._pieces[word] = np.array(ids, np.int32)
            if self._with_places:
                places = encoding["offset_mapping"][number] or [(0, len(word))]
                shifted = np.array(places, np.int32) - len(self._space)
                self._places[word] = np.maximum(shifted, 0)


def _space_before_words(tokenizer: Any) -> str:
    """What has to stand before a word of a list so that it is read as after a space.

    Most tokenizers put a space there themselves. Those of Gemma, Llama 3 and Qwen would take the
    word for the rest of the one before it.
    """
    text, words = tokenizer(
        [["x x"], ["x", "x"]], is_split_into_words=True, add_special_tokens=False
    )["input_ids"]
    return " " if len(text) == len(words) and text != words else ""


_MOST_WORDS = 500_000
"""Words that are remembered: unsegmented text hardly repeats one."""
_NO_PIECES = np.zeros(0, np.int32)
_NO_PLACES = np.zeros((0, 2), np.int32)


def _ends_in_sentences(lengths: np.ndarray, num_words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each word ends, counted in its sentence, and the length of each sentence."""
    ends = np.cumsum(lengths)
    bounds = np.concatenate([[0], ends])[np.concatenate([[0], np.cumsum(num_words)])]
    return ends - np.repeat(bounds[:-1], num_words), np.diff(bounds)


def _joined(chunks: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The columns of :class:`Encoded` from those of :meth:`WordPieces.columns`."""
    pieces, num_pieces, ends, num_words, *places = map(np.concatenate, zip(*chunks, strict=True))
    piece_ends, word_ends = (
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        for counts in (num_pieces, num_words)
    )
    return [pieces, piece_ends, ends, word_ends, *places]


@dataclass(frozen=True)
class TextPipeline:
    """From text to rows of pieces: a tokenizer, the longest row, and where tables are cached."""

    tokenizer: Any
    digest: str
    """Names the tokenizer in the keys of cached tables."""
    max_length: int
    """Pieces of a row, special ones included."""
    cache_dir: Path

    @cached_property
    def template(self) -> Template:
        return template_of(self.tokenizer)

    def collated(self, rows: Sequence[tuple[Sentence, ...]]) -> tuple[Batch, list[list[slice]]]:
        """As :func:`collate`, in rows of at most ``max_length``."""
        return collate(rows, self.template, self.max_length)

    def encoded(
        self, sentences: Iterable[Sequence[str]], content_digest: str, *, with_places: bool = False
    ) -> Encoded:
        """The table of ``sentences``, read from the cache or made and cached under the digest."""
        what = "placed" if with_places else "encoded"
        key = digest_of(what, _TABLE_VERSION, self.digest, content_digest)

        def make(aside: Path) -> None:
            word_pieces = WordPieces(self.tokenizer, with_places=with_places)
            remaining = iter(sentences)
            chunks = [word_pieces.columns([])]
            while chunk := list(islice(remaining, _CHUNK)):
                chunks.append(word_pieces.columns(chunk))
            for number, column in enumerate(_joined(chunks)):
                np.save(aside / f"{number}.npy", column, allow_pickle=False)

        folder = cached(Path(self.cache_dir) / "encoded" / key, make)
        files = sorted(folder.glob("*.npy"))
        # As plain arrays: slices of np.memmap take ten times as long.
        return Encoded([np.asarray(np.load(file, mmap_mode="r")) for file in files])
