"""A sweep file as text: strict YAML that remembers where every key is.

Scalars are those of YAML 1.2, because YAML 1.1 reads the language code ``no`` as False and ``1e-5``
as text. Repeated keys, tags, and aliases that would exhaust memory are refused; nothing in a file
is executed. Every dotted path is kept with its file and line, so that errors can point at it. A
file may continue another one (``base: other.yaml``). Overrides (``KEY=VALUE``, ``+KEY=VALUE``,
``~KEY``) have ``command line`` as their place.
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
"""Tags that the parser gives to untagged nodes; a file may hold no others."""
MAX_BYTES = 10**6
MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_INTEGER = 2**63 - 1
"""Neither floats nor samplers can hold larger ones."""
DISTRIBUTIONS = ("choice", "int", "float")
"""A block with one of these keys is a distribution."""
_KINDS = ("method", "source", "objective")
"""Keys that say which other keys a block may have."""
_NOT_FINITE = re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")

_REMEDIES = {
    "'\\t'": "indent with spaces, not with tabs",
    "could not find expected ':'": "write `key: value`, with a space after the colon",
    "mapping values are not allowed": "quote text that contains a colon, and indent the keys of "
    "one section alike",
    "expected <block end>": "indent the keys of one section alike",
    "found undefined alias": "define the anchor (&name) before it",
    "expected ',' or": "close the bracket",
}
"""Remedies for common errors of the parser."""


@dataclass(frozen=True)
class Place:
    """Where a key stands: a file and a line, or the command line."""

    file: str
    line: int | None = None


@dataclass(frozen=True)
class Document:
    """The tree of a sweep file with the place of every dotted path."""

    file: str
    tree: dict[str, Any]
    places: Mapping[str, Place]

    def place(self, key: str) -> Place:
        """Place of ``key``, or of the nearest enclosing key that the file has."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places.get(key, Place(self.file))

    def error(self, problem: str, *, key: str, remedy: str = "") -> SpecError:
        """An error at ``key`` that names file and line."""
        place = self.place(key)
        return SpecError(problem, file=place.file, line=place.line, key=key, remedy=remedy)


Overrides = Iterable[str] | Mapping[str, Any]
"""``KEY=VALUE``, ``+KEY=VALUE`` and ``~KEY`` texts of a command line, or dotted keys with their
values (any value for ``~KEY``).

``+`` appends to a list, or adds a key that has no value yet; ``~`` removes a key.
"""


