"""Lines of JSON that carry their own checksum, so that an altered one is known from a whole one."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

SEAL = "crc32"


def sealed(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with its checksum beside its own keys."""
    return {**line, SEAL: _checksum(line)}


def is_whole(line: Mapping[str, Any]) -> bool:
    """Whether a line is as it was sealed; one that was never sealed counts as whole."""
    if SEAL not in line:
        return True
    own = {name: value for name, value in line.items() if name != SEAL}
    return bool(line[SEAL] == _checksum(own))


def _checksum(line: Mapping[str, Any]) -> str:
    # Through JSON and back, as the reader has it: there, keys are strings and tuples lists.
    plain = json.loads(json.dumps(line))
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"
