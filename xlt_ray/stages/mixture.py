"""What an intermediate stage says of its mixture of tasks, languages and masked LM."""

from __future__ import annotations

from typing import Any

from xlt_ray.spec.facts import Facts
from xlt_ray.spec.mixture import Mixture, own_language, text_languages
from xlt_ray.spec.trial import Intermediate, TrialSpec


def content_of(
    trial: TrialSpec, settings: Intermediate, mixture: Mixture, facts: Facts
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an intermediate stage trains on: settings and fingerprints, of one task or several."""
    source = own_language(settings, trial.target.source_language)
    if mixture.is_plain:
        (only,) = mixture.datasets
        task = facts.tasks[only.task]
        return (
            {
                "task": {"name": task.name, "version": task.version},
                "source_language": only.language,
            },
            {"train": task.splits[only.language, "train"].digest},
        )
    content: dict[str, Any] = {
        "tasks": {
            name: {"version": facts.tasks[name].version, "languages": mixture.of(name)}
            for name in mixture.tasks
        },
        "source_language": source,
    }
    data: dict[str, Any] = {
        "train": {
            name: {one: facts.tasks[name].splits[one, "train"].digest for one in mixture.of(name)}
            for name in mixture.tasks
        }
    }
    if len(mixture.datasets) > 1:
        content["sampling"] = settings.sampling.hashed()
    if settings.mlm is not None:
        languages = text_languages(settings, trial.target.source_language, facts.parallel)
        content["mlm"] = {**settings.mlm.hashed(exclude={"languages"}), "languages": languages}
        data["parallel"] = {one: facts.parallel[one] for one in languages}
    return content, data


def dev_content_of(
    settings: Intermediate, mixture: Mixture, target_language: str, facts: Facts
) -> dict[str, Any]:
    """Fingerprints of the dev sets that an intermediate stage is scored on while it trains."""
    source = own_language(settings, target_language)
    if mixture.is_plain:
        (only,) = mixture.datasets
        return facts.tasks[only.task].dev_content(only.language)
    by_task = {name: facts.tasks[name].dev_content(source) for name in mixture.tasks}
    found = {name: content["dev"] for name, content in by_task.items() if content}
    return {"dev": found} if found else {}


def label_of(mixture: Mixture) -> str:
    """A mixture as labels say it.

    >>> from xlt_ray.spec.mixture import Dataset
    >>> label_of(Mixture((Dataset("nli", "de", 9), Dataset("nli", "en", 9)), mlm_share=0.25))
    'nli in 2 languages and 25 % MLM'
    """
    languages = f" in {len(mixture.languages)} languages" if len(mixture.languages) > 1 else ""
    mlm = f" and {100 * mixture.mlm_share:.3g} % MLM" if mixture.mlm_share else ""
    return f"{'+'.join(mixture.tasks)}{languages}{mlm}"
