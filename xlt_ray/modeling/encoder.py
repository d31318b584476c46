"""Load and save encoders and their tokenizers; a decoder-only model is taken for one, too.

An encoder comes in float32, from safetensors files only, with its pooler set aside. What
:func:`save_encoder` writes is a Hugging Face folder from which :func:`load_saved` and
``AutoModel.from_pretrained`` give bit-identical hidden states.

Attention is PyTorch's fused kernel if the model has it, which on one CPU core and at 16 and 32
pieces a row was about as fast as the plain one. A forward pass never waits for its device.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_MAPPING,
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError, SpecError, nearest
from xlt_ray.modeling import toy_models
from xlt_ray.modeling.heads import Head, PairHead
from xlt_ray.modeling.model_info import reads_positions, toy_vocabulary
from xlt_ray.modeling.trimmed_embedding import whole_embedding

POOLING = "xlt_pooling"
"""Key of an encoder's configuration: ``model.pooling``, which goes with the weights to all stages
and exports."""
TYPES = "token_type_ids"
"""Name of an input: 0 for pieces of the first sentence, 1 for those of the second."""


@contextlib.contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Run the block with PyTorch's CPU generator set from ``(seed, name)``, then put it back.

    ``name`` keeps parts apart: a head starts from the same values whether or not a fusion
    was made before it. Other generators (CUDA, numpy, ``random``) are not touched.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    try:
        yield
    finally:
        torch.set_rng_state(before)


# -- loading and saving -------------------------------------------------------------------


def load_tokenizer(
    model: Model, vocabulary: tuple[str, ...] | None, *, revision: str | None = None
) -> PreTrainedTokenizerFast:
    """The model's fast tokenizer, set so that every word of a list begins as after a space.

    ``revision`` is the commit of a Hub model (``ModelFacts.weights``); presets and folders
    have none and ignore it. Raises ModelError if there is no fast tokenizer.
    """
    if toy_models.is_toy(model.name):
        toy_models.toy_shape(model.name)
        return toy_models.toy_tokenizer(toy_vocabulary(model.name, vocabulary))
    return _tokenizer(*_located(model.name, revision), model.trust_remote_code)


def load_encoder(
    model: Model, tokenizer: PreTrainedTokenizerFast, seed: int, *, revision: str | None = None
) -> PreTrainedModel:
    """The encoder in float32 on the CPU, in training mode.

    A toy preset is initialised from ``seed``; a folder or Hub model does not depend on it.
    ``revision`` is as in :func:`load_tokenizer`. Of ``model.layers`` the lowest are kept, with
    the bits of a model that has only these. Raises ModelError if weights are missing, the
    tokenizer has more pieces than the encoder, or the model is causal and its first piece would
    stand for the sentence.
    """
    if toy_models.is_toy(model.name):
        words = tuple(sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__))
        with seeded(seed, "encoder"):
            config = BertConfig(**toy_models.toy_config(model.name, words))
            _keep_layers(config, model.layers)
            encoder = BertModel(config, add_pooling_layer=False)
        attend_without_reading(encoder)
        _set_pooling(encoder, model)
        return encoder.train()
    place = _located(model.name, revision)
    encoder = _encoder(*place, model.trust_remote_code, model.layers)
    if len(tokenizer) > encoder.config.vocab_size:
        raise ModelError(
            f"its tokenizer has {len(tokenizer)} pieces, its encoder {encoder.config.vocab_size}",
            model=model.name,
            remedy="they do not belong together",
        )
    _set_attention(encoder, model)
    _set_pooling(encoder, model)
    return encoder


def save_encoder(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer's files into ``folder``.

    A tokenizer that makes token types for an encoder that reads them lists them from then on,
    so that everyone who calls it gets them.
    """
    framed = tokenizer("a", "a", return_token_type_ids=True)
    names = tokenizer.model_input_names
    if reads_token_types(encoder) and any(framed[TYPES]) and TYPES not in names:
        tokenizer.model_input_names = [*names, TYPES]
        # What was not given when it was made is not written.
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names
    pooler = getattr(encoder, POOLER, None)
    if pooler is not None:
        encoder.pooler = pooler
    try:
        with whole_embedding(encoder):
            encoder.save_pretrained(folder)
    finally:
        if pooler is not None:
            encoder.pooler = None
    tokenizer.save_pretrained(folder)


