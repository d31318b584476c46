"""Points to try before the sampler (``search.first``): from entries of the file to parameters.

A point maps dotted keys to values, and a block is written as in the file:
``{target.fusion: {method: dlfa, layer: 2}}``. The sampler draws what a point leaves out, so what it
names must exist whatever the sampler draws.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.config.search_space import (
    Assignment,
    Choice,
    Distribution,
    FloatRange,
    IntRange,
    ModelBounds,
    SearchParameter,
    Space,
    Value,
    assignments,
    distributions_in,
    extremes,
    plain,
)
from xlt_ray.errors import nearest

Fault = tuple[str, str, str]
"""Key below the point, what is wrong, what to do."""


class _MisnamedError(Exception):
    """A key or value that is not in the space; its arguments are a :data:`Fault`."""


@dataclass(frozen=True)
class FirstPoint:
    """The parameters of an entry of ``search.first``, and why it cannot be read."""

    values: Assignment
    faults: tuple[Fault, ...]


def read_point(entry: Mapping[str, Any], space: Space) -> FirstPoint:
    """The parameters that an entry names, with their values; ranges are not checked."""
    values: Assignment = {}
    faults: list[Fault] = []
    for key, value in entry.items():
        try:
            named = _named(key, value, space)
        except _MisnamedError as misnamed:
            faults.append(misnamed.args)
            continue
        for path, chosen in named.items():
            if path in values and values[path] != chosen:
                problem = f"{path} is given two values, {values[path]!r} and {chosen!r}"
                faults.append((key, problem, "keep one of them"))
            values[path] = chosen
    return FirstPoint(values, tuple(faults))


def misplaced(
    point: FirstPoint, space: Space, model_bounds: ModelBounds, *, is_deep: bool = False
) -> Iterator[Fault]:
    """Why a point cannot be tried: for some draw of the rest, a parameter is absent or excludes the
    value.

    Args:
        is_deep: the bounds are not those of the models, so ranges that follow them are not checked.
    """
    met: dict[str, SearchParameter] = {}
    values = point.values

    def tried(parameter: SearchParameter) -> Sequence[Value]:
        met[parameter.path] = parameter
        if parameter.path in values:
            value = values[parameter.path]
            is_unchecked = is_deep and parameter.conditional
            if is_unchecked or has(parameter.distribution, value):
                return (value,)
        elif isinstance(parameter.distribution, Choice) and (
            parameter.path.partition(".")[0] == "model"
            or any(path.startswith(f"{parameter.path}.") for path in values)
        ):
            return extremes(parameter.distribution)
        return extremes(parameter.distribution)[:1]

    faults: dict[str, Fault] = {}
    for assignment in assignments(space, tried, model_bounds):
        for path, value in values.items():
            if path not in assignment:
                faults.setdefault(path, _absent(path, value, assignment, space))
            elif assignment[path] != value:
                faults.setdefault(path, _outside(met[path], value, assignment, values))
    yield from faults.values()


def has(distribution: Distribution, value: Any) -> bool:
    """Whether a value lies in a distribution whose bounds are numbers."""
    if isinstance(distribution, Choice):
        return any(_is_same(value, label) for label in distribution.labels())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(distribution, IntRange):
        return isinstance(value, int) and value in distribution.values()
    return distribution.low <= value <= distribution.high


def _named(key: str, value: Any, space: Space) -> Assignment:
    """The parameters that one key of a point names."""
    nodes = list(_nodes(space.tree, key.split(".")))
    if not nodes:
        paths = sorted({path for path, _ in distributions_in(space.tree)})
        raise _MisnamedError(key, "is not searched over in this sweep", nearest(key, paths))
    misnamed: list[_MisnamedError] = []
    for node in nodes:
        try:
            if named := _matched(node, value, key, key):
                return named
        except _MisnamedError as error:
            misnamed.append(error)
    if misnamed:
        raise misnamed[0]
    shown = _shown(nodes[0])
    raise _MisnamedError(
        key, f"is fixed at {shown} in this sweep", "leave it out, or search over it"
    )


def _nodes(node: Any, steps: Sequence[str]) -> Iterator[Any]:
    """Everything that stands under a dotted key, in this option of a choice or in that."""
    if not steps:
        yield node
    elif isinstance(node, Choice):
        for option in node.options:
            yield from _nodes(option, steps)
    elif isinstance(node, Mapping) and steps[0] in node:
        yield from _nodes(node[steps[0]], steps[1:])


def _matched(node: Any, value: Any, path: str, key: str) -> Assignment:
    """The parameters of a node that a value names; none where the node is fixed at that value."""
    if isinstance(node, Choice):
        return _option(node, value, path, key)
    if isinstance(node, IntRange | FloatRange):
        if isinstance(value, Mapping | list):
            raise _MisnamedError(
                key, f"{_shown(value)} is not in the space of {path}", "give a number"
            )
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return {path: float(value) if isinstance(node, FloatRange) and is_whole else value}
    if isinstance(node, Mapping) and isinstance(value, Mapping):
        named: Assignment = {}
        for name, below in value.items():
            if name not in node:
                raise _MisnamedError(f"{key}.{name}", "is not in this block", nearest(name, node))
            named |= _matched(node[name], below, f"{path}.{name}", f"{key}.{name}")
        return named
    if not _is_same(plain(node), value):
        raise _MisnamedError(
            key,
            f"is fixed at {_shown(node)} in this sweep, and not {_shown(value)}",
            "leave it out, or search over it",
        )
    return {}


def _option(choice: Choice, value: Any, path: str, key: str) -> Assignment:
    """The one option of a choice that a value names: a label, or a block with some of its keys."""
    for label in choice.labels():
        if not isinstance(value, Mapping) and _is_same(value, label):
            return {path: label}
    remedy = "available: " + ", ".join(map(_shown, choice.options))
    fitting = [
        (label, option)
        for label, option in zip(choice.labels(), choice.options, strict=True)
        if isinstance(option, Mapping) and isinstance(value, Mapping) and _has_keys(option, value)
    ]
    if not fitting:
        raise _MisnamedError(key, f"{_shown(value)} is not in the space of {path}", remedy)
    if len(fitting) > 1:
        several = ", ".join(_shown(option) for _, option in fitting)
        raise _MisnamedError(
            key, f"{_shown(value)} may be each of {several}", "name more of its keys"
        )
    ((label, option),) = fitting
    return {path: label, **_matched(option, value, path, key)}


def _has_keys(option: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether a block has all keys of another, and the same values where it is fixed."""

    def agrees(node: Any, below: Any) -> bool:
        if isinstance(node, Mapping) and isinstance(below, Mapping):
            return _has_keys(node, below)
        return isinstance(node, Distribution) or _is_same(plain(node), below)

    return all(key in option and agrees(option[key], below) for key, below in value.items())


