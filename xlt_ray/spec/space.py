"""The search space: a tree of plain values in which any leaf may be a distribution.

``{choice: [...]}``, ``{int: [low, high], log, step}`` and ``{float: [low, high], log}`` stand
for a value to be searched over. An option of a choice may be a whole block with further
distributions inside (a conditional space). Bounds of integers may name facts of the chosen
model (``num_layers - 1``), which is why the model is always drawn first.

:func:`draw` walks the tree once, asks ``pick`` for every distribution that it meets, and
returns the concrete tree and the assignment (dotted path -> picked value). Everything else,
searching, probing, listing a grid, is a choice of ``pick``.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from xlt_ray.errors import SpecError
from xlt_ray.spec.source import Document

Bound = int | str
Value = None | bool | int | float | str
Assignment = dict[str, Value]

_BOUND = re.compile(r"^\s*([a-z_]+)\s*(?:([-+])\s*([0-9]+))?\s*$")
_NOTHING = object()
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

    def values(self) -> tuple[int, ...]:
        """Every value; the bounds must be numbers."""
        assert isinstance(self.low, int)
        assert isinstance(self.high, int)
        return tuple(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True)
class FloatRange:
    """A real number from ``low`` to ``high``, both included."""

    low: float
    high: float
    log: bool = False


Distribution = Choice | IntRange | FloatRange


@dataclass(frozen=True)
class Knob:
    """A distribution met while drawing; the bounds are numbers by now."""

    path: str
    distribution: Distribution
    conditional: bool = False
    """Whether the bounds came from the chosen model."""

    @property
    def parameter(self) -> str:
        """Name for a sampler: ranges that follow the model are searched apart per range.

        Layer 3 of 4 is not layer 3 of 24, and Optuna's grouped TPE would keep the first
        range that it saw under one name for all models.
        """
        if self.conditional and isinstance(self.distribution, IntRange):
            return f"{self.path} in {self.distribution.low}..{self.distribution.high}"
        return self.path


Pick = Callable[[Knob], Value]
ModelBounds = Callable[[str], Mapping[str, int]]


@dataclass(frozen=True)
class Space:
    """The searchable tree of one sweep file with the document it came from."""

    document: Document
    tree: Mapping[str, Any]

    def is_empty(self) -> bool:
        return not any(True for _ in _distributions(self.tree))


def split_space(document: Document, keys: tuple[str, ...], *, fixed: tuple[str, ...] = ()) -> Space:
    """Take ``keys`` of a document, distributions recognised and checked.

    Raises:
        SpecError: a malformed distribution, or one outside ``keys`` or below ``fixed``.
    """
    for key, node in document.tree.items():
        if key not in keys or key in fixed:
            _refuse_distributions(node, key, document)
    tree = {
        key: _recognise(document.tree[key], key, document) for key in keys if key in document.tree
    }
    return Space(document, tree)


def draw(
    space: Space, pick: Pick, model_bounds: ModelBounds | None = None
) -> tuple[dict[str, Any], Assignment]:
    """Walk the tree, picking a value for every distribution met.

    Args:
        pick: gets a :class:`Knob` with numeric bounds and returns a value of it; for a choice
            the label of an option.
        model_bounds: facts of a model by its name, for bounds that name them.
    """
    picked: Assignment = {}
    bounds: Mapping[str, int] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, Mapping):
            return {key: walk(value, f"{path}.{key}") for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value, f"{path}.{index}") for index, value in enumerate(node)]
        if not isinstance(node, Choice | IntRange | FloatRange):
            return node
        knob = _with_bounds(path, node, bounds, space.document)
        value = picked[path] = pick(knob)
        if isinstance(node, Choice):
            return walk(node.options[node.labels().index(value)], path)
        return value

    concrete: dict[str, Any] = {}
    for key in sorted(space.tree, key=lambda name: name != "model"):
        concrete[key] = walk(space.tree[key], key)
        if key == "model" and model_bounds is not None:
            bounds = model_bounds(model_name(concrete[key]))
    return concrete, picked


def model_name(model: Any) -> str:
    """Name of a model given bare or as a block; text of anything else (refused later)."""
    return str(model.get("name", "")) if isinstance(model, Mapping) else str(model)


def model_names(space: Space) -> tuple[str, ...]:
    """Every model name that the space can give."""
    names: list[str] = []
    if "model" in space.tree:
        only = replace(space, tree={"model": space.tree["model"]})
        for assignment in _product(only, None):
            tree, _ = draw(only, lambda knob, of=assignment: of[knob.path])  # type: ignore[misc]
            names.append(model_name(tree["model"]))
    return tuple(dict.fromkeys(names))


def extremes(distribution: Distribution) -> tuple[Value, ...]:
    """The values that a probe tries: every option of a choice, both ends of a range."""
    if isinstance(distribution, Choice):
        return distribution.labels()
    assert not isinstance(distribution.low, str)
    assert not isinstance(distribution.high, str)
    return (distribution.low, distribution.high)


def probes(
    space: Space, model_bounds: ModelBounds | None = None, *, limit: int = 4000
) -> Iterator[tuple[dict[str, Any], Assignment]]:
    """Concrete trees that cover every extreme value and every pair of them.

    A fault in one value, or in two that do not go together, shows in one of these; at most
    ``limit`` trees are given, single values first.
    """
    seen: set[tuple[tuple[str, Value], ...]] = {()}
    queue: list[tuple[tuple[str, Value], ...]] = [()]
    given = 0
    while queue and given < limit:
        fixed = queue.pop(0)
        chosen = dict(fixed)
        met: list[Knob] = []

        def pick(knob: Knob, chosen: Mapping[str, Value] = chosen, met: list[Knob] = met) -> Value:
            met.append(knob)
            values = extremes(knob.distribution)
            return chosen[knob.path] if chosen.get(knob.path, _NOTHING) in values else values[0]

        tree, assignment = draw(space, pick, model_bounds)
        yield tree, assignment
        given += 1
        if len(fixed) == 2:
            continue
        for knob in met:
            if knob.path in chosen:
                continue
            for value in extremes(knob.distribution):
                further = tuple(sorted((*fixed, (knob.path, value)), key=repr))
                if further not in seen:
                    seen.add(further)
                    queue.append(further)


def grid(space: Space, model_bounds: ModelBounds | None = None) -> Iterator[Assignment]:
    """Every assignment of a space without real ranges, the last knob turning fastest.

    Raises:
        SpecError: the space has a real range.
    """
    for path, node in _distributions(space.tree):
        if isinstance(node, FloatRange):
            raise space.document.error(
                "a grid cannot list a range of real numbers",
                key=path,
                remedy="write {choice: [...]} or use sampler: tpe",
            )
    yield from _product(space, model_bounds)


def _product(space: Space, model_bounds: ModelBounds | None) -> Iterator[Assignment]:
    """Depth-first walk over all values, re-drawing for each as later knobs may depend on it."""

    def values(knob: Knob) -> tuple[Value, ...]:
        found = knob.distribution
        return found.labels() if isinstance(found, Choice) else found.values()  # type: ignore[union-attr]

    def below(fixed: Assignment) -> Iterator[Assignment]:
        first_free: list[Knob] = []

        def pick(knob: Knob) -> Value:
            if knob.path in fixed:
                return fixed[knob.path]
            first_free.append(knob)
            return values(knob)[0]

        _, assignment = draw(space, pick, model_bounds)
        if not first_free:
            yield assignment
            return
        for value in values(first_free[0]):
            yield from below({**fixed, first_free[0].path: value})

    yield from below({})


def _label(option: Any) -> Value:
    if option is None or isinstance(option, bool | int | float | str):
        return option
    return json.dumps(_plain(option), sort_keys=True, ensure_ascii=False)


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, Choice):
        return {"choice": [_plain(option) for option in node.options]}
    if isinstance(node, IntRange):
        return {"int": [node.low, node.high], "log": node.log, "step": node.step}
    if isinstance(node, FloatRange):
        return {"float": [node.low, node.high], "log": node.log}
    return node


def plain_tree(space: Space) -> dict[str, Any]:
    """The space as plain JSON, to be kept beside the ledger and compared."""
    plain: dict[str, Any] = _plain(space.tree)
    return plain


def _recognise(node: Any, path: str, document: Document) -> Any:
    if isinstance(node, dict):
        marks = [mark for mark in _MARKS if mark in node]
        if marks:
            return _distribution(node, marks, path, document)
        return {key: _recognise(value, f"{path}.{key}", document) for key, value in node.items()}
    if isinstance(node, list):
        return [_recognise(value, f"{path}.{index}", document) for index, value in enumerate(node)]
    return node


def _distribution(
    node: dict[str, Any], marks: list[str], path: str, document: Document
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
            _recognise(option, f"{here}.{index}", document) for index, option in enumerate(content)
        )
        choice = Choice(options)
        labels = choice.labels()
        for one, other in itertools.combinations(labels, 2):
            if one == other and type(one) is type(other):
                raise document.error(f"the option {one!r} stands twice", key=here)
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
        _refuse_empty(low, high, log, here, document)
        return FloatRange(low, high, log)
    bounds = tuple(_int_bound(bound, here, document) for bound in content)
    if all(isinstance(bound, int) for bound in bounds):
        _refuse_empty(float(bounds[0]), float(bounds[1]), log, here, document)
    return IntRange(bounds[0], bounds[1], log, step)


def _real(bound: Any, path: str, document: Document) -> float:
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        raise document.error(f"the bound {bound!r} is not a number", key=path)
    return float(bound)


def _int_bound(bound: Any, path: str, document: Document) -> Bound:
    if isinstance(bound, int) and not isinstance(bound, bool):
        return bound
    if isinstance(bound, str) and _BOUND.match(bound):
        return bound
    raise document.error(
        f"the bound {bound!r} is neither a whole number nor a fact of the model",
        key=path,
        remedy="for example num_layers - 1",
    )


def _refuse_empty(low: float, high: float, log: bool, path: str, document: Document) -> None:
    if not low <= high:
        raise document.error(f"the range from {low:g} to {high:g} is empty", key=path)
    if log and low <= 0:
        raise document.error("a logarithmic range must begin above 0", key=path)


def _with_bounds(
    path: str, node: Distribution, bounds: Mapping[str, int], document: Document
) -> Knob:
    if not isinstance(node, IntRange) or (isinstance(node.low, int) and isinstance(node.high, int)):
        return Knob(path, node)
    low, high = (_number(bound, bounds, path, document) for bound in (node.low, node.high))
    _refuse_empty(low, high, node.log, path, document)
    return Knob(path, replace(node, low=low, high=high), conditional=True)


def _number(bound: Bound, bounds: Mapping[str, int], path: str, document: Document) -> int:
    if isinstance(bound, int):
        return bound
    match = _BOUND.match(bound)
    assert match is not None
    name, sign, offset = match.groups()
    if name not in bounds:
        raise document.error(
            f"the bound {bound!r} names {name!r}, which is no fact of the model",
            key=path,
            remedy="there is: " + ", ".join(sorted(bounds)),
        )
    return bounds[name] + (int(offset) if offset else 0) * (-1 if sign == "-" else 1)


def _distributions(node: Any, path: str = "") -> Iterator[tuple[str, Distribution]]:
    if isinstance(node, Choice | IntRange | FloatRange):
        yield path, node
        if isinstance(node, Choice):
            for option in node.options:
                yield from _distributions(option, path)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _distributions(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _distributions(value, f"{path}.{index}")


def _refuse_distributions(node: Any, path: str, document: Document) -> None:
    if isinstance(node, dict):
        if any(mark in node for mark in _MARKS):
            raise document.error(
                "cannot be searched over",
                key=path,
                remedy="give one value; model, align, intermediate, target and evaluate "
                "can be searched",
            )
        for key, value in node.items():
            _refuse_distributions(value, f"{path}.{key}", document)


def known_values(space: Space, assignment: Mapping[str, Any]) -> SpecError | None:
    """The first fault of a point that a user asks to try first, or None."""
    paths = {path for path, _ in _distributions(space.tree)}
    for path in assignment:
        if path not in paths:
            return space.document.error(
                f"{path!r} is not searched over in this sweep",
                key="search.first",
                remedy="there is: " + ", ".join(sorted(paths)),
            )
    return None
