"""The ladder of dataset sizes: a size climbed to from a smaller one ends in the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.conftest import Bench, stop
from xlt_ray.store.store import StageStore
from xlt_ray.training.events import Committed, Evaluated

LADDER = "intermediate={task: toy-nli, size: %d, batch_size: 16, max_length: 32, learning_rate: 1e-3, schedule: {method: wsd, warmup_examples: 16}}"  # noqa: E501


def trained(events: list[object]) -> dict[str, int]:
    """Examples that were trained, by label of the stage."""
    return {
        event.stage.label: event.record.num_examples
        for event in events
        if isinstance(event, Committed) and not event.reused and event.record.num_examples
    }


@pytest.mark.parametrize("zero_stage", [0, pytest.param(3, marks=pytest.mark.long)])
def test_a_size_reached_over_a_smaller_one_has_the_bits_of_the_size_alone(
    bench: Bench, tmp_path: Path, zero_stage: int
) -> None:
    large = LADDER % 160
    alone = trained(bench.make(tmp_path / "alone", large, zero_stage=zero_stage))
    assert alone["trunk toy-nli 128"] == 128
    assert alone["intermediate toy-nli 160"] == 32
    bench.make(tmp_path / "climbed", LADDER % 64, zero_stage=zero_stage)
    climbed = trained(bench.make(tmp_path / "climbed", large, zero_stage=zero_stage))
    assert climbed["trunk toy-nli 128"] == 128 - 48, "the trunk of 64 has seen 48"
    assert bench.bits(tmp_path / "climbed", large) == bench.bits(tmp_path / "alone", large)


def test_an_interrupted_decay_goes_on_to_the_same_bits(bench: Bench, tmp_path: Path) -> None:
    size = LADDER % 160
    bench.make(tmp_path / "whole", size)
    broken = bench.walk(tmp_path / "broken", size, evaluations=10)
    for event in broken:
        if isinstance(event, Evaluated) and event.stage.kind == "intermediate":
            break
    stop(broken)
    key = next(stage.key for stage in bench.path(size) if stage.kind == "intermediate")
    store = StageStore(tmp_path / "broken")
    assert store.record(key) is None
    assert store.find_progress(key) is not None
    assert trained(bench.make(tmp_path / "broken", size))["intermediate toy-nli 160"] == 32
    assert bench.bits(tmp_path / "broken", size) == bench.bits(tmp_path / "whole", size)


def test_a_damaged_trunk_is_set_aside_and_not_gone_on_from(bench: Bench, tmp_path: Path) -> None:
    small, large = LADDER % 64, LADDER % 160
    bench.make(tmp_path / "alone", large)
    bench.make(tmp_path / "damaged", small)
    trunk = next(stage for stage in bench.path(small) if stage.kind == "trunk")
    file = tmp_path / "damaged" / "stages" / trunk.key / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    climbed = trained(bench.make(tmp_path / "damaged", large))
    assert climbed["trunk toy-nli 128"] == 128
    assert list((tmp_path / "damaged" / "damaged").iterdir())
    assert bench.bits(tmp_path / "damaged", large) == bench.bits(tmp_path / "alone", large)
