"""Canonical JSON of declared fields: equal values give equal text on every machine.

Takes bool, int, finite float (by ``repr``), str, None, sequences, sets (sorted) and
string-keyed mappings; anything else is refused with its dotted path, so that nothing gets
into a key by its memory address or its pickle.

Lines of JSON that carry their own checksum, so that an altered one is known from a whole one.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields
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
        strange = [key for key in value if not isinstance(key, str)]
        if strange:
            raise TypeError(f"{path or 'value'}: the key {strange[0]!r} is not text")
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
    return json.dumps(
        canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, 64 hex digits."""
    return hashlib.sha256(canonical_text(value).encode()).hexdigest()


def differences(one: Any, other: Any, path: str = "") -> list[tuple[str, Json, Json]]:
    """Dotted paths at which two canonical values differ, with both values.

    >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
    [('a.b', 1, 2)]
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [
            found
            for key in sorted({*one, *other})
            for found in differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if one == other else [(path, one, other)]


def from_fields(kind: type[T], tree: Mapping[str, Any]) -> T:
    """The dataclass ``kind`` from the fields of it that ``tree`` has.

    A newer version may have written further ones, on another node or before a rollback. What it
    wrote is no damage, so they are passed over.

    Raises:
        TypeError: a field without a default is missing.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in tree.items() if name in names})


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
