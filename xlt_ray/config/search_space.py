"""The search space: a tree of plain values in which any leaf may be a distribution.

``{choice: [...]}``, ``{int: [low, high], log, step}`` and ``{float: [low, high], log}`` are
searched over; an option of a choice may be a block with further distributions. Bounds of integers
may name facts of the model (``num_layers - 1``), so the model is always drawn first. :func:`draw`
walks the tree, calls ``pick`` for every distribution, and returns the concrete tree and the
assignment (dotted path -> picked value). Searching, probing and grids differ only in ``pick``.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from xlt_ray.config.yaml import DISTRIBUTIONS, Document
from xlt_ray.errors import SpecError, SpecErrors

Bound = int | str
Value = None | bool | int | float | str

BOUND = re.compile(r"^\s*([a-z_]+)\s*(?:([-+])\s*([0-9]+))?\s*$")
"""An integer bound that names a fact of the model."""


@dataclass(frozen=True)
class Choice:
    """One of ``options``, which may be blocks; a block is named by its JSON text."""

    options: tuple[Any, ...]

    def labels(self) -> tuple[Value, ...]:
        return tuple(option_label(option) for option in self.options)


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


@dataclass
class _Recogniser:
    """Makes distributions of the blocks that describe them, and gathers malformed ones."""

    document: Document
    faults: list[SpecError]

    def recognise(self, node: Any, path: str) -> Any:
        """``node`` with every distribution below it recognised."""
        if isinstance(node, list):
            return [self.recognise(value, f"{path}.{index}") for index, value in enumerate(node)]
        if not isinstance(node, dict):
            return node
        marks = [mark for mark in DISTRIBUTIONS if mark in node]
        if not marks:
            return {key: self.recognise(value, f"{path}.{key}") for key, value in node.items()}
        try:
            return self._distribution(node, marks[0], path)
        except SpecError as fault:
            self.faults.append(fault)
            return None

    def _distribution(self, node: dict[str, Any], mark: str, path: str) -> Distribution:
        allowed = {"choice": set(), "int": {"log", "step"}, "float": {"log"}}[mark]
        strange = sorted(set(node) - {mark} - allowed)
        if strange:
            raise self.document.error(
                f"{strange[0]!r} cannot be combined with {mark!r}",
                key=f"{path}.{strange[0]}",
                remedy=f"{mark!r} takes " + (", ".join(sorted(allowed)) or "nothing else"),
            )
        if mark == "choice":
            return self._choice(node[mark], f"{path}.{mark}")
        return self._range(node, mark, path)

    def _choice(self, content: Any, path: str) -> Choice:
        error = self.document.error
        if not isinstance(content, list) or not content:
            raise error("needs a list of options", key=path, remedy="[a, b, ...]")
        options = self.recognise(content, path)
        for index, option in enumerate(options):
            if isinstance(option, Distribution):
                raise error(
                    "an option cannot be a distribution itself",
                    key=f"{path}.{index}",
                    remedy="list its values as options, or put it below a key of a block",
                )
        choice = Choice(tuple(options))
        for first, second in itertools.combinations(choice.labels(), 2):
            if first == second:
                is_repeated = repr(first) == repr(second)
                same = "stands twice" if is_repeated else f"is the same as {first!r}"
                raise error(f"the option {second!r} {same}", key=path)
        return choice

    def _range(self, node: dict[str, Any], mark: str, path: str) -> IntRange | FloatRange:
        error, bounds, here = self.document.error, node[mark], f"{path}.{mark}"
        if not isinstance(bounds, list) or len(bounds) != 2:
            raise error("needs two bounds", key=here, remedy="[low, high]")
        log, step = node.get("log", False), node.get("step", 1)
        if not isinstance(log, bool):
            raise error(f"{log!r} is not true or false", key=f"{path}.log")
        if not isinstance(step, int) or isinstance(step, bool) or step < 1:
            raise error(f"{step!r} is not a positive whole number", key=f"{path}.step")
        if log and step != 1:
            raise error("log and step exclude each other", key=f"{path}.step")
        for bound in bounds:
            is_number = isinstance(bound, int | float) and not isinstance(bound, bool)
            if mark == "float" and not (is_number and math.isfinite(bound)):
                raise error(f"the bound {bound!r} is not a number", key=here)
            is_fact = isinstance(bound, str) and BOUND.match(bound)
            if mark == "int" and not (is_fact or (is_number and isinstance(bound, int))):
                raise error(
                    f"the bound {bound!r} is neither a whole number nor a fact of the model",
                    key=here,
                    remedy="for example num_layers - 1",
                )
        low, high = bounds
        if not isinstance(low, str) and not isinstance(high, str):
            refuse_empty(low, high, log, here, self.document)
        if mark == "float":
            return FloatRange(float(low), float(high), log)
        return IntRange(low, high, log, step)


def refuse_empty(low: float, high: float, log: bool, path: str, document: Document) -> None:
    """Raise SpecError if nothing lies between the bounds."""
    if not low <= high:
        raise document.error(f"the range from {low:g} to {high:g} is empty", key=path)
    if log and low <= 0:
        raise document.error("a logarithmic range must begin above 0", key=path)


def option_label(option: Any) -> Value:
    """An option of a choice as assignments have it: a block by its JSON text."""
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
    if isinstance(node, Distribution):
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
        if any(mark in node for mark in DISTRIBUTIONS):
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


Assignment = dict[str, Value]


@dataclass(frozen=True)
class SearchParameter:
    """A distribution with numeric bounds, as :func:`draw` meets it."""

    path: str
    distribution: Distribution
    conditional: bool = False
    """Whether the bounds came from the chosen model."""
    is_one_of_several: bool = False
    """Whether another option of a choice has another distribution under the same path."""

    @property
    def name(self) -> str:
        """Name for a sampler. Different ranges of one path have names of their own: layer 3 of 4
        is not layer 3 of 24, and Optuna allows one distribution for a name.
        """
        if not (self.conditional or self.is_one_of_several):
            return self.path
        node = self.distribution
        if isinstance(node, Choice):
            return f"{self.path} in {json.dumps(node.labels(), ensure_ascii=False)}"
        return f"{self.path} in {node.low}..{node.high}{' log' if node.log else ''}"


Pick = Callable[[SearchParameter], Value]
ModelBounds = Callable[[str], Mapping[str, int]]


@dataclass(frozen=True)
class Space:
    """The searchable tree of a sweep file with its document."""

    document: Document
    tree: Mapping[str, Any]

    @cached_property
    def several(self) -> frozenset[str]:
        """Paths that have different distributions in different options of a choice."""
        first: dict[str, Distribution] = {}
        return frozenset(
            path
            for path, node in distributions_in(self.tree)
            if first.setdefault(path, node) != node
        )


def split_space(document: Document, keys: tuple[str, ...], *, fixed: tuple[str, ...] = ()) -> Space:
    """Take ``keys`` of a document, distributions recognised and checked.

    Raises:
        SpecErrors: all malformed distributions, and those outside ``keys`` or below ``fixed``.
    """
    faults: list[SpecError] = []
    for key, node in document.tree.items():
        if key not in keys or key in fixed:
            refuse_distributions(node, key, document, faults)
    recogniser = _Recogniser(document, faults)
    tree = {
        key: recogniser.recognise(document.tree[key], key) for key in keys if key in document.tree
    }
    if faults:
        raise SpecErrors(faults)
    return Space(document, tree)


def draw(
    space: Space, pick: Pick, model_bounds: ModelBounds | None = None
) -> tuple[dict[str, Any], Assignment]:
    """Walk the tree, picking a value for every distribution met.

    Args:
        pick: gets a :class:`SearchParameter` with numeric bounds and returns a value of it, for a
            choice the label of an option.
        model_bounds: facts of a model by its name, for bounds that name them.
    """
    picked: Assignment = {}
    bounds: Mapping[str, int] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, Mapping):
            return {key: walk(value, f"{path}.{key}") for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value, f"{path}.{index}") for index, value in enumerate(node)]
        if not isinstance(node, Distribution):
            return node
        parameter = _with_bounds(path, node, bounds, space)
        value = picked[path] = pick(parameter)
        if isinstance(node, Choice):
            return walk(node.options[node.labels().index(value)], path)
        return value

    concrete: dict[str, Any] = {}
    for key in sorted(space.tree, key=lambda name: name != "model"):
        concrete[key] = walk(space.tree[key], key)
        if key == "model" and model_bounds is not None:
            bounds = _bounds_of(concrete[key], model_bounds)
    return concrete, picked


def _bounds_of(model: Any, model_bounds: ModelBounds) -> Mapping[str, int]:
    """What bounds may name of a model given bare or as a block."""
    bounds = model_bounds(model_label(model))
    layers = model.get("layers") if isinstance(model, Mapping) else None
    return {**bounds, "num_layers": layers} if isinstance(layers, int) else bounds


def model_label(model: Any) -> str:
    """:attr:`xlt_ray.config.trial.Model.label` of a model given bare or as a block; the text
    of anything else, which is refused later."""
    if not isinstance(model, Mapping):
        return str(model)
    name, revision = model.get("name", ""), model.get("revision")
    return f"{name}@{revision}" if revision else str(name)


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
    ``limit`` trees are given, single values first. The choice of a block, or of a model, that
    another value needs is not counted beside that value.
    """
    seen: set[tuple[tuple[str, Value], ...]] = {()}
    count = itertools.count()
    queue: list[tuple[int, int, int, tuple[tuple[str, Value], ...]]] = [(0, 0, next(count), ())]
    follows_model: set[str] = set()

    def probe(chosen: Assignment, met: list[SearchParameter]) -> tuple[dict[str, Any], Assignment]:
        def pick(parameter: SearchParameter) -> Value:
            met.append(parameter)
            values = extremes(parameter.distribution)
            value = chosen.get(parameter.path, values[0])
            return value if value in values else values[0]

        return draw(space, pick, model_bounds)

    for _ in range(limit):
        if not queue:
            return
        *_, fixed = heapq.heappop(queue)
        chosen, met = dict(fixed), list[SearchParameter]()
        yield probe(chosen, met)
        follows_model.update(parameter.path for parameter in met if parameter.conditional)
        for parameter in met:
            if parameter.path in chosen:
                continue
            num_free = _num_free((*chosen, parameter.path), follows_model)
            if num_free > 2:
                continue
            for value in extremes(parameter.distribution):
                further = tuple(sorted((*fixed, (parameter.path, value)), key=repr))
                if further not in seen:
                    seen.add(further)
                    heapq.heappush(queue, (num_free, len(further), next(count), further))


