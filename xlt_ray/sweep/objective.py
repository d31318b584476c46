"""What a trial is chosen by: one number from the scores of its evaluation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from xlt_ray.config.sweep import Objective
from xlt_ray.errors import TrialFailure
from xlt_ray.store.record import Role, Score, values_by_language


def objective_of(scores: Sequence[Score], objective: Objective, source: str) -> float:
    """Mean of the objective metric over its languages, in the dev split.

    Args:
        source: the language that the trial was trained in.

    Raises:
        TrialFailure: a language of the objective has no such score: its gold labels leave the
            metric undefined (entities where there are none), or the evaluation was made by an
            xlt-ray that did not score it.
    """
    # After few shots: how the source language is left, its dev set as of every other trial.
    role: Role = "few_shot" if any(score.role == "few_shot" for score in scores) else "target"
    values = values_by_language(scores, objective.split, objective.metric, role)
    chosen = languages_of(objective, source, values)
    missing = [one for one in chosen if one not in values]
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
    return statistics.fmean(values[one] for one in chosen)


def languages_of(objective: Objective, source: str, scored: Iterable[str]) -> list[str]:
    """The languages that an objective averages over, of those whose dev sets are scored."""
    if objective.languages == "source":
        return [source]
    if objective.languages == "target":
        return [one for one in scored if one != source]
    return list(scored) if objective.languages == "all" else list(objective.languages)


def value_on_the_way(
    metrics: Mapping[str, float],
    by_language: Mapping[str, Mapping[str, float]],
    watched: Sequence[str],
    metric: str,
) -> float | None:
    """What an evaluation in mid-training says of the objective; None where it was not measured.

    Args:
        metrics: of the source language's dev set.
        by_language: of the dev sets of other languages.
        watched: the languages of the objective where it is an oracle; empty where it is not.
    """
    if not watched:
        return metrics.get(metric)
    values = [by_language.get(language, {}).get(metric) for language in watched]
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if len(found) == len(values) else None
