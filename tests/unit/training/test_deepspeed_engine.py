"""What a training holds in memory, who holds whole weights, and what is left when it is over."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from xlt_ray.errors import TrialFailure
from xlt_ray.training.deepspeed_engine import Engine
from xlt_ray.training.process_group import join_process_group
from xlt_ray.training.runtime import Runtime

SETTINGS = {"batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "clip": 1.0,
            "precision": "fp32"}  # fmt: skip


class Squared(nn.Linear):
    """A network whose loss wants no labels."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["rows"]).square().mean()


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_a_training_that_is_over_holds_nothing_whoever_refers_to_it(zero_stage: int) -> None:
    join_process_group(0, 1, "cpu")
    network = Squared(3, 2)
    engine = Engine(network, SETTINGS, Runtime(cache=Path("cache"), zero_stage=zero_stage))
    engine.step([[{"rows": torch.ones(4, 3)}]], 0.1)
    states = [value for state in engine._adam.state.values() for value in state.values()]
    held = [weakref.ref(state) for state in states]
    assert len(held) >= 3, "a step and two moments"
    if zero_stage:
        held += [weakref.ref(master) for master in engine._masters]
    del states
    engine.close()
    # No collector of garbage was waited for.
    assert [reference() for reference in held] == [None] * len(held)
    for parameter in network.parameters():
        assert parameter.grad is None
        assert parameter.numel() == 0
        assert not hasattr(parameter, "ds_tensor")


ROWS = {"rows": torch.randn(4, 3, generator=torch.Generator().manual_seed(0))}


def squared() -> Squared:
    torch.manual_seed(0)
    return Squared(3, 2)


def test_mixed_precision_is_autocast_with_weights_in_float32() -> None:
    join_process_group(0, 1, "cpu")
    ours, plain = squared(), squared()
    engine = Engine(ours, {**SETTINGS, "precision": "bf16-mixed"}, Runtime(cache=Path("cache")))
    adam = torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = plain(ROWS)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        adam.step()
        assert engine.step([[ROWS]], 0.1).item() == pytest.approx(loss.item(), rel=1e-6)
    assert loss.item() != pytest.approx(plain(ROWS).item(), rel=1e-4), "what float32 gives"
    for name, parameter in plain.named_parameters():
        assert ours.get_parameter(name).dtype == torch.float32
        torch.testing.assert_close(ours.get_parameter(name), parameter)
    engine.close()


def test_tf32_is_allowed_during_its_trainings_alone() -> None:
    join_process_group(0, 1, "cpu")
    assert torch.get_float32_matmul_precision() == "highest"
    engine = Engine(squared(), {**SETTINGS, "precision": "tf32"}, Runtime(cache=Path("cache")))
    assert torch.get_float32_matmul_precision() == "high"
    engine.close()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_buffers_of_zero_are_no_larger_than_the_network(zero_stage: int) -> None:
    join_process_group(0, 1, "cpu")
    network = squared()
    engine = Engine(network, SETTINGS, Runtime(cache=Path("cache"), zero_stage=zero_stage))
    assert engine._optimizer.reduce_bucket_size == 8, "6 weights and 2 biases"
    engine.close()


class Rounded(Engine):
    """An engine whose network computes in bf16, and whose masters are what it is given."""

    def __init__(self, masters: dict[str, Tensor]) -> None:
        network = nn.Linear(3, 2).to(torch.bfloat16)
        self._engine = SimpleNamespace(module=network)
        self.zero_stage = 2
        self._masters_of = {
            parameter: masters[name] for name, parameter in network.named_parameters()
        }

    def _whole(self, parameter: nn.Parameter, moment: str | None = None) -> Tensor:
        return self._masters_of[parameter].clone()


def masters() -> dict[str, Tensor]:
    return {"weight": torch.full((2, 3), 1 / 3), "bias": torch.full((2,), 1 / 7)}


def test_who_saves_sees_the_masters_and_the_training_goes_on_with_its_own_weights() -> None:
    engine = Rounded(masters())
    before = {name: parameter.data for name, parameter in engine.network.named_parameters()}
    with engine.whole_weights() as network:
        assert network is engine.network
        for name, master in masters().items():
            assert torch.equal(network.state_dict()[name], master)
    for name, parameter in engine.network.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert parameter.data.data_ptr() == before[name].data_ptr()


def test_who_does_not_save_holds_nothing_whole() -> None:
    engine = Rounded(masters())
    with engine.whole_weights(is_keeper=False) as network:
        assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("is_keeper", [True, False])
def test_a_weight_that_is_no_number_is_refused_by_every_worker(is_keeper: bool) -> None:
    engine = Rounded({**masters(), "bias": torch.tensor([0.0, float("nan")])})
    with pytest.raises(TrialFailure), engine.whole_weights(is_keeper=is_keeper):
        pass
    assert {parameter.dtype for parameter in engine.network.parameters()} == {torch.bfloat16}
