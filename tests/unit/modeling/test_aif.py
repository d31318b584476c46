from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xlt_ray.config import methods
from xlt_ray.errors import SpecError
from xlt_ray.modeling.fusion.aif import AifFusion, Attention

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


def settings(layer: int = 1, reduction: int = 4) -> methods.AifFusion:
    return methods.AifFusion(method="aif", layer=layer, reduction=reduction)


def states(num_layers: int = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 5, 32, generator=generator) for _ in range(num_layers + 1))


def weight(attention: Attention, inputs: Tensor) -> Tensor:
    """M of the docstring, with the mean over pieces that are not padding."""
    mean = torch.stack([inputs[0].mean(dim=0), inputs[1, :2].mean(dim=0)]).unsqueeze(1)
    return torch.sigmoid(attention.local(inputs) + attention.whole(mean))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_output_is_the_equation_of_the_docstring(layer: int) -> None:
    fusion, hidden = AifFusion(3, 32, settings(layer)), states()
    last, lower = hidden[3], hidden[layer]
    first = weight(fusion.first, last + lower)
    between = first * last + (1 - first) * lower
    second = weight(fusion.second, between)
    expected = second * last + (1 - second) * lower
    torch.testing.assert_close(fusion(hidden, MASK)[MASK == 1], expected[MASK == 1])


def test_every_stage_has_branches_of_its_own() -> None:
    fusion, hidden = AifFusion(3, 32, settings()), states()
    before = fusion(hidden, MASK)
    names = {name.rsplit(".", 2)[0] for name, _ in fusion.named_parameters()}
    assert names == {"first.local", "first.whole", "second.local", "second.whole"}
    with torch.no_grad():
        fusion.second.whole.outer_norm.bias.fill_(9.0)
    after = fusion(hidden, MASK)
    # M2 is close to 1 and Z close to the last layer; the first stage alone would not show it.
    assert not torch.allclose(before, after, atol=0.1)
    torch.testing.assert_close(after[0], hidden[3][0], rtol=0, atol=0.01)


def test_a_layer_fused_with_itself_stays_what_it_is() -> None:
    last = states()[-1]
    fused = AifFusion(3, 32, settings(layer=0))((last, last, last, last), torch.ones(2, 5))
    torch.testing.assert_close(fused, last)


def test_a_layer_or_a_reduction_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match=r"target\.fusion\.layer.*0 \(the embeddings\) to 2"):
        AifFusion(3, 32, settings(layer=3))
    with pytest.raises(SpecError, match=r"target\.fusion\.reduction.*at most 8"):
        AifFusion(3, 32, settings(reduction=9))
