"""The keys that a sweep file leaves out, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from xlt_ray.config.trial import TrialSpec
from xlt_ray.config.validation import blocks_by_tag, members_of


def space_with_defaults(space: Mapping[str, Any]) -> dict[str, Any]:
    """The searchable sections as a file has them, and in every block of theirs what is left out.

    A section that a file leaves out stays so; ``null`` says that, too.
    """
    sections = {
        name: with_defaults(tree, TrialSpec.model_fields[name].annotation)
        for name, tree in space.items()
    }
    return {name: tree for name, tree in sections.items() if tree is not None}


def with_defaults(node: Any, annotation: Any) -> Any:
    """A value of a key with this type: of a block, what it has and then the defaults of the rest.

    >>> with_defaults({"layers": 2}, TrialSpec.model_fields["model"].annotation)["pooling"]
    'first'
    >>> with_defaults({"int": [1, 2]}, int)
    {'int': [1, 2]}
    """
    if not isinstance(node, Mapping):
        return node
    if isinstance(node.get("choice"), list):
        options = [with_defaults(option, annotation) for option in node["choice"]]
        return {**node, "choice": options}
    block = _block_of(node, annotation)
    if block is None:
        return node
    fields = block.model_fields.items()
    given = {name: with_defaults(node[name], field.annotation) for name, field in fields
             if name in node}  # fmt: skip
    left_out = {
        name: default.model_dump(mode="json") if isinstance(default, BaseModel) else default
        for name, field in fields
        if name not in node and not field.is_required()
        for default in [field.get_default(call_default_factory=True)]
    }
    return {**node, **given, **left_out}


def _block_of(node: Mapping[str, Any], annotation: Any) -> type[BaseModel] | None:
    """The model of a block; None for a distribution, or where several could be meant."""
    members = members_of(annotation)
    models = [
        member for member in members if isinstance(member, type) and issubclass(member, BaseModel)
    ]
    tagged = [
        model for tag, (name, model) in blocks_by_tag(members).items() if str(node.get(name)) == tag
    ]
    if tagged:
        return tagged[0]
    known = [model for model in models if node.keys() <= model.model_fields.keys()]
    return known[0] if len(known) == 1 else None
