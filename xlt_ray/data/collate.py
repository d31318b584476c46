"""Rows of sentences put together into padded arrays.

Length is that of the longest row rounded up to a multiple of 8 and capped by
``max_length``: few distinct shapes, little padding. Rows that are too long lose pieces
from the end; of a pair the longer sentence loses first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xlt_ray.data.encode import Sentence, Template
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
    kept = [_kept([len(one.pieces) for one in row], room) for row in rows]
    longest = max(sum(lengths) for lengths in kept) + template.num_special(num_sentences)
    length = min(-(-longest // 8) * 8, max_length)
    ids = np.full((len(rows), length), template.pad_id, np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    types = np.zeros((len(rows), length), np.int64)
    places: list[list[slice]] = []
    for number, (row, lengths) in enumerate(zip(rows, kept, strict=True)):
        at, found = 0, []
        for part in parts:
            if part.slot is None:
                end = at + len(part.ids)
                ids[number, at:end] = part.ids
            else:
                end = at + lengths[part.slot]
                ids[number, at:end] = row[part.slot].pieces[: lengths[part.slot]]
                found.append(slice(at, end))
            types[number, at:end] = part.token_type
            at = end
        mask[number, :at] = 1
        places.append(found)
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
