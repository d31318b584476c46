"""What a model is, without loading it: depth, width, positions and a digest of its weights.

A model is a toy preset, a local folder in Hugging Face layout, or an id on the Hugging Face
Hub; a folder of that name wins over the Hub. Read from ``config.json`` and the files' bytes,
so that a plan needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlt_ray.config.facts import ModelFacts
from xlt_ray.config.model_presets import PRESETS, find_preset
from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError, nearest
from xlt_ray.modeling import toy_models

# Position ids of the RoBERTa family start behind the padding id, so that no piece has the first
# pad_token_id + 1 rows of the position table.
_OFFSET_POSITIONS = frozenset(
    {
        "camembert",
        "data2vec-text",
        "ibert",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
_READ_BOTH_WAYS = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "megatron-bert",
        "modernbert",
        "mpnet",
        "rembert",
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
"""Families that are tried only if they say that they are decoders, since trying needs torch."""
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_MODEL_FILES = (
    "config.json",
    "adapter_config.json",
    *_WEIGHTS,
    "tokenizer.json",
    "tokenizer.*.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "*vocab*.json",
    "merges.txt",
    "dict.txt",
    "bpe.codes",
    "*.model",
    "*.spm",
    "*.tokenizer",
    "*.tiktoken",
    "tekken.json",
    "normalizer.json",
    "byte_maps.json",
    "emoji.json",
    "word_*.json",
    "*.py",
)
"""All files from which weights, tokenizer and their code are read; notes, logs of a training and
settings of a generation are no part of an encoder."""


def model_facts(
    model: Model, vocabulary: tuple[str, ...] | None, *, may_assume: bool = False
) -> ModelFacts:
    """Facts of ``model``; ``vocabulary`` is that of the toy data, None for other data.

    ``weights`` is a SHA-256 over configuration, weights and tokenizer, or for a Hub model the
    commit of its revision or its default branch. With ``may_assume`` a Hub model that cannot be
    reached has the shape that the table of presets gives, and no ``weights``.

    Raises:
        ModelError: a malformed preset, a preset without toy data, a folder that holds no model, a
            name that is neither a folder nor on a Hub that can be reached, a revision of anything
            but a Hub model, or an encoder with a decoder.
    """
    folder = Path(model.name).expanduser()
    if model.revision is not None and (toy_models.is_toy(model.name) or folder.is_dir()):
        raise ModelError(
            "only models of the Hugging Face Hub have revisions",
            model=model.name,
            remedy=f"leave out model.revision: {model.revision}",
        )
    if toy_models.is_toy(model.name):
        layers, width = toy_models.toy_shape(model.name)
        words = toy_vocabulary(model.name, vocabulary)
        return ModelFacts(
            model.name,
            layers,
            width,
            toy_models.MAX_POSITIONS,
            toy_models.toy_digest(model.name, words),
            vocabulary_size=len(toy_models.toy_tokens(words)),
            num_heads=toy_models.num_heads(width),
        )
    if folder.is_dir():
        config = _read_config(model.name, folder)
        return _facts(model, config, _folder_digest(folder, model), str(folder))
    if _is_path(model.name):
        raise ModelError(
            "no such folder", model=model.name, remedy=_beside(folder) or "expected a model folder"
        )
    try:
        commit, config_file = _from_hub(model)
    except ModelError:
        preset = find_preset(model.name)
        if preset is None or not may_assume:
            raise
        return ModelFacts(
            model.name,
            preset.num_layers,
            preset.hidden_size,
            preset.max_positions,
            weights="",
            vocabulary_size=preset.vocabulary_size,
            num_heads=preset.num_heads,
            is_causal=preset.is_causal,
        )
    config = _read_config(model.name, config_file.parent)
    return _facts(model, config, commit, model.name, commit)


def toy_vocabulary(name: str, vocabulary: tuple[str, ...] | None) -> tuple[str, ...]:
    """The vocabulary, or ModelError if the data has none for a toy preset."""
    if vocabulary is None:
        raise ModelError(
            "toy models only know the words of toy data",
            model=name,
            remedy="use data.source toy, or a model folder or Hugging Face id",
        )
    return vocabulary


def _facts(
    model: Model, config: dict[str, Any], weights: str, place: str, revision: str | None = None
) -> ModelFacts:
    """Facts from a parsed ``config.json``, of an encoder or a decoder-only model."""
    name, family = model.name, config.get("model_type")
    if config.get("is_encoder_decoder"):
        raise ModelError(
            f"a {family or 'model'} is an encoder with a decoder",
            model=name,
            remedy="an encoder such as BERT or XLM-R is required",
        )
    facts = shape_of(name, config, weights)
    if family not in _READ_BOTH_WAYS or config.get("is_decoder"):
        from xlt_ray.modeling.encoder import is_causal_family

        return replace(facts, is_causal=is_causal_family(model, config, place, revision))
    return facts


def shape_of(name: str, config: Mapping[str, Any], weights: str = "") -> ModelFacts:
    """Facts from a ``config.json``, in which families spell the same numbers differently.

    Raises:
        ModelError: it does not say depth, width or positions.
    """
    positions = _number(name, config, "max_position_embeddings", "n_positions")
    if config.get("model_type") in _OFFSET_POSITIONS:
        positions -= int(config.get("pad_token_id", 1)) + 1
    return ModelFacts(
        name=name,
        num_layers=_number(name, config, "num_hidden_layers", "n_layers", "n_layer"),
        hidden_size=_number(name, config, *_WIDTH),
        max_positions=positions,
        weights=weights,
        reads_positions=reads_positions(config),
        vocabulary_size=_first_of(config, "vocab_size"),
        intermediate_size=_first_of(config, *_INNER),
        num_heads=_first_of(config, *_HEADS),
        layer_weights=_layer_weights(config),
        shares_layers=config.get("model_type") == "albert",
        embedding_size=_first_of(config, "embedding_size", "input_embedding_size"),
        has_position_table=reads_positions(config)
        and not any("rope" in key or "rotary" in key for key in config),
    )


_WIDTH = ("hidden_size", "dim", "d_model", "n_embd")
_INNER = ("intermediate_size", "hidden_dim", "n_inner")
_HEADS = ("num_attention_heads", "n_heads", "n_head")
_GATED = frozenset({"eurobert", "gte", "modernbert", "new", "nomic_bert"})
"""Families in which a third matrix gates the feed-forward block, as in all that are causal
(Shazeer 2020, arXiv 2002.05202)."""


def _layer_weights(config: Mapping[str, Any]) -> int:
    """Weights of the matrices of one layer of a family that gates them or shares keys among heads;
    0 where they are those of BERT."""
    num_keys = _first_of(config, "num_key_value_heads")
    if config.get("model_type") not in _GATED and not num_keys:
        return 0
    width, num_heads = _first_of(config, *_WIDTH), _first_of(config, *_HEADS) or 1
    head = _first_of(config, "head_dim") or width // num_heads
    attention = 2 * width * head * (num_heads + (num_keys or num_heads))
    return attention + 3 * width * (_first_of(config, *_INNER) or 4 * width)


def reads_positions(config: Mapping[str, Any]) -> bool:
    """Whether an encoder reads numbers of positions, absolute or rotary, not distances alone.

    >>> reads_positions({"model_type": "deberta-v2", "position_biased_input": False})
    False
    """
    return bool(config.get("position_biased_input", True))


def _number(name: str, config: Mapping[str, Any], *spellings: str) -> int:
    number = _first_of(config, *spellings)
    if number:
        return number
    raise ModelError(
        f"its config.json has no {spellings[0]}",
        model=name,
        remedy="an encoder such as BERT or XLM-R is required",
    )


def _first_of(config: Mapping[str, Any], *spellings: str) -> int:
    """The number under the first of these keys that has one; 0 where none has."""
    numbers = (config[spelling] for spelling in spellings if isinstance(config.get(spelling), int))
    return next(numbers, 0)


def _read_config(name: str, folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(
            "is not a model folder: it has no config.json",
            model=name,
            remedy=_beside(folder / "x") or "expected a folder in Hugging Face layout",
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"its config.json is not JSON ({error})", model=name) from error
    if not isinstance(config, dict):
        raise ModelError("its config.json is not an object", model=name)
    return config


def _folder_digest(folder: Path, model: Model) -> str:
    """SHA-256 over names and bytes of configuration, weights, tokenizer and remote code."""
    if not any(file for pattern in _WEIGHTS for file in folder.glob(pattern)):
        raise ModelError(
            "has no model.safetensors",
            model=model.name,
            remedy="save it again with save_pretrained; pickled weights are not read",
        )
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _MODEL_FILES for file in folder.glob(pattern)}):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.name}\0{content}\n".encode())
    return digest.hexdigest()


def _is_path(name: str) -> bool:
    """Whether ``name`` can only be meant as a path: Hub ids are ``name`` or ``owner/name``."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _beside(folder: Path) -> str:
    """The model folders beside ``folder``, as the remedy of an error; empty without any."""
    if not folder.parent.is_dir():
        return ""
    known = [path.parent.name for path in folder.parent.glob("*/config.json")]
    return f"in {folder.parent} {nearest(folder.name, known)}" if known else ""


def _misspelt(name: str) -> str:
    """The folder or well-known model with a similar name; empty without one."""
    presets = nearest(name, [preset.name for preset in PRESETS])
    hints = (_beside(Path(name)) if "/" in name else "", presets)
    return next((hint for hint in hints if "did you mean" in hint), "")


def _from_hub(model: Model) -> tuple[str, Path]:
    """Commit of the revision, or of the default branch, and the local copy of its
    ``config.json``."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RevisionResolutionError,
    )

    try:
        revision = HfApi().resolve_revision(model.name, revision=model.revision)
        config = hf_hub_download(model.name, "config.json", revision=revision)
    except (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RevisionResolutionError,
    ) as error:
        raise ModelError(
            f"neither a local folder nor a model that can be reached on the Hugging Face Hub "
            f"({type(error).__name__})",
            model=model.label,
            remedy=_misspelt(model.name)
            or "check the name, the revision and the network, or give the path of a model folder",
        ) from error
    return str(revision.resolved), Path(config)
