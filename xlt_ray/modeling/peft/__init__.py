"""Parameter-efficient fine-tuning: an encoder stays as it is, and few new weights are trained.

One file a method, each a function ``(settings, model_type) -> peft.PeftConfig``; the library PEFT
does the rest. A new method changes nothing at first (IA3's vectors are 1, one of LoRA's matrices
is 0), so a training begins with the encoder of its parent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from xlt_ray.config.methods import PEFT, ConfigModel
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import seeded

_NAME = "default"
"""PEFT's name for the only adapter of a model."""


def add_peft(encoder: PreTrainedModel, settings: ConfigModel, seed: int) -> None:
    """Freeze the encoder, and add new parameters to its layers, which come from the seed alone.

    Raises:
        ModelError: PEFT does not know the layers of such an encoder.
    """
    from peft import get_peft_model

    entry = next(entry for entry in PEFT if type(settings) is entry.settings)
    config = entry.load()(settings, encoder.config.model_type)
    with seeded(seed, "peft"):
        try:
            get_peft_model(encoder, config)
        except ValueError as error:
            raise ModelError(
                f"peft: {entry.name}: its layers are not known ({error})",
                model=encoder.config.model_type,
                remedy="peft: {method: lora, modules: all} suits every encoder",
            ) from error


@contextmanager
def merged(encoder: PreTrainedModel) -> Iterator[None]:
    """Within the block, the encoder is a plain one, its weights merged with what was trained.

    They stay merged, so the encoder is not to be trained further.
    """
    layers = _tuned_layers(encoder)
    for name, layer in layers.items():
        layer.merge()
        encoder.set_submodule(name, layer.get_base_layer())
    try:
        yield
    finally:
        for name, layer in layers.items():
            encoder.set_submodule(name, layer)


def save_adapter(encoder: PreTrainedModel, folder: Path) -> None:
    """Write what was trained as a folder of PEFT; nothing for an encoder without it.

    ``PeftModel.from_pretrained(parent, folder)`` adds it to the encoder that the training began
    with.
    """
    if not _tuned_layers(encoder):
        return
    from peft import get_peft_model_state_dict

    folder.mkdir()
    adapted: Any = encoder
    # Its name says where the encoder was loaded from, and its sets have no order.
    config = copy.copy(adapted.peft_config[_NAME])
    config.base_model_name_or_path = None
    for name, value in vars(config).items():
        if isinstance(value, set):
            setattr(config, name, sorted(value))
    config.save_pretrained(folder)
    state = get_peft_model_state_dict(adapted, adapter_name=_NAME)
    tensors = {f"base_model.model.{name}": part.cpu().contiguous() for name, part in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


def _tuned_layers(encoder: PreTrainedModel) -> dict[str, Any]:
    """The layers with new parameters, by name."""
    if not hasattr(encoder, "peft_config"):
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules: dict[str, nn.Module] = dict(encoder.named_modules())
    return {name: module for name, module in modules.items() if isinstance(module, BaseTunerLayer)}
