"""Parts of an encoder that are not trained: its embeddings, its lowest layers.

What is frozen has no gradient, no optimizer state and no place in the progress of a training.
Dropout in frozen layers stays as it is.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from xlt_ray.config.trial import Freeze
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import seeded
from xlt_ray.modeling.layers import encoder_layers
from xlt_ray.modeling.network import hidden_states


def freeze(encoder: PreTrainedModel, settings: Freeze) -> None:
    """Set ``requires_grad`` to False as the settings say.

    Raises:
        ModelError: the layers share their weights, or are not known.
    """
    if settings == Freeze():
        return
    layers = list(encoder_layers(encoder))
    if len(layers) != encoder.config.num_hidden_layers:
        raise ModelError(
            f"the layers of a {type(encoder).__name__} share their weights or are not known, so "
            "none can be frozen",
            model=encoder.config.model_type,
            remedy="leave out model.freeze",
        )
    frozen = [part for layer in layers[: settings.layers] for part in layer.parameters()]
    if settings.embeddings:
        frozen += _embeddings(encoder, layers[0])
    for parameter in frozen:
        parameter.requires_grad = False


def _embeddings(encoder: PreTrainedModel, first_layer: nn.Module) -> list[nn.Parameter]:
    """The parameters outside the layers that the first layer's states depend on: of pieces, token
    types and positions (also those that every layer reads), of norms and of a projection."""
    inside = {id(parameter) for parameter in first_layer.parameters()}
    outside = [parameter for parameter in encoder.parameters() if id(parameter) not in inside]
    pieces = torch.zeros((1, 2), dtype=torch.long)
    with seeded(0, "freeze"):
        batch = {"input_ids": pieces, "attention_mask": torch.ones_like(pieces)}
        state = hidden_states(encoder, batch, (1,))[1]
    gradients = torch.autograd.grad(state.sum(), outside, allow_unused=True)
    return [
        parameter
        for parameter, gradient in zip(outside, gradients, strict=True)
        if gradient is not None
    ]
