"""Each fusion computes the equation of its docstring."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from xlt_ray.config import methods
from xlt_ray.errors import SpecError
from xlt_ray.modeling.fusion.aif import AifFusion, Attention
from xlt_ray.modeling.fusion.dlfa import DlfaFusion, masked_mean
from xlt_ray.modeling.fusion.mix import SPEED, MixFusion

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


def dlfa(layer: int = 1, reduction: int = 4) -> DlfaFusion:
    settings = methods.DlfaFusion(method="dlfa", layer=layer, reduction=reduction)
    return DlfaFusion(3, 32, settings)


def aif(layer: int = 1, reduction: int = 4) -> AifFusion:
    return AifFusion(3, 32, methods.AifFusion(method="aif", layer=layer, reduction=reduction))


both = pytest.mark.parametrize("fusion", [dlfa, aif])


def states(width: int = 32, rows: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, 5, width, generator=generator) for _ in range(4))


def mean_over_pieces(inputs: Tensor) -> Tensor:
    return torch.stack([inputs[0].mean(dim=0), inputs[1, :2].mean(dim=0)]).unsqueeze(1)


def test_dlfa_computes_its_equation() -> None:
    fusion, hidden = dlfa(layer=2), states()

    def stack(branch: nn.Module, inputs: Tensor) -> Tensor:
        weights = dict(branch.named_parameters())
        inner = inputs @ weights["down.weight"].T + weights["down.bias"]
        inner = functional.layer_norm(
            inner, (8,), weights["inner_norm.weight"], weights["inner_norm.bias"]
        )
        outer = inner.clamp(min=0) @ weights["up.weight"].T + weights["up.bias"]
        return functional.layer_norm(
            outer, (32,), weights["outer_norm.weight"], weights["outer_norm.bias"]
        )

    total = hidden[3] + hidden[2]
    whole = stack(fusion.whole, mean_over_pieces(total))
    attention = torch.sigmoid(stack(fusion.local, total) + whole)
    expected = 2 * attention * hidden[3] + 2 * (1 - attention) * hidden[2]
    torch.testing.assert_close(fusion(hidden, MASK), expected)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_aif_computes_its_equation(layer: int) -> None:
    fusion, hidden = aif(layer), states()

    def weight(attention: Attention, inputs: Tensor) -> Tensor:
        return torch.sigmoid(attention.local(inputs) + attention.whole(mean_over_pieces(inputs)))

    last, lower = hidden[3], hidden[layer]
    first = weight(fusion.first, last + lower)
    second = weight(fusion.second, first * last + (1 - first) * lower)
    expected = second * last + (1 - second) * lower
    torch.testing.assert_close(fusion(hidden, MASK)[MASK == 1], expected[MASK == 1])


def test_mix_computes_its_equation() -> None:
    fusion, hidden = MixFusion(3, 32, methods.MixFusion(method="mix")), states()
    with torch.no_grad():
        fusion.layer_weights.copy_(torch.tensor([0.0, 0.05, -0.02, 0.01]))
        fusion.gamma.fill_(1.5)
    shares = torch.tensor([0.0, 0.05 * SPEED, -0.02 * SPEED, 0.01 * SPEED]).exp()
    shares = 1.5 * shares / shares.sum()
    expected = sum(share * layer for share, layer in zip(shares, hidden, strict=True))
    torch.testing.assert_close(fusion(hidden, MASK), expected)


def test_mix_finds_the_only_useful_layer_at_a_fine_tuning_rate() -> None:
    fusion = MixFusion(3, 4, methods.MixFusion(method="mix"))
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=2e-4, weight_decay=0.0)
    for step in range(300):
        hidden = states(width=4, rows=4, seed=step)
        loss = (fusion(hidden, torch.ones(4, 5)) - hidden[1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shares = torch.softmax(SPEED * fusion.layer_weights.detach(), dim=0)
    assert shares[1] > 0.55


def test_the_two_stages_of_aif_share_no_weights() -> None:
    fusion, hidden = aif(), states()
    before = fusion(hidden, MASK)
    names = {name.rsplit(".", 2)[0] for name, _ in fusion.named_parameters()}
    assert names == {"first.local", "first.whole", "second.local", "second.whole"}
    with torch.no_grad():
        fusion.second.whole.outer_norm.bias.fill_(9.0)
    after = fusion(hidden, MASK)
    # M2 is close to 1 and Z close to the last layer; the first stage alone would not show it.
    assert not torch.allclose(before, after, atol=0.1)
    torch.testing.assert_close(after[0], hidden[3][0], rtol=0, atol=0.01)


@pytest.mark.parametrize(("fusion", "factor"), [(dlfa, 2), (aif, 1)])
def test_a_layer_fused_with_itself_is_kept_up_to_a_factor(fusion: type, factor: int) -> None:
    last = states()[-1]
    fused = fusion(layer=0)((last, last, last, last), torch.ones(2, 5))
    torch.testing.assert_close(fused, factor * last)


@both
def test_only_the_chosen_layer_and_the_last_one_are_read(fusion: type) -> None:
    fused, hidden, mask = fusion(), states(), torch.ones(2, 5)
    expected = fused(hidden, mask)
    assert torch.equal(fused((hidden[3], hidden[1], hidden[0], hidden[3]), mask), expected)
    assert not torch.equal(fused((hidden[0], hidden[2], hidden[2], hidden[3]), mask), expected)


@both
def test_a_layer_or_a_reduction_that_does_not_fit_is_refused(fusion: type) -> None:
    fusion(reduction=8)
    with pytest.raises(SpecError, match=r"target\.fusion\.reduction.*at most 8"):
        fusion(reduction=9)
    for layer in (3, 4):
        with pytest.raises(SpecError, match=r"target\.fusion\.layer.*0 \(the embeddings\) to 2"):
            fusion(layer=layer)


def test_the_mean_counts_beyond_what_bf16_can() -> None:
    ones = torch.ones(1, 1001, 4, dtype=torch.bfloat16)
    mean = masked_mean(ones, torch.ones(1, 1001))
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean, torch.ones(1, 1, 4, dtype=torch.bfloat16))
