"""Decoder-only models are known by their behaviour, before their weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.unit.modeling.conftest import write_tokenizer
from tests.unit.modeling.test_architectures import ARCHITECTURES
from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import (
    is_causal_family,
    load_encoder,
    load_saved,
    load_tokenizer,
    reads_both_ways,
    save_encoder,
)
from xlt_ray.modeling.model_info import model_facts

PLAIN: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 40,
}  # fmt: skip
KEYS = {"num_key_value_heads": 2}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**PLAIN, **KEYS}),
    "mistral": ("Mistral", {**PLAIN, **KEYS}),
    "qwen2": ("Qwen2", {**PLAIN, **KEYS}),
    "qwen3": ("Qwen3", {**PLAIN, **KEYS, "head_dim": 16}),
    "gemma3": ("Gemma3Text", {**PLAIN, **KEYS, "head_dim": 16}),
    "gpt2": ("GPT2", {"vocab_size": 400, "n_embd": 32, "n_layer": 2, "n_head": 2,
                      "n_positions": 40}),
    "opt": ("OPT", {**PLAIN, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "bert": ("Bert", {**PLAIN, "is_decoder": True}),
    "xlm-roberta": ("XLMRoberta", {**PLAIN, "is_decoder": True, "pad_token_id": 1}),
}  # fmt: skip
"""Name -> class of transformers without its suffix, and a configuration: causal, every one."""


def write(name: str, settings: dict[str, Any], folder: Path) -> None:
    config = getattr(transformers, f"{name}Config")(**settings)
    write_tokenizer("bert", folder, named=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_causal_model_is_known_before_its_weights_are_read_and_reads_both_ways_if_it_is_told(
    decoder: str, tmp_path: Path
) -> None:
    write(*DECODERS[decoder], tmp_path)
    model = Model(name=str(tmp_path))
    assert model_facts(model, None).is_causal
    tokenizer = load_tokenizer(model, None)
    with pytest.raises(ModelError, match="its first piece is the same for every sentence"):
        load_encoder(model, tokenizer, 0)
    causal = load_encoder(model.model_copy(update={"pooling": "last"}), tokenizer, 0)
    assert not reads_both_ways(causal)
    told = model.model_copy(update={"attention": "bidirectional"})
    save_encoder(load_encoder(told, tokenizer, 0), tokenizer, tmp_path / "saved")
    again, _ = load_saved(tmp_path / "saved")
    assert reads_both_ways(again)
    assert not model_facts(Model(name=str(tmp_path / "saved")), None).is_causal


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_no_encoder_is_taken_for_a_causal_model(family: str, tmp_path: Path) -> None:
    name, settings = ARCHITECTURES[family]
    write(name, settings, tmp_path)
    encoder = transformers.AutoModel.from_pretrained(tmp_path)
    assert reads_both_ways(encoder)
    assert not is_causal_family(Model(name="it"), {}, str(tmp_path), None)


def test_a_decoder_that_was_made_to_read_both_ways_is_taken(tmp_path: Path) -> None:
    settings = {**DECODERS["gemma3"][1], "use_bidirectional_attention": True}
    write("Gemma3Text", settings, tmp_path)
    assert model_facts(Model(name=str(tmp_path)), None).num_layers == 3


def test_trying_a_model_draws_no_random_numbers_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    write(*DECODERS["llama"], tmp_path)
    encoder = transformers.AutoModel.from_pretrained(tmp_path).train()
    before = torch.get_rng_state()
    reads_both_ways(encoder)
    assert is_causal_family(Model(name="it"), {}, str(tmp_path), None)
    assert torch.equal(torch.get_rng_state(), before)
    assert encoder.training
