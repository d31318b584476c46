"""How values are written for people: parameters, options, numbers, languages, runs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from xlt_ray.config.languages import language
from xlt_ray.config.search_space import Value, option_label
from xlt_ray.config.yaml import DISTRIBUTIONS

_NAMES = ("method", "objective", "task", "name")


def value_label(value: Any) -> str:
    """A parameter's value: as in the sweep file, but a block by its name.

    >>> value_label(None), value_label('{"layer": {"int": [1, 3]}, "method": "dlfa"}')
    ('none', 'dlfa')
    >>> value_label('{"method": "dlfa", "reduction": 8}'), value_label(2.0e-5)
    ('dlfa (reduction 8)', '2e-05')
    >>> value_label('{"hybrid": {"languages": ["qab", "qac"], "ratio": 0.5}, "task": "nli"}')
    'nli (hybrid languages qab+qac, hybrid ratio 0.5)'
    >>> value_label('["nli", "pos"]'), value_label('{"task": ["nli", "pos"], "size": 10}')
    ('nli+pos', 'nli+pos (size 10)')
    >>> value_label('{"task": {"choice": ["nli", "pos"]}, "size": 10}')
    'nli or pos (size 10)'
    """
    if isinstance(value, list):
        return "+".join(map(value_label, value))
    if is_absent(value):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    written = _written(value)
    if isinstance(written, list):
        return value_label(written)
    return _block(written) if isinstance(written, dict) else str(value)


def is_absent(value: Any) -> bool:
    """None, or the NaN that stands for it in a frame."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_number(value: Any) -> bool:
    """Whether a value is a number that is there; truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not is_absent(value)


def parameter_names(paths: Iterable[str]) -> dict[str, str]:
    """What each parameter is called beside the others: the end of its path, where that is of one
    alone.

    >>> parameter_names(["model", "target.hybrid.ratio", "target.learning_rate"])
    {'model': 'model', 'target.hybrid.ratio': 'ratio', 'target.learning_rate': 'learning_rate'}
    >>> parameter_names(["intermediate.size", "target.size"])
    {'intermediate.size': 'intermediate.size', 'target.size': 'target.size'}
    """
    ends = {path: path.rpartition(".")[2] for path in paths}
    times = Counter(ends.values())
    return {path: path if times[end] > 1 else end for path, end in ends.items()}


def run_name(
    assignment: Mapping[str, Any], space: Mapping[str, Any], seed: int | None = None
) -> str:
    """A configuration by the parameters that differ between those of its sweep, or one of its
    trials by its ``seed``, too; empty where nothing differs.

    Words stand alone, unless two parameters share them; numbers and truth values stand with the
    name of their parameter, and the layer of a method behind an ``@``.

    Args:
        space: of the resolved sweep, as its ledger has it.

    >>> methods = {"choice": [None, {"method": "dlfa", "layer": {"int": [1, 3]}}]}
    >>> models, sizes = {"choice": ["/models/mbert", "/models/xlmr"]}, {"int": [1000, 4000]}
    >>> space = {"model": models, "target": {"fusion": methods, "size": sizes, "epochs": 3}}
    >>> dlfa = '{"layer": {"int": [1, 3]}, "method": "dlfa"}'
    >>> run_name({"model": "/models/mbert", "target.fusion": dlfa, "target.fusion.layer": 3,
    ...           "target.size": 4000}, space, seed=1)
    'mbert dlfa@3 size=4000 seed 1'
    >>> run_name({"model": "/models/xlmr", "target.fusion": None, "target.size": 1000}, space)
    'xlmr fusion=none size=1000'
    """
    options: dict[str, set[Value]] = {}
    for path, values in _options(space):
        options.setdefault(path, set()).update(values)
    options = {path: values for path, values in options.items() if len(values) > 1}
    names = parameter_names(options)
    models = short_names(map(str, options.get("model", ())))
    times = Counter(word for values in options.values() for word in values)
    parts: dict[str, str] = {}
    for path in filter(options.__contains__, assignment):
        value = assignment[path]
        block, _, end = path.rpartition(".")
        method = next((name for name in (block, f"{block}.method") if name in parts), None)
        if end == "layer" and method is not None:
            parts[method] += f"@{value_label(value)}"
        elif isinstance(value, str) and times[value] <= 1:
            parts[path] = value_label(models.get(value, value) if path == "model" else value)
        else:
            parts[path] = f"{names[path]}={value_label(value)}"
    return " ".join([*parts.values(), *([] if seed is None else [f"seed {seed}"])])


def _options(node: Any, path: str = "") -> Iterator[tuple[str, set[Value]]]:
    """What each parameter of a space may be, by its path; of a range, both ends."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, Mapping):
        return
    if "choice" in node:
        yield path, set(map(option_label, node["choice"]))
        for option in node["choice"]:
            yield from _options(option, path)
    elif _is_searched(node):
        yield path, set(node.get("int") or node["float"])
    else:
        for key, value in node.items():
            yield from _options(value, f"{path}.{key}" if path else str(key))


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


def language_label(code: str) -> str:
    """Name and code, or the code alone where no name is known."""
    name = language(code).name
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
    rest = ", ".join(_settings({name: tree[name] for name in tree if name != key}))
    return f"{name} ({rest})" if name and rest else name or rest or "{}"


def _settings(tree: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """A block's fixed values; what is searched over inside it is a parameter of its own."""
    for key, value in sorted(tree.items()):
        path = f"{before}{key.replace('_', ' ')}"
        if not isinstance(value, Mapping):
            yield f"{path} {value_label(value)}"
        elif not _is_searched(value):
            yield from _settings(value, f"{path} ")


def _name(value: Any) -> str:
    """What a block is called by; of one that is searched over all that it may be."""
    if not _is_searched(value):
        return value_label(value)
    return " or ".join(map(value_label, value["choice"]))


def _is_searched(value: Any) -> bool:
    return isinstance(value, Mapping) and any(mark in value for mark in DISTRIBUTIONS)
