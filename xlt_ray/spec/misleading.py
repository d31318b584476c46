"""What can be run and is seldom meant: warnings of a sweep that fits its models and data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xlt_ray.spec.facts import Facts
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.spec.trainable import Problem
from xlt_ray.spec.trial import TrialSpec

_SECTIONS = ("align", "intermediate", "target", "few_shot")
_LARGEST_RATE = 1.0
"""Of AdamW, which moves every weight by about the learning rate in each step."""


def misleading(trials: Sequence[TrialSpec], facts: Facts) -> Iterator[Problem]:
    """Key, what may mislead, what would be right; ``trials`` are the probes of a sweep."""
    for trial in trials:
        yield from _steps_are_huge(trial)
        yield from _nothing_is_transferred(trial, facts)


def _steps_are_huge(trial: TrialSpec) -> Iterator[Problem]:
    for name in _SECTIONS:
        section = getattr(trial, name)
        if section is not None and section.learning_rate >= _LARGEST_RATE:
            yield (
                f"{name}.learning_rate",
                f"each step of AdamW moves every weight by about {section.learning_rate:g}",
                "encoders are trained with 1e-6 to 1e-3",
            )


def _nothing_is_transferred(trial: TrialSpec, facts: Facts) -> Iterator[Problem]:
    task, source = facts.tasks[trial.target.task], trial.target.source_language
    if trial.evaluate.languages == "all" and task.languages("test") == (source,):
        yield (
            "evaluate.languages",
            f"{task.name} has a test set in {source!r} alone, so no transfer is scored",
            f"test sets of target languages{task.file_of('LANGUAGE', 'test')}",
        )


def budget_of_gpus_is_spent(sweep: SweepSpec, trials: Sequence[TrialSpec]) -> Iterator[Problem]:
    resources = sweep.settings.resources
    has_gpus = any(resources.of(one.model.name).gpus_per_worker for one in trials)
    if sweep.settings.budget.gpu_hours is not None and not has_gpus:
        yield (
            "budget.gpu_hours",
            "ends nothing, because no trial has a GPU",
            "give budget.hours, or resources.gpus_per_worker",
        )
