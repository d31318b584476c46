"""Walk a path: find each stage in the store, or make it under its lease.

Every trial runs :func:`walk`, in a Tune trainable, in several workers, or in one plain process
(``xlt stage``); the same code gives the same bits.
"""

from __future__ import annotations

import datetime
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from xlt_ray.config.facts import Split
from xlt_ray.data.sources.base import Source
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.errors import CHANGED, DataError
from xlt_ray.store.evaluation_items import write_items
from xlt_ray.store.lease import Holder, Lease
from xlt_ray.store.record import StageRecord, profiles_from_json
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import StagePath, composed_of, dependencies, stages_to_run
from xlt_ray.training.deepspeed_engine import Engine
from xlt_ray.training.diagnose import diagnose_stage, diagnose_with, diagnosis_of
from xlt_ray.training.evaluate import evaluate_stage
from xlt_ray.training.events import Committed, Event, Waiting
from xlt_ray.training.final_weights import Average, Best, averaged_points
from xlt_ray.training.load import TrainingContext, load_network, save_result
from xlt_ray.training.loop import Training, evaluated
from xlt_ray.training.merged_network import write_merge
from xlt_ray.training.progress_writer import ProgressWriter
from xlt_ray.training.setup import training_setup
from xlt_ray.training.usage import UsageMeter
from xlt_ray.versions import library_versions

POLL = 0.25
"""Seconds between two looks at a stage that another process makes."""


def walk(path: StagePath, context: TrainingContext, *, until: str = "") -> Iterator[Event]:
    """Make the missing stages of a path, starting after the last one that is in the store.

    Yields a :class:`Committed` for every stage, evaluations and signs of life on the way, and
    :class:`Waiting` while another process makes a stage. Every training computes the diagnostics
    that the final evaluation asks for.

    Args:
        until: kind or key of the last stage to make; the whole path if it has no such stage.
    """
    runtime = replace(context.runtime, diagnosis=diagnosis_of(path[-1]))
    context = replace(context, runtime=runtime)
    stages = stages_to_run(path)
    last = next((n for n, stage in enumerate(stages) if until in (stage.kind, stage.key)), None)
    if last is not None:
        stages = stages[: last + 1]
    start = next((n for n in range(len(stages), 0, -1) if _can_start(stages, n, context)), 0)
    for stage in stages[:start]:
        # The stages that a finished stage was made from need not exist any more.
        record = context.group.from_leader(partial(context.store.find_recorded, stage))
        if record is not None:
            yield from _replayed(stage, record)
    if start < len(stages):
        # Check the data of the final evaluation before anything is trained.
        refuse_changed(stages[-1], context.source)
    for stage in stages[start:]:
        yield from make(stage, context)


def _can_start(stages: Sequence[Stage], index: int, context: TrainingContext) -> bool:
    """Whether everything that the stage at ``index`` reads is in the store, undamaged."""
    previous = stages[index - 1]
    read = dependencies(stages[index]) if index < len(stages) else composed_of(previous)
    return all(
        _find_undamaged(stage, context) is not None
        for stage in (previous, *(stage for stage in read if stage.key != previous.key))
    )


def make(stage: Stage, context: TrainingContext) -> Iterator[Event]:
    """Make one stage whose parent is in the store, or wait for the process that makes it."""
    context = replace(context, runtime=context.runtime.fitted(stage.settings))
    store, group = context.store, context.group
    while True:
        lease = store.lease(stage.key, purpose=_purpose(context)) if group.is_leader else None
        holder = group.share(str(lease) if isinstance(lease, Holder) else None)
        if holder is None:
            break
        yield Waiting(stage, holder)
        time.sleep(POLL)
    assert not isinstance(lease, Holder)
    with lease or nullcontext():
        # Another process may have finished it just before this one got the lease.
        record = _find_undamaged(stage, context)
        if record is not None:
            yield from _replayed(stage, record)
            return
        meter = UsageMeter()
        refuse_changed(stage, context.source)
        if stage.is_training:
            yield from _train(stage, context, lease, meter)
        elif stage.kind == "merge":
            began = time.monotonic()
            folder = _result_folder(stage, context)
            if folder is not None:
                write_merge(stage, context, folder)
            yield _commit(stage, folder, context, lease, meter, seconds=time.monotonic() - began)
        else:
            began = time.monotonic()
            assert stage.parent is not None
            network, tokenizer = load_network(stage.parent, context)
            network.to(context.runtime.device).eval()
            # First, as an evaluation may put averaged weights into the network.
            profiles = diagnose_stage(stage, network, tokenizer, context)
            scores, items = yield from evaluate_stage(stage, network, tokenizer, context)
            folder = _result_folder(stage, context)
            if folder is not None:
                write_items(items, folder)
            took = time.monotonic() - began
            content = {"seconds": took, "scores": scores, "profiles": profiles}
            yield _commit(stage, folder, context, lease, meter, **content)


