"""The one training loop: every training stage runs through :class:`Training`.

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
from statistics import fmean
from typing import Any

import psutil
import torch
from torch import nn

from xlt_ray.config.trial import evaluation_points
from xlt_ray.data.sampling import digest_of
from xlt_ray.data.text.pipeline import Batches
from xlt_ray.errors import TrialFailure
from xlt_ray.store.canonical import from_fields
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.training.deepspeed_engine import Engine
from xlt_ray.training.diagnose import Diagnose
from xlt_ray.training.events import Evaluated, Stop, Ticked
from xlt_ray.training.final_weights import KeptWeights
from xlt_ray.training.load import TrainingContext
from xlt_ray.training.passes import Pass, passes_of
from xlt_ray.training.prefetch import prefetched
from xlt_ray.training.progress_writer import ProgressWriter
from xlt_ray.training.schedules import learning_rate


def seed_step(seed: int, step: int, rank: int) -> None:
    """Set PyTorch's generators (dropout) for one optimizer step of one worker."""
    torch.manual_seed(int(digest_of("step", seed, step, rank)[:16], 16) >> 1)


TICK_S = 1.0
"""Seconds between two :class:`Ticked` events."""
LOOKS = 0.25
"""Share of the shorter one of this and the interval of saves after which a training looks at its
loss and at the clock: a look waits for the device, and for the other workers."""


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
    is_divisible: bool = True
    """Whether any rows of a batch may be computed together (:func:`passes_of`)."""


@dataclass
class TrainState:
    """State of a training: everything in progress besides weights and optimizer."""

    step: int = 0
    first_step: int = 0
    """First step of this stage: the steps of the trunk that it continues."""
    losses: list[float] = field(default_factory=list)
    """Sum of each worker's training loss since the last evaluation."""
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    """Diagnostics at the beginning and at every evaluation."""


