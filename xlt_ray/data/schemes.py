"""Schemes by which tags mark entities, all read as IOB2.

| scheme | an entity of one word, of three | two that touch |
|---|---|---|
| IOB2 | B, B I I | B B |
| IOB1, IO | I, I I I | I B (IO cannot tell them apart) |
| BIOES | S, B I E | S S |
| BILOU | U, B I L | U U |
| IOE1, IOE2 | I or E, I I I or I I E | E I, E E |

What begins an entity is the same in all of them: B, S and U do; any other tag does unless an entity
of its type was going on, and E, L, S and U end theirs. So a file need not say which scheme it has,
and one that mixes them loses no entity. It is also how conlleval and seqeval's default rules read
tags (:func:`xlt_ray.data.metrics.conll_f1`).
"""

from __future__ import annotations

from collections.abc import Sequence

_BEGIN, _INSIDE, _END = frozenset("BSU"), frozenset("BISUEL"), frozenset("SUEL")


def as_iob2(tags: Sequence[str]) -> list[str]:
    """The tags of one sentence in IOB2; what is no tag of a scheme stays as it is.

    >>> as_iob2(["I-PER", "I-PER", "B-PER", "O", "I-LOC"])
    ['B-PER', 'I-PER', 'B-PER', 'O', 'B-LOC']
    >>> as_iob2(["B-PER", "E-PER", "S-PER", "U-LOC"])
    ['B-PER', 'I-PER', 'B-PER', 'B-LOC']
    """
    found: list[str] = []
    going_on = ""
    for tag in tags:
        prefix, dash, entity = tag.partition("-")
        if not dash or prefix not in _INSIDE:
            found.append(tag)
            going_on = ""
            continue
        is_begin = prefix in _BEGIN or entity != going_on
        found.append(f"{'B' if is_begin else 'I'}-{entity}")
        going_on = "" if prefix in _END else entity
    return found
