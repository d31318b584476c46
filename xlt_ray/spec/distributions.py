"""Distributions as a sweep file spells them: recognised, checked, and written back as JSON.

``{choice: [...]}``, ``{int: [low, high], log, step}`` and ``{float: [low, high], log}`` stand for
a value to be searched over; an option of a choice may be a block with further ones inside.
Faults are gathered, so that one reading of a file shows them all.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xlt_ray.errors import SpecError
from xlt_ray.spec.source import Document

Bound = int | str
Value = None | bool | int | float | str

BOUND = re.compile(r"^\s*([a-z_]+)\s*(?:([-+])\s*([0-9]+))?\s*$")
"""An integer bound that names a fact of the model."""
_MARKS = ("choice", "int", "float")


@dataclass(frozen=True)
class Choice:
    """One of ``options``, which may be blocks; a block is named by its JSON text."""

    options: tuple[Any, ...]

    def labels(self) -> tuple[Value, ...]:
        return tuple(_label(option) for option in self.options)


@dataclass(frozen=True)
class IntRange:
    """An integer from ``low`` to ``high``, both included."""

    low: Bound
    high: Bound
    log: bool = False
    step: int = 1

    def values(self) -> range:
        """Every value; the bounds must be numbers."""
        assert isinstance(self.low, int)
        assert isinstance(self.high, int)
        return range(self.low, self.high + 1, self.step)


@dataclass(frozen=True)
class FloatRange:
    """A real number from ``low`` to ``high``, both included."""

    low: float
    high: float
    log: bool = False


Distribution = Choice | IntRange | FloatRange


def recognise(node: Any, path: str, document: Document, faults: list[SpecError]) -> Any:
    """``node`` with every distribution below it recognised; malformed ones go to ``faults``."""
    if isinstance(node, dict):
        marks = [mark for mark in _MARKS if mark in node]
        if marks:
            try:
                return _distribution(node, marks, path, document, faults)
            except SpecError as fault:
                faults.append(fault)
                return None
        return {
            key: recognise(value, f"{path}.{key}", document, faults) for key, value in node.items()
        }
    if isinstance(node, list):
        return [
            recognise(value, f"{path}.{index}", document, faults)
            for index, value in enumerate(node)
        ]
    return node


def _distribution(
    node: dict[str, Any],
    marks: list[str],
    path: str,
    document: Document,
    faults: list[SpecError],
) -> Distribution:
    mark = marks[0]
    allowed = {"choice": set(), "int": {"log", "step"}, "float": {"log"}}[mark]
    strange = sorted(set(node) - {mark} - allowed)
    if strange:
        raise document.error(
            f"{strange[0]!r} does not go with {mark!r}",
            key=f"{path}.{strange[0]}",
            remedy=f"{mark!r} takes " + (", ".join(sorted(allowed)) or "nothing else"),
        )
    content = node[mark]
    here = f"{path}.{mark}"
    if mark == "choice":
        if not isinstance(content, list) or not content:
            raise document.error("needs a list of options", key=here, remedy="[a, b, ...]")
        options = tuple(
            recognise(option, f"{here}.{index}", document, faults)
            for index, option in enumerate(content)
        )
        for index, option in enumerate(options):
            if isinstance(option, Choice | IntRange | FloatRange):
                raise document.error(
                    "an option cannot be a distribution itself",
                    key=f"{here}.{index}",
                    remedy="list its values as options, or put it below a key of a block",
                )
        choice = Choice(options)
        labels = choice.labels()
        for one, other in itertools.combinations(labels, 2):
            if one == other:
                same = "stands twice" if repr(one) == repr(other) else f"is the same as {one!r}"
                raise document.error(f"the option {other!r} {same}", key=here)
        return choice
    if not isinstance(content, list) or len(content) != 2:
        raise document.error("needs two bounds", key=here, remedy="[low, high]")
    log = node.get("log", False)
    step = node.get("step", 1)
    if not isinstance(log, bool):
        raise document.error(f"{log!r} is not true or false", key=f"{path}.log")
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise document.error(f"{step!r} is not a positive whole number", key=f"{path}.step")
    if log and step != 1:
        raise document.error("log and step exclude each other", key=f"{path}.step")
    if mark == "float":
        low, high = (_real(bound, here, document) for bound in content)
        refuse_empty(low, high, log, here, document)
        return FloatRange(low, high, log)
    bounds = tuple(_int_bound(bound, here, document) for bound in content)
    if all(isinstance(bound, int) for bound in bounds):
        refuse_empty(float(bounds[0]), float(bounds[1]), log, here, document)
    return IntRange(bounds[0], bounds[1], log, step)


def _real(bound: Any, path: str, document: Document) -> float:
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
        raise document.error(f"the bound {bound!r} is not a number", key=path)
    return float(bound)


def _int_bound(bound: Any, path: str, document: Document) -> Bound:
    if isinstance(bound, int) and not isinstance(bound, bool):
        return bound
    if isinstance(bound, str) and BOUND.match(bound):
        return bound
    raise document.error(
        f"the bound {bound!r} is neither a whole number nor a fact of the model",
        key=path,
        remedy="for example num_layers - 1",
    )


def refuse_empty(low: float, high: float, log: bool, path: str, document: Document) -> None:
    """Raise SpecError where nothing lies between the bounds."""
    if not low <= high:
        raise document.error(f"the range from {low:g} to {high:g} is empty", key=path)
    if log and low <= 0:
        raise document.error("a logarithmic range must begin above 0", key=path)


def _label(option: Any) -> Value:
    if option is None or isinstance(option, bool | int | float | str):
        return option
    return json.dumps(plain(option), sort_keys=True, ensure_ascii=False)


def plain(node: Any) -> Any:
    """A tree with distributions as plain JSON."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    if isinstance(node, Choice):
        return {"choice": [plain(option) for option in node.options]}
    if isinstance(node, IntRange):
        return {"int": [node.low, node.high], "log": node.log, "step": node.step}
    if isinstance(node, FloatRange):
        return {"float": [node.low, node.high], "log": node.log}
    return node


def distributions_in(node: Any, path: str = "") -> Iterator[tuple[str, Distribution]]:
    """Every distribution of a tree with its dotted path, those inside of options too."""
    if isinstance(node, Choice | IntRange | FloatRange):
        yield path, node
        if isinstance(node, Choice):
            for option in node.options:
                yield from distributions_in(option, path)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from distributions_in(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from distributions_in(value, f"{path}.{index}")


def refuse_distributions(node: Any, path: str, document: Document, faults: list[SpecError]) -> None:
    """Gather a fault for every distribution below ``node``, where none may be."""
    if isinstance(node, dict):
        if any(mark in node for mark in _MARKS):
            fault = document.error(
                "cannot be searched over",
                key=path,
                remedy="give one value; model, align, intermediate, target and evaluate "
                "can be searched",
            )
            faults.append(fault)
            return
        for key, value in node.items():
            refuse_distributions(value, f"{path}.{key}", document, faults)
