"""A trained network as a folder of its own, for transformers and for xlt-ray.

::

    config.json, model.safetensors, tokenizer*   a Hugging Face folder
    network.safetensors                          fusion and head
    xlt.json                                     :class:`xlt_ray.config.export_metadata.Exported`

``AutoModel.from_pretrained`` gives the encoder, whatever the fusion and the head are, and
:func:`load_exported` the whole network. If a class of transformers computes the same as a network
without fusion (:func:`twin_of`), the folder has that class's layout, so that
``AutoModelForTokenClassification`` and the like give the whole network, too. This is tested: both
networks compute logits for the same rows, and a single different bit keeps the plain layout.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from xlt_ray.config.export_metadata import FILE, Exported, read_exported
from xlt_ray.config.methods import FUSIONS, method_named
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import load_saved, seeded
from xlt_ray.modeling.fusion.none import NoFusion
from xlt_ray.modeling.network import Network, build_network, load_extra

HEAD = "network.safetensors"
"""Weights of fusion and head, called as a target stage calls them."""


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, its tokenizer, and its ``xlt.json``."""

    network: Network
    tokenizer: PreTrainedTokenizerFast
    metadata: Exported


def load_exported(folder: str | Path, *, trust_remote_code: bool = False) -> Loaded:
    """The network of a folder that ``xlt export`` wrote, on the CPU.

    Args:
        trust_remote_code: run code that the encoder's configuration names.

    Raises:
        ModelError: the folder is not an export, or its weights do not match its ``xlt.json``.
    """
    place = Path(folder)
    metadata = read_exported(place)
    encoder, tokenizer = load_saved(place, trust_remote_code=trust_remote_code)
    try:
        method = method_named(FUSIONS, metadata.fusion["method"])
        fusion = method.settings.model_validate(dict(metadata.fusion))
    except (KeyError, TypeError, ValueError):
        raise ModelError(
            "fusion: xlt-ray does not know it",
            model=str(place / FILE),
            remedy="export the model again",
        ) from None
    network = build_network(encoder, metadata.kind, fusion, len(metadata.labels), seed=0)
    load_extra(network, place / HEAD)
    network.eval()
    return Loaded(network, tokenizer, metadata)


def write_exported(
    files: Path, names: Iterable[str], metadata: Exported, folder: Path, *, trust_remote_code: bool
) -> Exported:
    """Write a trained network into an empty ``folder``, and test it.

    Args:
        files: a folder as a target stage leaves it, encoder and ``network.safetensors``.
        names: which of its files to take.
        metadata: the content of ``xlt.json`` without ``transformers_class``.

    Returns:
        ``metadata`` with ``transformers_class``, as it was written.

    Raises:
        ModelError: fusion, labels or width are not those of the weights.
    """

    def write(metadata: Exported) -> Exported:
        (folder / FILE).write_text(metadata.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return metadata

    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files / name, target)
    write(metadata)
    loaded = load_exported(folder, trust_remote_code=trust_remote_code)
    twin = twin_of(loaded.network, metadata.labels)
    if twin is None:
        return metadata
    for file in folder.glob("model*.safetensors*"):
        file.unlink()
    twin.save_pretrained(folder)
    return write(metadata.model_copy(update={"transformers_class": type(twin).__name__}))


def twin_of(network: Network, labels: tuple[str, ...]) -> PreTrainedModel | None:
    """A model of transformers with the same weights and bit-identical logits, or None.

    Logits of spans are equal at pieces; at padding ours are the lowest of their type.
    """
    encoder = network.encoder
    if not network.head.auto_classes or not isinstance(network.fusion, NoFusion):
        return None
    kind = getattr(transformers, network.head.auto_classes).get(type(encoder.config), None)
    if kind is None:
        return None
    config = copy.deepcopy(encoder.config)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
    with seeded(0, "twin"):
        twin: PreTrainedModel = kind(config).eval()
    base, expected = twin.base_model_prefix, twin.state_dict()
    for layout in network.head.layer_names:
        state = {f"{base}.{name}": tensor for name, tensor in encoder.state_dict().items()}
        for name, tensor in network.head.state_dict().items():
            layer, _, part = name.rpartition(".")
            state[f"{layout.get(layer, layer).format(base=base)}.{part}"] = tensor
        if _shapes(state) == _shapes(expected):
            twin.load_state_dict(state)
            return twin if _agree(network, twin) else None
    return None


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


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
            ours: Tensor = network(batch)
            answer = twin(**batch)
    finally:
        network.train(was_training)
    if "start_logits" in answer:
        theirs = torch.stack([answer["start_logits"], answer["end_logits"]], dim=1)
        is_piece = mask.bool().unsqueeze(1).expand_as(ours)
        return torch.equal(ours[is_piece], theirs[is_piece])
    return torch.equal(ours, answer["logits"])


def silence_transformers() -> None:
    """Read files without progress bars and reports, for the rest of this process: what a model
    lacks is compared with what it may lack where it is loaded."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
