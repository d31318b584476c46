"""The data that the stages of a path read, as MLflow's column Dataset names it. Pure.

One entry for each kind of text in each task and split, whatever the number of its languages: its
digest covers the fingerprints of all of them, which stand in the profile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.redact import redacted
from xlt_ray.stages.canonical import digest
from xlt_ray.stages.stage import Stage, short

CONTEXTS = {
    "align": "alignment",
    "trunk": "intermediate",
    "intermediate": "intermediate",
    "target": "training",
    "few_shot": "few-shot",
    "evaluate": "evaluation",
}
"""What the data of a stage is called in MLflow, by kind of stage."""
ORDER = ("training", "few-shot", "evaluation", "intermediate", "alignment")
"""The column shows the first data sets of a run, and how many more there are."""
FURTHER = {"also": "test", "also_dev": "dev"}
"""Splits of the further tasks of an evaluation, by what its fingerprints stand under."""
NAMES = {"hybrid": "cross-lingual batches", "parallel": "parallel text"}
MAX_NAME = 200


@dataclass(frozen=True)
class Input:
    """One data set of a run; ``digest`` is ten digits, as keys are printed."""

    name: str
    digest: str
    context: str
    profile: str
    """JSON: number of languages, or of parts, and the fingerprint of each."""


def inputs_of(path: Sequence[Stage]) -> tuple[Input, ...]:
    """The data sets of a path, each once, with all that they are read for.

    >>> stage = Stage("target", {"task": {"name": "nli"}}, {"train": "ab" * 32}, 0, None, "target")
    >>> [(one.name, one.digest, one.context) for one in inputs_of([stage])]
    [('nli train', 'ababababab', 'training')]
    """
    found: dict[tuple[str, str], Input] = {}
    for stage in path:
        context = CONTEXTS.get(stage.kind)
        if context is None:
            continue
        for name, parts in _data_of(stage):
            fingerprint = next(iter(parts.values())) if len(parts) == 1 else digest(dict(parts))
            key = name[:MAX_NAME], short(fingerprint)
            before = found[key].context.split(", ") if key in found else []
            contexts = ", ".join(dict.fromkeys([*before, context]))
            profile = json.dumps({"parts": len(parts), "fingerprints": parts}, ensure_ascii=False)
            found[key] = Input(*key, contexts, profile)

    def place(one: Input) -> int:
        return min(ORDER.index(context) for context in one.context.split(", "))

    return tuple(sorted(found.values(), key=place))


def source_of(sweep: Mapping[str, Any]) -> dict[str, str]:
    """Where the data of a resolved sweep comes from; ``type`` is MLflow's word for it."""
    data = sweep["space"].get("data") or {}
    kind = str(data.get("source", "unknown"))
    told = {name: str(redacted(str(value))) for name, value in data.items()}
    return {**told, "type": "local" if kind == "files" else kind}


def _data_of(stage: Stage) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and fingerprints by language of everything that a stage reads."""
    task = stage.settings.get("task")
    name = str(task["name"]) if isinstance(task, Mapping) else ""
    for part, value in stage.data.items():
        if part in FURTHER:
            for other, languages in value.items():
                yield f"{other} {FURTHER[part]}", _flat(languages)
        elif part in ("train", "dev", "test", "hybrid"):
            yield f"{name} {NAMES.get(part, part)}".strip(), _flat(value)
        else:
            yield NAMES.get(part, part), _flat(value)


def _flat(value: Any, above: str = "") -> dict[str, str]:
    """The leaves of a fingerprint tree by their path; one that stands alone is called *all*."""
    if not isinstance(value, Mapping):
        return {above or "all": str(value)}
    leaves: dict[str, str] = {}
    for key, inner in sorted(value.items()):
        leaves |= _flat(inner, f"{above}/{key}" if above else str(key))
    return leaves
