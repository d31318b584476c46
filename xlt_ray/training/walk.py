"""Walk a path: find each stage in the store or make it, under its lease.

:func:`walk` is what a trial does, in a Tune trainable, in several workers, or in one plain
process (``xlt stage``): the same code gives the same bits.
"""

from __future__ import annotations

import datetime
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlt_ray.store.evaluation_items import write_items
from xlt_ray.store.lease import Holder, Lease
from xlt_ray.store.record import StageRecord, profiles_from_json
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import StagePath, dependencies, stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.training.data_changes import refuse_changed
from xlt_ray.training.diagnose import Diagnose, diagnose_stage, diagnose_with, diagnosis_of
from xlt_ray.training.engine import Engine
from xlt_ray.training.evaluate import evaluate_stage
from xlt_ray.training.final_weights import Average, Best, averaged_points
from xlt_ray.training.load import TrainingInputs, save_result
from xlt_ray.training.loop import Committed, Event, Waiting, evaluated, train
from xlt_ray.training.process_group import ProcessGroup
from xlt_ray.training.runtime import Runtime
from xlt_ray.training.setup import training_setup
from xlt_ray.versions import library_versions

POLL = 0.25
"""Seconds between two looks at a stage that somebody else makes."""


def walk(
    path: StagePath,
    materials: TrainingInputs,
    store: StageStore,
    runtime: Runtime,
    team: ProcessGroup,
    *,
    until: str = "",
) -> Iterator[Event]:
    """Make what is missing of a path, from the deepest stage that is there.

    Yields a :class:`Committed` for every stage, evaluations and signs of life on the way, and
    :class:`Waiting` while somebody else makes a stage. What the evaluation at the end diagnoses is
    diagnosed in every training on the way.

    Args:
        until: kind of the last stage to make; the last one of the path where it has none of that.
    """
    runtime = replace(runtime, diagnosis=diagnosis_of(path[-1]))
    stages = stages_to_run(path)
    kinds = [stage.kind for stage in stages]
    if until in kinds:
        stages = stages[: kinds.index(until) + 1]
    start = next((n for n in range(len(stages), 0, -1) if _can_start(stages, n, store, team)), 0)
    for stage in stages[:start]:
        # What a finished stage was made from is needed no more, there or not.
        record = _told(stage, store, team)
        if record is not None:
            yield from _replayed(stage, record)
    if start < len(stages):
        # What a trial is scored on in the end, before anything is trained.
        refuse_changed(stages[-1], materials.source)
    for stage in stages[start:]:
        yield from make(stage, materials, store, runtime, team)


def _can_start(stages: Sequence[Stage], index: int, store: StageStore, team: ProcessGroup) -> bool:
    """Whether all is there, and sound, that the stage at ``index`` is made from."""
    if _found(stages[index - 1], store, team) is None:
        return False
    read = dependencies(stages[index]) if index < len(stages) else ()
    return all(
        lender.key == stages[index - 1].key or _found(lender, store, team) is not None
        for lender in read
    )


def make(
    stage: Stage, materials: TrainingInputs, store: StageStore, runtime: Runtime, team: ProcessGroup
) -> Iterator[Event]:
    """Make one stage whose parent is there, or wait for whoever makes it."""
    runtime = runtime.fitted(stage.settings)
    while True:
        lease = store.lease(stage.key, purpose=_purpose(runtime)) if team.is_leader else None
        holder = team.share(str(lease) if isinstance(lease, Holder) else None)
        if holder is None:
            break
        yield Waiting(stage, holder)
        time.sleep(POLL)
    assert not isinstance(lease, Holder)
    with lease or nullcontext():
        # It may have been finished between the last look and the lease.
        record = _found(stage, store, team)
        if record is not None:
            yield from _replayed(stage, record)
            return
        refuse_changed(stage, materials.source)
        if stage.is_training:
            yield from _train(stage, materials, store, runtime, team, lease)
        else:
            began = time.monotonic()
            scores, items = yield from evaluate_stage(stage, materials, store, runtime, team)
            profiles = diagnose_stage(stage, materials, store, runtime, team)
            folder = _aside(store, stage, team)
            if folder is not None:
                write_items(items, folder)
            took = time.monotonic() - began
            record = _record(stage, runtime, seconds=took, scores=scores, profiles=profiles)
            yield _commit(stage, folder, record, store, lease, team)


