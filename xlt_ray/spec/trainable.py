"""Whether a section has what it trains on: a check that several sections share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xlt_ray.errors import nearest
from xlt_ray.spec.facts import TaskFacts

Problem = tuple[str, str, str]
"""Key, what is wrong, what would be right."""


def trainable(task: TaskFacts, source: str, size: int | str, section: str) -> Iterator[Problem]:
    """Training data of ``task`` in ``source``, and at least ``size`` examples of it."""
    there = task.languages("train")
    split = task.splits.get((source, "train"))
    if not there:
        yield (
            f"{section}.task",
            f"{task.name} has no training data",
            "choose a task that has" + task.file_of(source or "LANGUAGE", "train"),
        )
    elif split is None:
        yield (
            f"{section}.source_language" if section == "target" else f"{section}.task",
            f"{task.name} has no training data in {source!r}",
            nearest(source, there, limit=40) + task.file_of(source, "train"),
        )
    elif isinstance(size, int) and size > split.num_examples:
        yield (
            f"{section}.size",
            f"{task.name} has {split.num_examples} training examples in {source!r}, not {size}",
            f"at most {split.num_examples}, or all",
        )


def listed(names: Iterable[object]) -> str:
    """At most 40 of the names, sorted; ``none`` where there is none."""
    shown = sorted(str(name) for name in names)
    return ", ".join(shown[:40]) or "none"
