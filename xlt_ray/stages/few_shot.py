"""The few-shot stage between a target stage and its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlt_ray.spec.facts import Facts
from xlt_ray.spec.shots import FewShot
from xlt_ray.spec.trial import TrialSpec
from xlt_ray.stages.stage import Stage


def few_shot_stage(
    trial: TrialSpec,
    settings: FewShot,
    facts: Facts,
    training: Mapping[str, Any],
    seed: int,
    parent: Stage,
) -> Stage:
    """The stage that goes on from ``parent``, a target stage, with its fusion and head.

    Args:
        training: settings that all training stages have.
        seed: of this repeat.
    """
    task = facts.tasks[trial.target.task]
    language, split = settings.language, settings.split
    sample = settings.sample_of(seed)
    return Stage(
        kind="few_shot",
        settings={
            **training,
            "task": {"name": task.name, "version": task.version},
            "source_language": trial.target.source_language,
            "language": language,
            "split": split,
            "shots": settings.shots,
            "sample": sample,
            "steps": settings.steps,
            "fusion": trial.target.fusion.hashed(),
        },
        data={split: {language: task.splits[language, split].digest}},
        seed=seed,
        parent=parent,
        label=f"few-shot {task.name} {settings.shots} {language} sample {sample}",
        num_examples=settings.steps * settings.batch_size,
    )


def told_of(settings: FewShot, seed: int) -> dict[str, Any]:
    """What the evaluation says of the shots, so that its record is known as not zero-shot."""
    return {
        "language": settings.language,
        "split": settings.split,
        "shots": settings.shots,
        "sample": settings.sample_of(seed),
    }
