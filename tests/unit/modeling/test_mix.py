from __future__ import annotations

import torch

from xlt_ray.config import methods
from xlt_ray.modeling.fusion.mix import SPEED, MixFusion


def test_the_output_is_the_equation_of_the_docstring() -> None:
    fusion = MixFusion(2, 4, methods.MixFusion(method="mix"))
    with torch.no_grad():
        fusion.layer_weights.copy_(torch.tensor([0.0, 0.05, -0.02]))
        fusion.gamma.fill_(1.5)
    generator = torch.Generator().manual_seed(0)
    hidden = tuple(torch.randn(2, 3, 4, generator=generator) for _ in range(3))
    shares = torch.tensor([0.0, 0.05 * SPEED, -0.02 * SPEED]).exp()
    shares = 1.5 * shares / shares.sum()
    expected = sum(share * one for share, one in zip(shares, hidden, strict=True))
    torch.testing.assert_close(fusion(hidden, torch.ones(2, 3)), expected)


def test_the_weights_find_the_only_useful_layer_at_a_fine_tuning_rate() -> None:
    fusion = MixFusion(2, 4, methods.MixFusion(method="mix"))
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=2e-4, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        hidden = tuple(torch.randn(4, 3, 4, generator=generator) for _ in range(3))
        loss = (fusion(hidden, torch.ones(4, 3)) - hidden[1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shares = torch.softmax(SPEED * fusion.layer_weights.detach(), dim=0)
    assert shares[1] > 0.55
