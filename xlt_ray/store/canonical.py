"""Canonical JSON, which gives equal text for equal values on every machine; seals and checksums.

Bool, int, finite float (by ``repr``), str, None, sequences, sets (sorted) and string-keyed mappings
have a canonical form. Anything else is refused with its dotted path, so that no memory address and
no pickle gets into a key.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def canonical(value: Any, path: str = "") -> Json:
    """The plain value that is hashed.

    Raises:
        TypeError: a type that has no canonical form, with its dotted path.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{path or 'value'}: {value!r} is not a finite number")
        return float(value)
    if isinstance(value, Mapping):
        not_text = [key for key in value if not isinstance(key, str)]
        if not_text:
            raise TypeError(f"{path or 'value'}: the key {not_text[0]!r} is not text")
        return {key: canonical(value[key], f"{path}.{key}".lstrip(".")) for key in sorted(value)}
    if isinstance(value, AbstractSet):
        return [canonical(item, path) for item in sorted(value)]
    if isinstance(value, list | tuple):
        return [canonical(item, f"{path}.{index}") for index, item in enumerate(value)]
    raise TypeError(f"{path or 'value'}: {type(value).__name__} has no canonical form")


def canonical_text(value: Any) -> str:
    """One line of JSON, keys sorted, no spaces.

    >>> canonical_text({"b": 1.0, "a": (True, None)})
    '{"a":[true,null],"b":1.0}'
    """
    return _text(canonical(value))


def _text(value: Json) -> str:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, 64 hex digits."""
    return digest_of_json(canonical(value))


def digest_of_json(value: Json) -> str:
    """:func:`digest` of a value that was parsed from JSON, many times faster for large ones.

    Only the types and keys of a parsed value need no check.

    Raises:
        ValueError: a number is not finite.
    """
    return hashlib.sha256(_text(value).encode()).hexdigest()


SEAL = "sha256"


def sealed(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON of a mapping, with its own SHA-256 as the last key.

    >>> sealed({"a": 1})[:20]
    b'{"a":1,"sha256":"015'
    """
    text = canonical_text(value)
    return text[:-1].encode() + _seal(hashlib.sha256(text.encode()).hexdigest())


def unsealed(content: bytes) -> tuple[dict[str, Any], bool]:
    """The mapping that :func:`sealed` wrote, and whether it is unaltered.

    Raises:
        ValueError: not JSON.
        KeyError, TypeError, AttributeError: not a sealed mapping.
    """
    tree = json.loads(content)
    digest_written = tree.pop(SEAL)
    seal = _seal(digest_written)
    if content.endswith(seal):
        # The bytes are hashed as they are: a canonical text of the whole would take far longer.
        return tree, hashlib.sha256(content[: -len(seal)] + b"}").hexdigest() == digest_written
    # Earlier versions wrote other JSON with the digest of its canonical form.
    return tree, digest_of_json(tree) == digest_written


def _seal(hex_digest: str) -> bytes:
    return f',"{SEAL}":"{hex_digest}"}}'.encode()


def differences(first: Any, second: Any, path: str = "") -> list[tuple[str, Json, Json]]:
    """Dotted paths at which two canonical values differ, with both values.

    >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
    [('a.b', 1, 2)]
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return [
            difference
            for key in sorted({*first, *second})
            for difference in differences(
                first.get(key), second.get(key), f"{path}.{key}".lstrip(".")
            )
        ]
    return [] if first == second else [(path, first, second)]


def from_fields(kind: type[T], tree: Mapping[str, Any]) -> T:
    """The dataclass ``kind`` from its fields in ``tree``; other entries are ignored.

    A newer version, on another node or before a rollback, may have written more fields.

    Raises:
        TypeError: a field without a default is missing.
    """
    try:
        return kind(**tree)
    except TypeError:
        names = _field_names(kind)  # type: ignore[arg-type]
        return kind(**{name: value for name, value in tree.items() if name in names})


@cache
def _field_names(kind: type[Any]) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


CHECKSUM = "crc32"


def with_checksum(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with its checksum as one more key."""
    # In JSON all keys are text, and sort differently from numbers.
    return {**line, CHECKSUM: _checksum(json.loads(json.dumps(line)))}


def is_whole(line: Mapping[str, Any]) -> bool:
    """Whether a parsed line matches its checksum; a line without one counts as whole."""
    if CHECKSUM not in line:
        return True
    content = {name: value for name, value in line.items() if name != CHECKSUM}
    return bool(line[CHECKSUM] == _checksum(content))


def _checksum(line: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(line, sort_keys=True).encode()):08x}"