def _num_free(paths: tuple[str, ...], follows_model: set[str]) -> int:
    """How many of the fixed parameters are not needed by another one of them."""
    needs_model = not follows_model.isdisjoint(paths)
    return sum(
        not any(deeper.startswith(f"{path}.") for deeper in paths)
        and not (needs_model and path.partition(".")[0] == "model")
        for path in paths
    )


def grid(
    space: Space, model_bounds: ModelBounds | None = None, within: Assignment | None = None
) -> Iterator[Assignment]:
    """Every assignment of a space without real ranges, the last parameter turning fastest.

    Args:
        within: values of some parameters, which are kept.

    Raises:
        SpecError: the space has a real range.
    """
    for fault in not_listable(space):
        raise fault
    yield from assignments(space, _all_values, model_bounds, within)


def not_listable(space: Space) -> list[SpecError]:
    """Errors at the real ranges of a space, which grid and brute cannot list."""
    return [
        space.document.error(
            "a range of real numbers cannot be listed",
            key=path,
            remedy="write {choice: [...]} or use sampler: tpe",
        )
        for path, node in distributions_in(space.tree)
        if isinstance(node, FloatRange)
    ]


def assignments(
    space: Space,
    values: Callable[[SearchParameter], Iterable[Value]],
    model_bounds: ModelBounds | None = None,
    within: Assignment | None = None,
) -> Iterator[Assignment]:
    """Every assignment of the given values, the last parameter turning fastest.

    Args:
        values: gives the values of a parameter to try.
        within: values of some parameters, which are kept.
    """

    def below(fixed: Assignment) -> Iterator[Assignment]:
        first_free: list[SearchParameter] = []

        def pick(parameter: SearchParameter) -> Value:
            if parameter.path in fixed:
                return fixed[parameter.path]
            first_free.append(parameter)
            return extremes(parameter.distribution)[0]

        _, assignment = draw(space, pick, model_bounds)
        if not first_free:
            yield assignment
            return
        for value in values(first_free[0]):
            yield from below({**fixed, first_free[0].path: value})

    yield from below(within or {})


