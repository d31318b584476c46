"""What the store says of a committed stage: how it was made and what came out of it.

A record is JSON, complete, and written last: its existence alone means *committed*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xlt_ray.stages.canonical import Json

Role = Literal["target", "pairs", "further"]
"""Of a score: of the target task in one language; of its sentence pairs in two languages; of a
further task. Selection and means over languages are of the first alone."""


@dataclass(frozen=True)
class Score:
    """One number: a metric of a task in a language on a split.

    That of a pair has the task ``TASK-pairs`` and the language ``FIRST:SECOND``, so that no name
    is that of a score in one language.
    """

    task: str
    language: str
    split: str
    metric: str
    value: float
    num_examples: int
    role: Role = "target"
    num_dropped: int = 0
    """Of a pair: rows of either language that the other one lacks."""


def values_by_language(scores: Iterable[Score], split: str, metric: str) -> dict[str, float]:
    """A metric of the target task by language: what may be averaged over languages."""
    return {
        one.language: one.value
        for one in scores
        if one.role == "target" and one.split == split and one.metric == metric
    }


@dataclass(frozen=True)
class FileEntry:
    """Size and digest of one file of a result."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class StageRecord:
    """The record of one committed stage."""

    key: str
    payload: Mapping[str, Json]
    label: str
    files: Mapping[str, FileEntry]
    scores: tuple[Score, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    """Evaluations during training: step, examples, and the source-language dev metrics."""
    num_examples: int = 0
    """Examples that were trained to make it."""
    seconds: float = 0.0
    runtime: Mapping[str, Any] = field(default_factory=dict)
    """The numeric half of the runtime: what may move the last bits."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """Sweep, trial, host, commit, versions, time."""

    @property
    def kind(self) -> str:
        return str(self.payload["kind"])

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> StageRecord:
        """Raises KeyError or TypeError where ``tree`` is not a record."""
        return cls(
            **{
                **tree,
                "files": {name: FileEntry(**entry) for name, entry in tree["files"].items()},
                "scores": tuple(Score(**row) for row in tree["scores"]),
                "history": tuple(tree["history"]),
            }
        )