def _absent(path: str, value: Value, assignment: Assignment, space: Space) -> Fault:
    """The fault of a path that some option of a choice does not have."""
    choice = max((above for above in assignment if path.startswith(f"{above}.")), key=len)
    inside = path.removeprefix(f"{choice}.")
    blocks = []
    for node in _nodes(space.tree, choice.split(".")):
        for option in node.options if isinstance(node, Choice) else ():
            if any(True for _ in _nodes(option, inside.split("."))):
                fixed = {
                    name: below
                    for name, below in option.items()
                    if not isinstance(below, Mapping | list | Distribution)
                }
                blocks.append({**fixed, inside: value})
    return (
        path,
        f"not every option of {choice} has it",
        f"name the block, as in {choice}: " + " or ".join(map(_shown, blocks)),
    )


def _outside(
    parameter: SearchParameter, value: Value, assignment: Assignment, values: Assignment
) -> Fault:
    node = parameter.distribution
    problem = f"{value!r} is not in the space of {parameter.path}"
    if isinstance(node, Choice):
        return parameter.path, problem, "available: " + ", ".join(map(_shown, node.options))
    steps = f" in steps of {node.step}" if isinstance(node, IntRange) and node.step > 1 else ""
    remedy = f"from {node.low} to {node.high}{steps}"
    if parameter.conditional and "model" in assignment:
        problem += f" for {assignment['model']}"
        remedy += "" if "model" in values else ", or name a model for which it is"
    return parameter.path, problem, remedy


def _is_same(first: Any, second: Any) -> bool:
    return first == second and isinstance(first, bool) == isinstance(second, bool)


def _shown(node: Any) -> str:
    """A value as a sweep file has it on one line."""
    node = plain(node)
    if isinstance(node, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list | tuple):
        return "[" + ", ".join(map(_shown, node)) + "]"
    return node if isinstance(node, str) and node else json.dumps(node, ensure_ascii=False)
