from __future__ import annotations

import torch

from xlt_ray.modeling.fresh_parameters import seeded


def drawn(seed: int, name: str) -> torch.Tensor:
    with seeded(seed, name):
        return torch.rand(4)


def test_seed_and_name_alone_decide_what_is_drawn() -> None:
    first = drawn(1, "head")
    torch.rand(7)
    assert torch.equal(first, drawn(1, "head"))
    assert not torch.equal(first, drawn(2, "head"))
    assert not torch.equal(first, drawn(1, "fusion"))


def test_the_generator_goes_on_as_if_nothing_had_been_drawn() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    drawn(1, "head")
    assert torch.equal(torch.rand(3), expected)


def test_the_generator_is_put_back_after_an_error() -> None:
    before = torch.get_rng_state()
    try:
        with seeded(1, "head"):
            torch.rand(3)
            raise KeyError
    except KeyError:
        assert torch.equal(torch.get_rng_state(), before)
