"""What every fusion in the registry promises (`xlt_ray.modeling.fusion`)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from xlt_ray.config.methods import (
    FUSIONS,
    AifFusion,
    ConfigModel,
    DlfaFusion,
    Method,
)
from xlt_ray.modeling.encoder import seeded

NUM_LAYERS, HIDDEN, LENGTH = 3, 32, 7
LEAST_GRADIENT = 1e-4
"""Rounding alone gives a parameter without any effect some 1e-6 here, every other one 1e-2."""

every_fusion = pytest.mark.parametrize("entry", FUSIONS, ids=lambda entry: entry.name)


def made(entry: Method, seed: int = 0) -> nn.Module:
    asked = {name for name, field in entry.settings.model_fields.items() if field.is_required()}
    # Whatever a method cannot do without is a layer so far; its tests say so by failing here.
    settings = entry.settings(method=entry.name, **dict.fromkeys(asked - {"method"}, 1))
    with seeded(seed, "fusion"):
        return entry.load()(NUM_LAYERS, HIDDEN, settings)


def states(rows: int, length: int = LENGTH, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, length, HIDDEN)
    return tuple(torch.randn(shape, generator=generator) for _ in range(NUM_LAYERS + 1))


def trained(fusion: nn.Module) -> nn.Module:
    """The fusion away from its first state, where a fault could hide behind a zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return fusion.eval()


@every_fusion
def test_shape_is_kept(entry: Method) -> None:
    hidden = states(rows=4)
    assert made(entry)(hidden, torch.ones(4, LENGTH).long()).shape == hidden[-1].shape


@every_fusion
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, LENGTH), min_size=1, max_size=4),
    padding=st.integers(0, 9),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_a_row_is_the_same_alone_and_in_any_batch(
    entry: Method, lengths: list[int], padding: int, scale: float, seed: int
) -> None:
    fusion, width = trained(made(entry)), max(lengths) + padding
    rows = states(len(lengths), width, seed)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    garbage = scale * (1 - mask).unsqueeze(-1)
    together = fusion(tuple(row + garbage for row in rows), mask)
    for number, length in enumerate(lengths):
        alone = fusion(
            tuple(row[number : number + 1, :length] for row in rows), torch.ones(1, length).long()
        )
        torch.testing.assert_close(together[number, :length], alone[0], rtol=1e-4, atol=1e-5)


@every_fusion
def test_gradients_are_those_of_finite_differences(entry: Method) -> None:
    fusion = trained(made(entry)).double()
    hidden = tuple(state[:, :3, :].double().requires_grad_() for state in states(rows=2))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    parameters = {
        name: tensor.detach().requires_grad_() for name, tensor in fusion.named_parameters()
    }

    def fused(*tensors: Tensor) -> Tensor:
        given_states, weights = tensors[: len(hidden)], tensors[len(hidden) :]
        called = torch.func.functional_call(
            fusion, dict(zip(parameters, weights, strict=True)), (given_states, mask)
        )
        return called * mask.unsqueeze(-1)

    assert torch.autograd.gradcheck(
        fused, (*hidden, *parameters.values()), fast_mode=True, eps=1e-6, atol=1e-6
    )


@every_fusion
def test_gradients_reach_every_parameter_in_the_first_step(entry: Method) -> None:
    fusion = made(entry)
    hidden = tuple(state.requires_grad_() for state in states(rows=3))
    fused = fusion(hidden, torch.ones(3, LENGTH).long())
    (fused * states(rows=3, seed=2)[0]).sum().backward()
    silent = [
        name
        for name, parameter in fusion.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > LEAST_GRADIENT
    ]
    assert silent == []


@every_fusion
def test_gradients_reach_the_last_layer(entry: Method) -> None:
    hidden = tuple(state.requires_grad_() for state in states(rows=2))
    made(entry)(hidden, torch.ones(2, LENGTH).long()).square().sum().backward()
    assert hidden[-1].grad is not None
    assert (hidden[-1].grad.abs().sum(dim=-1) > 0).all()


@every_fusion
def test_bf16_stays_bf16_and_close_to_float32(entry: Method) -> None:
    fusion, hidden = made(entry).eval(), states(rows=2)
    mask = torch.ones(2, LENGTH).long()
    exact = fusion(hidden, mask)
    rounded = fusion.to(torch.bfloat16)(tuple(tensor.to(torch.bfloat16) for tensor in hidden), mask)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)


