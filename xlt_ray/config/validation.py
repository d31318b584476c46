"""Pydantic's errors in the words of a sweep file: place, key, what is wrong, what to write."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from xlt_ray.config.trial import TrialSpec
from xlt_ray.config.yaml import Document
from xlt_ray.errors import SpecError, nearest

M = TypeVar("M", bound=BaseModel)

_CLOSE = 0.65
"""Least similarity to a key of the same section for a key to be misspelt, not misplaced."""
_MAPPING_ERRORS = ("model_type", "model_attributes_type", "dict_type")
_NOTHING = ("none", "no", "off", "false", "nothing")
_WORD = re.compile(r"[^,;\s]+")
_TAGS = ("method", "objective", "source")
"""Keys that tell blocks apart."""


def explain_errors(
    error: ValidationError,
    model: type[BaseModel],
    document: Document,
    *,
    also: tuple[str, ...] = (),
) -> list[SpecError]:
    """One :class:`SpecError` for a key; ``also`` are further keys at the top of the file."""
    by_key: dict[str, SpecError] = {}
    for detail in error.errors():
        steps, owner = _walk(model, detail["loc"])
        key = ".".join(steps)
        kind, context = detail["type"], detail.get("ctx", {})
        field = owner.model_fields.get(steps[-1]) if steps else None
        members = members_of(field.annotation) if field else []
        if kind == "extra_forbidden":
            names = [field.alias or name for name, field in owner.model_fields.items()]
            known = [*names, *(also if len(steps) == 1 else ())]
            is_close = difflib.get_close_matches(steps[-1], known, cutoff=_CLOSE)
            remedy = ("" if is_close else _elsewhere(steps[-1])) or nearest(steps[-1], known)
            explained = document.error("unknown key", key=key, remedy=remedy)
        elif kind == "missing":
            remedy = _description(field) if field else ""
            explained = document.error("is missing", key=key, remedy=remedy)
        elif kind == "union_tag_not_found":
            remedy = f"one of {', '.join(blocks_by_tag(members))}"
            explained = document.error(f"has no {context['discriminator']}", key=key, remedy=remedy)
        elif kind == "union_tag_invalid":
            discriminator = context["discriminator"].strip("'")
            tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            explained = document.error(
                f"there is no {discriminator} {context['tag']!r}",
                key=f"{key}.{discriminator}",
                remedy=nearest(context["tag"], tags),
            )
        else:
            expected = _expected(kind, detail["msg"])
            problem = f"{_shown(detail['input'])}: {expected}"
            if kind in _MAPPING_ERRORS:
                problem = f"{expected}, got {_shown(detail['input'])}"
            if key in by_key:
                # Pydantic has an error for each member of a union.
                problem = by_key[key].fields["problem"]
                if expected not in problem:
                    problem += f", or {expected.removeprefix('must be ')}"
            can_be_searched = not also and steps[:1] != ["data"]
            remedy = _remedy(kind, detail["input"], members, can_be_searched=can_be_searched)
            by_key[key] = explained = document.error(problem, key=key, remedy=remedy)
        by_key.setdefault(key, explained)
    return list(by_key.values())


def read_options(model: type[M], given: Mapping[str, Any], names: Mapping[str, str]) -> M:
    """The settings of a method from options of a command.

    Args:
        names: names of options that are not those of their settings.

    Raises:
        SpecError: an option is wrong, or the method has none of that name.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        detail = error.errors()[0]
        setting = str(detail["loc"][-1])
        problem = _expected(detail["type"], detail["msg"])
        if detail["type"] == "extra_forbidden":
            problem = f"is not an option of --method {given['method']}"
        key = f"--{names.get(setting, setting)}"
        raise SpecError(problem, file="command line", key=key) from None


def _expected(kind: str, message: str) -> str:
    """Pydantic's message as the end of a sentence.

    >>> _expected("int_parsing", "Input should be a valid integer, unable to parse ...")
    'must be an integer'
    """
    if kind in _MAPPING_ERRORS:
        return "expected a mapping"
    message = message.removeprefix("Value error, ").partition(", unable to ")[0]
    for pydantics, ours in (
        ("Input should be", "must be"),
        ("a valid integer", "an integer"),
        ("a valid tuple", "a list"),
        ("a valid", "a"),
    ):
        message = message.replace(pydantics, ours)
    return message[:1].lower() + message[1:]


