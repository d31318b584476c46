"""Trials of the ledger as plain values, and the winner among them."""

from __future__ import annotations

import datetime
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from optuna.trial import FrozenTrial, TrialState

from xlt_ray.config.search_space import Assignment, Value
from xlt_ray.config.seed_race import Seeds, level_of, seed_levels
from xlt_ray.store.canonical import from_fields

State = Literal["waiting", "running", "complete", "pruned", "failed"]

Standing = Literal["complete", "pruned", "failed", "running", "interrupted", "queued"]
"""A state as it is shown: the ledger's "running" says only that a trial was asked."""

STANDINGS: tuple[Standing, ...] = get_args(Standing)

_STATES: Mapping[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class StageUse:
    """One stage of one trial: found in the store or trained."""

    kind: str
    key: str
    label: str
    reused: bool
    examples: int = 0
    """Examples that this trial trained to make it; 0 where it was reused."""
    seconds: float = 0.0
    made_by: str = ""
    """``sweep/trial`` that made it; ``sweep`` alone if no trial did; empty if unknown."""


@dataclass(frozen=True)
class Occupation:
    """How long a trial has had its resources, over all its attempts.

    For a running attempt also since when, by the clock of the driver that started it.
    """

    seconds: float = 0.0
    gpu_seconds: float = 0.0
    gpus: float = 0.0
    """GPUs of the running attempt; may be a fraction."""
    since: float | None = None
    """Seconds since 1970 up to which :attr:`seconds` are counted; None if no attempt runs."""
    driver: str = ""
    """Lease token of the driver that started the attempt."""

    def at(self, now: float) -> Occupation:
        """Counted up to ``now``; a moment before :attr:`since` adds nothing."""
        if self.since is None or now <= self.since:
            return self
        more = now - self.since
        return replace(
            self,
            seconds=self.seconds + more,
            gpu_seconds=self.gpu_seconds + more * self.gpus,
            since=now,
        )

    def released(self) -> Occupation:
        """The same counts, without a running attempt."""
        return Occupation(self.seconds, self.gpu_seconds)


@dataclass(frozen=True)
class Heartbeat:
    """When a driver last noted that it and its trials are running."""

    driver: str
    time: float
    """Seconds since 1970, by the clock of that driver."""
    left_s: float | None = None
    """Seconds that the sweep then still took; None if that was unknown."""


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
    occupied: Occupation = Occupation()
    facts: int = 0
    """Number of its set of facts (:mod:`xlt_ray.ledger.made_with`); 0 in an old ledger."""
    path: tuple[str, ...] = ()
    """Keys of all stages on its path, made or not; empty in an old ledger."""
    by_hand: str = ""
    """What people did to it: ``clone of trial 3``, ``stopped by hand``, or both."""
    further: tuple[float, ...] = ()
    """Values of the objectives after the first, if it is complete."""
    rung: int | None = None
    """Which value of the parameter of ``search.fidelity`` it has, from 0; None without one."""
    origin: int = -1
    """Its configuration at the lowest rung."""
    constraints: Mapping[str, float] = field(default_factory=dict)
    """Constraint -> how far the trial is beyond its bound; at most 0 if it keeps it."""

    @property
    def is_finished(self) -> bool:
        return self.state in ("complete", "pruned", "failed")

    @property
    def objectives(self) -> tuple[float, ...]:
        """Values of all objectives of a complete trial."""
        assert self.objective is not None
        return self.objective, *self.further

    @property
    def violated(self) -> tuple[str, ...]:
        return tuple(name for name, excess in self.constraints.items() if excess > 0)

    @property
    def evaluation_key(self) -> str | None:
        """Key of the stage that holds the scores."""
        return next((stage.key for stage in self.stages if stage.kind == "evaluate"), None)


@dataclass(frozen=True)
class AskedTrial:
    """A trial to run."""

    number: int
    assignment: Assignment
    seed: int
    attempt: int


LEFT_NODES = "left_nodes"
"""Attribute of a study: nodes that get no further trials because their devices failed."""
OUTDATED = "outdated"
"""Attribute of a trial: points of its curve that were measured with earlier facts; Optuna cannot
delete them."""
CLONE_OF = "clone_of"
"""Attribute of a trial: id of the request that asked for its configuration, and the trial that it
was cloned from."""
STOPPED = "stopped_by_hand"
"""Attribute of a trial that was stopped by hand."""
ORIGIN = "origin"
"""Attribute of a study that was imported: the archive that it was read from."""
OCCUPIED = "occupied"
"""Attribute of a trial: the fields of its :class:`Occupation`."""


def points_of(trial: FrozenTrial) -> dict[int, float]:
    """Examples seen in the target stage -> objective metric, without outdated points."""
    outdated = trial.user_attrs.get(OUTDATED, ())
    return {
        step: value for step, value in trial.intermediate_values.items() if step not in outdated
    }


def view_of(trial: FrozenTrial, heartbeat: Heartbeat | None = None) -> TrialView:
    """A trial as a view; a running attempt is counted up to its driver's heartbeat."""
    attributes = trial.user_attrs
    occupied = from_fields(Occupation, attributes.get(OCCUPIED, {}))
    if heartbeat is not None and heartbeat.driver == occupied.driver:
        occupied = occupied.at(heartbeat.time)
    values = tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else ()
    # If a driver died between noting the cause and the end, the trial continued.
    has_failed = trial.state == TrialState.FAIL
    return TrialView(
        number=trial.number,
        state=_STATES[trial.state],
        assignment=by_path(trial.params),
        configuration=configuration_of(trial),
        repeat=repeat_of(trial),
        seed=int(attributes.get("seed", 0)),
        objective=values[0] if values else None,
        curve=tuple(sorted(points_of(trial).items())),
        attempts=int(attributes.get("attempts", 0)),
        cause=attributes.get("cause") if has_failed else None,
        message=attributes.get("message", "") if has_failed else "",
        log=attributes.get("log", "") if has_failed else "",
        stages=tuple(from_fields(StageUse, stage) for stage in attributes.get("stages", ())),
        mlflow_run_id=attributes.get("mlflow_run_id"),
        retry_of=attributes.get("retry_of"),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        occupied=occupied,
        facts=int(attributes.get("facts", 0)),
        path=tuple(attributes.get("path", ())),
        by_hand=_by_hand(attributes),
        further=values[1:],
        rung=rung_of(trial),
        origin=origin_of(trial),
        constraints=trial.constraints,
    )


def _by_hand(attributes: Mapping[str, Any]) -> str:
    clone = f"clone of trial {attributes[CLONE_OF][1]}" if CLONE_OF in attributes else ""
    return ", ".join(filter(None, (clone, "stopped by hand" * bool(attributes.get(STOPPED)))))


def standings(views: Sequence[TrialView], *, driver: str = "") -> dict[int, Standing]:
    """The standing of every trial of a sweep, by number.

    A trial that was asked and has not started is queued. One that has started is running if the
    living driver of the sweep runs it, and interrupted otherwise: its process or its driver died,
    and it has not been started again. A retry continues the attempt count of its failed trial.

    Args:
        driver: token of the living driver's lease (:func:`xlt_ray.ledger.driver_of`), or empty.
    """
    attempts: dict[int | None, int] = {view.number: view.attempts for view in views}
    standing_of: dict[int, Standing] = {}
    for view in views:
        if view.state in ("complete", "pruned", "failed"):
            standing_of[view.number] = view.state
        elif driver and view.occupied.since is not None and view.occupied.driver == driver:
            standing_of[view.number] = "running"
        elif view.attempts > attempts.get(view.retry_of, 0):
            standing_of[view.number] = "interrupted"
        else:
            standing_of[view.number] = "queued"
    return standing_of


def assignment_of(trial: FrozenTrial) -> Assignment:
    """The assignment of a trial, started or waiting."""
    return by_path({**trial.system_attrs.get("fixed_params", {}), **trial.params})


def by_path(parameters: Mapping[str, Value]) -> Assignment:
    """Values of a sampler's parameters by the paths of their parameters."""
    return {name.partition(" in ")[0]: value for name, value in parameters.items()}


def configuration_of(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("configuration", -1))


def repeat_of(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("repeat", 0))


def rung_of(trial: FrozenTrial) -> int | None:
    """As :attr:`TrialView.rung`."""
    rung: int | None = trial.user_attrs.get("rung")
    return rung


def origin_of(trial: FrozenTrial) -> int:
    """The configuration of a trial at the lowest rung."""
    return int(trial.user_attrs.get("origin", configuration_of(trial)))


def is_retry(trial: FrozenTrial) -> bool:
    return "retry_of" in trial.user_attrs


@dataclass(frozen=True)
class Winner:
    """The configuration that a sweep selects."""

    trial: TrialView
    """Its complete trial with the best objective."""
    objective: float
    """Mean over its complete trials."""
    num_seeds: int
    """Number of its complete trials."""
    runner_up: int | None
    """The second-best configuration."""

    @property
    def configuration(self) -> int:
        return self.trial.configuration


def complete_by_configuration(trials: Sequence[TrialView]) -> dict[int, list[TrialView]]:
    complete: dict[int, list[TrialView]] = defaultdict(list)
    for trial in trials:
        if trial.state == "complete" and trial.objective is not None:
            complete[trial.configuration].append(trial)
    return complete


def violations(trials: Sequence[TrialView]) -> list[str]:
    """The constraints that the complete trials of a configuration do not keep on average."""
    names = dict.fromkeys(name for trial in trials for name in trial.constraints)
    return [
        name
        for name in names
        if math.fsum(trial.constraints.get(name, 0.0) for trial in trials) > 0
    ]


def is_feasible(trials: Sequence[TrialView]) -> bool:
    """Whether the complete trials of a configuration keep every constraint on average."""
    return not violations(trials)


def ranked(trials: Sequence[TrialView], seeds: Seeds, *modes: str) -> list[int]:
    """Configurations with a complete trial by their mean objective, the best first.

    Those that keep all constraints come before the others, then those that have reached a higher
    rung of ``search.fidelity`` or of a race of seeds, or have all seeds complete; ties go to the
    better one by the next objective, at last to the earlier one. Whatever selects uses this order.

    Args:
        seeds: ``search.seeds`` of the sweep.
        modes: ``max`` or ``min`` of every objective.
    """
    levels, complete = seed_levels(seeds), complete_by_configuration(trials)

    def rank(number: int) -> tuple[bool, int, int, list[float], int]:
        values = zip(*(trial.objectives for trial in complete[number]), strict=True)
        losses = [
            -_sign(mode) * statistics.fmean(of_trials)
            for mode, of_trials in zip(modes, values, strict=True)
        ]
        level = level_of(len(complete[number]), levels)
        rung = complete[number][0].rung or 0
        return not is_feasible(complete[number]), -rung, -level, losses, number

    return sorted(complete, key=rank)


def winner(trials: Sequence[TrialView], seeds: Seeds, *modes: str) -> Winner | None:
    """What a sweep selects: the best by the first objective, which is on the Pareto front.

    None before a configuration that keeps all constraints has a complete trial.
    """
    complete = complete_by_configuration(trials)
    order = [number for number in ranked(trials, seeds, *modes) if is_feasible(complete[number])]
    if not order:
        return None
    best = complete[order[0]]
    return Winner(
        trial=max(
            best, key=lambda trial: (not trial.violated, _sign(modes[0]) * trial.objectives[0])
        ),
        objective=statistics.fmean(trial.objectives[0] for trial in best),
        num_seeds=len(best),
        runner_up=order[1] if len(order) > 1 else None,
    )


def _sign(mode: str) -> float:
    return 1.0 if mode == "max" else -1.0
