"""What a training step costs when only the word embeddings are trained that its data show.

    python -m benchmarks.vocabulary [--pieces N] [--share S] [--rounds N]

A BERT of 6 layers, 384 wide, with random weights and 180,000 pieces, of which the batches show a
tenth. Three ways take their steps in turn, on the same batches and on one thread: a bare PyTorch
loop with fused AdamW and clipping, and the package's engine with the whole table and with a trimmed
one. CPU time of a step, the median over rounds; the first round is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from benchmarks.common import print_table, timed
from xlt_ray.config.methods import NoFusion
from xlt_ray.modeling.network import build_network
from xlt_ray.modeling.trimmed_embedding import trim_embedding
from xlt_ray.training.deepspeed_engine import Engine
from xlt_ray.training.process_group import join_process_group
from xlt_ray.training.runtime import Runtime

SETTINGS = {"learning_rate": 1e-4, "weight_decay": 0.0, "clip": 1.0, "precision": "fp32"}
SHAPES = ((32, 8), (32, 16), (32, 48))
"""Rows and pieces a row of a batch."""
Step = Callable[[dict[str, Tensor]], object]


def new_network(num_pieces: int) -> nn.Module:
    config = BertConfig(
        vocab_size=num_pieces,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        intermediate_size=1536,
    )
    torch.manual_seed(0)
    return build_network(BertModel(config, add_pooling_layer=False), "pair", NoFusion(), 3, seed=0)


def bare_step(num_pieces: int) -> Step:
    network = new_network(num_pieces)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0, fused=True)

    def step(batch: dict[str, Tensor]) -> None:
        optimizer.zero_grad()
        network(batch).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def engine_step(num_pieces: int, ids: np.ndarray | None, cache: Path) -> Step:
    network = new_network(num_pieces)
    if ids is not None:
        trim_embedding(network.get_submodule("encoder"), ids)  # type: ignore[arg-type]
    engine = Engine(network, {**SETTINGS, "batch_size": SHAPES[0][0]}, Runtime(cache=cache))
    return lambda batch: engine.step([[batch]], 1e-4)


def batch_of(
    ids: np.ndarray, rows: int, length: int, random: np.random.Generator
) -> dict[str, Tensor]:
    pieces = torch.from_numpy(random.choice(ids, (rows, length)))
    return {
        "input_ids": pieces,
        "attention_mask": torch.ones_like(pieces),
        "labels": torch.from_numpy(random.integers(0, 3, rows)),
        "denominator": torch.tensor(float(rows)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pieces", type=int, default=180_000)
    parser.add_argument("--share", type=float, default=0.1, help="of the pieces that batches show")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    join_process_group(0, 1, "cpu")
    random = np.random.default_rng(0)
    ids = np.sort(random.permutation(options.pieces)[: int(options.share * options.pieces)])
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            "bare loop": bare_step(options.pieces),
            "whole table": engine_step(options.pieces, None, Path(folder)),
            "trimmed table": engine_step(options.pieces, ids, Path(folder)),
        }
    rows = []
    for num_rows, length in SHAPES:
        spent: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(options.rounds + 1):
            batch = batch_of(ids, num_rows, length, random)
            for name, step in steps.items():
                _, took = timed(lambda step=step, batch=batch: step(batch), time.process_time)
                if number:
                    spent[name].append(took.cpu)
        medians = {name: statistics.median(values) for name, values in spent.items()}
        rows.append(
            [
                f"{num_rows} x {length}",
                *(f"{1e3 * median:.0f}" for median in medians.values()),
                f"{medians['bare loop'] / medians['trimmed table']:.2f}",
            ]
        )
    print_table(["rows x pieces", *(f"{name}, ms" for name in steps), "bare / trimmed"], rows)


if __name__ == "__main__":
    main()
