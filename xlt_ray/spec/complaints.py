"""Pydantic's complaints in a user's words: file, line, key, what is wrong, what would be right."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from xlt_ray.errors import SpecError, nearest
from xlt_ray.spec.source import Document


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
            complaint = document.error("unknown key", key=key, remedy=nearest(steps[-1], known))
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
            if kind in ("model_type", "model_attributes_type", "dict_type"):
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
                remedy=_described(owner, steps[-1]) if steps else "",
            )
            found[key] = complaint
        found.setdefault(key, complaint)
    return list(found.values())


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
        tagged = [one for one in members if _has_tag(one, step)]
        if tagged and not _field_of(members, step):
            here = owner = tagged[0]
            continue
        holder = _field_of(members, step)
        if holder is not None:
            owner, here = holder, holder.model_fields[str(step)].annotation
            steps.append(str(step))
        elif isinstance(step, int):
            steps.append(str(step))
            here = next((get_args(one)[0] for one in members if get_args(one)), None)
        elif _is_schema_word(step) and members and here is not None:
            continue
        else:
            models = [one for one in members if _is_model(one)]
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
    return next((one for one in members if _is_model(one) and step in one.model_fields), None)


def _has_tag(member: Any, step: int | str) -> bool:
    if not _is_model(member):
        return False
    if member.__name__ == step:
        return True
    fields: dict[str, FieldInfo] = member.model_fields
    return any(
        get_origin(field.annotation) is Literal and step in get_args(field.annotation)
        for name, field in fields.items()
        if name in ("method", "objective", "source")
    )