@every_fusion
def test_a_row_of_padding_alone_stays_finite(entry: Method) -> None:
    fused = made(entry)(states(rows=2), torch.zeros(2, LENGTH).long())
    assert torch.isfinite(fused).all()


@every_fusion
def test_equal_seeds_give_equal_parameters(entry: Method) -> None:
    first, second = made(entry, seed=3).state_dict(), made(entry, seed=3).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_fusion
def test_equal_inputs_give_equal_bits(entry: Method) -> None:
    fusion, mask = made(entry), torch.ones(2, LENGTH).long()
    assert torch.equal(fusion(states(rows=2), mask), fusion(states(rows=2), mask))


@every_fusion
def test_no_parameter_is_a_scalar(entry: Method) -> None:
    assert all(parameter.dim() > 0 for parameter in made(entry).parameters())


@every_fusion
def test_a_new_fusion_starts_where_it_says(entry: Method) -> None:
    fusion, hidden = made(entry), states(rows=4)
    if not hasattr(fusion, "initial"):
        pytest.skip("promises nothing of its first state")
    fused = fusion(hidden, torch.ones(4, LENGTH).long())
    expected, tolerance = fusion.initial(hidden)
    assert ((fused - expected).abs() <= tolerance).all()


def test_first_states_are_promised_as_the_papers_have_them() -> None:
    x, y = states(rows=1)[-1], states(rows=1)[1]
    firsts = {entry.name: made(entry).initial(states(rows=1))[0] for entry in FUSIONS[:4]}
    expected = {"none": x, "dlfa": x + y, "aif": (x + y) / 2}
    for name, first in expected.items():
        torch.testing.assert_close(firsts[name], first)
    torch.testing.assert_close(firsts["mix"], torch.stack(states(rows=1)).mean(dim=0))


def by_hand(fusion: nn.Module, last: Tensor, lower: Tensor) -> Tensor:
    """The same fusion of rows of one piece."""
    return fusion((lower, lower, last, last), torch.ones(last.shape[:2]).long())


@pytest.mark.parametrize("placement", ["first", "mean"])
@pytest.mark.parametrize("settings", [DlfaFusion, AifFusion], ids=["dlfa", "aif"])
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, LENGTH), min_size=1, max_size=4),
    padding=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_pooled_a_sentence_has_the_fusion_of_its_pooled_states(
    settings: type[ConfigModel], placement: str, lengths: list[int], padding: int, seed: int
) -> None:
    fields = {"method": "dlfa" if settings is DlfaFusion else "aif", "layer": 1}
    entry = next(fusion for fusion in FUSIONS if fusion.settings is settings)
    with seeded(seed, "fusion"):
        fusion, plain = (
            trained(entry.load()(NUM_LAYERS, HIDDEN, settings.model_validate({**fields, **more})))
            for more in ({"placement": placement}, {})
        )
    plain.load_state_dict(fusion.state_dict())
    width = max(lengths) + padding
    hidden = states(len(lengths), width, seed)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    fused = fusion(tuple(tensor + 100.0 * (1 - mask).unsqueeze(-1) for tensor in hidden), mask)
    assert fused.shape == hidden[-1].shape
    for number, length in enumerate(lengths):
        last, lower = (
            tensor[number, :length].mean(0) if placement == "mean" else tensor[number, 0]
            for tensor in (hidden[-1], hidden[1])
        )
        expected = by_hand(plain, last[None, None], lower[None, None])
        torch.testing.assert_close(
            fused[number], expected[0].expand(width, -1), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("placement", ["first", "mean"])
def test_pooled_gradients_are_those_of_finite_differences(placement: str) -> None:
    settings = AifFusion.model_validate({"method": "aif", "layer": 1, "placement": placement})
    entry = next(fusion for fusion in FUSIONS if fusion.name == "aif")
    with seeded(0, "fusion"):
        fusion = trained(entry.load()(NUM_LAYERS, HIDDEN, settings)).double()
    hidden = tuple(state[:, :3, :].double().requires_grad_() for state in states(rows=2))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert torch.autograd.gradcheck(
        lambda *given_states: fusion(given_states, mask), hidden, fast_mode=True, atol=1e-6
    )


def test_pooling_is_no_part_of_a_key_where_there_is_none() -> None:
    plain = DlfaFusion(method="dlfa", layer=1)
    assert plain.hashed() == {"method": "dlfa", "layer": 1, "reduction": 4}
    assert plain.model_copy(update={"placement": "mean"}).hashed()["placement"] == "mean"
