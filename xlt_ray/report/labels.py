"""How values are written for people: knobs, options, numbers, languages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

_DISTRIBUTIONS = ("choice", "int", "float")
_NAMES = ("method", "objective", "task", "name")


class DescribedLanguage(Protocol):
    """What a report says of a language besides its code."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def script(self) -> str: ...
    @property
    def resources(self) -> str: ...


DescribeLanguage = Callable[[str], DescribedLanguage]


def shown_value(value: Any) -> str:
    """A knob's value: as in the sweep file, but a block by its name.

    >>> shown_value(None), shown_value('{"layer": {"int": [1, 3]}, "method": "dlfa"}')
    ('none', 'dlfa')
    >>> shown_value('{"method": "dlfa", "reduction": 8}'), shown_value(2.0e-5)
    ('dlfa (reduction 8)', '2e-05')
    """
    if is_absent(value):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and value.startswith("{"):
        return _block(json.loads(value))
    return str(value)


def is_absent(value: Any) -> bool:
    """None, or the NaN that stands for it in a frame."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def short_knob(path: str) -> str:
    """The last part of a dotted path, with the part before it where it says nothing alone.

    >>> short_knob("target.fusion.layer"), short_knob("model")
    ('fusion layer', 'model')
    """
    return " ".join(part.replace("_", " ") for part in path.split(".")[-2:] if part != "target")


def language_label(code: str, describe: DescribeLanguage | None) -> str:
    """Name and code, or the code alone where no name is known."""
    name = describe(code).name if describe is not None else code
    return code if name == code else f"{name} ({code})"


def _block(tree: Mapping[str, Any]) -> str:
    name = next((str(tree[key]) for key in _NAMES if key in tree), "")
    rest = [
        f"{key.replace('_', ' ')} {value}"
        for key, value in sorted(tree.items())
        if key not in _NAMES and not _is_open(value)
    ]
    return f"{name} ({', '.join(rest)})" if name and rest else name or ", ".join(rest) or "{}"


def _is_open(value: Any) -> bool:
    """A block's inner distribution: its value is a knob of its own. Further blocks stay out."""
    return isinstance(value, Mapping | list) or value in _DISTRIBUTIONS
