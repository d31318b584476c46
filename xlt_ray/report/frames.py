"""A sweep at one moment: its trials and the records of their stages, and data frames of them.

Rows are ordered by trial number and then by name, so that the same ledger and store give the same
frames everywhere. Scores of the evaluation stage are those of complete trials; a trial that was
pruned, failed or still runs has only what was scored on its way.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

import pandas as pd

from xlt_ray.config.supervision import TRANSLATE_TRAIN, supervision_label
from xlt_ray.config.sweep import DEFAULT_SOURCE, is_judged_by_oracle, modes_of
from xlt_ray.errors import DamagedStage
from xlt_ray.ledger import (
    Ledger,
    Request,
    Standing,
    Start,
    TrialView,
    fact_sets_of,
    standings,
    starts_of,
)
from xlt_ray.ledger.views import Winner, complete_by_configuration, ranked, violations, winner
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.store import StageStore


@dataclass(frozen=True)
class Snapshot:
    """All trials, and the records of all stages that they name."""

    name: str
    sweep: Mapping[str, Any]
    """The resolved sweep."""
    trials: tuple[TrialView, ...]
    """By number."""
    records: Mapping[str, StageRecord]
    """By key; a stage that the store has no more, or whose record is damaged, is not there."""
    fact_sets: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """What trials were made with, by number (:mod:`xlt_ray.ledger.made_with`)."""
    starts: tuple[Start, ...] = ()
    store: StageStore | None = None
    """The store that files of stages are read from on demand."""
    driver: str = ""
    """As :attr:`xlt_ray.ledger.Ledger.driver`."""
    by_hand: tuple[Request, ...] = ()
    """As :attr:`xlt_ray.ledger.Ledger.by_hand`."""
    origin: str = ""
    """As :attr:`xlt_ray.ledger.Ledger.origin`."""

    @cached_property
    def standings(self) -> Mapping[int, Standing]:
        """How every trial stood, by number."""
        return standings(self.trials, driver=self.driver)

    @cached_property
    def ranking(self) -> list[int]:
        """Configurations with a complete trial, the best first."""
        sweep = self.sweep
        return ranked(self.trials, sweep["search"]["seeds"], *modes_of(sweep["objective"]))

    @property
    def best(self) -> Winner | None:
        """What the sweep selects; None if no complete configuration keeps all constraints."""
        sweep = self.sweep
        return winner(self.trials, sweep["search"]["seeds"], *modes_of(sweep["objective"]))

    @property
    def best_configuration(self) -> int | None:
        """The number of :attr:`best`."""
        return None if self.best is None else self.best.configuration

    @property
    def parameters(self) -> list[str]:
        """Dotted paths of everything that was searched over, the model first."""
        paths = {path for view in self.trials for path in view.assignment}
        return sorted(paths, key=lambda path: (path != "model", path))

    def record(self, view: TrialView, kind: str) -> StageRecord | None:
        """The record of a trial's stage of this kind, or None."""
        key = next((stage.key for stage in view.stages if stage.kind == kind), None)
        return None if key is None else self.records.get(key)

    @property
    def unscored(self) -> list[int]:
        """Numbers of complete trials whose evaluation is gone or damaged."""
        return [
            trial.number
            for trial in self.trials
            if trial.state == "complete"
            and trial.evaluation_key is not None
            and trial.evaluation_key not in self.records
        ]

    def supervision(self, view: TrialView) -> str:
        """Which labels a trial learned from, as :mod:`xlt_ray.config.supervision` calls it.

        For a trial without an evaluation: all languages of its translated text, or empty.
        """
        record, target = self.record(view, "evaluate"), self.record(view, "target")
        if record is not None:
            return record.supervision
        hybrid = _settings(target).get("hybrid", {})
        if hybrid.get("text") != "translated":
            return ""
        return supervision_label({"supervision": {TRANSLATE_TRAIN: hybrid["languages"]}})

    def evaluated(self) -> Iterator[tuple[TrialView, StageRecord]]:
        """Complete trials with the records of their evaluations, where the store has these."""
        for view in self.trials:
            record = self.record(view, "evaluate")
            if record is not None and view.state == "complete":
                yield view, record


