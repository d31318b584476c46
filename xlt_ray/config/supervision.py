"""Which labels a trial learns from besides those of the source language, as its scores are named.

- *zero-shot*: none. Lexicons, parallel text and other unlabelled text may be of any language.
- *translate-train*: labels on training text that is translated into a scored language, in hybrid
  batches or in an intermediate task (a table of its own in XTREME, arXiv 2003.11080).
- *intermediate labels*: those of another, intermediate task in a scored language.
- *few-shot*: labels of the scored task in a scored language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xlt_ray.config.facts import Facts, TaskFacts
from xlt_ray.config.mixture import mixture_of
from xlt_ray.config.search_space import probes
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import TrialSpec

ZERO_SHOT = "zero-shot"
TRANSLATE_TRAIN = "translate-train"
INTERMEDIATE = "intermediate labels"
FEW_SHOT = "few-shot"
KINDS = (TRANSLATE_TRAIN, INTERMEDIATE)


def supervision_of(trial: TrialSpec, facts: Facts) -> dict[str, tuple[str, ...]]:
    """Kind of supervision -> the scored target languages with such labels; empty for a zero-shot
    trial. Few shots, which have a stage of their own, are left out."""
    source, task = trial.target.source_language, facts.tasks[trial.target.task]
    scored = {
        language
        for name in (task.name, *trial.evaluate.also)
        for language in trial.evaluate.languages_tested(facts.tasks[name], source)
    }
    if trial.few_shot is not None:
        scored = {trial.few_shot.language}
    translated = set(trial.target.hybrid.translated_languages(task, source))
    others: set[str] = set()
    if trial.intermediate is not None:
        for dataset in mixture_of(trial.intermediate, source, facts.tasks).datasets:
            is_translation = _is_translation(facts.tasks[dataset.task], task)
            (translated if is_translation else others).add(dataset.language)
    by_kind = {TRANSLATE_TRAIN: translated, INTERMEDIATE: others}
    return {
        kind: tuple(sorted((languages & scored) - {source}))
        for kind, languages in by_kind.items()
        if (languages & scored) - {source}
    }


def supervisions(sweep: SweepSpec, facts: Facts) -> list[str]:
    """Kinds of supervision among the trials of a sweep without problems, few shots left out."""
    by_kind: dict[str, set[str]] = {}
    for tree, _ in probes(sweep.space, facts.model_bounds):
        for kind, languages in supervision_of(sweep.trial(tree), facts).items():
            by_kind.setdefault(kind, set()).update(languages)
    return [f"{kind} ({', '.join(sorted(by_kind[kind]))})" for kind in KINDS if kind in by_kind]


def supervision_label(settings: Mapping[str, Any]) -> str:
    """What an evaluation stage's settings say of it, in words.

    >>> supervision_label({"supervision": {"translate-train": ["de", "fr"]}})
    'translate-train (de, fr)'
    >>> supervision_label({})
    'zero-shot'
    """
    return "; ".join(_labels(settings)) or ZERO_SHOT


def _labels(settings: Mapping[str, Any]) -> Iterator[str]:
    if "few_shot" in settings:
        yield f"{FEW_SHOT} ({settings['few_shot']['language']})"
    for kind, languages in settings.get("supervision", {}).items():
        yield f"{kind} ({', '.join(languages)})"


def _is_translation(task: TaskFacts, target: TaskFacts) -> bool:
    """Whether rows of an intermediate task are the target's kind of examples in translation."""
    return task.is_parallel and (task.kind, task.labels) == (target.kind, target.labels)
