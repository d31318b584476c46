"""The references of a sweep: its tasks, models and methods, from what their registries cite."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.config.methods import ALIGNMENTS, FUSIONS, PEFT, ROBUST, SAMPLINGS, SCHEDULES, Method
from xlt_ray.config.model_presets import find_preset
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.latex_tables import tex
from xlt_ray.report.provenance import model_of

_ARXIV = re.compile(r"\d{4}\.\d{4,5}")
_FAMILIES: Mapping[str, Sequence[Method]] = {
    "fusion": FUSIONS, "robust": ROBUST, "schedule": SCHEDULES, "sampling": SAMPLINGS,
    "peft": PEFT,
}  # fmt: skip
_SEARCH = {
    "tpe": "arXiv 2304.11127",
    "nsgaii": "Deb et al. 2002, A fast and elitist multiobjective genetic algorithm: NSGA-II",
    "early_stop": "arXiv 1810.05934",
}
"""What the search itself rests on."""
_CHECKLIST = "arXiv 1909.03004"
_UNNEEDED = ("random", "grid", "none")


@dataclass(frozen=True)
class Reference:
    """One entry of the bibliography; without a key, what has to be found by the authors."""

    used_for: str
    key: str = ""
    arxiv: str = ""
    text: str = ""
    """As the registry has it, where it names no arXiv number."""


def references_of(snapshot: Snapshot, citation: Callable[[str], str]) -> list[Reference]:
    """One reference for each paper that the registries name for what the trials used, and one
    without a key for each task, model or method without any.

    Args:
        citation: of a task, as its registry has it; empty if it has none.
    """
    found: dict[str, Reference] = {}
    for used_for, cited in _cited(snapshot, citation):
        for reference in _references(used_for, cited):
            found.setdefault(reference.key or f"? {used_for}", reference)
    return [found[key] for key in sorted(found)]


def _references(used_for: str, cited: str) -> Iterator[Reference]:
    if not cited:
        yield Reference(used_for)
    for part in filter(None, map(str.strip, cited.split(";"))):
        numbers = _ARXIV.findall(part)
        for number in numbers:
            yield Reference(used_for, f"arxiv:{number}", number)
        if not numbers:
            name = re.sub(r"[^A-Za-z0-9]+", "-", part)[:40].strip("-").lower()
            yield Reference(used_for, name, text=part)


def _cited(snapshot: Snapshot, citation: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """What the trials used, and what is cited for it."""
    tasks, methods = set[str](), dict[str, str]()
    for record in snapshot.records.values():
        settings: Any = record.payload["settings"]
        tasks.update(_tasks(settings))
        methods |= _methods(settings)
    for task in sorted(tasks):
        yield f"the task {task}", citation(task)
    for name in sorted({model_of(snapshot.sweep, t.assignment)[0] for t in snapshot.trials}):
        preset = find_preset(name)
        yield f"the model {name}", preset.citation if preset else ""
    yield from sorted(methods.items())
    sampler = snapshot.sweep["search"]["sampler"]
    if sampler not in _UNNEEDED:
        yield f"the sampler {sampler}", _SEARCH.get(sampler, "")
    if snapshot.sweep["early_stop"]:
        yield "early stopping", _SEARCH["early_stop"]
    yield "the checklist", _CHECKLIST


def _tasks(node: Any) -> Iterator[str]:
    """Names of tasks in the settings of a stage, where each stands with its version."""
    if isinstance(node, Mapping):
        if set(node) >= {"name", "version"}:
            yield str(node["name"])
        for value in node.values():
            yield from _tasks(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _tasks(value)


def _methods(settings: Mapping[str, Any]) -> dict[str, str]:
    """What the methods in the settings of a training rest on."""
    chosen = [
        (f"the {family} {block['method']}", entry)
        for family, registry in _FAMILIES.items()
        if isinstance(block := settings.get(family), Mapping)
        for entry in registry
        if entry.name == block.get("method") and entry.name not in _UNNEEDED
    ]
    chosen += [
        (f"the alignment {entry.name}", entry)
        for entry in ALIGNMENTS
        if entry.name == settings.get("objective")
    ]
    return {name: entry.source for name, entry in chosen}


def bibtex(references: Sequence[Reference]) -> str:
    """The bibliography, with a comment for each reference that is missing.

    Registries know numbers and names of papers, not their authors.
    """
    entries = []
    for reference in references:
        if not reference.key:
            entries.append(f"% missing: a reference for {reference.used_for}")
            continue
        title = tex(reference.text or f"arXiv {reference.arxiv}")
        fields = [
            f"  key = {{{title}}}",
            f"  title = {{{{{title}}}}}",
            f"  note = {{{tex(reference.used_for)}}}",
        ]
        if reference.arxiv:
            fields += [f"  eprint = {{{reference.arxiv}}}", "  archivePrefix = {arXiv}"]
            fields += [f"  url = {{https://arxiv.org/abs/{reference.arxiv}}}"]
        entries.append(f"@misc{{{reference.key},\n" + ",\n".join(fields) + "\n}")
    head = "% Titles and authors of arXiv entries are to be completed from the page of each number."
    return "\n\n".join([head, *entries, ""])
