"""What a trial is evaluated on besides its task's languages, and checks of it.

Three things beside the target task in every language, all of them on test sets and without any
training: *pairs* (the target task with its two sentences in two languages), *further tasks* of the
target's kind and labels, under its head, and *retrieval*, *ranking* and *mining*, by the encoder
alone. The threshold of mining is chosen on dev sets of the languages that are scored; they are read
in the evaluation stage and no selection reads what comes of them.
*Diagnostics* are of all layers, on parallel text that no task has labels for.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import product
from typing import Any

from xlt_ray.config.diagnostics import DIAGNOSTICS
from xlt_ray.config.facts import Facts, Split, TaskFacts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.task_types import KINDS, is_by_encoder
from xlt_ray.config.trial import Evaluate, TrialSpec
from xlt_ray.errors import nearest

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


def further_content(
    tasks: Sequence[TaskFacts], settings: Evaluate, source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Further tasks as a stage names them, and its fingerprints: of test sets, and of those dev
    sets that a threshold is chosen on."""
    scored = {task.name: languages_tested(task, settings, source) for task in tasks}

    def digests(task: TaskFacts, split: Split) -> dict[str, str]:
        return {one: task.splits[one, split].digest for one in scored[task.name]}

    data = {"also": {task.name: digests(task, "test") for task in tasks}}
    tuned = [task for task in tasks if KINDS[task.kind].is_tuned]
    if tuned:
        data["also_dev"] = {task.name: digests(task, "dev") for task in tuned}
    return {task.name: {**task.scoring, "languages": scored[task.name]} for task in tasks}, data


def diagnosed_languages(
    tested: tuple[str, ...], source: str, parallel: Container[str]
) -> tuple[str, ...]:
    """Languages that diagnostics set against the source: those scored that have parallel text.

    >>> diagnosed_languages(("de", "en", "sw"), "en", {"en": "", "de": ""})
    ('de',)
    """
    return tuple(one for one in tested if one != source and one in parallel)


def pairs_are_parallel(
    trial: TrialSpec, facts: Facts, _: SweepSpec
) -> Iterator[tuple[str, str, str]]:
    task, settings = facts.tasks[trial.target.task], trial.evaluate
    if settings.pairs == "none":
        return
    entry = KINDS[task.kind]
    # Queries and candidates are no pairs: a ranking task has candidates of all languages anyway.
    if not (entry.is_crossed and not entry.is_embedded and task.is_parallel):
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
        elif task.kind != target.kind and not is_by_encoder(task.kind, target.kind):
            yield (
                "evaluate.also",
                f"{name} is a task of kind {task.kind}, the head of {target.name} is for kind "
                f"{target.kind}",
                f"a {target.kind} task with the same labels, or retrieval, ranking or mining",
            )
        elif task.kind == target.kind and task.labels != target.labels:
            yield (
                "evaluate.also",
                f"{name} has the labels {', '.join(task.labels)}, the head of {target.name} has "
                f"learned {', '.join(target.labels)}",
                "a task with the same labels in the same order",
            )
        else:
            yield from _further_data_is_there(task, settings, trial.target.source_language)


def _further_data_is_there(
    task: TaskFacts, settings: Evaluate, source: str
) -> Iterator[tuple[str, str, str]]:
    scored = languages_tested(task, settings, source)
    if not scored:
        there = ", ".join(task.languages("test")) or "none"
        yield (
            "evaluate.also",
            f"{task.name} has no test set in a language of evaluate.languages",
            f"name one of its languages there: {there}",
        )
    lacking = sorted(set(scored) - set(task.languages("dev")))
    if KINDS[task.kind].is_tuned and lacking:
        yield (
            "evaluate.also",
            f"{task.name} has no dev set in {', '.join(lacking)} to choose its threshold on",
            "add the dev sets to the data, or name other languages in evaluate.languages",
        )


def retrieval_layer_exists(
    trial: TrialSpec, facts: Facts, _: SweepSpec
) -> Iterator[tuple[str, str, str]]:
    layer = trial.evaluate.retrieval_layer
    depth = facts.models[trial.model.label].num_layers
    if layer is not None and layer > depth:
        yield (
            "evaluate.retrieval_layer",
            f"{layer} is above the last layer of {trial.model.name}, which has {depth}",
            f"at most {depth}, or write the bound num_layers",
        )
    if any(
        is_by_encoder(facts.tasks[name].kind, facts.tasks[trial.target.task].kind)
        for name in trial.evaluate.also
    ):
        return
    for key in ("retrieval_layer", "retrieval_encoder"):
        if getattr(trial.evaluate, key) not in (None, "target"):
            yield (
                f"evaluate.{key}",
                "no retrieval task is evaluated, nor ranking or mining by the encoder alone",
                f"name one in evaluate.also, or leave {key} out",
            )


def diagnostics_have_text(
    trial: TrialSpec, facts: Facts, _: SweepSpec
) -> Iterator[tuple[str, str, str]]:
    settings, source = trial.evaluate, trial.target.source_language
    asked = settings.diagnostics
    if not asked:
        if "diagnostic_sentences" in settings.model_fields_set:
            yield (
                "evaluate.diagnostic_sentences",
                "no diagnostics are asked for",
                f"diagnostics: [{', '.join(DIAGNOSTICS)}], or leave the number out",
            )
        return
    for name in sorted({one for one in asked if asked.count(one) > 1}):
        yield "evaluate.diagnostics", f"{name} is named twice", "name each diagnostic once"
    tested = languages_tested(facts.tasks[trial.target.task], settings, source)
    there = ", ".join(sorted(facts.parallel)) or "none"
    if source not in facts.parallel:
        yield (
            "evaluate.diagnostics",
            f"the data has no parallel text in {source!r}, the source language",
            f"there is: {there}; add parallel/CORPUS/{source}.tsv to the data, or diagnostics: []",
        )
    elif not diagnosed_languages(tested, source, facts.parallel):
        yield (
            "evaluate.diagnostics",
            "no language that is scored has parallel text",
            f"there is: {there}; add parallel/CORPUS/LANGUAGE.tsv to the data, or diagnostics: []",
        )
    for name in dict.fromkeys(asked):
        if DIAGNOSTICS[name].needs_links and not facts.has_links:
            yield (
                "evaluate.diagnostics",
                f"{name} is measured against words that are known to be aligned, and the data "
                "has none",
                f"leave {name} out, or put alignments/CORPUS/FIRST-SECOND.tsv into the data",
            )