def _elsewhere(key: str) -> str:
    """The first two places in other sections that have a key."""
    from xlt_ray.config.sweep import Settings

    def places(model: type[BaseModel], path: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            if name == key:
                yield f"{path}{name}"
            for member in members_of(field.annotation):
                if _is_model(member):
                    yield from places(member, f"{path}{name}.")

    # A section of its own comes before a place that is nested deeper.
    candidates = sorted(
        {*places(TrialSpec, ""), *places(Settings, "")},
        key=lambda path: (path.count("."), not path.startswith(("target.", "search.")), path),
    )
    return f"did you mean {' or '.join(candidates[:2])}?" if candidates else ""


def _remedy(kind: str, value: Any, members: list[Any], *, can_be_searched: bool) -> str:
    """What the user may have meant by a value of a wrong type; empty if that is unclear."""
    if (
        kind in ("tuple_type", "literal_error")
        and isinstance(value, str)
        and any(get_origin(member) is tuple for member in members)
    ):
        return f"write a list: [{', '.join(_WORD.findall(value))}]"
    if kind == "string_type" and isinstance(value, int | float):
        return f"write it in quotes: '{value}'"
    if can_be_searched and isinstance(value, list):
        return f"to search over these values write {{choice: [{', '.join(map(str, value))}]}}"
    if kind in _MAPPING_ERRORS:
        return _example(members, value)
    if can_be_searched and isinstance(value, dict):
        return (
            "to search over it write {choice: [...]}, {int: [low, high]} or "
            "{float: [low, high], log: true}"
        )
    return ""


def _example(members: list[Any], value: Any) -> str:
    """How the block begins that a value was given instead of, or which keys it has."""
    if str(value).lower() in _NOTHING and type(None) in members:
        return "null leaves it out"
    blocks = blocks_by_tag(members, (*_TAGS, "action"))
    tag = value if isinstance(value, str) and value in blocks else next(iter(blocks), None)
    if tag is not None:
        name, block = blocks[tag]
        others = [field for key, field in block.model_fields.items() if key != name]
        dots = ", ..." if any(field.is_required() for field in others) else ""
        return f"write {{{name}: {tag}{dots}}}"
    keys = [key for member in members if _is_model(member) for key in member.model_fields]
    return f"its keys are {', '.join(keys)}" if keys else ""


def blocks_by_tag(
    members: list[Any], names: tuple[str, ...] = _TAGS
) -> dict[str, tuple[str, type[BaseModel]]]:
    """Value of a key that tells blocks apart -> that key, and the block's model."""
    return {
        tag: (name, member)
        for member in members
        if _is_model(member)
        for name in names
        if name in member.model_fields
        for tag in get_args(member.model_fields[name].annotation)
    }


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _description(field: FieldInfo) -> str:
    """The first sentence of a key's docstring as the end of a sentence."""
    text = " ".join((field.description or "").split()).partition(". ")[0].rstrip(".")
    is_name = re.match(r"\w+ [A-Z]|\w[A-Z]", text)
    return text if is_name else text[:1].lower() + text[1:]


def _walk(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], Any]:
    """Steps of a location that are keys of the file, and the model that owns the last one."""
    steps: list[str] = []
    owner: type[BaseModel] = model
    here: Any = model
    for step in location:
        members = members_of(here)
        tagged = [member for member in members if _has_tag(member, step)]
        # A setting may be called like its method.
        is_union = sum(map(_is_model, members)) > 1
        if tagged and (is_union or not _field_of(members, step)):
            here = owner = tagged[0]
            continue
        holder = _field_of(members, step)
        if holder is not None:
            owner, here = holder, holder.model_fields[str(step)].annotation
            steps.append(str(step))
        elif isinstance(step, int):
            steps.append(str(step))
            here = next((get_args(member)[0] for member in members if get_args(member)), None)
        elif _is_schema_word(step) and members and here is not None:
            continue
        else:
            models = [member for member in members if _is_model(member)]
            owner = models[0] if models else owner
            steps.append(str(step))
            here = None
    return steps, owner


def _is_schema_word(step: str) -> bool:
    """Pydantic names the member of a plain union in the location, for example ``int``."""
    return step.startswith(("literal[", "constrained", "tuple[")) or step in (
        "int", "str", "float", "bool", "none",
    )  # fmt: skip


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def members_of(annotation: Any) -> list[Any]:
    """Members of an annotation with Annotated and unions opened."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members_of(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in members_of(member)]
    if origin is Literal:
        return []
    return [annotation]


def _field_of(members: list[Any], step: int | str) -> type[BaseModel] | None:
    return next(
        (member for member in members if _is_model(member) and step in member.model_fields), None
    )


def _has_tag(member: Any, step: int | str) -> bool:
    if not _is_model(member):
        return False
    if member.__name__ == step:
        return True
    fields: dict[str, FieldInfo] = member.model_fields
    return any(
        get_origin(field.annotation) is Literal and step in get_args(field.annotation)
        for name, field in fields.items()
        if name in _TAGS
    )
