"""What saving progress takes from a training: a copy and a thread, against a plain checkpoint.

An encoder of a real shape (12 layers x 384, 60,000 pieces: 44 million parameters) trains on the
CPU. In each round it is saved once by ``torch.save`` (weights and Adam's state; the training
waits, and nothing is hashed or synced) and once as xlt-ray does it, beside further steps. The
share of the time is the cost of a save over the interval.

    python -m benchmarks.progress              5 rounds
    python -m benchmarks.progress --rounds 1 --width 48
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Spent, print_table, timed
from benchmarks.gpu import NUM_LABELS, RATE, SEED, config_of, make_batches
from xlt_ray.config.model_presets import Preset
from xlt_ray.config.progress_settings import ProgressSettings

ROWS, LENGTH, INTERVAL_S = 8, 64, 60.0


@dataclass(frozen=True)
class Round:
    """One save of each kind."""

    checkpoint: Spent
    copy: Spent
    """What the training waits for."""
    thread_cpu: float
    num_steps: int
    """Steps while the thread was writing."""


def run_round(engine: Any, moments: Any, step: Callable[[], Any], folder: Path) -> Round:
    import torch

    from xlt_ray.store.lease import Lease
    from xlt_ray.store.store import StageStore
    from xlt_ray.training.progress_writer import ProgressWriter
    from xlt_ray.training.runtime import Runtime

    step()
    state = {"network": engine.network.state_dict(), "adam": moments}
    _, plain = timed(lambda: torch.save(state, folder / "checkpoint.pt"))
    step()
    store, key = StageStore(folder), "0" * 64
    runtime = Runtime(folder, progress=ProgressSettings(every=1e-9))
    lease = store.lease(key)
    assert isinstance(lease, Lease)
    with lease:
        writer = ProgressWriter(store, key, lease, runtime, num_weights=0)
        snapshot, copy = timed(lambda: engine.snapshot(is_keeper=True))
        process, thread = time.process_time(), time.thread_time()
        writer.write(1, snapshot, {}, copy_s=copy.wall)
        del snapshot
        num_steps = 0
        # Due again as soon as nothing is being written.
        while not writer.is_due():
            step()
            num_steps += 1
        thread_cpu = time.process_time() - process - (time.thread_time() - thread)
        writer.close()
    return Round(plain, copy, thread_cpu, num_steps)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=384)
    asked = parser.parse_args(arguments)

    import torch
    from transformers import XLMRobertaModel

    from xlt_ray.config.methods import NoFusion
    from xlt_ray.modeling.network import build_network
    from xlt_ray.training.deepspeed_engine import Engine
    from xlt_ray.training.load import tensors_of
    from xlt_ray.training.process_group import join_process_group
    from xlt_ray.training.runtime import Runtime

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    join_process_group(0, 1, "cpu")
    preset = Preset("mini", "xlm-roberta", 12, asked.width, 12, 0, 60_000, 512, "0")
    encoder = XLMRobertaModel(config_of(preset), add_pooling_layer=False).train()
    network = build_network(encoder, "tag", NoFusion(), NUM_LABELS, SEED)
    num_weights = sum(parameter.numel() for parameter in network.parameters())
    settings = {"batch_size": ROWS, "learning_rate": RATE, "weight_decay": 0.0, "clip": 1.0,
                "precision": "fp32"}  # fmt: skip
    engine = Engine(network, settings, Runtime(Path(tempfile.gettempdir())))
    (batch,) = make_batches(preset, ROWS, LENGTH, 1)
    tensors = tensors_of(batch, engine.device)
    tensors["denominator"] = torch.tensor(float((batch["labels"] != -100).sum()))
    moments = [{name: torch.ones_like(weights) for name, weights in network.state_dict().items()}
               for _ in range(2)]  # fmt: skip
    rounds: list[Round] = []
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory() as folder:
            step = partial(engine.step, [[tensors]], RATE)
            rounds.append(run_round(engine, moments, step, Path(folder)))
    engine.close()

    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(map(of, rounds))

    def row(name: str, waits: float, cpu: float, interval_s: float) -> tuple[str, ...]:
        return (name, f"{waits:.2f}", f"{cpu:.2f}", f"{interval_s:.0f}",
                f"{waits / interval_s:.2%}", f"{cpu / interval_s:.2%}")  # fmt: skip

    plain = median(lambda each: each.checkpoint.wall), median(lambda each: each.checkpoint.cpu)
    waits = median(lambda each: each.copy.wall)
    cpu = median(lambda each: each.copy.cpu + each.thread_cpu)
    cost = median(lambda each: each.copy.wall + each.thread_cpu)
    print(f"{num_weights / 1e6:.1f} million parameters, medians of {asked.rounds} rounds; "
          f"{median(lambda each: each.num_steps):.0f} steps during a write")  # fmt: skip
    print_table(
        ("", "waits, s", "CPU, s", "every, s", "waits, share", "CPU, share"),
        [
            row("torch.save, synchronous", *plain, INTERVAL_S),
            row("xlt-ray, progress.every=60", waits, cpu, INTERVAL_S),
            row("xlt-ray, by default", waits, cpu, ProgressSettings().interval(cost)),
        ],
    )


if __name__ == "__main__":
    main()
