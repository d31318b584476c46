"""Walk a path: find each stage in the store, or make it under its lease.

Every trial runs :func:`walk`, in a Tune trainable, in several workers, or in one plain process
(``xlt stage``); the same code gives the same bits.
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
"""Seconds between two looks at a stage that another process makes."""


def walk(
    path: StagePath,
    inputs: TrainingInputs,
    store: StageStore,
    runtime: Runtime,
    group: ProcessGroup,
    *,
    until: str = "",
) -> Iterator[Event]:
    """Make the missing stages of a path, starting after the last one that is in the store.

    Yields a :class:`Committed` for every stage, evaluations and signs of life on the way, and
    :class:`Waiting` while another process makes a stage. Every training computes the diagnostics
    that the final evaluation asks for.

    Args:
        until: kind of the last stage to make; the whole path if it has no stage of that kind.
    """
    runtime = replace(runtime, diagnosis=diagnosis_of(path[-1]))
    stages = stages_to_run(path)
    kinds = [stage.kind for stage in stages]
    if until in kinds:
        stages = stages[: kinds.index(until) + 1]
    start = next((n for n in range(len(stages), 0, -1) if _can_start(stages, n, store, group)), 0)
    for stage in stages[:start]:
        # The stages that a finished stage was made from need not exist any more.
        record = _find_recorded(stage, store, group)
        if record is not None:
            yield from _replayed(stage, record)
    if start < len(stages):
        # Check the data of the final evaluation before anything is trained.
        refuse_changed(stages[-1], inputs.source)
    for stage in stages[start:]:
        yield from make(stage, inputs, store, runtime, group)


def _can_start(stages: Sequence[Stage], index: int, store: StageStore, group: ProcessGroup) -> bool:
    """Whether everything that the stage at ``index`` reads is in the store, undamaged."""
    if _find_undamaged(stages[index - 1], store, group) is None:
        return False
    read = dependencies(stages[index]) if index < len(stages) else ()
    return all(
        stage.key == stages[index - 1].key or _find_undamaged(stage, store, group) is not None
        for stage in read
    )


def make(
    stage: Stage, inputs: TrainingInputs, store: StageStore, runtime: Runtime, group: ProcessGroup
) -> Iterator[Event]:
    """Make one stage whose parent is in the store, or wait for the process that makes it."""
    runtime = runtime.fitted(stage.settings)
    while True:
        lease = store.lease(stage.key, purpose=_purpose(runtime)) if group.is_leader else None
        holder = group.share(str(lease) if isinstance(lease, Holder) else None)
        if holder is None:
            break
        yield Waiting(stage, holder)
        time.sleep(POLL)
    assert not isinstance(lease, Holder)
    with lease or nullcontext():
        # Another process may have finished it just before this one got the lease.
        record = _find_undamaged(stage, store, group)
        if record is not None:
            yield from _replayed(stage, record)
            return
        refuse_changed(stage, inputs.source)
        if stage.is_training:
            yield from _train(stage, inputs, store, runtime, group, lease)
        else:
            began = time.monotonic()
            scores, items = yield from evaluate_stage(stage, inputs, store, runtime, group)
            profiles = diagnose_stage(stage, inputs, store, runtime, group)
            folder = _result_folder(store, stage, group)
            if folder is not None:
                write_items(items, folder)
            took = time.monotonic() - began
            record = _record(stage, runtime, seconds=took, scores=scores, profiles=profiles)
            yield _commit(stage, folder, record, store, lease, group)


def _train(
    stage: Stage,
    inputs: TrainingInputs,
    store: StageStore,
    runtime: Runtime,
    group: ProcessGroup,
    lease: Lease | None,
) -> Iterator[Event]:
    setup, tokenizer = training_setup(stage, inputs, store, runtime)
    engine = Engine(setup.network, stage.settings, runtime)
    try:
        diagnose = _diagnose_with(runtime, inputs, tokenizer)
        points = averaged_points(setup.num_steps, stage.settings)
        average = Average(points, is_keeper=group.is_leader)
        best = Best(stage.settings.get("select", {}).get("metric"), is_keeper=group.is_leader)
        state = yield from train(
            engine, setup, stage, runtime, group, store, lease, diagnose, (average, best)
        )
        folder = _result_folder(store, stage, group)
        if stage.kind == "trunk":
            engine.save(folder)
        else:
            with engine.whole_weights(is_keeper=group.is_leader) as network:
                if folder is not None:
                    best.put(network)
                    save_result(network, tokenizer, folder)
            if folder is not None:
                average.write(folder)
        record = _record(
            stage,
            runtime,
            num_examples=(state.step - state.first_step) * stage.settings["batch_size"],
            seconds=state.seconds,
            history=tuple(state.history),
            selected_step=best.step(state.history),
            profiles=profiles_from_json(state.profiles),
            coverage=dict(setup.coverage),
        )
        yield _commit(stage, folder, record, store, lease, group)
    finally:
        engine.close()


def _diagnose_with(runtime: Runtime, inputs: TrainingInputs, tokenizer: Any) -> Diagnose | None:
    if runtime.diagnosis is None:
        return None
    return diagnose_with(runtime.diagnosis, inputs.source, tokenizer, runtime.evaluation_batch)


def _find_undamaged(stage: Stage, store: StageStore, group: ProcessGroup) -> StageRecord | None:
    return group.share(store.find_undamaged(stage) if group.is_leader else None)


def _find_recorded(stage: Stage, store: StageStore, group: ProcessGroup) -> StageRecord | None:
    return group.share(store.find_recorded(stage) if group.is_leader else None)


def _replayed(stage: Stage, record: StageRecord) -> Iterator[Event]:
    """Events of a stage that is in the store: the evaluations of its training, and its commit."""
    for entry in record.history:
        yield evaluated(stage, entry, is_replay=True)
    yield Committed(stage, record, reused=True)


def _result_folder(store: StageStore, stage: Stage, group: ProcessGroup) -> Path | None:
    """An empty folder for the result, which only the leader writes; None for other workers."""
    if not group.is_leader:
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
    group: ProcessGroup,
) -> Committed:
    if group.is_leader:
        assert lease is not None
        assert folder is not None
        record = store.commit(stage, folder, record, lease)
    return Committed(stage, group.share(record), reused=False)


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
