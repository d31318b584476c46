"""Trains stages of a capsule again, and compares the results with its records."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.config.search_space import plain
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView, changes
from xlt_ray.ledger.made_with import listed
from xlt_ray.store.canonical import differences, sealed
from xlt_ray.store.record import StageRecord, bits_of
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import RECORD, StageStore
from xlt_ray.sweep.read_facts import refuse_faulty, used_facts
from xlt_ray.sweep.runner import checked_facts
from xlt_ray.sweep.tasks import Planner, task_for
from xlt_ray.sweep.workers import open_walk
from xlt_ray.versions import NUMERIC

if TYPE_CHECKING:
    from xlt_ray.training.events import Event


@dataclass(frozen=True)
class Retrained:
    """A stage that was to be trained anew, beside its record."""

    label: str
    key: str
    outcome: str
    """``same bits``, ``same scores``, how much the scores differ, or why it was not trained."""
    is_same: bool
    there: str = ""
    """Device and versions by its record."""
    here: str = ""
    """Those by which it was trained anew."""


def retrain(
    keys: Sequence[str],
    sweep: SweepSpec,
    trials: Sequence[TrialView],
    fact_sets: Mapping[int, Mapping[str, str]],
    records: Mapping[str, StageRecord],
    home: Home,
    store: StageStore,
    *,
    trust_remote_code: bool = False,
) -> Iterator[Event | Retrained]:
    """Train stages anew from this machine's models and data; yields events and outcomes.

    Args:
        keys: of stages in ``records``.
        fact_sets: what the trials were made with, by number.
        home: an empty one, in which the stages are made.
        store: finished stages that the others need are taken from here.
        trust_remote_code: whether code of models may run where the sweep asks for it.

    Raises:
        SpecError: the sweep asks to run code of a model, and may not.
        SpecErrors: the sweep does not fit the models or data of this machine.
    """
    if not trust_remote_code and _trusts_code(
        [plain(sweep.space.tree), [dict(view.assignment) for view in trials]]
    ):
        raise SpecError(
            "the sweep runs code that comes with its models",
            key="model.trust_remote_code",
            remedy="read that code, and give --trust-remote-code",
        )
    facts = checked_facts(sweep)
    refuse_faulty(sweep, facts, home.cache)
    home.refuse_unwritable()
    planner, made = Planner(sweep, facts), StageStore(home.stages)
    used = used_facts(sweep, facts)
    for key in keys:
        record = records[key]
        view = next((v for v in trials if key in _path_of(v)), None)
        if view is None:
            yield Retrained(record.label, key, "belongs to no trial", is_same=False)
            continue
        trial = planner.trial(view.assignment)
        path = planner.path(trial, view.seed)
        stages = stages_to_run(path)
        place = next((n for n, stage in enumerate(stages) if stage.key == key), None)
        if place is None:
            listing = listed(changes(fact_sets.get(view.facts, used), used))
            outcome = listing or _first_difference(view, stages, records)
            yield Retrained(record.label, key, f"not trained: {outcome}", is_same=False)
            continue
        for parent in stages[:place]:
            if parent.key not in keys and parent not in made:
                _take(parent, store, made)
        task = task_for(view.number, trial, path, sweep, home)
        # As for a debugger: one process, in this thread.
        task = replace(task, until=key, resources={**task.resources, "workers": 1})
        events, _ = open_walk(task)
        yield from events
        yield _compared(record, made[stages[place]])


def _trusts_code(tree: Any) -> bool:
    """Whether a value of ``trust_remote_code`` may be true anywhere in a sweep or in a choice.

    >>> _trusts_code({"model": {"name": "a/b", "trust_remote_code": False}})
    False
    >>> _trusts_code([{"model": '{"name": "a/b", "trust_remote_code": true}'}])
    True
    """
    if isinstance(tree, Mapping):
        return any(
            (str(key).endswith("trust_remote_code") and value is not False) or _trusts_code(value)
            for key, value in tree.items()
        )
    if isinstance(tree, str) and tree.startswith("{"):
        with suppress(ValueError):
            return _trusts_code(json.loads(tree))
    return isinstance(tree, list) and any(map(_trusts_code, tree))


def _path_of(view: TrialView) -> tuple[str, ...]:
    """Keys of all stages on the path of a trial; those that it made, in an old ledger."""
    return view.path or tuple(use.key for use in view.stages)


def _first_difference(
    view: TrialView, stages: Sequence[Stage], records: Mapping[str, StageRecord]
) -> str:
    """The settings or data in which the first stage that is another one differs."""
    for key, stage in zip(_path_of(view), stages, strict=False):
        if key != stage.key and key in records:
            found = differences(records[key].payload, stage.payload)[:5]
            return "; ".join(f"{path}: {there} -> {here}" for path, there, here in found)
    return "the path of its trial is another one here"


def _take(stage: Stage, store: StageStore, made: StageStore) -> None:
    """Put a finished stage of ``store`` into ``made``, whose files are links where they can be."""
    record = store.find_recorded(stage)
    if record is None:
        return
    store.verify(stage.key)
    target = Path(made.storage.root) / "stages" / stage.key
    for name in record.files:
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(store.folder(stage.key) / name, file)
        if not file.exists():
            shutil.copyfile(store.folder(stage.key) / name, file)
    made.storage.write(f"stages/{stage.key}/{RECORD}", sealed(record.to_json()))


def _compared(there: StageRecord, here: StageRecord) -> Retrained:
    outcome, is_same = "same bits", True
    if bits_of(there) != bits_of(here):
        outcome, is_same = _score_difference(_scores(there), _scores(here))
    return Retrained(there.label, there.key, outcome, is_same, _made_with(there), _made_with(here))


def _scores(record: StageRecord) -> dict[str, float]:
    """Final scores, and those of the evaluations during training, by what they are of."""
    final = {
        f"{score.metric} of {score.task}, {score.language} {score.split}": score.value
        for score in record.scores
    }
    return final | {
        f"{metric} at step {evaluation['step']}": value
        for evaluation in record.history
        for metric, value in evaluation["metrics"].items()
    }


def _score_difference(there: Mapping[str, float], here: Mapping[str, float]) -> tuple[str, bool]:
    """How far the scores of two results are apart, in words, and whether they are the same.

    >>> _score_difference({"accuracy at step 4": 0.5}, {"accuracy at step 4": 0.25})
    ('scores differ by at most 0.25 (accuracy at step 4: 0.5 -> 0.25)', False)
    >>> _score_difference({}, {})
    ('other weights, and no scores to compare', False)
    """
    if missing := sorted(there.keys() ^ here.keys()):
        return f"other scores: {missing[0]} is on one side only", False
    if not there:
        return "other weights, and no scores to compare", False
    name = max(sorted(there), key=lambda name: abs(there[name] - here[name]))
    difference = abs(there[name] - here[name])
    if not difference:
        return "same scores, other weights", True
    values = f"{name}: {there[name]:.6g} -> {here[name]:.6g}"
    return f"scores differ by at most {difference:.3g} ({values})", False


def _made_with(record: StageRecord) -> str:
    """Device, numeric runtime and versions, in one line."""
    versions: Any = record.made_by.get("versions", {})
    known = [f"{name} {versions[name]}" for name in NUMERIC if name in versions]
    return ", ".join([f"{k} {v}" for k, v in sorted(record.runtime.items())] + known) or "unknown"