def _train(
    stage: Stage, context: TrainingContext, lease: Lease | None, meter: UsageMeter
) -> Iterator[Event]:
    runtime, is_leader = context.runtime, context.group.is_leader
    setup, tokenizer = training_setup(stage, context)
    writer = None
    if lease is not None:
        num_weights = sum(
            parameter.numel() for parameter in setup.network.parameters() if parameter.requires_grad
        )
        writer = ProgressWriter(context.store, stage.key, lease, runtime, num_weights)
    engine = Engine(setup.network, stage.settings, runtime)
    try:
        diagnose = None
        if runtime.diagnosis is not None:
            diagnose = diagnose_with(
                runtime.diagnosis, context.source, tokenizer, runtime.evaluation_batch
            )
        average = Average(averaged_points(setup.num_steps, stage.settings), is_keeper=is_leader)
        best = Best(stage.settings.get("select", {}).get("metric"), is_keeper=is_leader)
        training = Training(engine, setup, stage, context, writer, diagnose, (average, best))
        state = yield from training.run()
        folder = _result_folder(stage, context)
        if stage.kind == "trunk":
            engine.save(folder)
        else:
            with engine.whole_weights(is_keeper=is_leader) as network:
                if folder is not None:
                    average.write(network, folder)
                    best.put(network)
                    save_result(network, tokenizer, folder)
        yield _commit(
            stage,
            folder,
            context,
            lease,
            meter,
            num_examples=(state.step - state.first_step) * stage.settings["batch_size"],
            seconds=state.seconds,
            history=tuple(state.history),
            selected_step=best.step(state.history),
            profiles=profiles_from_json(state.profiles),
            coverage=dict(setup.coverage),
        )
    finally:
        if writer is not None:
            writer.close()
        engine.close()


def _find_undamaged(stage: Stage, context: TrainingContext) -> StageRecord | None:
    return context.group.from_leader(partial(context.store.find_undamaged, stage))


def _replayed(stage: Stage, record: StageRecord) -> Iterator[Event]:
    """Events of a stage that is in the store: the evaluations of its training, and its commit."""
    for entry in record.history:
        yield evaluated(stage, entry, is_replay=True)
    yield Committed(stage, record, reused=True)


def _result_folder(stage: Stage, context: TrainingContext) -> Path | None:
    """An empty folder for the result, which only the leader writes; None for other workers."""
    if not context.group.is_leader:
        return None
    folder = context.store.scratch / "results" / f"{stage.key}-{time.time_ns()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _commit(
    stage: Stage,
    folder: Path | None,
    context: TrainingContext,
    lease: Lease | None,
    meter: UsageMeter,
    **content: Any,
) -> Committed:
    """Commit a result with what its record holds besides the stage and how it was made."""
    runtime = context.runtime
    record = StageRecord(
        key=stage.key,
        payload=stage.payload,
        label=stage.label,
        files={},
        usage=meter.read(),
        runtime=runtime.numeric(),
        made_by={
            **runtime.made_by,
            **({"gpu": torch.cuda.get_device_name()} if runtime.device == "cuda" else {}),
            "host": socket.gethostname(),
            "versions": library_versions(),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        **content,
    )
    if context.group.is_leader:
        assert lease is not None
        assert folder is not None
        record = context.store.commit(stage, folder, record, lease)
    return Committed(stage, context.group.share(record), reused=False)


def _purpose(context: TrainingContext) -> str:
    made_by = context.runtime.made_by
    return f"sweep {made_by['sweep']}, trial {made_by['trial']}" if "trial" in made_by else ""


def refuse_changed(stage: Stage, source: Source) -> None:
    """Compare the files of a source with what a stage names: splits, parallel text, lexicons.

    A stage names its data by their digests; results from a file that changed later would be stored
    under the wrong key. Data of the hub are not compared: every row would be read once more for it.

    Raises:
        DataError: something is not as it was when the sweep was started.
    """
    if not isinstance(source, FilesSource):
        return
    for name, split, digests in _splits(stage):
        for language, digest in digests.items():
            where = {"task": name, "language": language, "split": split}
            with _as_change(where):
                facts = source.splits(task_named(name)).get((language, split))
            if facts is None or facts.digest != digest:
                raise _changed("it is gone" if facts is None else "it is another one", where)
    for text, digest_of in (
        ("parallel", source.parallel_digest),
        ("lexicon", source.lexicon_digest),
    ):
        for language, digest in stage.data.get(text, {}).items():
            where = {"language": language}
            with _as_change(where):
                current = digest_of(language)
            if current != digest:
                raise _changed(f"its {text} text is another one", where)


@contextmanager
def _as_change(where: Mapping[str, str]) -> Iterator[None]:
    """Data that cannot be read now have changed: they were read when the sweep started."""
    try:
        yield
    except DataError as error:
        raise _changed(error.fields["problem"], where) from error


def _changed(what: str, where: Mapping[str, str]) -> DataError:
    remedy = "put it back as it was"
    return DataError(f"{CHANGED}: {what}", **where, remedy=remedy)  # type: ignore[arg-type]


def _splits(stage: Stage) -> Iterator[tuple[str, Split, Mapping[str, str]]]:
    """Task, split and digests by language of everything labelled that a stage reads."""
    settings, data = stage.settings, stage.data
    source: str = settings.get("source_language", "")
    if "tasks" in settings:
        for name, digests in data["train"].items():
            yield name, "train", digests
        for name, digest in data.get("dev", {}).items():
            yield name, "dev", {source: digest}
        return
    name = settings.get("task", {}).get("name", "")
    splits: tuple[Split, ...] = ("train", "dev", "test")
    for split in splits:
        digests = data.get(split, {})
        yield name, split, {source: digests} if isinstance(digests, str) else digests
    if settings.get("hybrid", {}).get("text") == "translated":
        yield name, "train", data["hybrid"]
    for task, digests in data.get("also", {}).items():
        yield task, "test", digests
    for task, digests in data.get("also_dev", {}).items():
        yield task, "dev", digests
