"""What ledger and store say of a sweep at one moment: everything that a report is made from."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from xlt_ray.errors import DamagedStage
from xlt_ray.ledger import (
    Ledger,
    Standing,
    Start,
    TrialView,
    fact_sets_of,
    standings,
    starts_of,
)
from xlt_ray.spec.supervision import TRANSLATE_TRAIN, supervision_told
from xlt_ray.spec.trial import Target
from xlt_ray.stages.record import StageRecord
from xlt_ray.stages.store import StageStore

DEFAULT_SOURCE = str(Target.model_fields["source_language"].default)


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
    """Where files of stages are read from, when they are asked for."""
    driver: str = ""
    """As :attr:`xlt_ray.ledger.Ledger.driver`."""

    @cached_property
    def standings(self) -> Mapping[int, Standing]:
        """How every trial stood, by number."""
        return standings(self.trials, driver=self.driver)

    @property
    def knobs(self) -> list[str]:
        """Dotted paths of everything that was searched over, the model first."""
        paths = {path for view in self.trials for path in view.assignment}
        return sorted(paths, key=lambda path: (path != "model", path))

    def record(self, view: TrialView, kind: str) -> StageRecord | None:
        """The record of a trial's stage of this kind, or None."""
        key = next((one.key for one in view.stages if one.kind == kind), None)
        return None if key is None else self.records.get(key)

    @property
    def unscored(self) -> list[int]:
        """Numbers of complete trials whose evaluation is gone or damaged."""
        return [
            one.number
            for one in self.trials
            if one.state == "complete"
            and one.evaluation_key is not None
            and one.evaluation_key not in self.records
        ]

    def supervision(self, view: TrialView) -> str:
        """Which labels a trial learned from, as :mod:`xlt_ray.spec.supervision` calls it.

        Of a trial that was not evaluated it names all languages of translated text, and is empty
        where there is none.
        """
        record, target = self.record(view, "evaluate"), self.record(view, "target")
        if record is not None:
            return record.supervision
        told: Any = {} if target is None else target.payload["settings"]
        hybrid = told.get("hybrid", {})
        if hybrid.get("text") != "translated":
            return ""
        return supervision_told({"supervision": {TRANSLATE_TRAIN: hybrid["languages"]}})


def read_snapshot(ledger: Ledger, store: StageStore) -> Snapshot:
    """Read every trial once and every record once; nothing is written.

    A damaged record counts as missing: one stage does not end the report of a whole sweep.
    """
    trials = tuple(ledger.trials())
    keys = dict.fromkeys(one.key for view in trials for one in view.stages)
    found = {key: _readable(store, key) for key in keys}
    return Snapshot(
        name=ledger.name,
        sweep=ledger.sweep,
        trials=trials,
        records={key: record for key, record in found.items() if record is not None},
        fact_sets=fact_sets_of(ledger),
        starts=tuple(starts_of(ledger)),
        store=store,
        driver=ledger.driver,
    )


def _readable(store: StageStore, key: str) -> StageRecord | None:
    try:
        return store.record(key)
    except DamagedStage:
        return None


def in_utc(time: datetime.datetime | None) -> datetime.datetime | None:
    """A time of the ledger, which Optuna hands out in the reader's zone without naming it."""
    return None if time is None else time.astimezone(datetime.UTC)


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
