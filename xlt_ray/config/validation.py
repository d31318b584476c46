"""Pydantic's complaints in a user's words: file, line, key, what is wrong, what would be right."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from xlt_ray.config.trial import TrialSpec
from xlt_ray.config.yaml import Document
from xlt_ray.errors import SpecError, nearest


def complaints(
    error: ValidationError,
    model: type[BaseModel],
    document: Document,
    *,
    also: tuple[str, ...] = (),
) -> list[SpecError]:
    """One :class:`SpecError` per problem; ``also`` are further keys known at the top."""
    found: dict[str, SpecError] = {}
    for one in error.errors():
        steps, owner = _walk(model, one["loc"])
        key = ".".join(steps)
        kind = one["type"]
        if kind == "extra_forbidden":
            known = [*owner.model_fields, *(also if len(steps) == 1 else ())]
            is_close = difflib.get_close_matches(steps[-1], known, cutoff=_CLOSE)
            remedy = ("" if is_close else _elsewhere(steps[-1])) or nearest(steps[-1], known)
            complaint = document.error("unknown key", key=key, remedy=remedy)
        elif kind == "missing":
            complaint = document.error("is missing", key=key, remedy=_described(owner, steps[-1]))
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            context = one.get("ctx", {})
            discriminator = str(context.get("discriminator", "")).strip("'")
            tags = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
            if kind == "union_tag_not_found":
                complaint = document.error(
                    f"has no {discriminator!r}", key=key, remedy="say which kind it is"
                )
            else:
                tag = str(context.get("tag"))
                complaint = document.error(
                    f"there is no {discriminator} {tag!r}",
                    key=f"{key}.{discriminator}",
                    remedy=nearest(tag, tags),
                )
        else:
            message = one["msg"].removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
            if kind in _OF_BLOCKS:
                message = "is no block of keys"
            said = found.get(key)
            if said is not None and message in said.fields["problem"]:
                continue
            complaint = document.error(
                # A union complains once for each of its members.
                f"{_shown(one.get('input'))}: {message}"
                if said is None
                else f"{said.fields['problem']}, or {message}",
                key=key,
                remedy=_remedy(
                    one, owner, steps, can_be_searched=not also and steps[:1] != ["data"]
                ),
            )
            found[key] = complaint
        found.setdefault(key, complaint)
    return list(found.values())


_CLOSE = 0.65
"""Likeness to a key of the same section from which on a key is misspelt and not misplaced."""


def _elsewhere(key: str) -> str:
    """Where a key belongs that other sections have: the first two such places."""
    from xlt_ray.config.sweep import Settings

    def places(model: type[BaseModel], path: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            if name == key:
                yield f"{path}{name}"
            for member in _members(field.annotation):
                if _is_model(member):
                    yield from places(member, f"{path}{name}.")

    # A section of its own comes before a place that is nested deeper.
    there = sorted(
        {*places(TrialSpec, ""), *places(Settings, "")},
        key=lambda path: (path.count("."), not path.startswith(("target.", "search.")), path),
    )
    return f"did you mean {' or '.join(there[:2])}?" if there else ""


def _remedy(error: Any, owner: type[BaseModel], steps: list[str], *, can_be_searched: bool) -> str:
    """What the user may have meant by a value of a wrong type, or what the key is."""
    value, kind = error.get("input"), error["type"]
    if kind in ("tuple_type", "literal_error") and isinstance(value, str):
        field = owner.model_fields.get(steps[-1])
        if field and any(get_origin(member) is tuple for member in _members(field.annotation)):
            return f"write a list: [{', '.join(re.findall(_WORD, value))}]"
    if kind == "string_type" and isinstance(value, int | float):
        return f"write it in quotes: '{value}'"
    if can_be_searched and isinstance(value, list):
        return f"to search over these values write {{choice: [{', '.join(map(str, value))}]}}"
    if can_be_searched and isinstance(value, dict) and kind not in _OF_BLOCKS:
        return (
            "to search over it write {choice: [...]}, {int: [low, high]} or "
            "{float: [low, high], log: true}"
        )
    if kind in _OF_BLOCKS and (example := _example(owner, steps, value)):
        return example
    return _described(owner, steps[-1]) if steps else ""


_OF_BLOCKS = ("model_type", "model_attributes_type", "dict_type")


def _example(owner: type[BaseModel], steps: list[str], value: Any) -> str:
    """How the block is begun that a value was given instead of."""
    field = owner.model_fields.get(steps[-1]) if steps else None
    if field is None:
        return ""
    members = _members(field.annotation)
    if str(value).lower() in _NOTHING and type(None) in members:
        return "null leaves it out"
    tags = {
        tag: name
        for member in members
        if _is_model(member)
        for name in _TAGS
        if name in member.model_fields
        for tag in get_args(member.model_fields[name].annotation)
    }
    chosen = value if isinstance(value, str) and value in tags else next(iter(tags), None)
    return f"write {{{tags[chosen]}: {chosen}, ...}}" if chosen else ""


_NOTHING = ("none", "no", "off", "false", "nothing")
_WORD = re.compile(r"[^,;\s]+")
_TAGS = ("method", "objective", "source")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _described(owner: type[BaseModel], name: str) -> str:
    field = owner.model_fields.get(name)
    return " ".join(field.description.split()) if field and field.description else ""


def _walk(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], Any]:
    """Steps of a location that are keys of the file, and the model that owns the last one."""
    steps: list[str] = []
    owner: type[BaseModel] = model
    here: Any = model
    for step in location:
        members = _members(here)
        tagged = [member for member in members if _has_tag(member, step)]
        if tagged and not _field_of(members, step):
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


def _members(annotation: Any) -> list[Any]:
    """Members of an annotation with Annotated and unions opened."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [one for member in get_args(annotation) for one in _members(member)]
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
