from __future__ import annotations

import pytest
import torch

from xlt_ray.config import methods
from xlt_ray.errors import SpecError
from xlt_ray.modeling.fusion.dlfa import DlfaFusion, masked_mean


def settings(layer: int = 1, reduction: int = 4) -> methods.DlfaFusion:
    return methods.DlfaFusion(method="dlfa", layer=layer, reduction=reduction)


def states(num_layers: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 5, 32, generator=generator) for _ in range(num_layers + 1))


def test_the_output_is_the_equation_of_the_docstring() -> None:
    fusion, hidden = DlfaFusion(3, 32, settings(layer=2)), states()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])

    def stack(branch: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        weights = dict(branch.named_parameters())
        inner = inputs @ weights["down.weight"].T + weights["down.bias"]
        inner = torch.nn.functional.layer_norm(
            inner, (8,), weights["inner_norm.weight"], weights["inner_norm.bias"]
        )
        outer = inner.clamp(min=0) @ weights["up.weight"].T + weights["up.bias"]
        return torch.nn.functional.layer_norm(
            outer, (32,), weights["outer_norm.weight"], weights["outer_norm.bias"]
        )

    both = hidden[3] + hidden[2]
    mean = torch.stack([both[0].mean(dim=0), both[1, :2].mean(dim=0)]).unsqueeze(1)
    attention = torch.sigmoid(stack(fusion.local, both) + stack(fusion.whole, mean))
    expected = 2 * attention * hidden[3] + 2 * (1 - attention) * hidden[2]
    torch.testing.assert_close(fusion(hidden, mask), expected)


def test_a_layer_fused_with_itself_is_doubled_whatever_the_weights() -> None:
    last = states()[-1]
    fused = DlfaFusion(3, 32, settings(layer=0))((last, last, last, last), torch.ones(2, 5))
    torch.testing.assert_close(fused, 2 * last)


def test_only_the_chosen_layer_and_the_last_one_are_read() -> None:
    fusion, hidden, mask = DlfaFusion(3, 32, settings(layer=1)), states(), torch.ones(2, 5)
    fused = fusion(hidden, mask)
    assert torch.equal(fusion((hidden[3], hidden[1], hidden[0], hidden[3]), mask), fused)
    assert not torch.equal(fusion((hidden[0], hidden[2], hidden[2], hidden[3]), mask), fused)


@pytest.mark.parametrize("layer", [3, 4])
def test_the_last_layer_is_not_fused_with_itself(layer: int) -> None:
    with pytest.raises(SpecError, match=r"target\.fusion\.layer.*0 \(the embeddings\) to 2"):
        DlfaFusion(3, 32, settings(layer=layer))


def test_a_bottleneck_too_narrow_to_learn_is_refused() -> None:
    DlfaFusion(3, 32, settings(reduction=8))
    with pytest.raises(SpecError, match=r"target\.fusion\.reduction.*at most 8"):
        DlfaFusion(3, 32, settings(reduction=9))


def test_the_mean_counts_beyond_what_bf16_can() -> None:
    ones = torch.ones(1, 1001, 4, dtype=torch.bfloat16)
    mean = masked_mean(ones, torch.ones(1, 1001))
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean, torch.ones(1, 1, 4, dtype=torch.bfloat16))
