"""The one training loop: every training stage, whatever it trains, runs through here.

What is trained on at a step is a function of the step alone, the learning rate and the random
streams, too; so progress is weights, optimizer state and a step number, and a training that
was interrupted ends in the same bits as one that was not.

Named random streams: what is drawn at a step follows from the stage's seed and the step.

No generator carries state from one step to the next, which is what makes a resumed training
bit-identical to an unbroken one.

What happens while a trial walks its path; the trainable turns these into Tune's results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from xlt_ray.config.trial import evaluation_points
from xlt_ray.data.sampling import digest_of
from xlt_ray.errors import TrialFailure
from xlt_ray.modeling.losses import IGNORED
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
    """Whether it happened before an interruption, or when a stage that was found was made."""
    by_language: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics of the dev sets of the languages that are watched."""


@dataclass(frozen=True)
class Committed:
    """A stage is in the store: made just now, or found there."""

    stage: Stage
    record: StageRecord
    reused: bool


@dataclass(frozen=True)
class Waiting:
    """Somebody else is making this stage; nothing is trained meanwhile."""

    stage: Stage
    holder: str


@dataclass(frozen=True)
class Ticked:
    """A stage is at work; about once a second, so that whoever walks can look up."""

    stage: Stage
    examples: int
    """Trained on in this stage so far."""


Event = Evaluated | Committed | Waiting | Ticked


class Stop(Exception):
    """Thrown into a walk at a :class:`Ticked`: keep what was trained so far, then end."""


Arrays = Mapping[str, np.ndarray[Any, Any]]

TICK_S = 1.0
"""Seconds between two signs of life."""


class BatchSource(Protocol):
    """Training data as a pure function of the step."""

    def batch(self, step: int) -> Arrays:
        """Arrays of as many rows; ``labels`` are -100 where nothing is asked."""


