"""The one training loop: every training stage runs through :func:`train`.

The batch, the learning rate and the random streams of a step are functions of the step alone, so
progress is weights, optimizer state and a step number, and an interrupted training ends in the
same bits as an unbroken one. What happens is yielded as events, which the trainable turns into
Tune's results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from xlt_ray.config.trial import evaluation_points
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.text.pipeline import Batch, Batches
from xlt_ray.errors import TrialFailure
from xlt_ray.modeling.heads import IGNORED
from xlt_ray.store.canonical import from_fields
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.training.diagnose import Diagnose
from xlt_ray.training.engine import Engine
from xlt_ray.training.process_group import ProcessGroup
from xlt_ray.training.runtime import Runtime
from xlt_ray.training.schedules import learning_rate


def seed_step(seed: int, step: int, rank: int) -> None:
    """Set PyTorch's generators (dropout) for one optimizer step of one worker."""
    torch.manual_seed(int(digest_of("step", seed, step, rank)[:16], 16) >> 1)


@dataclass(frozen=True)
class Evaluated:
    """The source-language dev set was scored during training."""

    stage: Stage
    step: int
    examples: int
    """Seen in this stage so far."""
    metrics: Mapping[str, float]
    """Dev metrics by name, and ``loss``: the mean training loss since the last evaluation."""

    is_replay: bool = False
    """Whether it happened earlier: before an interruption, or when a stored stage was made."""
    by_language: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics on the dev sets of watched languages."""
    system: Mapping[str, float] = field(default_factory=dict, compare=False)
    """Memory of the leader's process, and examples per second since its last evaluation; nothing
    of what happened before."""
    time_ms: int | None = field(default=None, compare=False)
    """When it happened, in milliseconds since 1970; None where it happened before."""


@dataclass(frozen=True)
class Committed:
    """A stage is in the store, made just now or earlier."""

    stage: Stage
    record: StageRecord
    reused: bool


@dataclass(frozen=True)
class Waiting:
    """Another process is making this stage; nothing is trained meanwhile."""

    stage: Stage
    holder: str


@dataclass(frozen=True)
class Ticked:
    """A stage is being trained; yielded about once a second, so that the caller can react."""

    stage: Stage
    examples: int
    """Seen in this stage so far."""


Event = Evaluated | Committed | Waiting | Ticked


class Stop(Exception):
    """Thrown into a walk at a :class:`Ticked`: save progress, then end."""


TICK_S = 1.0
"""Seconds between two :class:`Ticked` events."""


class Kept(Protocol):
    """Weights that are kept beside a training, as part of its progress; called by all workers."""

    def after_step(self, engine: Engine, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Keep the current weights, if this step is one to keep."""

    def save(self, folder: Path) -> None:
        """Write the kept weights into a folder of progress; only the leader calls it."""

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote."""


@dataclass(frozen=True)
class TrainingSetup:
    """What a stage trains: network, batches by step, and scoring on the way."""

    network: nn.Module
    batches: Batches
    num_steps: int
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None
    """Dev metrics of a network; None if the stage has no dev set."""
    watch: Callable[[nn.Module], Mapping[str, Mapping[str, float]]] | None = None
    """Dev metrics by watched language, if any is watched."""
    coverage: Mapping[str, float] = field(default_factory=dict)
    """Share of words found in a ``lexicon`` or in lists of ``neighbours``, if these are used."""


@dataclass
class TrainState:
    """State of a training: everything in progress besides weights and optimizer."""

    step: int = 0
    first_step: int = 0
    """First step of this stage: the steps of the trunk that it continues."""
    loss: float = 0.0
    """Sum of the training loss since the last evaluation."""
    loss_steps: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    """Diagnostics at the beginning and at every evaluation."""


def train(
    engine: Engine,
    setup: TrainingSetup,
    stage: Stage,
    runtime: Runtime,
    group: ProcessGroup,
    store: StageStore,
    lease: Lease | None,
    diagnose: Diagnose | None = None,
    kept: Sequence[Kept] = (),
) -> Generator[Evaluated | Ticked, None, TrainState]:
    """Train from the last progress, or from the trunk before this stage, to the end.

    Yields :class:`Ticked` and every evaluation, also those before an interruption; returns the
    finished state. :class:`Stop` thrown at a :class:`Ticked` saves progress at that step.

    Raises:
        TrialFailure: the loss is not a number (``nan``).
        LeaseLost: another process makes this stage by now.
    """
    settings = stage.settings
    num_steps = setup.num_steps
    state = _restore(engine, stage, store, group, kept)
    for past in state.history:
        yield evaluated(stage, past, is_replay=True)
    if state.step == state.first_step:
        state.profiles = _profiles(diagnose, engine, stage, state)
    points = evaluation_points(num_steps, settings.get("evaluations", runtime.evaluations))
    saved = ticked = time.monotonic()
    measured: tuple[int, float] | None = None
    while state.step < num_steps:
        began = time.monotonic()
        batch = _share_of(setup.batches.batch(state.step), engine, group, runtime)
        seed_step(stage.seed, state.step, group.rank)
        loss = engine.step(batch, learning_rate(state.step, num_steps, settings))
        state.step += 1
        state.loss += _finite(loss, stage, state.step, group)
        state.loss_steps += 1
        now = time.monotonic()
        state.seconds += now - began
        is_point = state.step in points
        if is_point:
            # All workers use the leader's scores, so that they decide alike.
            entry = _evaluate(setup, engine, stage, state)
            entry["system"], measured = _system(entry["examples"], measured)
            state.history.append(group.share(entry))
            state.profiles += _profiles(diagnose, engine, stage, state)
        for weights in kept:
            weights.after_step(engine, state.step, state.history)
        # All workers use the leader's clock, so that they act at the same step.
        is_due, is_tick = group.share(
            (now - saved >= runtime.progress_every, now - ticked > TICK_S)
        )
        if state.step < num_steps and (is_point or is_due):
            _save(engine, state, stage, store, lease, group, kept)
            saved = time.monotonic()
        if is_point:
            yield evaluated(stage, state.history[-1])
        if is_tick and state.step < num_steps:
            try:
                yield Ticked(stage, state.step * settings["batch_size"])
            except Stop:
                _save(engine, state, stage, store, lease, group, kept)
                raise
            ticked = time.monotonic()
    return state


def _share_of(
    batch: Batch, engine: Engine, group: ProcessGroup, runtime: Runtime
) -> list[dict[str, Tensor]]:
    """This worker's rows as micro-batches, with the denominator that makes them add up.

    DeepSpeed averages over workers and accumulation steps, so each micro-batch divides its sum
    by the labels of the *whole* batch over the number of parts. A batch of another size than
    usual is split as evenly as possible; an empty part computes one row, which counts nothing.
    """
    parts = runtime.workers * engine.accumulation
    num_labels = int((batch["labels"] != IGNORED).sum())
    denominator = torch.tensor(max(num_labels, 1) / parts, device=engine.device)
    num_rows = len(batch["labels"])
    shares = []
    for index in range(engine.accumulation):
        part = group.rank * engine.accumulation + index
        rows = slice(num_rows * part // parts, num_rows * (part + 1) // parts)
        is_empty = rows.start == rows.stop
        rows = slice(0, 1) if is_empty else rows
        shares.append(
            {
                **{
                    name: torch.from_numpy(np.ascontiguousarray(array[rows])).to(engine.device)
                    for name, array in batch.items()
                },
                "denominator": denominator * math.inf if is_empty else denominator,
            }
        )
    return shares


def _finite(loss: Tensor, stage: Stage, step: int, group: ProcessGroup) -> float:
    """The loss of the whole batch, over all workers; TrialFailure if it is not finite."""
    value = sum(group.gather(float(loss))) / group.size
    if not math.isfinite(value):
        raise TrialFailure(
            f"{stage.label}: the loss is {value} at step {step}",
            cause="nan",
            advice="a lower learning rate or a longer warm-up may help",
        )
    return value


def _evaluate(
    setup: TrainingSetup, engine: Engine, stage: Stage, state: TrainState
) -> dict[str, Any]:
    metrics = {"loss": state.loss / state.loss_steps}
    state.loss, state.loss_steps = 0.0, 0
    entry: dict[str, Any] = {
        "step": state.step,
        "examples": state.step * stage.settings["batch_size"],
        "metrics": metrics,
        "time_ms": int(time.time() * 1000),
    }
    engine.network.eval()
    with torch.no_grad():
        if setup.evaluate is not None:
            metrics.update(setup.evaluate(engine.network))
        if setup.watch is not None:
            entry["by_language"] = setup.watch(engine.network)
    engine.network.train()
    return entry


def _system(
    examples: int, before: tuple[int, float] | None
) -> tuple[dict[str, float], tuple[int, float]]:
    """What is cheap to know about this process at an evaluation, and examples and time of it.

    Args:
        before: examples and time of the last evaluation in this process.
    """
    now = time.monotonic()
    system = {"memory_gib": psutil.Process().memory_info().rss / 2**30}
    if before is not None:
        system["examples_per_s"] = (examples - before[0]) / (now - before[1])
    return system, (examples, now)


def _profiles(
    diagnose: Diagnose | None, engine: Engine, stage: Stage, state: TrainState
) -> list[dict[str, Any]]:
    if diagnose is None:
        return []
    engine.network.eval()
    profiles = diagnose(engine.network)
    engine.network.train()
    when = {"step": state.step, "examples": state.step * stage.settings["batch_size"]}
    return [{**asdict(profile), **when} for profile in profiles]


def evaluated(stage: Stage, entry: Mapping[str, Any], *, is_replay: bool = False) -> Evaluated:
    """An entry of a training's history as an event."""
    return Evaluated(
        stage,
        entry["step"],
        entry["examples"],
        entry["metrics"],
        is_replay,
        entry.get("by_language", {}),
        {} if is_replay else entry["system"],
        None if is_replay else entry["time_ms"],
    )


