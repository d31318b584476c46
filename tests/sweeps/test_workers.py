"""Several workers a trial: the same code in lockstep, under ZeRO 2 and 3."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tests.sweeps.conftest import Place


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [2, 3])
def test_two_workers_train_what_one_worker_trains(
    place: Place, finished: Place, zero_stage: int
) -> None:
    run = place.xlt(
        "run", "small.yaml", "resources.workers=2", f"resources.zero_stage={zero_stage}",
        "target.hybrid.ratio=0.5", "search.trials=1",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    trials = place.trials()
    assert {one["state"] for one in trials} == {"complete"}
    for trial in trials:
        key = next(one["key"] for one in trial["stages"] if one["kind"] == "target")
        two, one = (
            load_file(where.home / "stages" / key / "model.safetensors")
            for where in (place, finished)
        )
        for name, weights in one.items():
            torch.testing.assert_close(two[name], weights, rtol=0, atol=5e-4)
