"""Amounts of storage as people write them: ``200GB``, ``1.5 TiB``, or a number of bytes."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

_PREFIXES = "kMGTP"
UNITS = {
    "B": 1,
    **{f"{prefix}B": 1000 ** (power + 1) for power, prefix in enumerate(_PREFIXES)},
    **{f"{prefix.upper()}iB": 1024 ** (power + 1) for power, prefix in enumerate(_PREFIXES)},
}
"""Unit -> bytes: decimal (GB) and binary (GiB)."""

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$")
_SPELLED = {unit.lower(): num_bytes for unit, num_bytes in UNITS.items()}


def bytes_of(value: Any) -> int:
    """A size as a number of bytes, rounded down; upper and lower case are alike.

    >>> bytes_of("1.5 KiB"), bytes_of("200GB"), bytes_of(4096)
    (1536, 200000000000, 4096)

    Raises:
        ValueError: no size, or not a positive one; the message says what would be right.
    """
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is not None and (match[2].lower() or "b") in _SPELLED:
        value = int(Fraction(match[1]) * _SPELLED[match[2].lower() or "b"])
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            "is no size; write a number of bytes, or a number with one of "
            f"{', '.join(UNITS)}: for example 200GB"
        )
    return value


def shown_bytes(num_bytes: float) -> str:
    """A size as people read it, in decimal units.

    >>> shown_bytes(0), shown_bytes(1_536), shown_bytes(200e9)
    ('0 B', '1.54 kB', '200 GB')
    """
    for prefix in ("", *_PREFIXES[:-1]):
        if num_bytes < 999.5:
            return f"{num_bytes:.3g} {prefix}B"
        num_bytes /= 1000
    return f"{num_bytes:.3g} {_PREFIXES[-1]}B"