class Training:
    """One worker's part in the training of a stage.

    Args:
        writer: writes progress; None for all workers but the leader.
        kept: weights that are kept beside the last ones.
    """

    def __init__(
        self,
        engine: Engine,
        setup: TrainingSetup,
        stage: Stage,
        context: TrainingContext,
        writer: ProgressWriter | None,
        diagnose: Diagnose | None = None,
        kept: Sequence[KeptWeights] = (),
    ) -> None:
        self._engine, self._setup, self._stage, self._context = engine, setup, stage, context
        self._writer, self._diagnose, self._kept = writer, diagnose, kept
        self._measured: tuple[int, float] | None = None
        """Examples and time of the last evaluation in this process."""
        self._state = TrainState()
        self._loss = torch.zeros((), dtype=torch.float64, device=engine.device)
        """Sum of this worker's loss since the last evaluation."""

    def run(self) -> Generator[Evaluated | Ticked, None, TrainState]:
        """Train from the last progress, or from the trunk before this stage, to the end.

        Yields :class:`Ticked` and every evaluation, also those before an interruption; returns the
        finished state. :class:`Stop` thrown at one of them saves progress at that step.

        Raises:
            TrialFailure: the loss is not a number (``nan``).
            LeaseLost: another process makes this stage by now.
            OSError: progress cannot be written.
        """
        setup, stage, settings = self._setup, self._stage, self._stage.settings
        runtime, group = self._context.runtime, self._context.group
        num_steps = setup.num_steps
        state = self._state = self._restored()
        for past in state.history:
            yield evaluated(stage, past, is_replay=True)
        if state.step == state.first_step:
            state.profiles = self._profiles()
        points = evaluation_points(num_steps, settings.get("evaluations", runtime.evaluations))
        began = ticked = time.monotonic()
        interval = LOOKS * min(TICK_S, runtime.progress.interval(0.0))
        looked_at, look_at = state.step, state.step + 1
        coming = prefetched(map(self._passes, range(state.step, num_steps)), self._engine.device)
        while state.step < num_steps:
            passes = next(coming)
            seed_step(stage.seed, state.step, group.rank)
            self._loss += self._engine.step(passes, learning_rate(state.step, num_steps, settings))
            state.step += 1
            is_point = state.step in points
            if not (is_point or state.step == num_steps or state.step >= look_at):
                continue
            state.losses = self._losses()
            now = time.monotonic()
            state.seconds += now - began
            if is_point:
                # All workers use the leader's scores, so that they decide alike.
                state.history.append(group.share(self._evaluated()))
                state.profiles += self._profiles()
                for weights in self._kept:
                    weights.after_step(self._engine, state.step, state.history)
            steps_until = int(interval * (state.step - looked_at) / max(now - began, 1e-6))
            # All workers use the leader's clock, so that they act at the same step.
            is_due, is_tick, steps_until = group.share(
                (
                    self._writer is not None and self._writer.is_due(),
                    now - ticked > TICK_S,
                    steps_until,
                )
            )
            looked_at, look_at = state.step, state.step + max(steps_until, 1)
            if is_due and state.step < num_steps:
                self._save()
            try:
                if is_point:
                    yield evaluated(stage, state.history[-1])
                if is_tick and state.step < num_steps:
                    yield Ticked(stage, state.step * settings["batch_size"])
                    ticked = time.monotonic()
            except Stop:
                self._save()
                self._finish_write()
                raise
            began = time.monotonic()
        self._finish_write()
        return state

    def _passes(self, step: int) -> list[list[Pass]]:
        """What this worker computes in a step; on a GPU, called by another thread."""
        return passes_of(
            self._setup.batches.batch(step),
            self._context.group.rank,
            self._context.runtime.workers,
            self._engine.accumulation,
            self._engine.device,
            is_divisible=self._setup.is_divisible,
        )

    def _losses(self) -> list[float]:
        """Sums of the workers' losses since the last evaluation; TrialFailure if not finite."""
        losses = self._context.group.gather(float(self._loss))
        if not all(math.isfinite(loss) for loss in losses):
            raise TrialFailure(
                f"{self._stage.label}: the loss is {sum(losses)} at step {self._state.step}",
                cause="nan",
                advice="a lower learning rate or a longer warm-up may help",
            )
        return losses

    def _when(self) -> dict[str, int]:
        step = self._state.step
        return {"step": step, "examples": step * self._stage.settings["batch_size"]}

    def _evaluated(self) -> dict[str, Any]:
        """An entry of the history: dev metrics, and what is cheap to know about this process."""
        state, network = self._state, self._engine.network
        before = state.history[-1]["step"] if state.history else state.first_step
        metrics = {"loss": fmean(state.losses) / (state.step - before)}
        state.losses = [0.0] * len(state.losses)
        self._loss.zero_()
        entry: dict[str, Any] = {
            **self._when(),
            "metrics": metrics,
            "time_ms": int(time.time() * 1000),
        }
        network.eval()
        with torch.no_grad():
            if self._setup.evaluate is not None:
                metrics.update(self._setup.evaluate(network))
            if self._setup.watch is not None:
                entry["by_language"] = self._setup.watch(network)
        network.train()
        now = time.monotonic()
        entry["system"] = {"memory_gib": psutil.Process().memory_info().rss / 2**30}
        if self._measured is not None:
            examples, measured = self._measured
            entry["system"]["examples_per_s"] = (entry["examples"] - examples) / (now - measured)
        self._measured = entry["examples"], now
        return entry

    def _profiles(self) -> list[dict[str, Any]]:
        if self._diagnose is None:
            return []
        self._engine.network.eval()
        profiles = self._diagnose(self._engine.network)
        self._engine.network.train()
        return [{**asdict(profile), **self._when()} for profile in profiles]

    def _save(self) -> None:
        """Copy what is progress, gathered from all workers; the leader begins to write it."""
        writer = self._writer
        if writer is None:
            self._engine.snapshot(is_keeper=False)
            return
        began = writer.clock()
        snapshot = self._engine.snapshot(is_keeper=True)
        for weights in self._kept:
            snapshot |= weights.snapshot()
        copy_s = writer.clock() - began
        writer.write(self._state.step, snapshot, asdict(self._state), copy_s=copy_s)

    def _finish_write(self) -> None:
        if self._writer is not None:
            self._writer.wait()

    def _restored(self) -> TrainState:
        """Load the last progress, or the trunk's weights, into the engine; returns the state."""
        store, group = self._context.store, self._context.group
        progress = group.from_leader(lambda: store.find_progress(self._stage.key))
        if progress is not None:
            folder = store.fetch_progress(progress, f"{group.rank}")
            self._engine.load(folder, progress.step)
            for weights in self._kept:
                weights.load(folder)
            state = from_fields(TrainState, progress.state)
            own = state.losses if len(state.losses) == group.size else [fmean(state.losses)]
            self._loss.fill_(own[group.rank % len(own)])
            return state
        trunk = group.from_leader(lambda: _trunk_below(self._stage, store))
        if trunk is None:
            return TrainState()
        key, steps = trunk
        self._engine.load(store.folder(key), steps)
        return TrainState(step=steps, first_step=steps)


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


def _trunk_below(stage: Stage, store: StageStore) -> tuple[str, int] | None:
    """Key and steps of the trunk that a stage continues."""
    if stage.kind == "trunk":
        return store.find_shorter(stage)
    parent = stage.parent
    if parent is None or parent.kind != "trunk":
        return None
    return parent.key, parent.settings["steps"]
