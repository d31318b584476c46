"""Weights that are no numbers leave no engine: neither as progress nor as a result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.training.conftest import Bench
from xlt_ray.errors import TrialFailure
from xlt_ray.training.deepspeed_engine import WEIGHTS, Engine
from xlt_ray.training.runtime import Runtime

SETTINGS = {"batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "clip": 1.0,
            "precision": "fp32"}  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_a_training_that_diverged_is_not_saved(
    bench: Bench, tmp_path: Path, zero_stage: int, value: float
) -> None:
    runtime = Runtime(cache=bench.cache, zero_stage=zero_stage)
    engine = Engine(nn.Linear(3, 2), SETTINGS, runtime)
    sound, broken = tmp_path / "sound", tmp_path / "broken"
    sound.mkdir()
    broken.mkdir()
    try:
        engine.save(sound)
        weights = load_file(sound / WEIGHTS)
        weights["bias"] = torch.tensor([0.0, value])
        save_file(weights, sound / WEIGHTS)
        engine.load(sound, 1)
        with pytest.raises(TrialFailure) as saving:
            engine.save(broken)
        with pytest.raises(TrialFailure) as handing_out, engine.whole_weights():
            pass
    finally:
        engine.close()
    assert {caught.value.fields["cause"] for caught in (saving, handing_out)} == {"nan"}
    assert list(broken.iterdir()) == []
