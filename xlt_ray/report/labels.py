"""How values are written for people: parameters, options, numbers, languages."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
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
    """A parameter's value: as in the sweep file, but a block by its name.

    >>> shown_value(None), shown_value('{"layer": {"int": [1, 3]}, "method": "dlfa"}')
    ('none', 'dlfa')
    >>> shown_value('{"method": "dlfa", "reduction": 8}'), shown_value(2.0e-5)
    ('dlfa (reduction 8)', '2e-05')
    >>> shown_value('{"hybrid": {"languages": ["qab", "qac"], "ratio": 0.5}, "task": "nli"}')
    'nli (hybrid languages qab+qac, hybrid ratio 0.5)'
    >>> shown_value('["nli", "pos"]'), shown_value('{"task": ["nli", "pos"], "size": 10}')
    ('nli+pos', 'nli+pos (size 10)')
    >>> shown_value('{"task": {"choice": ["nli", "pos"]}, "size": 10}')
    'nli or pos (size 10)'
    """
    if isinstance(value, list):
        return "+".join(map(shown_value, value))
    if is_absent(value):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    written = _written(value)
    if isinstance(written, list):
        return shown_value(written)
    return _block(written) if isinstance(written, dict) else str(value)


def is_absent(value: Any) -> bool:
    """None, or the NaN that stands for it in a frame."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def parameter_names(paths: Iterable[str]) -> dict[str, str]:
    """Each parameter's shortest name beside the others: the end of its path where that is unique.

    >>> parameter_names(["model", "target.hybrid.ratio", "target.learning_rate"])
    {'model': 'model', 'target.hybrid.ratio': 'ratio', 'target.learning_rate': 'learning_rate'}
    >>> parameter_names(["intermediate.size", "target.size"])
    {'intermediate.size': 'intermediate.size', 'target.size': 'target.size'}
    """
    ends = {path: path.rpartition(".")[2] for path in paths}
    times = Counter(ends.values())
    return {path: path if times[end] > 1 else end for path, end in ends.items()}


def short_names(options: Iterable[str]) -> dict[str, str]:
    """Folders by their last part, where that tells them apart; all else as it is.

    >>> short_names(["/models/a", "/models/b", "org/c"])
    {'/models/a': 'a', '/models/b': 'b', 'org/c': 'org/c'}
    >>> short_names(["/here/a", "/there/a"])
    {'/here/a': '/here/a', '/there/a': '/there/a'}
    """
    options = list(dict.fromkeys(options))
    short = {
        option: PurePath(option).name if option.startswith(("/", "./", "../")) else option
        for option in options
    }
    return (
        short
        if len(set(short.values())) == len(options)
        else {option: option for option in options}
    )


def language_label(code: str, describe: DescribeLanguage | None) -> str:
    """Name and code, or the code alone where no name is known."""
    name = describe(code).name if describe is not None else code
    return code if name == code else f"{name} ({code})"


def _written(value: Any) -> Any:
    """The block or list that a ledger's text stands for; None of any other value."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return None
    try:
        return json.loads(value)
    except ValueError:
        return None


def _block(tree: Mapping[str, Any]) -> str:
    key = next((name for name in _NAMES if name in tree), None)
    name = "" if key is None else _name(tree[key])
    rest = ", ".join(_settings({one: tree[one] for one in tree if one != key}))
    return f"{name} ({rest})" if name and rest else name or rest or "{}"


def _settings(tree: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """A block's fixed values; what is searched over inside it is a parameter of its own."""
    for key, value in sorted(tree.items()):
        path = f"{before}{key.replace('_', ' ')}"
        if not isinstance(value, Mapping):
            yield f"{path} {shown_value(value)}"
        elif not _is_searched(value):
            yield from _settings(value, f"{path} ")


def _name(value: Any) -> str:
    """What a block is called by; of one that is searched over all that it may be."""
    if not _is_searched(value):
        return shown_value(value)
    return " or ".join(map(shown_value, value["choice"]))


def _is_searched(value: Any) -> bool:
    return isinstance(value, Mapping) and any(mark in value for mark in _DISTRIBUTIONS)