def read_snapshot(ledger: Ledger, store: StageStore) -> Snapshot:
    """Read every trial once and every record once; nothing is written.

    A damaged record counts as missing: one stage does not end the report of a whole sweep.
    """
    trials = tuple(ledger.trials())
    keys = dict.fromkeys(stage.key for view in trials for stage in view.stages)
    records = {key: readable(store, key) for key in keys}
    return Snapshot(
        name=ledger.name,
        sweep=ledger.sweep,
        trials=trials,
        records={key: record for key, record in records.items() if record is not None},
        fact_sets=fact_sets_of(ledger),
        starts=tuple(starts_of(ledger)),
        store=store,
        driver=ledger.driver,
        by_hand=tuple(ledger.by_hand),
        origin=ledger.origin,
    )


def readable(store: StageStore, key: str) -> StageRecord | None:
    """A record; None if it is gone or damaged."""
    try:
        return store.record(key)
    except DamagedStage:
        return None


def in_utc(time: datetime.datetime | None) -> datetime.datetime | None:
    """A time of the ledger, which Optuna hands out in the reader's zone without naming it."""
    return None if time is None else time.astimezone(datetime.UTC)


def as_of(snapshot: Snapshot) -> str:
    """When the ledger last changed (UTC, to the minute); empty before the first trial."""
    times = [time for trial in snapshot.trials for time in (trial.started, trial.ended) if time]
    last = in_utc(max(times, default=None))
    return "" if last is None else f"{last:%Y-%m-%d %H:%M} UTC"


def target_of(sweep: Mapping[str, Any], assignment: Mapping[str, Any]) -> tuple[str, str]:
    """Target task and source language of a trial: searched, in a chosen block, or fixed.

    >>> sweep = {"space": {"target": {"choice": [{"task": "a"}, {"task": "b"}]}}}
    >>> target_of(sweep, {"target": '{"task": "b"}'})
    ('b', 'en')
    """
    block = sweep["space"].get("target", {})
    if "target" in assignment:
        block = json.loads(str(assignment["target"]))

    def setting(name: str) -> Any:
        return assignment.get(f"target.{name}", block.get(name))

    return str(setting("task") or ""), str(setting("source_language") or DEFAULT_SOURCE)


TRIAL_COLUMNS = (
    "number", "state", "configuration", "repeat", "seed", "rung", "objective", "supervision",
    "attempts", "cause", "message", "retry_of", "by_hand", "examples", "seconds", "started",
    "ended", "facts", "mlflow_run_id", "violated",
)  # fmt: skip
WHO_COLUMNS = ("number", "configuration", "repeat", "seed", "facts")
"""Whose a score is, and the number of the set of facts that it was made with."""
WHAT_COLUMNS = (
    "task", "task_version", "source_language", "language", "split", "metric", "value",
    "num_examples", "num_items", "top_share", "gold_top_share", "chance", "cut",
    "is_near_constant",
)  # fmt: skip
"""What was scored."""
SCORE_COLUMNS = (*WHO_COLUMNS, *WHAT_COLUMNS, "stage", "step", "examples", "data")
STAGE_COLUMNS = (
    "number", "kind", "key", "label", "reused", "examples", "seconds", "made_by", "ended",
    "coverage", "runtime", "versions",
)  # fmt: skip
COST_COLUMNS = (
    "number", "configuration", "state", "attempts", "examples", "examples_alone", "seconds",
    "seconds_alone", "worker_hours", "worker_hours_alone", "device", "occupied_s", "gpu_hours",
    "wall_s",
)  # fmt: skip