def _save(
    engine: Engine,
    state: TrainState,
    stage: Stage,
    store: StageStore,
    lease: Lease | None,
    group: ProcessGroup,
    kept: Sequence[Kept],
) -> None:
    """Save progress, gathered from all workers and written by the leader."""
    folder = store.progress_folder(stage.key, state.step, lease.token) if lease else None
    engine.save(folder)
    if lease is not None and folder is not None:
        for weights in kept:
            weights.save(folder)
        files = store.put_progress(stage.key, state.step, folder, lease)
        store.publish_progress(stage.key, state.step, files, asdict(state), lease)
    group.gather(None)


def _restore(
    engine: Engine, stage: Stage, store: StageStore, group: ProcessGroup, kept: Sequence[Kept]
) -> TrainState:
    """Load the last progress into the engine and return its state; a new state without progress."""
    progress = group.share(store.find_progress(stage.key) if group.is_leader else None)
    if progress is not None:
        folder = store.fetch_progress(progress, f"{group.rank}")
        engine.load(folder, progress.step)
        for weights in kept:
            weights.load(folder)
        return from_fields(TrainState, progress.state)
    trunk = group.share(_trunk_below(stage, store) if group.is_leader else None)
    if trunk is None:
        return TrainState()
    key, steps = trunk
    engine.load(store.folder(key), steps)
    return TrainState(step=steps, first_step=steps)


def _trunk_below(stage: Stage, store: StageStore) -> tuple[str, int] | None:
    """Key and steps of the trunk that a stage continues."""
    if stage.kind == "trunk":
        return store.find_shorter(stage)
    parent = stage.parent
    if parent is None or parent.kind != "trunk":
        return None
    return parent.key, parent.settings["steps"]