def read_document(sweep: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> Document:
    """Read a sweep from a file or a dict with its bases, and apply overrides.

    The path of a base is relative to the file that names it, in a dict to the working folder.
    Errors in a dict name the key alone.

    Raises:
        SpecError: a file does not exist, is not YAML or repeats a key; bases form a cycle; a dict
            holds a value that YAML cannot hold; or an override is not one, removes a key that is
            not there, adds one that is, or names a key below a value.
    """
    if isinstance(sweep, Mapping):
        document = parse_document(_as_text(sweep, key=""), "")
        places = dict.fromkeys(document.places, Place(""))
        document = Document("", document.tree, places)
    else:
        file = str(sweep)
        if not Path(file).exists():
            raise SpecError("no such sweep file", file=file, remedy=_sweeps_near(file))
        document = parse_document(_text_of(file), file)
    return _overridden(_with_base(document), overrides)


def _text_of(file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError("is not UTF-8", file=file, line=line, remedy="save it as UTF-8") from None
    except OSError as error:
        raise SpecError(
            f"cannot be read ({error.strerror})", file=file, remedy="give a sweep file"
        ) from None
    if len(content) > MAX_BYTES:
        raise SpecError("is larger than a megabyte", file=file, remedy="give a sweep file")
    return text


def _with_base(document: Document, above: tuple[Path, ...] = ()) -> Document:
    """The document with the keys of its bases that it does not give itself."""
    if "base" not in document.tree:
        return document
    own = {key: value for key, value in document.tree.items() if key != "base"}
    base = document.tree["base"]
    if not isinstance(base, str):
        raise document.error(f"{base!r} is not a path", key="base", remedy="base: other.yaml")
    path = Path(document.file).parent / Path(base).expanduser()
    if document.file:
        above = (*above, Path(document.file).resolve())
    if path.resolve() in above:
        raise document.error(
            f"{path} leads back to this file",
            key="base",
            remedy="remove one base of the cycle",
        )
    if not path.is_file():
        raise document.error(f"no such sweep file {path}", key="base", remedy=_sweeps_near(path))
    inherited = _with_base(parse_document(_text_of(str(path)), str(path)), above)
    replaced: list[str] = []
    tree = _merged_trees(own, inherited.tree, "", replaced)
    places = {
        key: place
        for key, place in inherited.places.items()
        if not any(_is_at_or_below(key, path) for path in replaced)
    }
    return Document(document.file, tree, {**places, **document.places})


def _merged_trees(
    own: dict[str, Any], base: dict[str, Any], path: str, replaced: list[str]
) -> dict[str, Any]:
    """Both trees, block by block; notes the keys whose value in ``base`` counts no more.

    A distribution, and a block of another kind (``method: ...``), replaces the whole block.
    """
    merged = {**base}
    for key, value in own.items():
        below = f"{path}.{key}" if path else key
        if _is_continued(value, base.get(key)):
            merged[key] = _merged_trees(value, base[key], below, replaced)
        else:
            merged[key] = value
            replaced.append(below)
    return merged


def _is_continued(own: Any, base: Any) -> bool:
    if not isinstance(own, dict) or not isinstance(base, dict):
        return False
    if any(mark in own or mark in base for mark in DISTRIBUTIONS):
        return False
    return all(own[kind] == base.get(kind) for kind in _KINDS if kind in own)


def _is_at_or_below(key: str, path: str) -> bool:
    return key == path or key.startswith(path + ".")


def parse_document(text: str, file: str, overrides: Overrides = ()) -> Document:
    """As :func:`read_document`, from text, which has no base.

    >>> parse_document("langs: [en, no]\\nrate: 1e-5", "x.yaml").tree
    {'langs': ['en', 'no'], 'rate': 1e-05}
    """
    reader = _Reader(file)
    tree = reader.parse(text)
    if not isinstance(tree, dict):
        raise SpecError("is not a mapping of keys", file=file, line=1, remedy="begin with `name:`")
    return _overridden(Document(file, tree, reader.places), overrides)


def _overridden(document: Document, overrides: Overrides) -> Document:
    if isinstance(overrides, Mapping):
        texts = [
            key if key.startswith("~") else f"{key}={_as_text(value, key)}"
            for key, value in overrides.items()
        ]
        origin = Place("overrides")
    else:
        texts, origin = list(overrides), Place("command line")
    places = dict(document.places)
    for override in texts:
        _apply(override, document.tree, places, origin)
    return Document(document.file, document.tree, places)


def as_yaml(tree: Mapping[str, Any]) -> str:
    """YAML that :func:`parse_document` reads as the same tree.

    >>> print(as_yaml({"langs": ["en", "no"], "rate": 1e-5, "name": "1e-5"}), end="")
    langs: [en, 'no']
    rate: 1.0e-05
    name: '1e-5'
    """
    return yaml.dump(
        dict(tree), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.2 reads as another value, and writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if plain_value(text) == text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)


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


class _Reader:
    """Reads one text, and notes the place of every dotted path."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[str, Place] = {}

    def parse(self, text: str) -> Any:
        try:
            loader = yaml.SafeLoader(text)
            try:
                node = loader.get_single_node()
            finally:
                loader.dispose()
        except RecursionError:
            raise SpecError("is nested too deeply", file=self.file) from None
        except yaml.MarkedYAMLError as error:
            # The parser notices a key without its colon on the line after it.
            is_key = error.context == "while scanning a simple key"
            mark = error.context_mark if is_key else error.problem_mark
            problem = str(error.problem)
            raise SpecError(
                f"is not valid YAML ({problem})",
                file=self.file,
                line=mark.line + 1 if mark else None,
                remedy=next((remedy for part, remedy in _REMEDIES.items() if part in problem), ""),
            ) from None
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise SpecError(f"is not valid YAML ({reason})", file=self.file) from None
        if node is None:
            return None
        if self._measure(node, (), {})[0] > MAX_NODES:
            raise SpecError(
                f"has more than {MAX_NODES:,} values, including those of aliases",
                file=self.file,
                remedy="use fewer values",
            )
        return self._build(node, "", ())

    def _error(self, problem: str, *, at: yaml.Node, key: str = "", remedy: str = "") -> SpecError:
        line = at.start_mark.line + 1
        return SpecError(problem, file=self.file, line=line, key=key, remedy=remedy)

    def _measure(
        self,
        node: yaml.Node,
        above: tuple[yaml.Node, ...],
        measured: dict[yaml.Node, tuple[int, int]],
    ) -> tuple[int, int]:
        """Values in a node, and levels below it, those behind aliases included."""
        if len(above) > MAX_DEPTH:
            raise self._error("is nested too deeply", at=node)
        if isinstance(node, yaml.ScalarNode) or node in above:
            return 1, 0
        if node not in measured:
            inner = [
                self._measure(part, (*above, node), measured)
                for item in node.value
                for part in (item if isinstance(item, tuple) else (item,))
            ]
            num_levels = max((1 + levels for _, levels in inner), default=0)
            measured[node] = 1 + sum(values for values, _ in inner), num_levels
        if len(above) + measured[node][1] > MAX_DEPTH:
            raise self._error("is nested too deeply", at=node)
        return measured[node]

    def _build(self, node: yaml.Node, path: str, above: tuple[yaml.Node, ...]) -> Any:
        if node in above:
            raise self._error("an anchor contains itself", at=node, key=path)
        if node.tag not in {f"tag:yaml.org,2002:{tag}" for tag in _TAGS[type(node)]}:
            raise self._error(
                f"the tag {node.tag} is not allowed",
                at=node,
                key=path,
                remedy="write a plain value",
            )
        if path:
            self.places.setdefault(path, Place(self.file, node.start_mark.line + 1))
        above = (*above, node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [
                self._build(item, f"{path}.{index}", above) for index, item in enumerate(node.value)
            ]
        inherited: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                inherited = {**self._merged(key_node, value_node, path, above), **inherited}
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be plain text", at=key_node, key=path)
            key = key_node.value
            below = f"{path}.{key}" if path else key
            if key in built:
                raise self._error(
                    f"this key is here and on line {self.places[below].line}",
                    at=key_node,
                    key=below,
                    remedy="keep one of them",
                )
            self.places[below] = Place(self.file, key_node.start_mark.line + 1)
            built[key] = self._build(value_node, below, above)
        return {**inherited, **built}

    def _merged(
        self, key_node: yaml.Node, value_node: yaml.Node, path: str, above: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        """Keys of the mappings of a ``<<`` (https://yaml.org/type/merge.html): the first counts."""
        merged: dict[str, Any] = {}
        is_list = isinstance(value_node, yaml.SequenceNode)
        for part in value_node.value if is_list else [value_node]:
            if not isinstance(part, yaml.MappingNode):
                raise self._error(
                    "<< merges the keys of a mapping, but this is not a mapping",
                    at=key_node,
                    key=path,
                    remedy="<<: *NAME, where a mapping is marked &NAME",
                )
            merged = {**self._build(part, path, above), **merged}
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        text = node.value
        if node.style is not None:
            return text
        try:
            value = plain_value(text)
            is_too_large = isinstance(value, int) and abs(value) > MAX_INTEGER
        except ValueError:
            is_too_large = True
        if is_too_large:
            raise self._error(
                f"a number with {len(text.lstrip('+-')):,} digits",
                at=node,
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


def override_key(override: str) -> str:
    """The dotted key of an override.

    >>> [override_key(text) for text in ("search.trials=3", "+target.epochs=2", "~budget")]
    ['search.trials', 'target.epochs', 'budget']
    """
    return override.lstrip("+~").partition("=")[0].strip()


def _apply(override: str, tree: dict[str, Any], places: dict[str, Place], origin: Place) -> None:
    sign = override[:1] if override[:1] in ("+", "~") else ""
    key, equals, text = override.removeprefix(sign).partition("=")
    key = key.strip()
    if not key or bool(equals) == (sign == "~"):
        raise SpecError(
            f"{override!r} is not an override",
            file=origin.file,
            remedy="write KEY=VALUE, for example search.trials=3; +KEY=VALUE adds an entry, and "
            "~KEY removes a key",
        )
    reader = _Reader(origin.file)
    value = reader.parse(text)
    node: Any = tree
    *parents, last = key.split(".")
    for depth, part in enumerate(parents, 1):
        path, below = ".".join(parents[:depth]), node.get(part)
        if below is None:
            below = node[part] = {}
            places[path] = origin
        if not isinstance(below, dict):
            raise SpecError(
                f"{path} is {below!r} and has no key {key!r}",
                file=origin.file,
                key=key,
                remedy="override the whole of it, for example KEY='{a: 1}'",
            )
        node = below
    before = node.get(last)
    if sign == "~" and last not in node:
        raise SpecError(
            "cannot be removed, as the sweep does not have it",
            file=origin.file,
            key=key,
            remedy=nearest(last, list(node)) if node else "leave this override out",
        )
    if sign == "+" and isinstance(before, list):
        place = f"{key}.{len(before)}"
        node[last] = [*before, value]
    elif sign == "+" and before is not None:
        raise SpecError(
            f"has the value {before!r} already",
            file=origin.file,
            key=key,
            remedy=f"replace it with {key}=VALUE",
        )
    else:
        place = key
        for path in [path for path in places if _is_at_or_below(path, key)]:
            del places[path]
        if sign == "~":
            del node[last]
            return
        node[last] = value
    places[place] = origin
    for path in reader.places:
        places[f"{place}.{path}"] = origin


def _sweeps_near(path: str | Path) -> str:
    folder = Path(path).parent
    sweeps = [str(file) for file in folder.glob("*.yaml")] if folder.is_dir() else []
    return nearest(str(path), sweeps) if sweeps else "check the path"
