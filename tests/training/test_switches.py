"""Memory and speed: what each switch leaves as it is, and what it changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.training.conftest import Bench, stop
from xlt_ray.store.store import StageStore
from xlt_ray.training.events import Evaluated

MIXED = "resources.precision=bf16-mixed"


def weights(bench: Bench, root: Path, *overrides: str) -> dict[str, torch.Tensor]:
    key = bench.path(*overrides)[-2].key
    return load_file(StageStore(root).folder(key) / "model.safetensors")


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_activations_that_are_computed_again_leave_every_bit(
    bench: Bench, tmp_path: Path, zero_stage: int
) -> None:
    bench.make(tmp_path / "kept", zero_stage=zero_stage)
    bench.make(tmp_path / "again", zero_stage=zero_stage, activation_checkpointing=True)
    assert bench.bits(tmp_path / "again") == bench.bits(tmp_path / "kept")


def test_compiled_layers_move_weights_by_rounding_alone(
    bench: Bench, tmp_path: Path, alone: Path
) -> None:
    bench.make(tmp_path, compile=True, activation_checkpointing=True, zero_stage=2)
    assert_trained_alike(weights(bench, alone), weights(bench, tmp_path), atol=1e-4)
    record = StageStore(tmp_path).record(bench.path()[-2].key)
    assert record is not None
    assert record.runtime["compile"] is True


def losses(bench: Bench, root: Path, *overrides: str, zero_stage: int = 0) -> list[float]:
    events = bench.make(root, *overrides, zero_stage=zero_stage)
    return [event.metrics["loss"] for event in events if isinstance(event, Evaluated)]


def test_mixed_precision_is_the_same_training_under_every_zero_stage(
    bench: Bench, tmp_path: Path
) -> None:
    exact = losses(bench, tmp_path / "exact")
    mixed = losses(bench, tmp_path / "0", MIXED)
    assert mixed != exact
    assert mixed == pytest.approx(exact, rel=0.01)
    for zero_stage in (1, 2, 3):
        split = losses(bench, tmp_path / f"{zero_stage}", MIXED, zero_stage=zero_stage)
        assert split == pytest.approx(mixed, rel=1e-3)


def test_progress_of_mixed_precision_is_continued_to_the_same_bits(
    bench: Bench, tmp_path: Path
) -> None:
    bench.make(tmp_path / "whole", MIXED)
    broken = bench.walk(tmp_path / "broken", MIXED)
    next(event for event in broken if isinstance(event, Evaluated) and event.stage.kind == "target")
    stop(broken)
    bench.make(tmp_path / "broken", MIXED)
    assert bench.bits(tmp_path / "broken", MIXED) == bench.bits(tmp_path / "whole", MIXED)
    assert {tensor.dtype for tensor in weights(bench, tmp_path / "whole", MIXED).values()} == {
        torch.float32
    }
