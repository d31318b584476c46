"""Layers that compute their activations again, layers that are compiled, and encoders without."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
import transformers
from torch._dynamo.utils import counters

from xlt_ray.errors import ModelError, SpecError
from xlt_ray.modeling.layers import checkpoint_activations, compile_layers

SHAPE = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
         "intermediate_size": 32}  # fmt: skip


def encoder() -> transformers.BertModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(**SHAPE)
    return transformers.BertModel(config, add_pooling_layer=False).train()


def loss(encoder: transformers.PreTrainedModel, rows: int = 2, length: int = 8) -> torch.Tensor:
    """Of equal dropout, whenever it is called."""
    torch.manual_seed(0)
    return encoder(torch.full((rows, length), 7)).last_hidden_state[..., 0].square().mean()


def test_every_layer_is_computed_twice_for_the_same_gradients() -> None:
    plain, again = encoder(), encoder()
    checkpoint_activations(again)
    calls: list[object] = []
    for layer in again.encoder.layer:
        layer.intermediate.register_forward_hook(lambda *_: calls.append(None))
    for network in (plain, again):
        loss(network).backward()
    assert len(calls) == 2 * SHAPE["num_hidden_layers"]
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, again.get_parameter(name).grad)


def test_one_layer_is_compiled_for_all_layers_and_shapes() -> None:
    torch._dynamo.reset()
    counters.clear()
    plain, compiled = encoder().eval(), encoder().eval()
    compile_layers(compiled)
    for rows, length in ((2, 8), (3, 16), (4, 24)):
        torch.testing.assert_close(loss(compiled, rows, length), loss(plain, rows, length))
    # That of the next training of this process, too.
    compile_layers(another := encoder().eval())
    loss(another)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("switch", [checkpoint_activations, compile_layers])
def test_an_encoder_that_cannot_is_refused(
    switch: Callable[[transformers.PreTrainedModel], None],
) -> None:
    config = transformers.XLNetConfig(vocab_size=50, d_model=16, n_layer=2, n_head=2, d_inner=32)
    with pytest.raises(ModelError, match="XLNetModel"):
        switch(transformers.XLNetModel(config))


def test_a_node_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SpecError, match=r"resources\.compile.*install g\+\+"):
        compile_layers(encoder())