def load_saved(
    folder: Path, *, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Encoder (float32, training mode) and tokenizer of a folder by :func:`save_encoder`."""
    encoder = _encoder(str(folder), None, trust_remote_code)
    return encoder, _tokenizer(str(folder), None, trust_remote_code)


def _located(name: str, revision: str | None) -> tuple[str, str | None]:
    """Place and revision of a model; a folder has no revision."""
    folder = Path(name).expanduser()
    return (str(folder), None) if folder.is_dir() else (name, revision)


_TOKENIZER_ENDINGS = (".json", ".txt", ".model", ".py")
"""Of the files that a tokenizer is read from."""
_MOST_TOKENIZERS = 8
_loaded: dict[tuple[str, bool], PreTrainedTokenizerFast] = {}
"""By digest of its files, or name and revision on the hub, and whether its code is trusted."""


def _tokenizer(
    place: str, revision: str | None, trust_remote_code: bool
) -> PreTrainedTokenizerFast:
    """A tokenizer, loaded once a process: every stage of a path has the same one in its folder.

    Callers get copies with settings of their own over one vocabulary.
    """
    folder = Path(place)
    name = _digest_of_tokenizer(folder) if folder.is_dir() else f"{place}@{revision}"
    key = (name, trust_remote_code)
    if key not in _loaded:
        if len(_loaded) == _MOST_TOKENIZERS:
            _loaded.clear()
        _loaded[key] = _load_tokenizer(place, revision, trust_remote_code)
    tokenizer = copy.copy(_loaded[key])
    tokenizer.init_kwargs = dict(tokenizer.init_kwargs)
    return tokenizer


def _digest_of_tokenizer(folder: Path) -> str:
    state = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _TOKENIZER_ENDINGS and file.is_file():
            state.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return state.hexdigest()


def _load_tokenizer(
    place: str, revision: str | None, trust_remote_code: bool
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
        # For a folder without tokenizer files, an empty tokenizer comes back without an error.
        raise ModelError(
            "has no tokenizer", model=place, remedy="expected a folder that contains tokenizer.json"
        )
    if _joins_words(tokenizer):
        tokenizer = load(add_prefix_space=True)
    if tokenizer.pad_token_id is None:
        # Decoder-only models are often trained without padding, which no piece sees here.
        tokenizer.pad_token = tokenizer.eos_token
    if _joins_words(tokenizer):
        # A tokenizer.json without a class of its own ignores the argument.
        tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    fast: PreTrainedTokenizerFast = tokenizer
    return fast


def _joins_words(tokenizer: Any) -> bool:
    """Byte-level tokenizers take a word without a space before it for the rest of another."""
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    return getattr(splitter, "add_prefix_space", True) is False


def _set_pooling(encoder: PreTrainedModel, model: Model) -> None:
    """Note ``model.pooling``, also where the folder of an export says otherwise."""
    if model.pooling != getattr(encoder.config, POOLING, "first"):
        setattr(encoder.config, POOLING, model.pooling)


def _keep_layers(config: Any, num_layers: int | None) -> None:
    """Set a configuration to the lowest layers; weights of the others are then not read."""
    if num_layers is not None:
        config.num_hidden_layers = num_layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:num_layers]


def _encoder(
    place: str, revision: str | None, trust_remote_code: bool, num_layers: int | None = None
) -> PreTrainedModel:
    settings: dict[str, Any] = {"trust_remote_code": trust_remote_code, "revision": revision}
    try:
        config = AutoConfig.from_pretrained(place, **settings)
        _keep_layers(config, num_layers)
        is_pooled = _has_pooler(config) and config.model_type in POOLED_FAMILIES
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
    absent = loading["missing_keys"]
    missing = sorted(name for name in absent if not (is_pooled and name.startswith("pooler.")))
    if missing:
        raise ModelError(
            f"its weights lack {len(missing)} tensors of {type(encoder).__name__}, "
            f"{missing[0]} among them",
            model=place,
        )
    loaded: PreTrainedModel = encoder
    if is_pooled:
        if not absent:
            # Not registered as a module: its parameters do not belong to the encoder any more.
            object.__setattr__(loaded, POOLER, loaded.pooler)
        loaded.pooler = None
    _see_both_ways(loaded)
    attend_without_reading(loaded)
    return loaded.train()


# -- attention ----------------------------------------------------------------------------

_ATTENTION = "sdpa_without_reading"
"""PyTorch's fused attention, under a name of its own because its masks are made differently."""


def attend_without_reading(encoder: PreTrainedModel) -> None:
    """Let a forward pass read nothing back from its device; the result has the same bits.

    Transformers leaves the mask out for a batch without padding, and looks at the mask for that:
    a GPU has to finish all that it was given before, in every pass. On a CPU looking is free.
    """

    def mask(
        *,
        attention_mask: Tensor | None,
        allow_is_bidirectional_skip: bool = False,
        allow_is_causal_skip: bool = True,
        **rest: Any,
    ) -> Tensor | None:
        is_free = attention_mask is None or attention_mask.device.type == "cpu"
        made: Tensor | None = sdpa_mask(
            attention_mask=attention_mask,
            allow_is_bidirectional_skip=allow_is_bidirectional_skip and is_free,
            allow_is_causal_skip=allow_is_causal_skip and is_free,
            **rest,
        )
        return made

    if encoder.config._attn_implementation == "sdpa":
        AttentionInterface.register(_ATTENTION, sdpa_attention_forward)
        AttentionMaskInterface.register(_ATTENTION, mask)
        encoder.set_attn_implementation(_ATTENTION)


# -- inputs -------------------------------------------------------------------------------


def inputs_of(encoder: PreTrainedModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of ``inputs`` that the encoder reads; positions count from its first one.

    Architectures differ in what they read besides pieces and mask. Token types are left out if
    the encoder has none (DistilBERT, ModernBERT) or only one (XLM-R), whatever the tokenizer makes.

    Raises:
        SpecError: positions are given, and the encoder reads distances only (DeBERTa).
    """
    kind: Any = type(encoder)
    names = _forward_names(kind)
    read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    if TYPES in inputs and reads_token_types(encoder):
        read[TYPES] = inputs[TYPES]
    if "position_ids" in inputs:
        if "position_ids" not in names or not reads_positions(vars(encoder.config)):
            raise SpecError(
                f"a {encoder.config.model_type} reads distances of pieces, not their positions",
                key="align.reset_positions",
                remedy="leave it out, or choose another model",
            )
        read["position_ids"] = inputs["position_ids"] + first_position(encoder)
    return read


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
    """The number of the first position: RoBERTa and its relatives begin after that of padding."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


@cache
def _forward_names(kind: Any) -> frozenset[str]:
    """Named arguments of the encoder's call; what it takes as ``**kwargs`` is not read."""
    return frozenset(inspect.signature(kind.forward).parameters)


# -- the pooler ---------------------------------------------------------------------------
#
# BERT and its nearest relatives were pre-trained with a pooler: dense, tanh, on the first piece.
# Their classes for sequences in transformers begin with it, so heads for whole sequences begin
# with its weights if the checkpoint has them. It is no part of the encoder that is trained (under
# most heads it would learn nothing), but is kept beside it and written with it.

POOLED_FAMILIES = frozenset({"albert", "bert", "ernie", "megatron-bert", "rembert"})
"""Model types whose classes for sequences read the pooler of their encoder. XLM-R's and RoBERTa's
checkpoints may have one, too, but their classes leave it out."""
POOLER = "pretrained_pooler"
"""Attribute of an encoder: the pooler of its checkpoint."""


def begin_with_pooler(head: Head, encoder: PreTrainedModel) -> None:
    """Give a new head the weights of the encoder's pooler, if both have such a layer."""
    dense = _pooler_layer(encoder)
    if dense is not None and isinstance(head, PairHead):
        head.dense.load_state_dict(dense.state_dict())


def update_pooler(head: Head, encoder: PreTrainedModel) -> None:
    """The reverse, after a training: the next stage begins with what was learned."""
    dense = _pooler_layer(encoder)
    if dense is not None and isinstance(head, PairHead):
        dense.load_state_dict(head.dense.state_dict())


def _pooler_layer(encoder: PreTrainedModel) -> nn.Linear | None:
    pooler: Any = getattr(encoder, POOLER, None)
    modules = () if pooler is None else pooler.modules()
    return next((module for module in modules if isinstance(module, nn.Linear)), None)


def _has_pooler(config: Any) -> bool:
    """Whether the model class of this configuration takes ``add_pooling_layer``.

    Code that comes with a model is not looked at; its poolers are loaded and left unused.
    """
    kind = MODEL_MAPPING.get(type(config), None)
    return kind is not None and "add_pooling_layer" in inspect.signature(kind).parameters


# -- causal models ------------------------------------------------------------------------
#
# In a causal (decoder-only) model no piece sees those after it, and the state of a piece was
# trained to predict the next one. They are found by trying.

PREDICTS_NEXT = "xlt_predicts_next"
"""Key of an encoder's configuration: whether the state of a piece predicts the next piece."""
_SMALL = {
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "vocab_size": 64,
    "intermediate_size": 64,
}
"""What is made smaller to try a configuration; which pieces see which does not depend on it."""


def reads_both_ways(encoder: PreTrainedModel) -> bool:
    """Whether the last state of a sentence's first piece changes with its last piece."""
    highest = encoder.config.vocab_size - 1
    sentences = torch.tensor(
        [[[highest - 3, highest - 2, last]] for last in (highest - 1, highest)]
    )
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            first, second = (
                encoder(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0, 0]
                for ids in sentences
            )
    finally:
        encoder.train(was_training)
    # The same operations on the same numbers: equal to the last bit in a causal model.
    return not torch.equal(first, second)


def _set_attention(encoder: PreTrainedModel, model: Model) -> None:
    """Note that a causal model predicts next pieces, and let its pieces see those after them.

    Raises:
        ModelError: the first piece would stand for a sentence that it does not see, or the model
            stays causal.
    """
    if reads_both_ways(encoder):
        return
    name = type(encoder).__name__
    setattr(encoder.config, PREDICTS_NEXT, True)
    encoder.config.use_cache = False
    if model.attention == "bidirectional":
        encoder.config.is_causal = False
        _see_both_ways(encoder)
        if not reads_both_ways(encoder):
            raise ModelError(
                f"the pieces of a {name} cannot be made to see those after them",
                model=model.name,
                remedy="model.attention: as_trained",
            )
    elif model.pooling == "first":
        raise ModelError(
            f"a {name} of this configuration is causal: its first piece is the same for every "
            "sentence",
            model=model.name,
            remedy="model.pooling: last or mean, or model.attention: bidirectional",
        )


def _see_both_ways(encoder: PreTrainedModel) -> None:
    """Let attention without a mask be as that with one where ``config.is_causal`` is false."""
    if getattr(encoder.config, "is_causal", True):
        return
    for module in encoder.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False


def is_causal_family(
    model: Model, config: Mapping[str, Any], place: str, revision: str | None
) -> bool:
    """Whether models of this configuration are causal, before any weights are read.

    A small one with random weights is tried. If it cannot be made, the answer is no: the model
    itself is tried when it is loaded. Raises ModelError for a family that is not known.
    """
    family = config.get("model_type")
    # Old configurations without it are recognised by their name.
    is_known = not isinstance(family, str) or family in CONFIG_MAPPING
    if not is_known and not model.trust_remote_code:
        raise ModelError(
            f"transformers does not know the model_type {family!r}",
            model=model.name,
            remedy="model.trust_remote_code: true runs the code that comes with it, if you trust it"
            if "auto_map" in config
            else nearest(str(family), CONFIG_MAPPING, limit=0),
        )
    code: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    # Anything can keep a model of another size from being made or called.
    with contextlib.suppress(Exception), seeded(0, "causal"):
        full = AutoConfig.from_pretrained(place, revision=revision, **code)
        settings = full.to_dict()
        smaller = {key: min(most, settings[key]) for key, most in _SMALL.items() if key in settings}
        if settings.get("layer_types"):
            smaller["layer_types"] = settings["layer_types"][: smaller["num_hidden_layers"]]
        ids = {key: None for key in settings if key.endswith("_token_id")}
        small = type(full).from_dict({**settings, **smaller, **ids, "pad_token_id": 0})
        tried = AutoModel.from_config(small, dtype=torch.float32, **code)
        _see_both_ways(tried)
        return not reads_both_ways(tried)
    return False
