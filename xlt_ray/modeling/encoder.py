"""Load and save encoders and their tokenizers.

Promises: an encoder comes in float32, from safetensors files only, its pooling layer set aside
(:mod:`xlt_ray.modeling.pooler`); what :func:`save_encoder` writes is a Hugging Face folder from
which :func:`load_saved` and ``AutoModel.from_pretrained`` give bit-identical hidden states.
Attention is PyTorch's fused kernel where the model has it, which on one CPU core and at 16 and 32
pieces a row was about as fast as the plain one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError, SpecError
from xlt_ray.modeling import pooler, toy_models
from xlt_ray.modeling.causal import refuse_causal
from xlt_ray.modeling.fresh_parameters import seeded
from xlt_ray.modeling.model_info import reads_positions, toy_vocabulary
from xlt_ray.modeling.toy_models import is_toy, toy_shape

TYPES = "token_type_ids"
"""Name of an input: 0 for pieces of the first sentence, 1 for those of the second."""


def load_tokenizer(
    model: Model, vocabulary: tuple[str, ...] | None, *, revision: str | None = None
) -> PreTrainedTokenizerFast:
    """The model's fast tokenizer, set so that every word of a list begins as after a space.

    ``revision`` is the commit of a Hub model (``ModelFacts.weights``); presets and folders
    have none and ignore it. Raises ModelError where there is no fast tokenizer.
    """
    if is_toy(model.name):
        toy_shape(model.name)
        return toy_models.toy_tokenizer(toy_vocabulary(model.name, vocabulary))
    return _tokenizer(_place(model.name), model.trust_remote_code, _revision(model.name, revision))


def load_encoder(
    model: Model, tokenizer: PreTrainedTokenizerFast, seed: int, *, revision: str | None = None
) -> PreTrainedModel:
    """The encoder in float32 on the CPU, in training mode.

    A toy preset is initialised from ``seed``; a folder or Hub model does not depend on it.
    ``revision`` is as in :func:`load_tokenizer`. Raises ModelError where weights are missing,
    the tokenizer has more pieces than the encoder, or the model is causal.
    """
    if is_toy(model.name):
        words = tuple(sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__))
        with seeded(seed, "encoder"):
            encoder = BertModel(
                BertConfig(**toy_models.toy_config(model.name, words)), add_pooling_layer=False
            )
        return encoder.train()
    encoder = _encoder(_place(model.name), model.trust_remote_code, _revision(model.name, revision))
    if len(tokenizer) > encoder.config.vocab_size:
        raise ModelError(
            f"its tokenizer has {len(tokenizer)} pieces, its encoder {encoder.config.vocab_size}",
            model=model.name,
            remedy="they do not belong together",
        )
    refuse_causal(encoder, model.name)
    return encoder


def save_encoder(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer's files into ``folder``.

    A tokenizer that makes token types for an encoder that reads them lists them from then on,
    so that whoever calls it gets them unasked.
    """
    framed = tokenizer("a", "a", return_token_type_ids=True)
    names = tokenizer.model_input_names
    if reads_token_types(encoder) and any(framed[TYPES]) and TYPES not in names:
        tokenizer.model_input_names = [*names, TYPES]
        # What was not given when it was made is not written.
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names
    with pooler.with_pooler(encoder):
        encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_saved(
    folder: Path, *, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Encoder (float32, training mode) and tokenizer of a folder by :func:`save_encoder`."""
    encoder = _encoder(str(folder), trust_remote_code, None)
    return encoder, _tokenizer(str(folder), trust_remote_code, None)


def inputs_of(encoder: PreTrainedModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of ``inputs`` that the encoder reads, its own first position counted in.

    Architectures differ in what they read beside pieces and mask. Token types are left out where
    the encoder has none (DistilBERT, ModernBERT) or but one (XLM-R), whatever the tokenizer makes.

    Raises:
        SpecError: positions are given, and the encoder goes by distances alone (DeBERTa).
    """
    kind: Any = type(encoder)
    reads = _forward_names(kind)
    found = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    if TYPES in inputs and reads_token_types(encoder):
        found[TYPES] = inputs[TYPES]
    if "position_ids" in inputs:
        if "position_ids" not in reads or not reads_positions(vars(encoder.config)):
            raise SpecError(
                f"a {encoder.config.model_type} reads distances of pieces, not their positions",
                key="align.reset_positions",
                remedy="leave it out, or choose another model",
            )
        found["position_ids"] = inputs["position_ids"] + first_position(encoder)
    return found


def reads_token_types(encoder: PreTrainedModel) -> bool:
    """Whether the encoder tells token types apart.

    Most configurations count them. XLNet and Funnel compare types instead of looking them up, and
    count none; the others that count none (XLM, FlauBERT) would look them up among the words.
    """
    config: Any = encoder.config
    kind: Any = type(encoder)
    default = 2 if config.model_type in ("xlnet", "funnel") else 1
    num_types = getattr(config, "type_vocab_size", None) or default
    return TYPES in _forward_names(kind) and num_types > 1


def first_position(encoder: PreTrainedModel) -> int:
    """The number of the first position: RoBERTa and its kin begin after that of padding."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def _place(name: str) -> str:
    folder = Path(name).expanduser()
    return str(folder) if folder.is_dir() else name


def _revision(name: str, revision: str | None) -> str | None:
    return None if Path(name).expanduser().is_dir() else revision


def _tokenizer(
    place: str, trust_remote_code: bool, revision: str | None
) -> PreTrainedTokenizerFast:
    def load(**settings: Any) -> Any:
        try:
            return AutoTokenizer.from_pretrained(
                place, trust_remote_code=trust_remote_code, revision=revision, **settings
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"its tokenizer cannot be loaded ({error})", model=place) from error

    tokenizer = load()
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} is not a fast tokenizer",
            model=place,
            remedy="expected a folder that contains tokenizer.json",
        )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # Where a folder has no tokenizer files, an empty tokenizer comes back without a word.
        raise ModelError(
            "has no tokenizer", model=place, remedy="expected a folder that contains tokenizer.json"
        )
    if _joins_words(tokenizer):
        tokenizer = load(add_prefix_space=True)
    if _joins_words(tokenizer):
        # A tokenizer.json without a class of its own keeps its setting whatever is asked.
        tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    fast: PreTrainedTokenizerFast = tokenizer
    return fast


def _joins_words(tokenizer: Any) -> bool:
    """Byte-level tokenizers take a word without a space before it for the rest of another."""
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    return getattr(splitter, "add_prefix_space", True) is False


def _encoder(place: str, trust_remote_code: bool, revision: str | None) -> PreTrainedModel:
    settings: dict[str, Any] = {"trust_remote_code": trust_remote_code, "revision": revision}
    try:
        config = AutoConfig.from_pretrained(place, **settings)
        is_pooled = _has_pooler(config) and config.model_type in pooler.FAMILIES
        if _has_pooler(config):
            settings["add_pooling_layer"] = is_pooled
        # Weights that a file lacks are drawn at random before they are refused below.
        with seeded(0, "missing"):
            encoder, loading = AutoModel.from_pretrained(
                place,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **settings,
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"cannot be loaded ({error})", model=place) from error
    lacking = loading["missing_keys"]
    missing = sorted(one for one in lacking if not (is_pooled and one.startswith(pooler.PREFIX)))
    if missing:
        raise ModelError(
            f"its weights lack {len(missing)} tensors of {type(encoder).__name__}, "
            f"{missing[0]} among them",
            model=place,
        )
    loaded: PreTrainedModel = encoder
    if is_pooled:
        pooler.set_pooler_aside(loaded, is_trained=len(missing) == len(lacking))
    return loaded.train()


@cache
def _forward_names(kind: Any) -> frozenset[str]:
    """Names that the encoder's call has in plain sight; what else it swallows is not read."""
    return frozenset(inspect.signature(kind.forward).parameters)


def _has_pooler(config: Any) -> bool:
    """Whether the model class of this configuration takes ``add_pooling_layer``.

    Code that comes with a model is not looked at; its poolers are loaded and left unused.
    """
    kind = MODEL_MAPPING.get(type(config), None)
    return kind is not None and "add_pooling_layer" in inspect.signature(kind).parameters
