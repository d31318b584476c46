"""Switches of an encoder's layers: less memory or more speed for the same training."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from xlt_ray.errors import ModelError, SpecError


def checkpoint_activations(encoder: PreTrainedModel) -> None:
    """Keep only the inputs of each layer; the backward pass computes the rest again.

    Dropout draws the same units again, so that gradients are the same bits (arXiv 1604.06174).

    Raises:
        ModelError: the encoder cannot do so.
    """
    if not encoder.supports_gradient_checkpointing:
        raise ModelError(
            f"a {type(encoder).__name__} cannot compute its activations again",
            model=encoder.config.model_type,
            remedy="resources.activation_checkpointing: false",
        )
    # Versions of transformers before 5.23 have the older name alone.
    enable = getattr(encoder, "activation_checkpointing_enable", None)
    (enable or encoder.gradient_checkpointing_enable)()


def compile_layers(encoder: PreTrainedModel) -> None:
    """Compile every layer of the encoder in place, at its first call, for batches of any shape.

    All layers have the same code, so that one of them is compiled for all.

    Raises:
        ModelError: the encoder's layers are not known.
        SpecError: this node has no C++ compiler.
    """
    layers = list(encoder_layers(encoder))
    if not layers:
        raise ModelError(
            f"the layers of a {type(encoder).__name__} are not known, so they cannot be compiled",
            model=encoder.config.model_type,
            remedy="resources.compile: false",
        )
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    if not any(shutil.which(compiler) for compiler in compilers):
        raise SpecError(
            "torch.compile needs a C++ compiler, and this node has none",
            key="resources.compile",
            remedy="install g++ on every node, or leave it out",
        )
    for layer in layers:
        layer.compile(dynamic=True)


def encoder_layers(encoder: PreTrainedModel) -> Iterator[nn.Module]:
    """The layers from the lowest up, layers that share their weights once; none if they are not
    known."""
    for module in encoder.modules():
        if isinstance(module, GradientCheckpointingLayer):
            yield module
