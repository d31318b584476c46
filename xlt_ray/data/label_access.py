"""The zero-shot gate: which labels and texts a stage may open.

Every stage reads through a :class:`LabelAccess`, which says what the reading is for: there is no
other way from a stage to the examples. An intermediate stage of several tasks or languages has one
for each dataset that the sweep names. Text without labels opens to training from the train split of
any language, as translate-train methods use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xlt_ray.config.facts import Split
from xlt_ray.data.example_table import without_labels
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task
from xlt_ray.data.types.base import Example
from xlt_ray.errors import ForbiddenLabels

Purpose = Literal["train", "select", "evaluate", "few_shot"]


@dataclass(frozen=True)
class LabelAccess:
    """What is read, for which task, and in which language labels may be seen."""

    purpose: Purpose
    task: str
    source_language: str
    few_shot_language: str = ""
    """The target language of which a few examples are trained on, or were."""


def labelled(
    source: Source, access: LabelAccess, task: Task, language: str, split: Split
) -> Sequence[Example]:
    """Examples with labels.

    Raises:
        ForbiddenLabels: the access does not cover this task, language and split.
        DataError: the source has no such split.
    """
    if access.purpose == "evaluate":
        allowed = split == "test" or (split == "dev" and language != access.few_shot_language)
        remedy = "evaluation reads dev and test, but no dev set that shots may come from"
    elif access.purpose == "few_shot":
        allowed = language == access.few_shot_language and split in ("train", "dev")
        remedy = f"it may open {access.few_shot_language}/train and dev alone"
    else:
        only: Split = "train" if access.purpose == "train" else "dev"
        allowed = (language, split) == (access.source_language, only)
        remedy = f"it may open {access.source_language}/{only} alone"
    if access.task != task.name or not allowed:
        raise _refusal(access, "labels", task, language, split, remedy)
    return source.read(task, language, split)


def texts(
    source: Source, access: LabelAccess, task: Task, language: str, split: Split
) -> Sequence[Example]:
    """The same examples with their labels None: train text of any language, to training.

    Raises:
        ForbiddenLabels: as :func:`labelled`.
        DataError: the source has no such split.
    """
    if access.purpose != "train" or access.task != task.name or split != "train":
        remedy = "text without labels opens to training, from the train split"
        raise _refusal(access, "text", task, language, split, remedy)
    return without_labels(source.read(task, language, split))


def _refusal(
    access: LabelAccess, what: str, task: Task, language: str, split: str, remedy: str
) -> ForbiddenLabels:
    return ForbiddenLabels(
        f"this {what} may not be read to {access.purpose} {access.task}",
        task=task.name,
        language=language,
        split=split,
        remedy=remedy,
    )