class Kept(Protocol):
    """Weights that are kept beside a training, a part of its progress; collective."""

    def after_step(self, engine: Engine, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Take the weights as they are, where this step is one to keep."""

    def save(self, folder: Path) -> None:
        """Write what is kept so far beside the rest of the progress; the leader alone."""

    def load(self, folder: Path) -> None:
        """Go on from what :meth:`save` wrote."""


@dataclass(frozen=True)
class TrainingSetup:
    """What one stage trains: a network, batches by step, and how it is scored on the way."""

    network: nn.Module
    batches: BatchSource
    num_steps: int
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None
    """Dev metrics of the network; None where a stage has no dev set."""
    watch: Callable[[nn.Module], Mapping[str, Mapping[str, float]]] | None = None
    """The same of each language that is watched, if any is."""
    coverage: Mapping[str, float] = field(default_factory=dict)
    """Share of the words of the text that a ``lexicon`` or lists of ``neighbours`` have, where
    words are looked up in them."""


@dataclass
class TrainState:
    """Where a training stands: all that progress keeps besides weights and optimizer."""

    step: int = 0
    first_step: int = 0
    """Where this stage began: after the steps of the trunk that it goes on from."""
    loss: float = 0.0
    """Sum of the training loss since the last evaluation."""
    loss_steps: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    """Diagnostics at the beginning and at every evaluation."""


def train(
    engine: Engine,
    lesson: TrainingSetup,
    stage: Stage,
    runtime: Runtime,
    team: ProcessGroup,
    store: StageStore,
    lease: Lease | None,
    diagnose: Diagnose | None = None,
    kept: Sequence[Kept] = (),
) -> Generator[Evaluated | Ticked, None, TrainState]:
    """Train from the last progress, or from the trunk before this stage, to the end.

    Yields signs of life and every evaluation, those before an interruption again; returns the
    finished course. Whoever throws :class:`Stop` at a sign of life finds progress saved there.

    Raises:
        TrialFailure: the loss is not a number (``nan``).
        LeaseLost: somebody else makes this stage by now.
    """
    settings = stage.settings
    num_steps = lesson.num_steps
    course = _restore(engine, stage, store, team, kept)
    for past in course.history:
        yield evaluated(stage, past, is_replay=True)
    if course.step == course.first_step:
        course.profiles = _profiles(diagnose, engine, stage, course)
    points = evaluation_points(num_steps, settings.get("evaluations", runtime.evaluations))
    saved = ticked = time.monotonic()
    while course.step < num_steps:
        began = time.monotonic()
        batch = _share_of(lesson.batches.batch(course.step), engine, team, runtime)
        seed_step(stage.seed, course.step, team.rank)
        loss = engine.step(batch, learning_rate(course.step, num_steps, settings))
        course.step += 1
        course.loss += _finite(loss, stage, course.step, team)
        course.loss_steps += 1
        now = time.monotonic()
        course.seconds += now - began
        is_point = course.step in points
        if is_point:
            # The leader's scores count: what follows from them has to be the same everywhere.
            course.history.append(team.share(_evaluate(lesson, engine, stage, course)))
            course.profiles += _profiles(diagnose, engine, stage, course)
        for weights in kept:
            weights.after_step(engine, course.step, course.history)
        # The leader's clock counts: all workers do the same at the same step.
        is_due, is_tick = team.share((now - saved >= runtime.progress_every, now - ticked > TICK_S))
        if course.step < num_steps and (is_point or is_due):
            _save(engine, course, stage, store, lease, team, kept)
            saved = time.monotonic()
        if is_point:
            yield evaluated(stage, course.history[-1])
        if is_tick and course.step < num_steps:
            try:
                yield Ticked(stage, course.step * settings["batch_size"])
            except Stop:
                _save(engine, course, stage, store, lease, team, kept)
                raise
            ticked = time.monotonic()
    return course


def _share_of(
    batch: Arrays, engine: Engine, team: ProcessGroup, runtime: Runtime
) -> list[dict[str, Tensor]]:
    """This worker's rows as micro-batches, with the denominator that makes them add up.

    DeepSpeed averages over workers and accumulation steps, so each micro-batch divides its sum
    by the labels of the *whole* batch over the number of parts. A batch of another size than
    usual is split as evenly as can be; a part that is left without rows computes one in vain.
    """
    parts = runtime.workers * engine.accumulation
    asked = int((batch["labels"] != IGNORED).sum())
    denominator = torch.tensor(max(asked, 1) / parts, device=engine.device)
    num_rows = len(batch["labels"])
    shares = []
    for turn in range(engine.accumulation):
        part = team.rank * engine.accumulation + turn
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


def _finite(loss: Tensor, stage: Stage, step: int, team: ProcessGroup) -> float:
    """The loss of the whole batch, of which every worker has a part."""
    value = sum(team.gather(float(loss))) / team.size
    if not math.isfinite(value):
        raise TrialFailure(
            f"{stage.label}: the loss is {value} at step {step}",
            cause="nan",
            advice="a lower learning rate or a longer warm-up may help",
        )
    return value


def _evaluate(
    lesson: TrainingSetup, engine: Engine, stage: Stage, course: TrainState
) -> dict[str, Any]:
    metrics = {"loss": course.loss / course.loss_steps}
    course.loss, course.loss_steps = 0.0, 0
    entry: dict[str, Any] = {
        "step": course.step,
        "examples": course.step * stage.settings["batch_size"],
        "metrics": metrics,
    }
    engine.network.eval()
    with torch.no_grad():
        if lesson.evaluate is not None:
            metrics.update(lesson.evaluate(engine.network))
        if lesson.watch is not None:
            entry["by_language"] = lesson.watch(engine.network)
    engine.network.train()
    return entry


def _profiles(
    diagnose: Diagnose | None, engine: Engine, stage: Stage, course: TrainState
) -> list[dict[str, Any]]:
    if diagnose is None:
        return []
    engine.network.eval()
    found = diagnose(engine.network)
    engine.network.train()
    when = {"step": course.step, "examples": course.step * stage.settings["batch_size"]}
    return [{**asdict(one), **when} for one in found]


def evaluated(stage: Stage, entry: Mapping[str, Any], *, is_replay: bool = False) -> Evaluated:
    """What an entry of a training's history says."""
    return Evaluated(
        stage,
        entry["step"],
        entry["examples"],
        entry["metrics"],
        is_replay,
        entry.get("by_language", {}),
    )


def _save(
    engine: Engine,
    course: TrainState,
    stage: Stage,
    store: StageStore,
    lease: Lease | None,
    team: ProcessGroup,
    kept: Sequence[Kept],
) -> None:
    """Gathered from all workers, written and sealed by the leader."""
    folder = store.progress_folder(stage.key, course.step, lease.token) if lease else None
    engine.save(folder)
    if lease is not None and folder is not None:
        for weights in kept:
            weights.save(folder)
        files = store.put_progress(stage.key, course.step, folder, lease)
        store.publish_progress(stage.key, course.step, files, asdict(course), lease)
    team.gather(None)


def _restore(
    engine: Engine, stage: Stage, store: StageStore, team: ProcessGroup, kept: Sequence[Kept]
) -> TrainState:
    """The course of the last progress, loaded into the engine; without, a fresh one."""
    progress = team.share(store.find_progress(stage.key) if team.is_leader else None)
    if progress is not None:
        folder = store.fetch_progress(progress, f"{team.rank}")
        engine.load(folder, progress.step)
        for weights in kept:
            weights.load(folder)
        return from_fields(TrainState, progress.state)
    trunk = team.share(_trunk_below(stage, store) if team.is_leader else None)
    if trunk is None:
        return TrainState()
    key, steps = trunk
    engine.load(store.folder(key), steps)
    return TrainState(step=steps, first_step=steps)


def _trunk_below(stage: Stage, store: StageStore) -> tuple[str, int] | None:
    """Key and steps of the trunk that a stage goes on from."""
    if stage.kind == "trunk":
        return store.find_shorter(stage)
    parent = stage.parent
    if parent is None or parent.kind != "trunk":
        return None
    return parent.key, parent.settings["steps"]