def _all_values(parameter: SearchParameter) -> Sequence[Value]:
    node = parameter.distribution
    assert not isinstance(node, FloatRange), "a real range has no list of values"
    return node.labels() if isinstance(node, Choice) else node.values()


def num_configurations(space: Space, model_bounds: ModelBounds) -> float:
    """How many assignments a space has; infinite where one of its ranges is of real numbers."""

    def count(node: Any, path: str, bounds: Mapping[str, int]) -> float:
        if isinstance(node, Mapping):
            return math.prod(count(value, f"{path}.{key}", bounds) for key, value in node.items())
        if isinstance(node, list):
            return math.prod(count(item, f"{path}.{at}", bounds) for at, item in enumerate(node))
        if isinstance(node, Choice):
            return sum(count(option, path, bounds) for option in node.options)
        if isinstance(node, FloatRange):
            return 1 if node.low == node.high else math.inf
        if isinstance(node, IntRange):
            numeric = _with_bounds(path, node, bounds, space).distribution
            assert isinstance(numeric, IntRange)
            return len(numeric.values())
        return 1

    rest = dict(space.tree)
    models = Space(space.document, {"model": rest.pop("model")} if "model" in rest else {})
    total = 0.0
    for assignment in assignments(models, _all_values):
        tree, _ = draw(models, lambda parameter, picked=assignment: picked[parameter.path])  # type: ignore[misc]
        bounds = _bounds_of(tree["model"], model_bounds) if tree else {}
        total += math.prod(count(node, key, bounds) for key, node in rest.items())
    return total


def _with_bounds(
    path: str, node: Distribution, bounds: Mapping[str, int], space: Space
) -> SearchParameter:
    several = path in space.several
    if not isinstance(node, IntRange):
        return SearchParameter(path, node, is_one_of_several=several)
    low, high = (_number(bound, bounds, path, space.document) for bound in (node.low, node.high))
    refuse_empty(low, high, node.log, path, space.document)
    # The highest value that steps from the lowest one reach.
    reached = replace(node, low=low, high=high - (high - low) % node.step)
    return SearchParameter(
        path, reached, isinstance(node.low, str) or isinstance(node.high, str), several
    )


def _number(bound: Bound, bounds: Mapping[str, int], path: str, document: Document) -> int:
    if isinstance(bound, int):
        return bound
    match = BOUND.match(bound)
    assert match is not None
    name, sign, offset = match.groups()
    if name not in bounds:
        raise document.error(
            f"the bound {bound!r} names {name!r}, which is not a fact of the model",
            key=path,
            remedy=f"available: {', '.join(sorted(bounds))}"
            if bounds
            else "a number, because bounds in the section model cannot follow the model",
        )
    return bounds[name] + (int(offset) if offset else 0) * (-1 if sign == "-" else 1)
