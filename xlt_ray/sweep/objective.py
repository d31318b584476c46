"""The objective of a trial: one number from the scores of its evaluation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from xlt_ray.config.sweep import Objective
from xlt_ray.errors import TrialFailure
from xlt_ray.store.record import Role, Score, values_by_language


def objective_value(scores: Sequence[Score], objective: Objective, source: str) -> float:
    """Mean of the objective metric over its languages, on the dev sets.

    Args:
        source: the language in which the trial was trained.

    Raises:
        TrialFailure: a language of the objective has no such score, because its gold labels leave
            the metric undefined or another version of xlt-ray made the evaluation.
    """
    # After few-shot training, the dev scores have their own role.
    role: Role = "few_shot" if any(score.role == "few_shot" for score in scores) else "target"
    values = values_by_language(scores, objective.split, objective.metric, role)
    chosen = languages_of(objective, source, values)
    missing = [language for language in chosen if language not in values]
    measured = sorted({score.metric for score in scores})
    if measured and objective.metric not in measured:
        raise TrialFailure(
            f"its evaluation has no score of {objective.metric}, only of {', '.join(measured)}",
            cause="data",
            advice="its gold labels leave the metric undefined everywhere: another"
            " objective.metric; or another version of xlt-ray made the evaluation: remove its"
            " folder from the stage store, and `xlt resume NAME --failed` makes it again without"
            " training anything",
        )
    if missing or not chosen:
        raise TrialFailure(
            f"{objective.metric} has no dev score in {', '.join(missing) or 'any language'}",
            cause="data",
            advice="its gold labels leave it undefined (no entity, or all scores equal): another"
            " objective.metric or other objective.languages",
        )
    return statistics.fmean(values[language] for language in chosen)


def languages_of(objective: Objective, source: str, scored: Iterable[str]) -> list[str]:
    """The languages over which an objective averages, out of those with scored dev sets."""
    if objective.languages == "source":
        return [source]
    if objective.languages == "target":
        return [language for language in scored if language != source]
    return list(scored) if objective.languages == "all" else list(objective.languages)


def intermediate_value(
    metrics: Mapping[str, float],
    by_language: Mapping[str, Mapping[str, float]],
    watched: Sequence[str],
    metric: str,
) -> float | None:
    """The objective at an evaluation during training; None if it was not measured.

    Args:
        metrics: metrics of the dev set of the source language.
        by_language: metrics of the dev sets of other languages.
        watched: the languages of an oracle objective; empty for any other.
    """
    if not watched:
        return metrics.get(metric)
    values = [by_language.get(language, {}).get(metric) for language in watched]
    measured = [value for value in values if value is not None]
    return statistics.fmean(measured) if len(measured) == len(values) else None
