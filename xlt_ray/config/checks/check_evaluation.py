"""Checks of the evaluation: languages, the objective, and what is scored besides the target task.

All of that is scored on test sets and without training: *pairs* (the target task with its two
sentences in two languages), *further tasks* of the target's kind and labels, under its head, and
*retrieval*, *ranking* and *mining*, by the encoder alone. The threshold of mining is chosen on dev
sets of the scored languages; only the evaluation stage reads them, and nothing is selected by it.
*Diagnostics* look at all layers, on parallel text without labels.
"""

from __future__ import annotations

from collections.abc import Iterator

from xlt_ray.config.checks import Problem, listed
from xlt_ray.config.diagnostics import DIAGNOSTICS, diagnosed_languages
from xlt_ray.config.facts import Facts, TaskFacts
from xlt_ray.config.measures import MEASURES, is_low_resource, measure_named
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.task_types import KINDS, is_by_encoder
from xlt_ray.config.trial import Evaluate, TrialSpec
from xlt_ray.errors import nearest


def languages_are_there(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    task, languages = facts.tasks[trial.target.task], trial.evaluate.languages
    tested = task.languages("test")
    for language in languages if isinstance(languages, tuple) else ():
        if language not in tested:
            yield (
                "evaluate.languages",
                f"{task.name} has no test set in {language!r}",
                nearest(language, tested, limit=60),
            )
    if languages == "all" and not tested:
        yield (
            "target.task",
            f"{task.name} has no test set in any language",
            "choose another task" + task.file_of("LANGUAGE", "test"),
        )


def objective_is_measured(trial: TrialSpec, facts: Facts, sweep: SweepSpec) -> Iterator[Problem]:
    task = facts.tasks[trial.target.task]
    objective = sweep.settings.objective
    if objective.metric not in task.metrics:
        yield (
            "objective.metric",
            f"{task.name} is not scored by {objective.metric!r}",
            nearest(objective.metric, task.metrics),
        )
    dev = task.languages("dev")
    source = trial.target.source_language
    scored = {source} if trial.evaluate.dev == "source" else {source, *task.languages("test")}
    if isinstance(trial.evaluate.languages, tuple):
        scored &= {source, *trial.evaluate.languages}
    scored &= set(dev)
    if isinstance(objective.languages, tuple):
        for language in objective.languages:
            if language not in dev:
                yield (
                    "objective.languages",
                    f"{task.name} has no dev set in {language!r}",
                    nearest(language, dev, limit=40),
                )
            elif language not in scored:
                yield (
                    "objective.languages",
                    f"the dev set in {language!r} is not scored in this sweep",
                    "name the language in evaluate.languages, and write evaluate.dev: all",
                )
    elif objective.languages == "all" and trial.evaluate.dev == "source":
        yield (
            "objective.languages",
            f"of all dev sets only that in {source!r} is scored in this sweep",
            "objective.languages: source, or evaluate.dev: all",
        )
    elif objective.languages == "target" and not scored - {source}:
        yield (
            "objective.languages",
            f"no dev set of {task.name} in a target language is scored in this sweep",
            "select on the source language, or write evaluate.dev: all",
        )


def measures_are_known(trial: TrialSpec, facts: Facts, sweep: SweepSpec) -> Iterator[Problem]:
    """What further objectives and constraints measure."""
    task, settings = facts.tasks[trial.target.task], sweep.settings
    source, dev = trial.target.source_language, facts.tasks[trial.target.task].languages("dev")
    scored = {source} if trial.evaluate.dev == "source" else {source, *task.languages("test")}
    if isinstance(trial.evaluate.languages, tuple):
        scored &= {source, *trial.evaluate.languages}
    scored &= set(dev)
    resources = settings.resources.of(trial.model.name)
    for name in sweep.measures:
        key = "objective" if name in settings.objective.also else "constraints"
        measure = measure_named(name, source)
        if measure.reads == "gpus" and not resources.workers * resources.gpus_per_worker:
            yield key, f"{name}: trials of this sweep have no GPU", "hours"
        elif measure.reads == "low" and not any(map(is_low_resource, scored - {source})):
            yield (
                key,
                f"{name}: no scored dev set of {task.name} is in a low-resource language",
                "target_mean or worst_language",
            )
        elif measure.reads == "target" and name in MEASURES and not scored - {source}:
            yield (
                key,
                f"{name}: no dev set of {task.name} in a target language is scored in this sweep",
                "write evaluate.dev: all, or leave it out",
            )
        elif name not in MEASURES and name not in scored:
            yield (
                key,
                f"{task.name} has no scored dev set in {name!r}",
                nearest(name, [*MEASURES, *sorted(scored)]),
            )


def pairs_are_parallel(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    task, settings = facts.tasks[trial.target.task], trial.evaluate
    if settings.pairs == "none":
        return
    entry = KINDS[task.kind]
    # Queries and candidates are not pairs: a ranking task has candidates of all languages anyway.
    if not (entry.is_crossed and not entry.is_embedded and task.is_parallel):
        yield (
            "evaluate.pairs",
            f"the rows of {task.name} are not sentence pairs that are parallel across languages",
            "pairs: none, or a target task whose rows are",
        )
        return
    scored = settings.languages_tested(task, trial.target.source_language)
    paired = {language for pair in settings.language_pairs(scored) for language in pair}
    for language in sorted(paired - set(scored)):
        yield (
            "evaluate.pairs",
            f"{task.name} is not scored in {language!r}",
            nearest(language, scored)
            if language not in task.languages("test")
            else "add the language to evaluate.languages",
        )


def further_tasks_fit(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    target, settings = facts.tasks[trial.target.task], trial.evaluate
    if not KINDS[target.kind].is_trained:
        # Said of the target itself: it has no training data.
        return
    for name in settings.also:
        task = facts.tasks[name]
        if name == target.name:
            yield (
                "evaluate.also",
                f"{name} is the target task, which is always scored",
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


def _further_data_is_there(task: TaskFacts, settings: Evaluate, source: str) -> Iterator[Problem]:
    scored = settings.languages_tested(task, source)
    if not scored:
        yield (
            "evaluate.also",
            f"{task.name} has no test set in a language of evaluate.languages",
            f"name one of its languages: {listed(task.languages('test'))}",
        )
    lacking = sorted(set(scored) - set(task.languages("dev")))
    if KINDS[task.kind].is_tuned and lacking:
        yield (
            "evaluate.also",
            f"{task.name} has no dev set in {', '.join(lacking)} to choose its threshold on",
            "add the dev sets to the data, or name other languages in evaluate.languages",
        )


def sentences_are_retrieved(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    kinds = [facts.tasks[name].kind for name in (trial.target.task, *trial.evaluate.also)]
    has_retrieval = any(is_by_encoder(kind, kinds[0]) for kind in kinds[1:])
    for key in ("retrieval_layer", "retrieval_encoder"):
        if not has_retrieval and getattr(trial.evaluate, key) not in (None, "target"):
            yield (
                f"evaluate.{key}",
                "neither a retrieval task nor ranking or mining by the encoder alone is evaluated",
                f"name one in evaluate.also, or leave {key} out",
            )


def diagnostics_have_text(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    settings, source = trial.evaluate, trial.target.source_language
    names = settings.diagnostics
    if not names:
        if "diagnostic_sentences" in settings.model_fields_set:
            yield (
                "evaluate.diagnostic_sentences",
                "the sweep has no diagnostics",
                f"diagnostics: [{', '.join(DIAGNOSTICS)}], or leave the number out",
            )
        return
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "evaluate.diagnostics", f"{name} is named twice", "name each diagnostic once"
    tested = settings.languages_tested(facts.tasks[trial.target.task], source)
    known = listed(facts.parallel)
    if source not in facts.parallel:
        yield (
            "evaluate.diagnostics",
            f"the data has no parallel text in {source!r}, the source language",
            f"available: {known}; add parallel/CORPUS/{source}.tsv to the data, or diagnostics: []",
        )
    elif not diagnosed_languages(tested, source, facts.parallel):
        yield (
            "evaluate.diagnostics",
            "no scored language has parallel text",
            f"available: {known}; add parallel/CORPUS/LANGUAGE.tsv to the data, or diagnostics: []",
        )
    for name in dict.fromkeys(names):
        if DIAGNOSTICS[name].needs_links and not facts.has_links:
            yield (
                "evaluate.diagnostics",
                f"{name} is measured against words that are known to be aligned, and the data "
                "has none",
                f"leave {name} out, or put alignments/CORPUS/FIRST-SECOND.tsv into the data",
            )


CHECKS = (
    languages_are_there,
    pairs_are_parallel,
    further_tasks_fit,
    sentences_are_retrieved,
    diagnostics_have_text,
    objective_is_measured,
    measures_are_known,
)