def _train(
    stage: Stage,
    materials: TrainingInputs,
    store: StageStore,
    runtime: Runtime,
    team: ProcessGroup,
    lease: Lease | None,
) -> Iterator[Event]:
    lesson, tokenizer = training_setup(stage, materials, store, runtime)
    engine = Engine(lesson.network, stage.settings, runtime)
    try:
        diagnose = _diagnose_with(runtime, materials, tokenizer)
        points = averaged_points(lesson.num_steps, stage.settings)
        average = Average(points, is_keeper=team.is_leader)
        best = Best(stage.settings.get("select", {}).get("metric"), is_keeper=team.is_leader)
        course = yield from train(
            engine, lesson, stage, runtime, team, store, lease, diagnose, (average, best)
        )
        folder = _aside(store, stage, team)
        if stage.kind == "trunk":
            engine.save(folder)
        else:
            with engine.whole_weights(is_keeper=team.is_leader) as network:
                if folder is not None:
                    best.put(network)
                    save_result(network, tokenizer, folder)
            if folder is not None:
                average.write(folder)
        record = _record(
            stage,
            runtime,
            num_examples=(course.step - course.first_step) * stage.settings["batch_size"],
            seconds=course.seconds,
            history=tuple(course.history),
            selected_step=best.step(course.history),
            profiles=profiles_from_json(course.profiles),
            coverage=dict(lesson.coverage),
        )
        yield _commit(stage, folder, record, store, lease, team)
    finally:
        engine.close()


def _diagnose_with(runtime: Runtime, materials: TrainingInputs, tokenizer: Any) -> Diagnose | None:
    asked = runtime.diagnosis
    if asked is None:
        return None
    return diagnose_with(asked, materials.source, tokenizer, runtime.evaluation_batch)


def _found(stage: Stage, store: StageStore, team: ProcessGroup) -> StageRecord | None:
    return team.share(store.find_undamaged(stage) if team.is_leader else None)


def _told(stage: Stage, store: StageStore, team: ProcessGroup) -> StageRecord | None:
    return team.share(store.find_recorded(stage) if team.is_leader else None)


def _replayed(stage: Stage, record: StageRecord) -> Iterator[Event]:
    """A stage that was found, with the evaluations of its training as if it were trained now."""
    for entry in record.history:
        yield evaluated(stage, entry, is_replay=True)
    yield Committed(stage, record, reused=True)


def _aside(store: StageStore, stage: Stage, team: ProcessGroup) -> Path | None:
    """An empty folder for a result, which the leader alone writes; None for the others."""
    if not team.is_leader:
        return None
    folder = store.scratch / "results" / f"{stage.key}-{time.time_ns()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _commit(
    stage: Stage,
    folder: Path | None,
    record: StageRecord,
    store: StageStore,
    lease: Lease | None,
    team: ProcessGroup,
) -> Committed:
    if team.is_leader:
        assert lease is not None
        assert folder is not None
        record = store.commit(stage, folder, record, lease)
    return Committed(stage, team.share(record), reused=False)


def _record(stage: Stage, runtime: Runtime, **content: Any) -> StageRecord:
    return StageRecord(
        key=stage.key,
        payload=stage.payload,
        label=stage.label,
        files={},
        runtime=runtime.numeric(),
        made_by={
            **runtime.made_by,
            "host": socket.gethostname(),
            "versions": library_versions(),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        **content,
    )


def _purpose(runtime: Runtime) -> str:
    made_by = runtime.made_by
    return f"sweep {made_by['sweep']}, trial {made_by['trial']}" if "trial" in made_by else ""
