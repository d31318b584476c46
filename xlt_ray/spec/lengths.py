"""How long rows are where a sweep does not say: by the kind of task, within what a model reads."""

from __future__ import annotations

from collections.abc import Iterable

from xlt_ray.spec.facts import Facts
from xlt_ray.spec.kinds import KINDS, TaskKind
from xlt_ray.spec.methods import Training
from xlt_ray.spec.trial import TrialSpec


def with_lengths(trial: TrialSpec, facts: Facts) -> TrialSpec:
    """The trial with every ``max_length`` that it leaves out.

    That of an intermediate stage is for the most demanding kind of its tasks, that of a few-shot
    stage is the target's.
    """
    longest = facts.models[trial.model.label].max_positions
    filled: dict[str, Training] = {}
    if trial.intermediate is not None and trial.intermediate.max_length is None:
        kinds = [facts.tasks[name].kind for name in trial.intermediate.tasks]
        length = default_length(kinds, longest)
        filled["intermediate"] = trial.intermediate.model_copy(update={"max_length": length})
    length = trial.target.max_length or default_length(
        [facts.tasks[trial.target.task].kind], longest
    )
    filled["target"] = trial.target.model_copy(update={"max_length": length})
    if trial.few_shot is not None and trial.few_shot.max_length is None:
        filled["few_shot"] = trial.few_shot.model_copy(update={"max_length": length})
    return trial.model_copy(update=filled)


def default_length(kinds: Iterable[TaskKind], max_positions: int) -> int:
    """Most pieces of a row of these kinds for a model that reads ``max_positions``.

    >>> default_length(["span"], 512), default_length(["pair", "span"], 256)
    (384, 256)
    >>> default_length(["pair"], 512)
    128
    """
    return min(max(KINDS[kind].max_length for kind in kinds), max_positions)
