"""A trial as the ledger has it, as plain values."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from xlt_ray.spec.space import Assignment, Value
from xlt_ray.stages.canonical import from_fields

State = Literal["waiting", "running", "complete", "pruned", "failed"]

Standing = Literal["complete", "pruned", "failed", "running", "interrupted", "queued"]
"""A state as it is shown: the ledger's "running" says only that a trial was asked."""

_STATES: Mapping[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class StageUse:
    """One stage of one trial: found in the store, or trained by this trial."""

    kind: str
    key: str
    label: str
    reused: bool
    examples: int = 0
    """Examples that this trial trained to make it; 0 where it was reused."""
    seconds: float = 0.0
    made_by: str = ""
    """``sweep/trial`` that made it; ``sweep`` alone of one made outside of a trial; empty where
    nobody knows."""


@dataclass(frozen=True)
class TrialView:
    """A trial as the ledger has it."""

    number: int
    state: State
    assignment: Mapping[str, Value]
    configuration: int
    repeat: int
    seed: int
    objective: float | None
    curve: tuple[tuple[int, float], ...]
    """(examples seen in the target stage, objective metric on the source dev set). Where an oracle
    objective stops trials early, it is the mean over the dev sets of the objective's languages."""
    attempts: int
    cause: str | None
    message: str
    log: str
    stages: tuple[StageUse, ...]
    mlflow_run_id: str | None
    retry_of: int | None
    started: datetime.datetime | None
    ended: datetime.datetime | None
    unfinished_s: float = 0.0
    """Seconds of attempts that ended without the stage that they were at, while this trial has not
    made that stage."""
    facts: int = 0
    """Number of the set of facts that it is made with (:mod:`xlt_ray.ledger.made_with`); 0 where
    its ledger kept none then."""
    path: tuple[str, ...] = ()
    """Keys of all stages on its path, made or not; none where its ledger did not keep them then."""

    @property
    def is_finished(self) -> bool:
        return self.state in ("complete", "pruned", "failed")

    @property
    def evaluation_key(self) -> str | None:
        """Key of the stage that holds the scores."""
        return next((one.key for one in self.stages if one.kind == "evaluate"), None)


@dataclass(frozen=True)
class Retry:
    """Which failed trials are to be run again: all of them, unless told otherwise."""

    cause: str = ""
    """Those that failed for this cause."""
    trials: tuple[int, ...] = ()
    """Those of these numbers."""


@dataclass(frozen=True)
class Ticket:
    """What a trial is to be run with."""

    number: int
    assignment: Assignment
    seed: int
    attempt: int


OUTDATED = "outdated"
"""Attribute of a trial: steps of its curve that were measured with facts which it is not made with
any more. Optuna forgets none."""


def points_of(trial: FrozenTrial) -> dict[int, float]:
    """Examples seen in the target stage -> objective metric, as far as it counts."""
    outdated = trial.user_attrs.get(OUTDATED, ())
    return {
        step: value for step, value in trial.intermediate_values.items() if step not in outdated
    }


def view_of(trial: FrozenTrial) -> TrialView:
    attributes = trial.user_attrs
    value = trial.value if trial.state == TrialState.COMPLETE else None
    # A driver may have died between the cause and the end; the trial went on, then.
    has_failed = trial.state == TrialState.FAIL
    return TrialView(
        number=trial.number,
        state=_STATES[trial.state],
        assignment=by_path(trial.params),
        configuration=configuration_of(trial),
        repeat=repeat_of(trial),
        seed=int(attributes.get("seed", 0)),
        objective=value,
        curve=tuple(sorted(points_of(trial).items())),
        attempts=int(attributes.get("attempts", 0)),
        cause=attributes.get("cause") if has_failed else None,
        message=attributes.get("message", "") if has_failed else "",
        log=attributes.get("log", "") if has_failed else "",
        stages=tuple(from_fields(StageUse, one) for one in attributes.get("stages", ())),
        mlflow_run_id=attributes.get("mlflow_run_id"),
        retry_of=attributes.get("retry_of"),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        unfinished_s=float(attributes.get("unfinished_s", 0.0)),
        facts=int(attributes.get("facts", 0)),
        path=tuple(attributes.get("path", ())),
    )


def still_failed(views: Sequence[TrialView]) -> list[TrialView]:
    """The failed trials that have not been queued again, by number."""
    retried = {one.retry_of for one in views}
    return [one for one in views if one.state == "failed" and one.number not in retried]


def standings(views: Sequence[TrialView], *, is_driven: bool) -> dict[int, Standing]:
    """How every trial of a sweep stands, by number.

    A trial that was asked and has not begun is queued; one that has begun is running where a
    living driver has the sweep (``is_driven``), and interrupted where none has. An attempt at a
    retry counts beyond those of the trial that it repeats.
    """
    attempts = {one.number: one.attempts for one in views}
    found: dict[int, Standing] = {}
    for one in views:
        if one.state == "complete" or one.state == "pruned" or one.state == "failed":
            found[one.number] = one.state
        elif one.attempts > attempts.get(-1 if one.retry_of is None else one.retry_of, 0):
            found[one.number] = "running" if is_driven else "interrupted"
        else:
            found[one.number] = "queued"
    return found


def assignment_of(trial: FrozenTrial) -> Assignment:
    """What a trial is to be run with, be it drawn already or still to be."""
    return by_path({**trial.system_attrs.get("fixed_params", {}), **trial.params})


def by_path(parameters: Mapping[str, Value]) -> Assignment:
    """Values of a sampler's parameters by the paths of their knobs."""
    return {name.partition(" in ")[0]: value for name, value in parameters.items()}


def configuration_of(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("configuration", -1))


def repeat_of(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("repeat", 0))


def is_retry(trial: FrozenTrial) -> bool:
    return "retry_of" in trial.user_attrs
