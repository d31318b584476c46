"""Parameter-efficient fine-tuning: an encoder stays as it is, and few new weights are trained.

One file a method, each a function ``(settings, model_type) -> peft.PeftConfig``; the library PEFT
does the rest. A new method changes nothing at first (IA3's vectors are 1, one of LoRA's matrices
is 0), so a training begins with the encoder of its parent.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from xlt_ray.config.methods import PEFT, ConfigModel
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import POOLER, seeded

_NAME = "default"
"""PEFT's name for the only adapter of a model."""
_POOLER_FILE = "pooler.safetensors"


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


def is_adapted(encoder: PreTrainedModel) -> bool:
    """Whether the encoder has new parameters beside its own."""
    return hasattr(encoder, "peft_config")


def save_adapter(encoder: PreTrainedModel, folder: Path) -> None:
    """Write what was trained as a folder of PEFT, and the pooler that goes with the encoder.

    ``PeftModel.from_pretrained(parent, folder)`` adds it to the encoder that the training began
    with.
    """
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
    pooler = getattr(encoder, POOLER, None)
    if pooler is not None:
        save_file(dict(pooler.state_dict()), folder / _POOLER_FILE)


def merge_adapter(encoder: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The encoder with what :func:`save_adapter` wrote merged into its weights; it is changed."""
    from peft import PeftModel

    merged: Any = PeftModel.from_pretrained(encoder, folder).merge_and_unload()
    if (folder / _POOLER_FILE).exists():
        getattr(merged, POOLER).load_state_dict(load_file(folder / _POOLER_FILE))
    plain: PreTrainedModel = merged.requires_grad_(True).train()
    return plain
