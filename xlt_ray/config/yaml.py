"""A sweep file as text: strict YAML that remembers where every key stands.

YAML 1.2 scalars over PyYAML's safe parser, because YAML 1.1 reads the language code
``no`` as False and ``1e-5`` as a string. Repeated keys are refused. The dotted path of
every node is kept with its line, so that a later complaint can point at it; overrides
(``KEY=VALUE``) are applied here and carry ``command line`` as their place.

A file may come from anybody: tags are refused, and so is what would take all memory or stack by
aliases, depth or size. Nothing in it is ever executed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xlt_ray.errors import SpecError, nearest

_NULL = re.compile(r"^(~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_MERGE = "tag:yaml.org,2002:merge"
_TAGS = {
    yaml.ScalarNode: ("null", "bool", "int", "float", "timestamp", "merge", "value", "str"),
    yaml.SequenceNode: ("seq",),
    yaml.MappingNode: ("map",),
}
"""What an untagged node of each kind is given by the parser; any other tag stands in the file."""
MAX_BYTES = 10**6
MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_INTEGER = 2**63 - 1
"""Larger ones have no meaning anywhere, and neither floats nor samplers can hold them."""
_NOT_FINITE = re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")


_WAYS = {
    "'\\t'": "indent with spaces, not with tabs",
    "could not find expected ':'": "write `key: value`, with a space after the colon",
    "mapping values are not allowed": "quote text that contains a colon, and indent the keys of "
    "one section alike",
    "expected <block end>": "indent the keys of one section alike",
    "found undefined alias": "define the anchor (&name) before it",
    "expected ',' or": "close the bracket",
}
"""What helps against common complaints of the parser."""


@dataclass(frozen=True)
class Place:
    """Where a key stands: a file and a line, or the command line."""

    file: str
    line: int | None = None


@dataclass(frozen=True)
class Document:
    """The plain tree of a sweep file with the place of every dotted path."""

    file: str
    tree: dict[str, Any]
    places: Mapping[str, Place]

    def place(self, key: str) -> Place:
        """Place of ``key``, or of the nearest enclosing key that the file has."""
        path = key
        while path:
            if path in self.places:
                return self.places[path]
            path = path.rpartition(".")[0]
        return Place(self.file, None)

    def error(self, problem: str, *, key: str, remedy: str = "") -> SpecError:
        """A complaint about ``key`` that names file and line."""
        place = self.place(key)
        return SpecError(problem, file=place.file, line=place.line, key=key, remedy=remedy)


Overrides = Iterable[str] | Mapping[str, Any]
"""``KEY=VALUE`` texts of a command line, or dotted keys with their values."""


def read_document(sweep: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> Document:
    """Read a sweep from a file or a dict, and apply overrides.

    The keys of a dict have no file or line, so messages name the key alone.

    Raises:
        SpecError: the file does not exist, is not YAML or repeats a key; a dict holds a value that
            YAML cannot hold; or an override is not ``KEY=VALUE`` or goes through a value that has
            no keys.
    """
    if isinstance(sweep, Mapping):
        document = parse_document(_as_text(sweep, key=""), "", overrides)
        places = {key: place if place.file else Place("") for key, place in document.places.items()}
        return Document("", document.tree, places)
    path, file = sweep, str(sweep)
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise SpecError("no such sweep file", file=file, remedy=_sweeps_near(path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError("is not UTF-8", file=file, line=line, remedy="save it as UTF-8") from None
    except OSError as error:
        raise SpecError(
            f"cannot be read ({error.strerror})", file=file, remedy="give a sweep file"
        ) from None
    if len(content) > MAX_BYTES:
        raise SpecError("is larger than a megabyte", file=file, remedy="give a sweep file")
    return parse_document(text, file, overrides)


def parse_document(text: str, file: str, overrides: Overrides = ()) -> Document:
    """As :func:`read_document`, from text.

    >>> parse_document("langs: [en, no]\\nrate: 1e-5", "x.yaml").tree
    {'langs': ['en', 'no'], 'rate': 1e-05}
    """
    places: dict[str, Place] = {}
    tree = _parse(text, file, places)
    if not isinstance(tree, dict):
        raise SpecError("is not a mapping of keys", file=file, line=1, remedy="begin with `name:`")
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            _apply(f"{key}={_as_text(value, key)}", tree, places, Place("overrides"))
    else:
        for override in overrides:
            _apply(override, tree, places, Place("command line"))
    return Document(file, tree, places)


def _as_text(value: Any, key: str) -> str:
    """A value of Python as YAML; JSON is a part of it."""
    try:
        return json.dumps(value, ensure_ascii=False, default=os.fspath)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(
            f"holds a value that a sweep file cannot hold ({error})",
            key=key or "sweep",
            remedy="use text, numbers, True, False, None, lists, and dicts of these",
        ) from None


def _parse(text: str, file: str, places: dict[str, Place]) -> Any:
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except RecursionError:
        raise _too_deep(file, None, "") from None
    except yaml.MarkedYAMLError as error:
        # A key without its colon is noticed on the line after it.
        is_key = error.context == "while scanning a simple key"
        mark = error.context_mark if is_key else error.problem_mark
        raise SpecError(
            f"is not valid YAML ({error.problem})",
            file=file,
            line=mark.line + 1 if mark else None,
            remedy=next((way for text, way in _WAYS.items() if text in str(error.problem)), ""),
        ) from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SpecError(f"is not valid YAML ({reason})", file=file) from None
    if node is None:
        return None
    _refuse_many(node, file)
    return _build(node, "", file, places, ())


def _refuse_many(root: yaml.Node, file: str) -> None:
    """Refuse a file whose aliases stand for more values than any sweep has (an alias bomb)."""
    measured: dict[yaml.Node, tuple[int, int]] = {}

    def measure(node: yaml.Node, above: tuple[yaml.Node, ...]) -> tuple[int, int]:
        """Values in a node, and levels below it: an alias is as deep as what it stands for."""
        if len(above) > MAX_DEPTH:
            raise _too_deep(file, node.start_mark.line + 1, "")
        if isinstance(node, yaml.ScalarNode) or node in above:
            return 1, 0
        if node not in measured:
            inner = [
                measure(part, (*above, node))
                for item in node.value
                for part in (item if isinstance(item, tuple) else (item,))
            ]
            num_levels = max((1 + levels for _, levels in inner), default=0)
            measured[node] = 1 + sum(values for values, _ in inner), num_levels
        if len(above) + measured[node][1] > MAX_DEPTH:
            raise _too_deep(file, node.start_mark.line + 1, "")
        return measured[node]

    if measure(root, ())[0] > MAX_NODES:
        raise SpecError(
            f"has more than {MAX_NODES:,} values, including those of aliases",
            file=file,
            remedy="use fewer values",
        )


def _too_deep(file: str, line: int | None, key: str) -> SpecError:
    return SpecError("is nested too deeply", file=file, line=line, key=key)


def _build(
    node: yaml.Node, path: str, file: str, places: dict[str, Place], above: tuple[yaml.Node, ...]
) -> Any:
    line = node.start_mark.line + 1
    if node in above:
        raise SpecError("an anchor contains itself", file=file, line=line, key=path)
    if node.tag not in {f"tag:yaml.org,2002:{tag}" for tag in _TAGS[type(node)]}:
        raise SpecError(
            f"the tag {node.tag} is not allowed",
            file=file,
            line=line,
            key=path,
            remedy="write a plain value",
        )
    if path and path not in places:
        places[path] = Place(file, line)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, path, file)
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(item, f"{path}.{index}", file, places, (*above, node))
            for index, item in enumerate(node.value)
        ]
    built: dict[str, Any] = {}
    merges = [pair for pair in node.value if pair[0].tag == _MERGE]
    inherited = _merged(merges, path, file, places, (*above, node))
    for key_node, value_node in node.value:
        if key_node.tag == _MERGE:
            continue
        key_line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise SpecError("a key must be plain text", file=file, line=key_line, key=path)
        key = key_node.value
        below = f"{path}.{key}" if path else key
        if key in built:
            first = places[below].line
            raise SpecError(
                f"this key is here and on line {first}",
                file=file,
                line=key_line,
                key=below,
                remedy="keep one of them",
            )
        places[below] = Place(file, key_line)
        built[key] = _build(value_node, below, file, places, (*above, node))
    return {**inherited, **built}


def _merged(
    merges: list[tuple[yaml.Node, yaml.Node]],
    path: str,
    file: str,
    places: dict[str, Place],
    above: tuple[yaml.Node, ...],
) -> dict[str, Any]:
    """Keys of the mappings behind ``<<`` (https://yaml.org/type/merge.html): earlier ones count."""
    merged: dict[str, Any] = {}
    for key_node, value_node in merges:
        is_list = isinstance(value_node, yaml.SequenceNode)
        for part in value_node.value if is_list else [value_node]:
            if not isinstance(part, yaml.MappingNode):
                raise SpecError(
                    "<< merges the keys of a mapping, but this is not a mapping",
                    file=file,
                    line=key_node.start_mark.line + 1,
                    key=path,
                    remedy="<<: *NAME, where a mapping is marked &NAME",
                )
            merged = {**_build(part, path, file, places, above), **merged}
    return merged


def _scalar(node: yaml.ScalarNode, path: str, file: str) -> Any:
    text = node.value
    if node.style is not None:
        return text
    try:
        value = plain_value(text)
        is_too_large = isinstance(value, int) and abs(value) > MAX_INTEGER
    except ValueError:
        is_too_large = True
    if is_too_large:
        raise SpecError(
            f"a number with {len(text.lstrip('+-')):,} digits",
            file=file,
            line=node.start_mark.line + 1,
            key=path,
            remedy=f"at most {MAX_INTEGER}",
        )
    return value


def plain_value(text: str) -> Any:
    """The value of an unquoted YAML 1.2 scalar.

    >>> [plain_value(text) for text in ("no", "010", "1:30", "1e-5", "~", "true")]
    ['no', 10, '1:30', 1e-05, None, True]
    """
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    if _NOT_FINITE.match(text):
        return math.nan if "n" in text.lower()[1:2] else float(text.replace(".", ""))
    return text


def _apply(override: str, tree: dict[str, Any], places: dict[str, Place], origin: Place) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise SpecError(
            f"{override!r} is not an override",
            file=origin.file,
            remedy="write KEY=VALUE, for example search.trials=3",
        )
    value_places: dict[str, Place] = {}
    value = _parse(text, origin.file, value_places)
    node: Any = tree
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        below = node.get(part)
        if below is None:
            below = node[part] = {}
            places[".".join(parents[: depth + 1])] = origin
        if not isinstance(below, dict):
            raise SpecError(
                f"{'.'.join(parents[: depth + 1])} is {below!r} and has no key {key!r}",
                file=origin.file,
                key=key,
                remedy="override the whole of it, for example KEY='{a: 1}'",
            )
        node = below
    node[last] = value
    for path in [path for path in places if path == key or path.startswith(key + ".")]:
        del places[path]
    places[key] = origin
    for path in value_places:
        places[f"{key}.{path}"] = origin


def _sweeps_near(path: str | Path) -> str:
    folder = Path(path).parent
    sweeps = sorted(str(file) for file in folder.glob("*.yaml")) if folder.is_dir() else []
    return nearest(str(path), sweeps) if sweeps else "check the path"