def trials_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a trial: ``TRIAL_COLUMNS``, then one column for each parameter by its dotted path.

    A parameter that a trial does not have (of a block that was not chosen) is None. ``examples``
    and ``seconds`` are what this trial itself trained and took; reused stages count for nothing.
    ``started`` (when it was asked) and ``ended`` are UTC. ``supervision`` says which labels it
    learned from (:meth:`Snapshot.supervision`). ``facts`` is the number of the set of facts that it
    was made with (:mod:`xlt_ray.ledger.made_with`), 0 where none was kept. ``rung`` is that of
    ``search.fidelity``, from 0. ``violated`` names the
    constraints that its configuration does not keep.
    """
    parameters, complete = snapshot.parameters, complete_by_configuration(snapshot.trials)
    rows = [
        {
            **{name: getattr(view, name, None) for name in TRIAL_COLUMNS},
            "state": snapshot.standings[view.number],
            "supervision": snapshot.supervision(view),
            "violated": ", ".join(violations(complete[view.configuration])),
            "examples": sum(stage.examples for stage in view.stages),
            "seconds": sum(stage.seconds for stage in view.stages),
            "started": in_utc(view.started),
            "ended": in_utc(view.ended),
            **{path: view.assignment.get(path) for path in parameters},
        }
        for view in snapshot.trials
    ]
    # Object columns: a parameter may be text in one trial and absent in the next.
    return pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, *parameters], dtype=object)


def scores_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a trial, task, language, split, metric, stage and step: ``SCORE_COLUMNS``.

    Rows of ``stage`` *evaluate* are the final scores of the target task, in one language each (all
    else that was evaluated is in :mod:`xlt_ray.report.additional_tasks`), ``step`` that of the last
    training step where it is known. Rows of a training stage are its evaluations on the way: the
    dev set of its source language, and the training ``loss`` (split *train*). Of a target stage
    that was not finished there is what the ledger has: the objective metric by examples, without a
    step. ``data`` is the fingerprint of the scored data, ``num_examples`` how many were scored, and
    ``num_items`` to ``is_near_constant`` are as in :class:`xlt_ray.store.record.Score`; all are
    missing for scores on the way.
    """
    rows = [
        (*_who(view), *row)
        for view in snapshot.trials
        for row in (*_final_scores(view, snapshot), *_scores_on_the_way(view, snapshot))
    ]
    frame = pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
    return typed(frame, "step", "examples").sort_values(
        ["number", "stage", "task", "split", "metric", "language", "examples"],
        kind="stable",
        ignore_index=True,
    )


def typed(frame: pd.DataFrame, *numbers: str) -> pd.DataFrame:
    """A frame with ``WHAT_COLUMNS`` whose columns have one type each, whatever is missing.

    Args:
        numbers: further columns of whole numbers.
    """
    kinds = dict.fromkeys(("num_examples", "num_items", "task_version", *numbers), "Int64")
    kinds |= dict.fromkeys(("top_share", "gold_top_share", "chance", "cut"), "float64")
    return frame.astype(kinds | {"is_near_constant": "boolean"})


