"""The JSON schema of a sweep file, for editors and programs that write sweeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xlt_ray.config.methods import SAMPLINGS, SCHEDULES, Method
from xlt_ray.config.model_presets import PRESETS
from xlt_ray.config.sweep import SEARCHABLE, Settings
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import TrialSpec


def _block(key: str, content: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: content, **extra},
        "required": [key],
        "additionalProperties": False,
    }


_BOUNDS = {"type": "array", "minItems": 2, "maxItems": 2}
_LOG = {"type": "boolean"}
_DISTRIBUTION: dict[str, Any] = {
    "anyOf": [
        _block("choice", {"type": "array", "minItems": 1}),
        _block("int", _BOUNDS, log=_LOG, step={"type": "integer", "minimum": 1}),
        _block("float", _BOUNDS, log=_LOG),
    ]
}

_DESCRIBED = ("description", "title")
_FIXED = ("ToyData", "FilesData", "HubData")
"""Data is the same for all trials of a sweep."""

_BARE: dict[str, tuple[Method, ...]] = {"schedule": SCHEDULES, "sampling": SAMPLINGS}
"""Settings of an intermediate stage of which a bare name is short for a block."""


def sweep_schema(tasks: Iterable[str] = ()) -> dict[str, Any]:
    """One schema of all sections; every searchable value may be a distribution instead.

    An editor proposes ``tasks``, all metrics and the models of ``xlt list models``; other names
    fit as well.
    """
    trial = TrialSpec.model_json_schema()
    settings = Settings.model_json_schema()
    names = sorted(tasks)
    metrics = sorted({metric for kind in KINDS.values() for metric in kind.metrics})
    _propose(trial["$defs"]["Target"], "task", names)
    _propose(trial["$defs"]["Intermediate"], "task", names)
    _propose(trial["$defs"]["Model"], "name", [preset.name for preset in PRESETS])
    _propose(settings["$defs"]["Objective"], "metric", metrics)
    definitions = {
        name: _searchable(definition) if name not in _FIXED else definition
        for name, definition in trial.pop("$defs").items()
    }
    for name, registry in _BARE.items():
        definitions["Intermediate"]["properties"][name]["anyOf"].append(_bare_names(registry))
    sections = {name: schema for name, schema in trial["properties"].items() if name != "precision"}
    described = sections["model"].pop("description")
    name = definitions["Model"]["properties"]["name"]["anyOf"][0]
    sections["model"] = {"description": described, "anyOf": [name, sections["model"]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "xlt-ray sweep",
        "type": "object",
        "properties": {
            "base": {
                "type": "string",
                "description": "A sweep file, relative to this one, whose keys count where this "
                "file does not give them.",
            },
            **settings["properties"],
            **{
                name: _or_distribution(schema) if name in SEARCHABLE else schema
                for name, schema in sections.items()
            },
        },
        # A base may hold what a file lacks.
        "if": {"not": {"required": ["base"]}},
        "then": {"required": ["name", "data", "model", "target", "search"]},
        "additionalProperties": False,
        "$defs": {**settings.pop("$defs"), **definitions, "distribution": _DISTRIBUTION},
    }


def _propose(definition: dict[str, Any], key: str, names: list[str]) -> None:
    """Let a key that takes any text show these names."""
    schema = definition["properties"][key]
    if names:
        described = {word: schema.pop(word) for word in _DESCRIBED if word in schema}
        any_of = [{"type": "string", "enum": names}, schema]
        definition["properties"][key] = {**described, "anyOf": any_of}


def _searchable(definition: dict[str, Any]) -> dict[str, Any]:
    properties = {
        name: schema if "const" in schema else _or_distribution(schema)
        for name, schema in definition.get("properties", {}).items()
    }
    return {**definition, "properties": properties}


def _bare_names(registry: tuple[Method, ...]) -> dict[str, Any]:
    """The methods that need no setting but their name."""
    names = []
    for entry in registry:
        fields = entry.settings.model_fields.items()
        if all(name == "method" or not field.is_required() for name, field in fields):
            names.append(entry.name)
    return {"enum": names}


def _or_distribution(schema: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {word: schema[word] for word in _DESCRIBED if word in schema}
    return {**described, "anyOf": [schema, {"$ref": "#/$defs/distribution"}]}
