"""What of a stage's settings decides how its batches are put together."""

from __future__ import annotations

from typing import Any

from xlt_ray.spec.facts import Facts, TaskFacts
from xlt_ray.spec.hybrid import hybrid_languages, translated_languages
from xlt_ray.spec.trial import Hybrid, Ranking


def ranking_settings(settings: Ranking, *tasks: TaskFacts) -> dict[str, Any]:
    """How tasks of the kind ranking are trained, where one is."""
    is_there = any(task.kind == "ranking" for task in tasks)
    return {"ranking": settings.model_dump()} if is_there else {}


def hybrid_settings(
    settings: Hybrid, task: TaskFacts, facts: Facts, source: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """What of hybrid batches decides a training, and the fingerprints of their text."""
    if not settings.is_used:
        return {"ratio": 0.0}, {}
    # What is never drawn decides nothing.
    unused = {"mono"} if settings.ratio == 1 else set()
    if settings.ratio == 0:
        unused = {"pairs", "mixing", "batch_scale"}
    languages = hybrid_languages(settings, task, facts, source)
    translated = translated_languages(settings, task, source)
    return (
        {
            "ratio": settings.ratio,
            "languages": languages,
            "text": "translated" if translated else "switched",
            **settings.hashed(exclude={"ratio", "languages", "text", *unused}),
        },
        {one: task.splits[one, "train"].digest for one in translated}
        or {source: facts.lexicon[source].digest},
    )
