"""Where the other languages of hybrid batches come from, and checks of them.

Text is *translated* where the task's training rows are there in other languages under the same ids
and its kind lets sentences change their language; else words are *switched* by a lexicon.
"""

from __future__ import annotations

from collections.abc import Iterator

from xlt_ray.config.facts import Facts, TaskFacts
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Hybrid, Problem, TrialSpec, listed


def translated_languages(hybrid: Hybrid, task: TaskFacts, source: str) -> tuple[str, ...]:
    """Languages, the source left out, whose training text stands beside the source's labels;
    empty where hybrid batches are code-switched, or where there are none."""
    there = _translations(hybrid, task, source) if hybrid.is_used else ()
    return tuple(one for one in there if hybrid.languages == "all" or one in hybrid.languages)


def hybrid_languages(hybrid: Hybrid, task: TaskFacts, facts: Facts, source: str) -> tuple[str, ...]:
    """Languages that hybrid batches draw from besides the source: those with translated training
    text, else those of a lexicon."""
    there = _translations(hybrid, task, source)
    if not there and source in facts.lexicon:
        there = facts.lexicon[source].languages
    return tuple(sorted(there if hybrid.languages == "all" else hybrid.languages))


def hybrid_has_text(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    hybrid = trial.target.hybrid
    if not hybrid.is_used:
        idle = sorted(hybrid.model_fields_set - {"mono"})
        if idle and "ratio" not in idle:
            yield (
                f"target.hybrid.{idle[0]}",
                "ratio is left out, so no batch is cross-lingual",
                "ratio: the share of batches that are, for example 0.5",
            )
        return
    key = "ratio" if hybrid.ratio > 0 else "mono"
    remedy = "ratio: 0" if hybrid.ratio > 0 else "mono: source"
    task, source = facts.tasks[trial.target.task], trial.target.source_language
    there = set(_translations(hybrid, task, source))
    if hybrid.text == "translated" and not there:
        yield "target.hybrid.text", f"{task.name} has no translated training text", "text: switched"
        return
    if there and not task.is_parallel:
        yield (
            f"target.hybrid.{key}",
            f"rows of {task.name} in several languages are no translations of each other, and "
            "their sentences cannot be mixed",
            "text: switched, or is_parallel: true in the task's file where rows of one id are",
        )
        return
    if hybrid.mono == "uniform" and not there:
        yield (
            "target.hybrid.mono",
            f"uniform needs training text of {task.name} that is translated row by row, and "
            + ("text: switched asks for none" if hybrid.text == "switched" else "there is none"),
            "mono: source",
        )
        return
    if hybrid.languages == ():
        yield "target.hybrid.languages", "the list is empty", f"name one at least, or {remedy}"
    if not there and source in facts.lexicon:
        there = set(facts.lexicon[source].languages)
    if not there:
        yield (
            "target.hybrid.ratio",
            f"{task.name} has neither translated training text nor a lexicon from {source!r}",
            "ratio: 0, or put word lists into lexicon/{source}-{target}.tsv of the data",
        )
    for language in hybrid.languages if isinstance(hybrid.languages, tuple) else ():
        if there and language not in there:
            yield (
                "target.hybrid.languages",
                f"there is no training text to mix in for {language!r}",
                f"there is: {listed(there)}",
            )


def scaled_batches_are_whole(trial: TrialSpec, _: Facts, __: SweepSpec) -> Iterator[Problem]:
    hybrid = trial.target.hybrid
    if hybrid.mixing == "in_batch" and hybrid.batch_scale != 1.0:
        yield (
            "target.hybrid.batch_scale",
            "with mixing: in_batch there are no cross-lingual batches to be scaled",
            "batch_scale: 1.0, or mixing: per_batch",
        )


def _translations(hybrid: Hybrid, task: TaskFacts, source: str) -> tuple[str, ...]:
    """All languages but the source that have training text for hybrid batches."""
    if not KINDS[task.kind].is_crossed or hybrid.text == "switched":
        return ()
    return tuple(language for language in task.languages("train") if language != source)
