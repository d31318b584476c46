"""Toy presets ``toy:LAYERSxWIDTH``: a BERT of that shape with random weights.

The tokenizer knows whole words, the closed vocabulary of the toy data; there is nothing to
download. A preset is a pure function of its name and the vocabulary, so its digest covers
just these and :data:`VERSION`, which is raised whenever the same name would give another
model. Free of torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from xlt_ray.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 1
MAX_POSITIONS = 64
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SHAPE = re.compile(r"toy:([1-9][0-9]{0,2})x([1-9][0-9]{0,4})")


def is_toy(name: str) -> bool:
    """Whether ``name`` asks for a toy preset, well formed or not.

    >>> is_toy("toy:2x64"), is_toy("xlm-roberta-base")
    (True, False)
    """
    return name.startswith("toy:")


def toy_shape(name: str) -> tuple[int, int]:
    """Layers and width of a preset; ModelError where the name is not one.

    >>> toy_shape("toy:4x128")
    (4, 128)
    """
    match = _SHAPE.fullmatch(name)
    if match is None:
        raise ModelError(
            "not a toy preset", model=name, remedy="they read toy:LAYERSxWIDTH, such as toy:2x64"
        )
    layers, width = int(match[1]), int(match[2])
    if width % 32 and width not in (8, 16):
        raise ModelError(
            f"a width of {width} does not divide into attention heads of 32",
            model=name,
            remedy="8, 16 and multiples of 32 do",
        )
    return layers, width


def num_heads(width: int) -> int:
    """Attention heads of a preset, 32 wide."""
    return max(1, width // 32)


def toy_tokens(vocabulary: tuple[str, ...]) -> tuple[str, ...]:
    """Every token in the order of its id: the special ones, then the words as they come."""
    return tuple(dict.fromkeys((*SPECIAL_TOKENS, *vocabulary)))


def toy_config(name: str, vocabulary: tuple[str, ...]) -> dict[str, Any]:
    """Keyword arguments of the preset's ``BertConfig``.

    Weights start four times as wide as BERT's: at 0.02 a small encoder needs clearly more
    steps until translations fall together. No dropout: against 0.1 it made no clear difference
    on source-language dev sets (means of 4 runs: toy-nli 62.1 and 61.8, toy-paraphrase 59.3 and
    61.2), and without it a training step draws no random numbers.
    """
    layers, width = toy_shape(name)
    return {
        "vocab_size": len(toy_tokens(vocabulary)),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": num_heads(width),
        "intermediate_size": 4 * width,
        "max_position_embeddings": MAX_POSITIONS,
        "initializer_range": 0.08,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": SPECIAL_TOKENS.index("[PAD]"),
    }


def toy_tokenizer(vocabulary: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """One id a word, ``[CLS] first [SEP] second [SEP]`` with segment ids 0 and 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: index for index, token in enumerate(toy_tokens(vocabulary))}
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(
        ("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"])
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=MAX_POSITIONS,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def toy_digest(name: str, vocabulary: tuple[str, ...]) -> str:
    """SHA-256 over the preset's version, configuration and vocabulary."""
    payload = {
        "version": VERSION,
        "config": toy_config(name, vocabulary),
        "tokens": toy_tokens(vocabulary),
    }
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
