"""Initial weights and dropout of heads, compared with the classes of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from tests.unit.modeling.conftest import write_tokenizer
from xlt_ray.config.methods import NoFusion
from xlt_ray.config.task_types import KINDS, TaskKind
from xlt_ray.config.trial import Model
from xlt_ray.modeling.encoder import load_encoder, load_saved, load_tokenizer
from xlt_ray.modeling.exported_network import twin_of
from xlt_ray.modeling.multitask import build_multitask
from xlt_ray.modeling.network import Network, build_masked_lm, build_network
from xlt_ray.training.load import save_result

TRAINED = [name for name, entry in KINDS.items() if entry.is_trained]
WHOLE: tuple[TaskKind, ...] = ("pair", "choice", "score")
PLAIN: dict[str, Any] = {"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 40,
         "pad_token_id": 0}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", PLAIN),
    "albert": ("Albert", {**PLAIN, "embedding_size": 16, "hidden_dropout_prob": 0.0}),
    "rembert": ("RemBert", {**PLAIN, "input_embedding_size": 16, "output_embedding_size": 16}),
    "ernie": ("Ernie", PLAIN),
    "megatron-bert": ("MegatronBert", PLAIN),
    "xlm-roberta": ("XLMRoberta", {**PLAIN, "pad_token_id": 1, "type_vocab_size": 1}),
}
POOLED = [name for name in FAMILIES if name != "xlm-roberta"]


def folder_of(family: str, folder: Path, *, with_pooler: bool) -> Path:
    """A pre-trained checkpoint: the encoder, with a pooler or without one."""
    name, settings = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**settings)
    write_tokenizer("xlm-roberta" if family == "xlm-roberta" else "bert", folder, named=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = getattr(transformers, f"{name}Model")(config, add_pooling_layer=with_pooler)
        for parameter in made.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)
    made.save_pretrained(folder)
    return folder


def network_on(folder: Path, kind: TaskKind = "pair", seed: int = 0) -> tuple[Network, Any]:
    tokenizer = load_tokenizer(Model(name=str(folder)), None)
    encoder = load_encoder(Model(name=str(folder)), tokenizer, 0)
    return build_network(encoder, kind, NoFusion(), 3, seed), tokenizer


def pooler_in(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    saved = load_file(folder / "model.safetensors")
    (weight,) = (tensor for name, tensor in saved.items() if "pooler" in name and tensor.dim() == 2)
    (bias,) = (tensor for name, tensor in saved.items() if "pooler" in name and tensor.dim() == 1)
    return weight, bias


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("spread", [None, 0.1])
def test_linear_layers_begin_as_those_of_transformers(
    kind: TaskKind, spread: float | None, tmp_path: Path
) -> None:
    encoder, _ = load_saved(folder_of("bert", tmp_path, with_pooler=False))
    if spread is not None:
        encoder.config.initializer_range = spread
    modules = [
        build_network(encoder, kind, NoFusion(), 30, 0).head,
        build_multitask(encoder, [("t", kind, 30)], has_masked_lm=True, seed=0).heads,
        build_masked_lm(encoder, 0).head,
    ]
    layers = [
        module for part in modules for module in part.modules() if isinstance(module, nn.Linear)
    ]
    assert layers
    for layer in layers:
        assert not layer.bias.any()
        if layer.weight.numel() > 500:
            assert layer.weight.std().item() == pytest.approx(spread or 0.02, rel=0.1)
            assert abs(layer.weight.mean().item()) < 0.1 * (spread or 0.02)


@pytest.mark.parametrize("family", POOLED)
@pytest.mark.parametrize("kind", WHOLE)
def test_heads_of_sequences_begin_with_the_pretrained_pooler(
    family: str, kind: TaskKind, tmp_path: Path
) -> None:
    network, _ = network_on(folder_of(family, tmp_path, with_pooler=True), kind)
    weight, bias = pooler_in(tmp_path)
    assert torch.equal(network.head.dense.weight, weight)
    assert torch.equal(network.head.dense.bias, bias)
    assert not [name for name, _ in network.encoder.named_parameters() if "pooler" in name]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_is_dropped_out_and_classified_as_by_the_class_of_transformers(
    family: str, tmp_path: Path
) -> None:
    network, _ = network_on(folder_of(family, tmp_path, with_pooler=family in POOLED))
    twin = twin_of(network, ("a", "b", "c"))
    assert twin is not None
    ids = torch.randint(5, 100, (4, 9), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    network.train()
    twin.train()
    with torch.no_grad():
        torch.manual_seed(1)
        ours = network.predict(batch)
        torch.manual_seed(1)
        theirs = twin(**batch).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_without_a_pretrained_pooler_the_layer_is_new(tmp_path: Path) -> None:
    network, tokenizer = network_on(folder_of("bert", tmp_path / "made", with_pooler=False))
    assert network.head.dense.weight.std().item() == pytest.approx(0.02, rel=0.1)
    (tmp_path / "saved").mkdir()
    save_result(network, tokenizer, tmp_path / "saved")
    assert not [
        name for name in load_file(tmp_path / "saved/model.safetensors") if "pooler" in name
    ]


@pytest.mark.parametrize("family", POOLED)
def test_the_next_stage_begins_with_the_pooler_that_the_last_one_left(
    family: str, tmp_path: Path
) -> None:
    folder_of(family, tmp_path / "given", with_pooler=True)
    network, tokenizer = network_on(tmp_path / "given")
    with torch.no_grad():
        network.head.dense.weight += 1.0
    (tmp_path / "pair").mkdir()
    save_result(network, tokenizer, tmp_path / "pair")
    assert torch.equal(pooler_in(tmp_path / "pair")[0], network.head.dense.weight)
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "pair")
    dense = next(layer for layer in theirs.pooler.modules() if isinstance(layer, nn.Linear))
    assert torch.equal(dense.weight, network.head.dense.weight)
    # Tags do not read it: it goes through their training unchanged.
    encoder, tokenizer = load_saved(tmp_path / "pair")
    (tmp_path / "tag").mkdir()
    save_result(build_network(encoder, "tag", NoFusion(), 5, 0), tokenizer, tmp_path / "tag")
    for tag, pair in zip(pooler_in(tmp_path / "tag"), pooler_in(tmp_path / "pair"), strict=True):
        assert torch.equal(tag, pair)


def test_the_pooler_of_another_family_is_left_out(tmp_path: Path) -> None:
    network, _ = network_on(folder_of("xlm-roberta", tmp_path, with_pooler=True))
    assert not torch.equal(network.head.dense.weight, pooler_in(tmp_path)[0])
