"""What a trial is chosen by: one number from the scores of its evaluation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from xlt_ray.errors import TrialFailure
from xlt_ray.spec.sweep import Objective
from xlt_ray.stages.record import Role, Score, values_by_language


def objective_of(scores: Sequence[Score], objective: Objective, source: str) -> float:
    """Mean of the objective metric over its languages, in the dev split.

    Args:
        source: the language that the trial was trained in.

    Raises:
        TrialFailure: a language of the objective has no such score: its gold labels leave the
            metric undefined (entities where there are none).
    """
    # After few shots: how the source language is left, its dev set as of every other trial.
    role: Role = "few_shot" if any(one.role == "few_shot" for one in scores) else "target"
    values = values_by_language(scores, objective.split, objective.metric, role)
    if objective.languages == "source":
        chosen = [source]
    elif objective.languages == "target":
        chosen = [one for one in values if one != source]
    elif objective.languages == "all":
        chosen = list(values)
    else:
        chosen = list(objective.languages)
    missing = [one for one in chosen if one not in values]
    if missing or not chosen:
        raise TrialFailure(
            f"{objective.metric} has no dev score in {', '.join(missing) or 'any language'}",
            cause="data",
            advice="its gold labels leave it undefined (no entity, or all scores equal): another"
            " objective.metric or other objective.languages",
        )
    return statistics.fmean(values[one] for one in chosen)
