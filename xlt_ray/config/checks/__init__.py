"""Checks of concrete trials against facts: a function for each check, a file for each stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xlt_ray.config.facts import TaskFacts
from xlt_ray.errors import nearest

Problem = tuple[str, str, str]
"""Key, what is wrong, what to do."""


def listed(names: Iterable[str]) -> str:
    """At most 40 of the names, sorted, or ``none``."""
    return ", ".join(sorted(names)[:40]) or "none"


def trainable(task: TaskFacts, source: str, size: int | str, section: str) -> Iterator[Problem]:
    """Training data of ``task`` in ``source``, and at least ``size`` examples of it."""
    languages = task.languages("train")
    split = task.splits.get((source, "train"))
    if not languages:
        yield (
            f"{section}.task",
            f"{task.name} has no training data",
            "choose a task that has" + task.file_of(source or "LANGUAGE", "train"),
        )
    elif split is None:
        yield (
            f"{section}.source_language" if section == "target" else f"{section}.task",
            f"{task.name} has no training data in {source!r}",
            nearest(source, languages, limit=40) + task.file_of(source, "train"),
        )
    elif isinstance(size, int) and size > split.num_examples:
        yield (
            f"{section}.size",
            f"{task.name} has {split.num_examples} training examples in {source!r}, not {size}",
            f"at most {split.num_examples}, or all",
        )
