"""The zero-shot gate: which labels and texts a stage may open.

Every stage reads through a :class:`LabelAccess`, which says what the reading is for. Training
opens labels of the source language's train split alone, selection labels of its dev split
alone; labels of target languages open to evaluation only. An intermediate stage of several tasks
or languages has a permit for each dataset that the sweep names. Text without labels opens to
training from the train split of any language, as translate-train methods use it. A few-shot
stage opens labels of the one language that the sweep names, of its train or dev split; the
evaluation after it opens that language's test set, and its dev set no more. There is no other
way from a stage to the examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xlt_ray.config.facts import Split
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
    source: Source, permit: LabelAccess, task: Task, language: str, split: Split
) -> tuple[Example, ...]:
    """Examples with labels.

    Raises:
        ForbiddenLabels: the permit does not cover this task, language and split.
        DataError: the source has no such split.
    """
    if permit.purpose == "evaluate":
        allowed = split == "test" or (split == "dev" and language != permit.few_shot_language)
        remedy = "evaluation reads dev and test, but no dev set that shots may come from"
    elif permit.purpose == "few_shot":
        allowed = language == permit.few_shot_language and split in ("train", "dev")
        remedy = f"it may open {permit.few_shot_language}/train and dev alone"
    else:
        only: Split = "train" if permit.purpose == "train" else "dev"
        allowed = (language, split) == (permit.source_language, only)
        remedy = f"it may open {permit.source_language}/{only} alone"
    if permit.task != task.name or not allowed:
        raise _refusal(permit, "labels", task, language, split, remedy)
    return source.read(task, language, split)


def texts(
    source: Source, permit: LabelAccess, task: Task, language: str, split: Split
) -> tuple[Example, ...]:
    """The same examples with their labels None: train text of any language, to training.

    Raises:
        ForbiddenLabels: as :func:`labelled`.
        DataError: the source has no such split.
    """
    if permit.purpose != "train" or permit.task != task.name or split != "train":
        remedy = "text without labels opens to training, from the train split"
        raise _refusal(permit, "text", task, language, split, remedy)
    return tuple(example.hidden() for example in source.read(task, language, split))


def _refusal(
    permit: LabelAccess, what: str, task: Task, language: str, split: str, remedy: str
) -> ForbiddenLabels:
    return ForbiddenLabels(
        f"this {what} may not be read to {permit.purpose} {permit.task}",
        task=task.name,
        language=language,
        split=split,
        remedy=remedy,
    )