def stages_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a trial and stage: ``STAGE_COLUMNS``.

    ``coverage`` says what share of the words of its text a lexicon or lists of neighbours have,
    where a training looks words up. ``runtime`` (the numeric half, which may move last bits) and
    ``versions`` (of the code that made it) are canonical JSON of the record, empty where the store
    has it no more. ``ended`` is when it was committed (ISO, UTC), ``made_by`` who made it
    (``sweep/trial``).
    """
    rows = []
    for view in snapshot.trials:
        for stage in view.stages:
            record = snapshot.records.get(stage.key)
            made_by = record.made_by if record else {}
            versions = {name: made_by[name] for name in ("commit", "versions") if name in made_by}
            shares = record.coverage if record else {}
            coverage = [f"{name} {100 * share:.1f} %" for name, share in shares.items()]
            trained_here = "" if stage.reused else f"{snapshot.name}/{view.number}"
            rows.append(
                {
                    "number": view.number,
                    **{name: getattr(stage, name) for name in STAGE_COLUMNS[1:7]},
                    "made_by": stage.made_by or trained_here,
                    "ended": made_by.get("time", ""),
                    "coverage": ", ".join(coverage),
                    "runtime": _json(record.runtime if record else {}),
                    "versions": _json(versions),
                }
            )
    return pd.DataFrame(rows, columns=list(STAGE_COLUMNS))


def costs_frame(snapshot: Snapshot) -> pd.DataFrame:
    """One row a trial: ``COST_COLUMNS``.

    ``examples`` and ``seconds`` are what it trained itself, ``examples_alone`` and
    ``seconds_alone`` what its whole path takes where nothing is shared (missing where the store
    has not all of it). ``worker_hours`` are its own seconds times workers, on ``device``,
    ``worker_hours_alone`` those of its whole path; ``occupied_s`` and ``gpu_hours`` are for how
    long it had its resources and GPUs, as ``budget.gpu_hours`` counts;
    ``wall_s`` is the time from when it was asked to its end, waiting included.
    """
    return pd.DataFrame(
        [_cost(view, snapshot) for view in snapshot.trials], columns=list(COST_COLUMNS)
    )


def who(view: TrialView) -> dict[str, Any]:
    """``WHO_COLUMNS`` of a trial."""
    return {name: getattr(view, name) for name in WHO_COLUMNS}


def what(score: Score, task_version: int | None, source_language: str) -> dict[str, Any]:
    """``WHAT_COLUMNS`` of a score."""
    given = {"task_version": task_version, "source_language": source_language}
    return {name: given[name] if name in given else getattr(score, name) for name in WHAT_COLUMNS}


def _cost(view: TrialView, snapshot: Snapshot) -> dict[str, Any]:
    records = [snapshot.records.get(stage.key) for stage in view.stages]
    whole = [record for record in records if record is not None]
    is_whole = bool(view.stages) and len(whole) == len(records) and view.state == "complete"
    workers = [int(record.runtime.get("workers", 1)) if record else 1 for record in records]
    devices = {str(record.runtime["device"]) for record in whole if "device" in record.runtime}
    # The ledger's times are of the reader's zone, where a clock may have been put forward.
    asked, ended = in_utc(view.started), in_utc(view.ended)
    by_workers = zip(view.stages, workers, strict=True)
    cost: dict[str, Any] = {
        **{name: getattr(view, name) for name in ("number", "configuration", "attempts")},
        "state": snapshot.standings[view.number],
        "examples": sum(stage.examples for stage in view.stages),
        "seconds": sum(stage.seconds for stage in view.stages),
        "worker_hours": sum(stage.seconds * number for stage, number in by_workers) / 3600,
        "device": "+".join(sorted(devices)),
        "occupied_s": view.occupied.seconds,
        "gpu_hours": view.occupied.gpu_seconds / 3600,
        "wall_s": (ended - asked).total_seconds() if asked and ended else None,
    }
    if is_whole:
        alone = zip(whole, workers, strict=True)
        cost["examples_alone"] = sum(record.num_examples for record in whole)
        cost["seconds_alone"] = sum(record.seconds for record in whole)
        hours = sum(record.seconds * number for record, number in alone) / 3600
        cost["worker_hours_alone"] = hours
    return cost


_who = attrgetter(*WHO_COLUMNS)
_language_and_rest = attrgetter(*WHAT_COLUMNS[3:])
"""What was scored, without task, version of the task and source language."""


def _final_scores(view: TrialView, snapshot: Snapshot) -> Iterator[tuple[Any, ...]]:
    """Rows without the columns of :func:`who`, as are those of :func:`_scores_on_the_way`. Tuples:
    a sweep has hundreds of thousands."""
    record = snapshot.record(view, "evaluate")
    if record is None or view.state != "complete":
        return
    settings = _settings(record)
    target = snapshot.record(view, "target")
    last = target.history[-1] if target and target.history else {}
    data: Any = record.payload.get("data")
    version, source = _version(settings), settings.get("source_language", "")
    seen = last.get("step"), last.get("examples")
    for score in record.scores:
        if score.role == "target":
            fingerprint = data.get(score.split, {}).get(score.language, "")
            what_and_rest = (score.task, version, source, *_language_and_rest(score))
            yield (*what_and_rest, "evaluate", *seen, fingerprint)


def _scores_on_the_way(view: TrialView, snapshot: Snapshot) -> Iterator[tuple[Any, ...]]:
    for stage in view.stages:
        record = snapshot.records.get(stage.key)
        settings = _settings(record)
        task = settings.get("task", {}).get("name", settings.get("objective", ""))
        language = settings.get("source_language", "")
        for entry in record.history if record else ():
            for name, value in entry["metrics"].items():
                # A stage of several tasks is scored in TASK/METRIC.
                of_several, _, metric = name.rpartition("/")
                yield _on_the_way(
                    task=of_several or task,
                    language=language,
                    metric=metric,
                    value=value,
                    stage=stage.kind,
                    task_version=_version(settings),
                    step=entry["step"],
                    examples=entry["examples"],
                )
    # Means over languages are no score of one.
    if snapshot.record(view, "target") is None and not is_judged_by_oracle(snapshot.sweep):
        task, language = target_of(snapshot.sweep, view.assignment)
        metric = snapshot.sweep["objective"]["metric"]
        for examples, value in view.curve:
            yield _on_the_way(
                task=task,
                language=language,
                metric=metric,
                value=value,
                stage="target",
                examples=examples,
            )


def _on_the_way(**known: Any) -> tuple[Any, ...]:
    row = {
        **known,
        "source_language": known["language"],
        "split": "train" if known["metric"] == "loss" else "dev",
        "data": "",
    }
    return tuple(map(row.get, SCORE_COLUMNS[len(WHO_COLUMNS) :]))


def _settings(record: StageRecord | None) -> Mapping[str, Any]:
    settings = record.payload["settings"] if record else {}
    return settings if isinstance(settings, Mapping) else {}


def _version(settings: Mapping[str, Any]) -> int | None:
    task = settings.get("task")
    return task.get("version") if isinstance(task, Mapping) else None


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if value else ""
