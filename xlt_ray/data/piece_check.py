"""How a model's tokenizer reads the texts of a sweep: cut rows, unknown pieces, lengths.

Looked up in ``tokenizer.json`` with the ``tokenizers`` library alone, over the first
``NUM_EXAMPLES`` of every split; labels are not returned. Toy presets read every word as a piece.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from xlt_ray.config.facts import Split
from xlt_ray.data.cache import Verdicts
from xlt_ray.data.data_check import NUM_LISTED, examples_of
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task
from xlt_ray.data.text.pipeline import Part, Sentence, Template, encode_words
from xlt_ray.data.types.base import Frame, Rows, TaskType, kind_of

NUM_EXAMPLES = 500
_LEAST = 0.001
"""Least share that a line lists."""


@dataclass(frozen=True)
class RowLengths:
    """How long the examples of a split are, as one model reads them."""

    mean: float
    """Pieces of an example over all its rows, special ones included."""
    longest: float
    """Mean pieces of the longest row of an example, over the longest 64th of the examples: the
    longest batch has such rows."""
    num_examples: int
    """How many examples were measured."""
    distinct: int
    """Different pieces in them."""
    distinct_in_half: int
    """Different pieces in the first half of them."""

    def vocabulary(self, num_examples: int) -> float:
        """Different pieces in so many examples, if their number grows as a power (Heaps' law)."""
        power = math.log2(max(self.distinct, 1) / max(self.distinct_in_half, 1))
        return self.distinct * (max(num_examples, self.num_examples) / self.num_examples) ** power


@dataclass(frozen=True)
class TextShares:
    """Shares by language of one split of a task, as one model reads it."""

    model: str
    task: str
    split: Split
    max_length: int
    cut: Mapping[str, float]
    """Of the examples, those that lose text at ``max_length``."""
    unknown: Mapping[str, float]
    """Of the pieces, those that stand for anything that the tokenizer does not know."""
    lengths: Mapping[str, RowLengths] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line.

        >>> str(TextShares("nano", "pos", "test", 64, {"de": 0, "th": 0}, {"de": 0, "th": .4}))
        'nano reads pos test: 0 % cut off at 64 pieces; unknown pieces th 40.0 %, 1 other 0 %'
        """
        return (
            f"{self.model} reads {self.task} {self.split}: {_listing(self.cut)} cut off at "
            f"{self.max_length} pieces; unknown pieces {_listing(self.unknown)}"
        )


class PieceCheck:
    """One tokenizer, and what it makes of splits.

    Args:
        file: a ``tokenizer.json``; None for a toy preset.
        model: what the tokenizer is called.

    Raises:
        Exception: of the library's own, where it cannot read the file.
    """

    def __init__(self, file: Path | None, model: str, source: Source, verdicts: Verdicts) -> None:
        self._tokenizer = WholeWords() if file is None else _Tokenizer(file)
        self._digest = "toy" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
        self._model, self._source, self._verdicts = model, source, verdicts

    def shares(
        self, task: Task, split: Split, digests: Mapping[str, str], max_length: int
    ) -> TextShares:
        """Of a split in the languages of ``digests``, which are those of its data."""
        cut: dict[str, float] = {}
        unknown: dict[str, float] = {}
        lengths: dict[str, RowLengths] = {}
        for language, digest in digests.items():
            find = partial(self._shares_of, task, language, split, max_length)
            # Toy sentences are made faster than a verdict is read.
            is_toy = isinstance(self._tokenizer, WholeWords)
            cut[language], unknown[language], measured = (
                find()
                if is_toy
                else self._verdicts.of(
                    find,
                    *("rows", self._digest, digest_of(task.model_dump_json()), digest, language),
                    *(split, max_length, NUM_EXAMPLES),
                )
            )
            lengths[language] = RowLengths(*measured)
        return TextShares(self._model, task.name, split, max_length, cut, unknown, lengths)

    def _shares_of(
        self, task: Task, language: str, split: Split, max_length: int
    ) -> tuple[float, float, tuple[float, ...]]:
        examples = list(islice(examples_of(self._source, task, language, split), NUM_EXAMPLES))
        kind = kind_of(task)
        words = [sentence for example in examples for sentence in example.sentences()]
        table: Sequence[Sentence] = encode_words(
            words, self._tokenizer, with_places=kind.has_places
        )
        rows = Rows(table, kind.width, len(examples))
        frame = Frame(self._tokenizer.template, max_length)
        pieces = np.concatenate([np.zeros(0, np.int32), *(sentence.pieces for sentence in table)])
        num_unknown = np.count_nonzero(pieces == self._tokenizer.unk_token_id)
        return (
            kind.cut(rows, examples, frame),
            float(num_unknown / max(len(pieces), 1)),
            astuple(_row_lengths(kind, rows, pieces, frame)),
        )


def _row_lengths(kind: TaskType, rows: Rows, pieces: np.ndarray, frame: Frame) -> RowLengths:
    parts = [
        [frame.row_length(part) for item in kind.items(rows[number], frame)
         for part in kind.shown(item)]
        for number in range(len(rows))
    ]  # fmt: skip
    longest = sorted((max(lengths, default=0) for lengths in parts), reverse=True)
    return RowLengths(
        fmean(map(sum, parts)) if parts else 0.0,
        fmean(longest[: max(len(longest) // 64, 1)]) if longest else 0.0,
        max(len(parts), 1),
        len(np.unique(pieces)),
        len(np.unique(pieces[: len(pieces) // 2])),
    )


def _framed(*num_special: int) -> Template:
    """A template with so many special pieces around one sentence, and around two."""
    single, pair = ((Part(None, (0,) * number, 0),) for number in num_special)
    return Template(single, pair, 0, None, frozenset(), 0)


class WholeWords:
    """The tokenizer of a toy preset, by a number for each word."""

    unk_token_id: int | None = None
    template = _framed(2, 3)

    def __call__(self, sentences: list[list[str]], **_: Any) -> dict[str, list[Any]]:
        return {
            "input_ids": [
                [zlib.crc32(word.encode()) >> 1 for word in words] for words in sentences
            ],
            "offset_mapping": [[(0, len(word)) for word in words] for words in sentences],
        }


class _Tokenizer:
    """As much of a fast tokenizer as :func:`xlt_ray.data.text.pipeline.encode_words` asks, without
    transformers, which takes seconds to import."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._inner: Any = Tokenizer.from_file(str(file))
        self._inner.no_truncation()
        self._inner.no_padding()
        before = self._inner.pre_tokenizer
        if getattr(before, "add_prefix_space", None) is False:
            # Every word of a list begins as after a space.
            before.add_prefix_space = True
            self._inner.pre_tokenizer = before
        model = json.loads(file.read_text(encoding="utf-8"))["model"]
        token = model.get("unk_token")
        self.unk_token_id: int | None = (
            model.get("unk_id") if token is None else self._inner.token_to_id(token)
        )
        self.template = _framed(*map(self._inner.num_special_tokens_to_add, (False, True)))

    def __call__(self, sentences: list[list[str]], **_: Any) -> dict[str, list[Any]]:
        rows = self._inner.encode_batch(sentences, is_pretokenized=True, add_special_tokens=False)
        return {
            "input_ids": [row.ids for row in rows],
            "offset_mapping": [row.offsets for row in rows],
        }


def _listing(shares: Mapping[str, float]) -> str:
    """The highest ones by language, then the highest of the others."""
    highest = max(shares.values(), default=0.0)
    if len(shares) == 1 or not highest:
        return _percent(highest)
    order = sorted(shares, key=lambda language: -shares[language])
    shown = [language for language in order[:NUM_LISTED] if shares[language] >= _LEAST]
    listed = [f"{language} {_percent(shares[language])}" for language in shown]
    rest = order[len(shown) :]
    if rest:
        most = shares[rest[0]]
        listed.append(
            f"{len(rest)} other{'s' if len(rest) > 1 else ''} "
            f"{'at most ' if most and len(rest) > 1 else ''}{_percent(most)}"
        )
    return ", ".join(listed)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share else "0 %"
