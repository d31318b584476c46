"""Numbers of docs/gpu.md follow from shapes, and its formulas count what PyTorch counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import XLMRobertaModel

from benchmarks.gpu import TINY, arithmetic_row, config_of, training_flops

TEXT = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["xlm-roberta-base", "xlm-roberta-large"])
@pytest.mark.parametrize("length", [128, 512])
def test_the_table_of_arithmetic_follows_from_shapes(name: str, length: int) -> None:
    assert arithmetic_row(name, 32, length) in TEXT


def test_the_formula_of_operations_is_what_pytorch_counts() -> None:
    rows, length = 3, 32
    torch.manual_seed(0)
    config = config_of(TINY, attn_implementation="eager")
    encoder = XLMRobertaModel(config, add_pooling_layer=False)
    counter = FlopCounterMode(display=False)
    with counter:
        encoder(torch.full((rows, length), 7)).last_hidden_state.sum().backward()
    assert counter.get_total_flops() == training_flops(TINY, length) * rows * length
