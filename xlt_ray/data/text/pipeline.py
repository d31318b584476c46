"""From text to padded arrays of pieces: tokenised once, cached in memory-mapped tables, collated.

A sentence is a list of words, each word one or more piece ids, without special tokens. The
:class:`Template` of a tokenizer says which special ids go around one or two sentences, so that
batches are collated without calling the tokenizer again, and a word can be replaced or masked as a
whole. Tables hold text and no labels: labelled and unlabelled reading share them.

A batch is as long as its longest row, rounded up to a multiple of 8 and capped by ``max_length``:
few distinct shapes, little padding. Rows that are too long lose pieces from the end; of a pair the
longer sentence loses first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.data.cache import cached
from xlt_ray.data.sampling import digest_of
from xlt_ray.errors import DataError

Batch = dict[str, np.ndarray]
"""``input_ids``, ``attention_mask``, ``token_type_ids`` (where the template has them), each
(batch, length) int64; ``labels`` (batch,) or (batch, length) int64, -100 where ignored."""

IGNORED = -100


def collate(
    rows: Sequence[tuple[Sentence, ...]], template: Template, max_length: int
) -> tuple[Batch, list[list[slice]]]:
    """The arrays of ``rows`` without labels, and where each row's sentences stand in them."""
    num_sentences = len(rows[0])
    parts = template.parts(num_sentences)
    room = max_length - template.num_special(num_sentences)
    if room < num_sentences:
        raise DataError(
            f"max_length {max_length} leaves no room beside the special tokens",
            remedy=f"at least {template.num_special(num_sentences) + num_sentences} is needed",
        )
    kept_lengths = [_kept([len(sentence.pieces) for sentence in row], room) for row in rows]
    longest = max(sum(lengths) for lengths in kept_lengths) + template.num_special(num_sentences)
    length = min(-(-longest // 8) * 8, max_length)
    ids = np.full((len(rows), length), template.pad_id, np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    types = np.zeros((len(rows), length), np.int64)
    places: list[list[slice]] = []
    for number, (row, lengths) in enumerate(zip(rows, kept_lengths, strict=True)):
        at, slots = 0, []
        for part in parts:
            if part.slot is None:
                end = at + len(part.ids)
                ids[number, at:end] = part.ids
            else:
                end = at + lengths[part.slot]
                ids[number, at:end] = row[part.slot].pieces[: lengths[part.slot]]
                slots.append(slice(at, end))
            types[number, at:end] = part.token_type
            at = end
        mask[number, :at] = 1
        places.append(slots)
    batch = {"input_ids": ids, "attention_mask": mask}
    if template.has_token_types:
        batch["token_type_ids"] = types
    return batch, places


def _kept(lengths: list[int], room: int) -> list[int]:
    """How many pieces of each sentence stay when ``room`` is all there is."""
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    if min(lengths) <= room // 2:
        return [first, room - first] if first <= second else [room - second, second]
    return [room - room // 2, room // 2]


_TABLE_VERSION = 1
_CHUNK = 1000


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
    def has_token_types(self) -> bool:
        """Whether it tells sentences apart by token types, as its post-processor says.

        The input names that a tokenizer's class lists are not asked: many leave token types out
        (RemBERT, ALBERT, every folder with ``PreTrainedTokenizerFast``) whose models read them.
        """
        return any(part.token_type for part in (*self.single, *self.pair))

    def parts(self, num_sentences: int) -> tuple[Part, ...]:
        return self.single if num_sentences == 1 else self.pair

    def num_special(self, num_sentences: int) -> int:
        """Special tokens of a row with one or two sentences."""
        return sum(len(part.ids) for part in self.parts(num_sentences))


def template_of(tokenizer: Any) -> Template:
    """Read the template off any fast Hugging Face tokenizer by framing a word with itself."""
    special = frozenset(int(id_) for id_ in tokenizer.all_special_ids)
    return Template(
        single=_parts(tokenizer, ["a"]),
        pair=_parts(tokenizer, ["a"], ["a"]),
        pad_id=int(tokenizer.pad_token_id),
        mask_id=None if tokenizer.mask_token_id is None else int(tokenizer.mask_token_id),
        special_ids=special,
        num_pieces=len(tokenizer),
    )


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


class Encoded:
    """A table of sentences; ``encoded[n]`` is a :class:`Sentence` of views into the map."""

    def __init__(
        self,
        pieces: np.ndarray,
        piece_ends: np.ndarray,
        words: np.ndarray,
        word_ends: np.ndarray,
        places: np.ndarray | None = None,
    ) -> None:
        self._pieces, self._piece_ends = pieces, piece_ends
        self._words, self._word_ends = words, word_ends
        self._places = None if places is None else places.reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._piece_ends) - 1

    def __getitem__(self, number: int) -> Sentence:
        pieces = slice(self._piece_ends[number], self._piece_ends[number + 1])
        return Sentence(
            self._pieces[pieces],
            self._words[self._word_ends[number] : self._word_ends[number + 1]],
            None if self._places is None else self._places[pieces],
        )

    def num_pieces(self) -> np.ndarray:
        """(num_sentences,) int64: pieces of every sentence."""
        return np.diff(self._piece_ends)

    def word_offsets(self) -> np.ndarray:
        """(num_sentences + 1,) int64: where each sentence's words begin, counted over all."""
        return self._word_ends


class Spellings:
    """Pieces of single words and phrases by how they are spelt.

    Those that are named are tokenised at once and kept in a table, others when they are asked.
    """

    def __init__(
        self, named: Iterable[str], pipeline: TextPipeline, *, content_digest: str
    ) -> None:
        spellings, self._tokenizer = list(named), pipeline.tokenizer
        table = pipeline.encoded((spelling.split() for spelling in spellings), content_digest)
        self._pieces = {
            spelling: table[place].pieces.tolist() for place, spelling in enumerate(spellings)
        }

    def __getitem__(self, spelling: str) -> list[int]:
        if spelling not in self._pieces:
            (made,) = encode_words([spelling.split()], self._tokenizer)
            self._pieces[spelling] = made.pieces.tolist()
        return self._pieces[spelling]


def encode_words(
    sentences: Sequence[Sequence[str]], tokenizer: Any, *, with_places: bool = False
) -> list[Sentence]:
    """Pieces of every word; a word the tokenizer has nothing for becomes its unknown piece.

    Equal sentences are tokenised once: several questions are asked of one passage.
    """
    wanted = [tuple(words) for words in sentences]
    full = [words for words in dict.fromkeys(wanted) if words]
    nothing = Sentence(
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
        np.zeros((0, 2), np.int32) if with_places else None,
    )
    by_words: dict[tuple[str, ...], Sentence] = {(): nothing}
    if full:
        encoding = tokenizer(
            [list(words) for words in full],
            is_split_into_words=True,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=with_places,
            verbose=False,
        )
        for row, words in enumerate(full):
            owners = encoding.word_ids(row)
            sentence = _sentence(encoding["input_ids"][row], owners, words, tokenizer.unk_token_id)
            if with_places:
                sentence = sentence._replace(
                    places=_places(encoding["offset_mapping"][row], owners, words)
                )
            by_words[words] = sentence
    return [by_words[words] for words in wanted]


def _places(
    offsets: list[tuple[int, int]], word_ids: list[int], words: Sequence[str]
) -> np.ndarray:
    """(num_pieces, 2): offsets in a word, moved to where the word begins among all words.

    A word without pieces has one here, as it has in :func:`_sentence`.
    """
    begins = np.cumsum([0, *(len(word) for word in words)])
    owners = np.array(word_ids, np.int64)
    places = np.array(offsets, np.int64).reshape(-1, 2) + begins[owners][:, None]
    missing = np.setdiff1d(np.arange(len(words)), owners)
    if len(missing):
        added = np.stack([begins[missing], begins[missing + 1]], axis=1)
        order = np.argsort(np.concatenate([owners, missing]), kind="stable")
        places = np.concatenate([places, added])[order]
    return places.astype(np.int32)


def _sentence(
    ids: list[int], word_ids: list[int], words: Sequence[str], unknown: int | None
) -> Sentence:
    num_words = len(words)
    if word_ids == list(range(num_words)):
        return Sentence(np.array(ids, np.int32), np.arange(1, num_words + 1, dtype=np.int32))
    pieces, owners = np.array(ids, np.int32), np.array(word_ids, np.int64)
    counts = np.bincount(owners, minlength=num_words)
    for word in np.flatnonzero(counts == 0):
        # Some characters (zero-width, control) are normalised away; a tag still needs a place.
        place = int(counts[:word].sum())
        pieces = np.insert(pieces, place, 0 if unknown is None else unknown)
        counts[word] = 1
    return Sentence(pieces, np.cumsum(counts).astype(np.int32))


@dataclass(frozen=True)
class TextPipeline:
    """From text to rows of pieces: a tokenizer, the longest row, and where tables are cached."""

    tokenizer: Any
    digest: str
    """Names the tokenizer in the keys of cached tables: the caller answers for it."""
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
        self,
        sentences: Iterable[Sequence[str]],
        content_digest: str,
        *,
        with_places: bool = False,
    ) -> Encoded:
        """The table of ``sentences``, read from the cache or made and cached.

        ``content_digest`` names the sentences: the caller answers for it.
        """
        what = "placed" if with_places else "encoded"
        key = digest_of(what, _TABLE_VERSION, self.digest, content_digest)

        def make(aside: Path) -> None:
            _write(_table(sentences, self.tokenizer, with_places), aside)

        return _open(cached(Path(self.cache_dir) / "encoded" / key, make))


def _table(sentences: Iterable[Sequence[str]], tokenizer: Any, with_places: bool) -> Any:
    import pyarrow

    rows: list[Sentence] = []
    waiting: list[Sequence[str]] = []
    for words in sentences:
        waiting.append(words)
        if len(waiting) == _CHUNK:
            rows += encode_words(waiting, tokenizer, with_places=with_places)
            waiting = []
    rows += encode_words(waiting, tokenizer, with_places=with_places)

    def column(arrays: list[np.ndarray]) -> Any:
        offsets = np.cumsum([0, *(len(array) for array in arrays)]).astype(np.int64)
        values = np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
        return pyarrow.LargeListArray.from_arrays(offsets, values.astype(np.int32))

    if not rows:
        # An Arrow file without rows cannot be opened again; nobody asks for this sentence.
        rows = encode_words([[]], tokenizer, with_places=with_places)
    columns = {
        "pieces": column([row.pieces for row in rows]),
        "ends": column([row.ends for row in rows]),
    }
    if with_places:
        columns["places"] = column([np.ravel(np.asarray(row.places)) for row in rows])
    return pyarrow.table(columns)


def _write(table: Any, folder: Path) -> None:
    import datasets

    had_bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        datasets.Dataset(table).save_to_disk(str(folder))
    finally:
        if had_bars:
            datasets.enable_progress_bars()


def _open(folder: Path) -> Encoded:
    import datasets

    table = datasets.load_from_disk(str(folder), keep_in_memory=False).data
    columns: list[np.ndarray] = []
    for name in [column for column in ("pieces", "ends", "places") if column in table.column_names]:
        # One chunk stays a view into the memory map; several (large tables) are joined.
        values, offsets = [], [np.zeros(1, np.int64)]
        for chunk in table.column(name).chunks:
            begin = chunk.offsets.to_numpy()
            values.append(chunk.flatten().to_numpy())
            offsets.append(begin[1:] - begin[0] + offsets[-1][-1])
        columns += [values[0] if len(values) == 1 else _joined(values), np.concatenate(offsets)]
    # The ends of a sentence's places are those of its pieces, twice as large.
    return Encoded(*columns[:5])


def _joined(values: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(values) if values else np.zeros(0, np.int32)
