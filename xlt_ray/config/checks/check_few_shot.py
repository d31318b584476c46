"""Checks of the few-shot stage: its examples, and what would read their labels besides."""

from __future__ import annotations

from collections.abc import Iterator

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import Problem, TrialSpec
from xlt_ray.errors import nearest


def shots_are_there(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    settings = trial.few_shot
    if settings is None:
        return
    task, language, split = facts.tasks[trial.target.task], settings.language, settings.split
    if language == trial.target.source_language:
        yield (
            "few_shot.language",
            f"{language!r} is the source language, which is always trained on",
            "a target language, or few_shot: null",
        )
        return
    languages = set(task.languages(split)) - {trial.target.source_language}
    examples = task.splits.get((language, split))
    if examples is None and not languages:
        yield (
            "few_shot.split",
            f"{task.name} has no {split} set with labels in any target language",
            f"split: {'dev' if split == 'train' else 'train'}, or another task",
        )
    elif examples is None:
        yield (
            "few_shot.language",
            f"{task.name} has no {split} set with labels in {language!r}",
            nearest(language, languages, limit=60),
        )
    elif settings.shots > examples.num_examples:
        yield (
            "few_shot.shots",
            f"the {split} set of {task.name} in {language!r} has {examples.num_examples} examples, "
            f"not {settings.shots}",
            f"at most {examples.num_examples}",
        )
    if language not in task.languages("test"):
        yield (
            "few_shot.language",
            f"{task.name} has no test set in {language!r} to evaluate on",
            nearest(language, set(task.languages("test")) - {trial.target.source_language}),
        )


def shots_are_not_selected_on(trial: TrialSpec, _: Facts, sweep: SweepSpec) -> Iterator[Problem]:
    if trial.few_shot is None:
        return
    if sweep.is_oracle:
        yield (
            "objective.languages",
            "trials with few_shot are trained on labels that the objective would read",
            "objective.languages: source",
        )
    elif trial.evaluate.dev == "all":
        yield (
            "evaluate.dev",
            "trials with few_shot can train on dev sets of target languages",
            "evaluate.dev: source",
        )


def zero_shot_alone_is_examined(trial: TrialSpec, _: Facts, __: SweepSpec) -> Iterator[Problem]:
    """Tables by configuration do not name shots, so they hold zero-shot trials alone."""
    if trial.few_shot is None:
        return
    is_set = {
        "evaluate.pairs": trial.evaluate.pairs != "none",
        "evaluate.also": bool(trial.evaluate.also),
        "evaluate.diagnostics": bool(trial.evaluate.diagnostics),
        "target.average": trial.target.average > 1,
    }
    for key in (key for key, value in is_set.items() if value):
        yield (
            key,
            "with few_shot only the task itself is scored, with the last weights",
            "leave it out, and use a sweep without few_shot for it, which shares the stages",
        )


CHECKS = (
    shots_are_there,
    shots_are_not_selected_on,
    zero_shot_alone_is_examined,
)
