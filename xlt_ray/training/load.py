"""Load networks from the store and save them into it.

A result is a Hugging Face folder (``AutoModel`` and ``AutoTokenizer`` load the encoder from
it) with the weights of fusion and head beside.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from xlt_ray.config.methods import (
    FUSIONS,
    ROBUST,
    ConfigModel,
    NoFusion,
    NoRobust,
    Robust,
    method_named,
)
from xlt_ray.config.trial import Model, Ranking
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.errors import StoreError
from xlt_ray.modeling.encoder import (
    load_encoder,
    load_saved,
    load_tokenizer,
    save_encoder,
    update_pooler,
)
from xlt_ray.modeling.multitask import MultitaskNetwork
from xlt_ray.modeling.network import MaskedLm, Network, build_network, load_extra, save_extra
from xlt_ray.modeling.objectives.contrastive import ContrastiveNetwork
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import encoder_of
from xlt_ray.store.store import StageStore

EXTRA = "network.safetensors"
"""Weights of fusion and head, beside the encoder in Hugging Face layout."""


@dataclass(frozen=True)
class TrainingInputs:
    """The model that a path starts with, and the data."""

    model: Model
    source: Source


def load_parent(stage: Stage, inputs: TrainingInputs, store: StageStore) -> tuple[Any, Any]:
    """Encoder and tokenizer that a stage starts from."""
    parent = encoder_of(stage)
    if not parent.is_pretrained:
        return load_committed(parent, inputs, store)
    vocabulary, revision = inputs.source.vocabulary(), parent.settings["weights"]
    tokenizer = load_tokenizer(inputs.model, vocabulary, revision=revision)
    return load_encoder(inputs.model, tokenizer, parent.seed, revision=revision), tokenizer


def load_network(target: Stage, inputs: TrainingInputs, store: StageStore) -> tuple[Network, Any]:
    """The finished network of a committed target or few-shot stage, and its tokenizer."""
    encoder, tokenizer = load_committed(target, inputs, store)
    task = task_named(target.settings["task"]["name"])
    network = build_network(
        encoder, task.kind, fusion_of(target.settings), len(task.labels), target.seed
    )
    with _kept(target, store):
        load_extra(network, store.folder(target.key) / EXTRA)
    return network, tokenizer


def load_committed(stage: Stage, inputs: TrainingInputs, store: StageStore) -> tuple[Any, Any]:
    """Encoder and tokenizer of a committed stage.

    Raises:
        StoreError: it was freed meanwhile; walking its path again makes it again.
    """
    with _kept(stage, store):
        return load_saved(store.folder(stage.key), trust_remote_code=inputs.model.trust_remote_code)


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


def save_result(network: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write a trained network: encoder in Hugging Face layout, other weights beside it."""
    assert isinstance(network, Network | MultitaskNetwork | MaskedLm | ContrastiveNetwork)
    if isinstance(network, Network):
        update_pooler(network.head, network.encoder)
    save_encoder(network.encoder, tokenizer, folder)
    if not isinstance(network, ContrastiveNetwork):
        save_extra(network, folder / EXTRA)


def text_pipeline(tokenizer: Any, max_length: int, cache: Path) -> TextPipeline:
    """How a stage reads text; the SHA-256 of the whole tokenizer names it."""
    digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    return TextPipeline(tokenizer, digest, max_length, cache)


def fusion_of(settings: Mapping[str, Any]) -> ConfigModel:
    """The fusion of a stage; an intermediate stage has none."""
    chosen = settings.get("fusion")
    if chosen is None:
        return NoFusion()
    return method_named(FUSIONS, chosen["method"]).settings.model_validate(chosen)


def ranking_of(settings: Mapping[str, Any]) -> Ranking:
    """Settings of a stage for a ranking task; the defaults for other stages."""
    return Ranking.model_validate(settings.get("ranking", {}))


def robust_of(settings: Mapping[str, Any]) -> Robust:
    """The robust training of a stage; :class:`NoRobust` if it has none."""
    chosen = settings.get("robust")
    if chosen is None:
        return NoRobust()
    method_settings = method_named(ROBUST, chosen["method"]).settings.model_validate(chosen)
    assert isinstance(method_settings, Robust)
    return method_settings
