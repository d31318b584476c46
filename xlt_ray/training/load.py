"""Load networks from the store, save them into it and export them.

A result is a Hugging Face folder (``AutoModel`` and ``AutoTokenizer`` load the encoder from
it) with the weights of fusion and head beside.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xlt_ray.config.export_metadata import Exported
from xlt_ray.config.methods import FUSIONS, Method, method_named
from xlt_ray.config.trial import Model
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import Batch, TextPipeline
from xlt_ray.errors import SpecError, StoreError
from xlt_ray.files import atomic_folder
from xlt_ray.modeling.encoder import (
    load_encoder,
    load_saved,
    load_tokenizer,
    save_encoder,
    update_pooler,
)
from xlt_ray.modeling.exported_network import silence_transformers, write_exported
from xlt_ray.modeling.multitask import MultitaskNetwork
from xlt_ray.modeling.network import MaskedLm, Network, build_network, load_extra, save_extra
from xlt_ray.modeling.objectives.contrastive import ContrastiveNetwork
from xlt_ray.modeling.peft import is_adapted, merge_adapter, save_adapter
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import composed_of, encoder_of
from xlt_ray.store.store import StageStore
from xlt_ray.training.process_group import ProcessGroup
from xlt_ray.training.runtime import Runtime

EXTRA = "network.safetensors"
"""Weights of fusion and head, beside the encoder in Hugging Face layout."""
ADAPTER = "adapter"
"""Folder of the weights that were trained instead of the encoder's, as the library PEFT has it."""


@dataclass(frozen=True)
class TrainingContext:
    """What a worker makes stages with: the model, the data, the store, the runtime, the group."""

    model: Model
    source: Source
    store: StageStore
    runtime: Runtime
    group: ProcessGroup = field(default_factory=ProcessGroup)

    def pipeline(self, tokenizer: Any, max_length: int) -> TextPipeline:
        """How a stage reads text; the SHA-256 of the whole tokenizer names it."""
        digest = _digest_of(tokenizer.backend_tokenizer)
        return TextPipeline(tokenizer, digest, max_length, self.runtime.cache)


@lru_cache(maxsize=8)
def _digest_of(backend: Any) -> str:
    """Once for every tokenizer of a process, which is the same object in all stages."""
    return hashlib.sha256(backend.to_str().encode()).hexdigest()


def load_parent(stage: Stage, context: TrainingContext) -> tuple[Any, Any]:
    """Encoder and tokenizer that a stage starts from."""
    parent, model = encoder_of(stage), context.model
    if not parent.is_pretrained:
        return load_committed(parent, context)
    vocabulary, revision = context.source.vocabulary(), parent.settings["weights"]
    tokenizer = load_tokenizer(model, vocabulary, revision=revision)
    return load_encoder(model, tokenizer, parent.seed, revision=revision), tokenizer


def load_network(target: Stage, context: TrainingContext) -> tuple[Network, Any]:
    """The finished network of a committed target or few-shot stage, and its tokenizer."""
    encoder, tokenizer = load_committed(target, context)
    task = task_named(target.settings["task"]["name"])
    fusion = method_settings(FUSIONS, target.settings.get("fusion"))
    network = build_network(encoder, task.kind, fusion, len(task.labels), target.seed)
    with _kept(target, context.store):
        load_extra(network, context.store.folder(target.key) / EXTRA)
    return network, tokenizer


def load_committed(stage: Stage, context: TrainingContext) -> tuple[Any, Any]:
    """Encoder and tokenizer of a committed stage; an adapter is merged with what is below it.

    Raises:
        StoreError: it was freed meanwhile; walking its path again makes it again.
    """
    if stage.is_adapter:
        encoder, tokenizer = load_parent(stage, context)
        with _kept(stage, context.store):
            return merge_adapter(encoder, context.store.folder(stage.key) / ADAPTER), tokenizer
    with _kept(stage, context.store):
        folder = context.store.folder(stage.key)
        return load_saved(folder, trust_remote_code=context.model.trust_remote_code)


@contextlib.contextmanager
def _kept(stage: Stage, store: StageStore) -> Iterator[None]:
    """Raise StoreError if reading fails because the stage was freed meanwhile."""
    try:
        yield
    except Exception:
        if store.find_recorded(stage) is not None:
            raise
        # Not from the original error, which looks like a fault of the data.
        raise StoreError("was freed while it was read", key=stage.key) from None


def method_settings(
    registry: tuple[Method, ...], chosen: Mapping[str, Any] | None, default: str = "none"
) -> Any:
    """The settings of the method that a stage has chosen, or of the default one."""
    chosen = chosen or {"method": default}
    return method_named(registry, chosen["method"]).settings.model_validate(chosen)


def tensors_of(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The arrays of a batch as tensors; nothing waits until they are on a GPU."""
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    if device.type == "cuda":
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}


def save_result(network: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write a trained network: encoder in Hugging Face layout, or what was trained beside it, and
    other weights beside that."""
    assert isinstance(network, Network | MultitaskNetwork | MaskedLm | ContrastiveNetwork)
    if isinstance(network, Network):
        update_pooler(network.head, network.encoder)
    if is_adapted(network.encoder):
        save_adapter(network.encoder, folder / ADAPTER)
    else:
        save_encoder(network.encoder, tokenizer, folder)
    if not isinstance(network, ContrastiveNetwork):
        save_extra(network, folder / EXTRA)


@contextlib.contextmanager
def export_folder(folder: Path) -> Iterator[Path]:
    """A new hidden folder beside ``folder`` that takes its name at the end, or is deleted.

    What killed exports left beside it is deleted first.

    Raises:
        SpecError: ``folder`` exists and is not empty, or cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(
            "exists" + (" and is not empty" if folder.is_dir() else ""),
            file=str(folder),
            remedy="name a new folder, or move this one",
        )
    try:
        with atomic_folder(folder) as aside:
            yield aside
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpecError(f"cannot be written ({reason})", file=str(folder)) from error


def write_merged(
    target: Stage, context: TrainingContext, metadata: Exported, folder: Path
) -> Exported:
    """:func:`write_network` of an adapter: merged, and by itself in the folder ``adapter``."""
    silence_transformers()
    for part in composed_of(target):
        if context.store.verify(part.key) is None:
            raise StoreError("is not in the store", key=part.key)
    network, tokenizer = load_network(target, context)
    context.store.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.store.scratch) as place:
        whole = Path(place)
        save_result(network, tokenizer, whole)
        shutil.copytree(context.store.folder(target.key) / ADAPTER, whole / ADAPTER)
        names = [str(file.relative_to(whole)) for file in whole.rglob("*") if file.is_file()]
        trusted = context.model.trust_remote_code
        return write_exported(whole, names, metadata, folder, trust_remote_code=trusted)


def write_network(
    key: str, store: StageStore, metadata: Exported, folder: Path, *, trust_remote_code: bool
) -> Exported:
    """Write the network of the committed target stage ``key`` into an empty folder.

    Its files are compared with their digests before. Returns what ``xlt.json`` says.

    Raises:
        StoreError: the stage is not in the store, or damaged.
        ModelError: fusion, labels or width are not those of the weights.
    """
    silence_transformers()
    record = store.verify(key)
    if record is None:
        raise StoreError("is not in the store", key=key)
    return write_exported(
        store.folder(key), record.files, metadata, folder, trust_remote_code=trust_remote_code
    )
