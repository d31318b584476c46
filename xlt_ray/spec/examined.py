"""What a trial is evaluated on besides its task's languages, and checks of it.

Three things beside the target task in every language, all of them on test sets and without any
training: *pairs* (the target task with its two sentences in two languages), *further tasks* of the
target's kind and labels, under its head, and *retrieval*, by the encoder alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from xlt_ray.errors import nearest
from xlt_ray.spec.facts import Facts, TaskFacts
from xlt_ray.spec.kinds import KINDS
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.spec.trial import Evaluate, TrialSpec

Pair = tuple[str, str]
"""Language of the first sentence, language of the second."""


def language_pairs(settings: Evaluate, languages: tuple[str, ...]) -> tuple[Pair, ...]:
    """The pairs that are asked, sorted; ``all`` are those of ``languages``, each with itself too.

    >>> language_pairs(Evaluate(pairs="all"), ("de", "en"))
    (('de', 'de'), ('de', 'en'), ('en', 'de'), ('en', 'en'))
    """
    if settings.pairs == "none":
        return ()
    if settings.pairs == "all":
        return tuple(product(sorted(languages), sorted(languages)))
    return tuple(sorted(set(settings.pairs)))


def languages_tested(task: TaskFacts, settings: Evaluate, source: str) -> tuple[str, ...]:
    """Languages whose test set of a task is scored: those that are asked, and the source."""
    there = task.languages("test")
    if settings.languages == "all":
        return there
    return tuple(one for one in there if one == source or one in settings.languages)


def retrieval_layer(settings: Evaluate, num_layers: int) -> int:
    """Where retrieval takes sentences from: as asked, else two thirds of the way up.

    >>> [retrieval_layer(Evaluate(), depth) for depth in (2, 12, 24)]
    [1, 8, 16]
    """
    asked = settings.retrieval_layer
    return round(2 * num_layers / 3) if asked is None else asked


def pairs_are_parallel(
    trial: TrialSpec, facts: Facts, _: SweepSpec
) -> Iterator[tuple[str, str, str]]:
    task, settings = facts.tasks[trial.target.task], trial.evaluate
    if settings.pairs == "none":
        return
    if not (KINDS[task.kind].is_crossed and task.is_parallel):
        yield (
            "evaluate.pairs",
            f"the rows of {task.name} are no sentence pairs that are parallel across languages",
            "pairs: none, or a target task whose rows are",
        )
        return
    scored = languages_tested(task, settings, trial.target.source_language)
    asked = language_pairs(settings, scored)
    for language in sorted({one for pair in asked for one in pair} - set(scored)):
        yield (
            "evaluate.pairs",
            f"{task.name} is not scored in {language!r}",
            nearest(language, scored)
            if language not in task.languages("test")
            else "name the language in evaluate.languages, too",
        )


def further_tasks_fit(
    trial: TrialSpec, facts: Facts, _: SweepSpec
) -> Iterator[tuple[str, str, str]]:
    target, settings = facts.tasks[trial.target.task], trial.evaluate
    if not KINDS[target.kind].is_trained:
        # Said of the target itself: it has no training data.
        return
    for name in settings.also:
        task = facts.tasks[name]
        if name == target.name:
            yield (
                "evaluate.also",
                f"{name} is the target task, which is scored anyway",
                "leave it out",
            )
        elif settings.also.count(name) > 1:
            yield "evaluate.also", f"{name} is named twice", "name each task once"
        elif KINDS[task.kind].is_trained and task.kind != target.kind:
            yield (
                "evaluate.also",
                f"{name} is a task of kind {task.kind}, the head of {target.name} is for kind "
                f"{target.kind}",
                f"a {target.kind} task with the same labels, or a retrieval task",
            )
        elif KINDS[task.kind].is_trained and task.labels != target.labels:
            yield (
                "evaluate.also",
                f"{name} has the labels {', '.join(task.labels)}, the head of {target.name} has "
                f"learned {', '.join(target.labels)}",
                "a task with the same labels in the same order",
            )
        elif not languages_tested(task, settings, trial.target.source_language):
            there = ", ".join(task.languages("test")) or "none"
            yield (
                "evaluate.also",
                f"{name} has no test set in a language of evaluate.languages",
                f"name one of its languages there: {there}",
            )


def retrieval_layer_exists(
    trial: TrialSpec, facts: Facts, _: SweepSpec
) -> Iterator[tuple[str, str, str]]:
    layer = trial.evaluate.retrieval_layer
    depth = facts.models[trial.model.name].num_layers
    if layer is not None and layer > depth:
        yield (
            "evaluate.retrieval_layer",
            f"{layer} is above the last layer of {trial.model.name}, which has {depth}",
            f"at most {depth}, or write the bound num_layers",
        )
    if layer is not None and not any(
        not KINDS[facts.tasks[name].kind].is_trained for name in trial.evaluate.also
    ):
        yield (
            "evaluate.retrieval_layer",
            "no retrieval task is evaluated",
            "name one in evaluate.also, or leave the layer out",
        )
