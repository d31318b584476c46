"""Lines of JSON that carry their own checksum, so that an altered one is known from a whole one."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

SEAL = "crc32"


def with_checksum(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with its checksum beside its own keys."""
    # In JSON all keys are text, and stand in another order than numbers do.
    plain = line if _has_names_only(line) else json.loads(json.dumps(line))
    return {**line, SEAL: _checksum(plain)}


def is_whole(line: Mapping[str, Any]) -> bool:
    """Whether a line, as JSON has it, is as it was sealed; one without a seal counts as whole."""
    if SEAL not in line:
        return True
    own = {name: value for name, value in line.items() if name != SEAL}
    return bool(line[SEAL] == _checksum(own))


def _checksum(line: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(line, sort_keys=True).encode()):08x}"


def _has_names_only(value: object) -> bool:
    """Whether all keys in a value are text."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _has_names_only(one) for name, one in value.items())
    return not isinstance(value, list | tuple) or all(map(_has_names_only, value))
