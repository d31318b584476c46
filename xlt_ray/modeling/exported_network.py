"""A trained network as a folder of its own, for transformers and for xlt-ray.

::

    config.json, model.safetensors, tokenizer*   a Hugging Face folder
    network.safetensors                          fusion and head
    xlt.json                                     :class:`xlt_ray.config.export_metadata.Exported`

``AutoModel.from_pretrained`` gives the encoder, whatever the fusion and the head are, and
:func:`load_exported` the whole network. Where a class of transformers computes the same as a
network without fusion (:func:`twin_of`), the folder is written in that class's layout, so that
``AutoModelForTokenClassification`` and its kin give the whole network, too. Which classes those
are is not taken on trust: both networks answer the same rows, and a single bit of difference
keeps the plain layout.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from xlt_ray.config.export_metadata import FILE, Exported, read_exported
from xlt_ray.config.methods import FUSIONS, ConfigModel, method_named
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import load_saved
from xlt_ray.modeling.fresh_parameters import seeded
from xlt_ray.modeling.fusion.none import NoFusion
from xlt_ray.modeling.network import Network, build_network, load_extra

HEAD = "network.safetensors"
"""Weights of fusion and head, called as a target stage calls them."""


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, its tokenizer, and what the folder says of it."""

    network: Network
    tokenizer: PreTrainedTokenizerFast
    told: Exported


def load_exported(folder: str | Path, *, trust_remote_code: bool = False) -> Loaded:
    """The network of a folder that ``xlt export`` wrote, on the CPU.

    Args:
        trust_remote_code: run code that the encoder's configuration names.

    Raises:
        ModelError: the folder is none of these, or its weights are not those it tells of.
    """
    place = Path(folder)
    return _load(place, read_exported(place), trust_remote_code=trust_remote_code)


def write_exported(
    files: Path, names: Iterable[str], told: Exported, folder: Path, *, trust_remote_code: bool
) -> Exported:
    """Write a trained network into an empty ``folder``, and try it out.

    Args:
        files: a folder as a target stage leaves it, encoder and ``network.safetensors``.
        names: which of its files to take.
        told: all that ``xlt.json`` will say but ``transformers_class``.

    Returns:
        ``told`` with ``transformers_class``, as it was written.

    Raises:
        ModelError: fusion, labels or width are not those of the weights.
    """
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files / name, target)
    loaded = _load(folder, told, trust_remote_code=trust_remote_code)
    twin = twin_of(loaded.network, told.labels)
    if twin is not None:
        for file in folder.glob("model*.safetensors*"):
            file.unlink()
        twin.save_pretrained(folder)
        told = told.model_copy(update={"transformers_class": type(twin).__name__})
    text = told.model_dump_json(indent=1)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    return told


def twin_of(network: Network, labels: tuple[str, ...]) -> PreTrainedModel | None:
    """A model of transformers with the same weights and, to the bit, the same logits, or None.

    Logits of spans are equal at pieces; at padding ours are the lowest there are.
    """
    encoder = network.encoder
    if not network.head.auto_classes or not isinstance(network.fusion, NoFusion):
        return None
    made = getattr(transformers, network.head.auto_classes).get(type(encoder.config), None)
    if made is None:
        return None
    config = copy.deepcopy(encoder.config)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
    with seeded(0, "twin"):
        twin: PreTrainedModel = made(config).eval()
    base, wanted = twin.base_model_prefix, twin.state_dict()
    for layout in network.head.layer_names:
        state = {f"{base}.{name}": one for name, one in encoder.state_dict().items()}
        for name, one in network.head.state_dict().items():
            layer, _, part = name.rpartition(".")
            state[f"{layout.get(layer, layer).format(base=base)}.{part}"] = one
        if {name: one.shape for name, one in state.items()} == {
            name: one.shape for name, one in wanted.items()
        }:
            twin.load_state_dict(state)
            return twin if _agree(network, twin) else None
    return None


def _agree(network: Network, twin: PreTrainedModel) -> bool:
    """Whether both give the same bits for rows of several lengths."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, network.encoder.config.vocab_size, (3, 16), generator=random)
    mask = (torch.arange(16) < torch.tensor([[16], [11], [5]])).long()
    batch = {"input_ids": ids, "attention_mask": mask}
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            mine: Tensor = network(batch)
            answer = twin(**batch)
    finally:
        network.train(was_training)
    if "start_logits" in answer:
        theirs = torch.stack([answer["start_logits"], answer["end_logits"]], dim=1)
        is_piece = mask.bool().unsqueeze(1).expand_as(mine)
        return torch.equal(mine[is_piece], theirs[is_piece])
    return torch.equal(mine, answer["logits"])


def _load(folder: Path, told: Exported, *, trust_remote_code: bool) -> Loaded:
    encoder, tokenizer = load_saved(folder, trust_remote_code=trust_remote_code)
    settings = _fusion_of(told, folder)
    network = build_network(encoder, told.kind, settings, len(told.labels), seed=0)
    load_extra(network, folder / HEAD)
    network.eval()
    return Loaded(network, tokenizer, told)


def _fusion_of(told: Exported, folder: Path) -> ConfigModel:
    try:
        method = method_named(FUSIONS, told.fusion["method"])
        return method.settings.model_validate(dict(told.fusion))
    except (KeyError, TypeError, ValueError):
        raise ModelError(
            "fusion: xlt-ray does not know it",
            model=str(folder / FILE),
            remedy="export the model again",
        ) from None


def show_no_bars() -> None:
    """Files are read without progress bars, for the rest of this process."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
