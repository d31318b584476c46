"""Memory of a worker from shapes; benchmarks/memory.py compares it with whole processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from xlt_ray.config.facts import ModelFacts
from xlt_ray.config.progress_settings import ProgressSettings
from xlt_ray.config.resources import Resources
from xlt_ray.sweep.cost import Text
from xlt_ray.sweep.memory import activation_bytes, peak_memory

MODEL = ModelFacts("m", 4, 64, 128, "", vocabulary_size=20_000, num_heads=2)
SETTINGS = {"batch_size": 32, "max_length": 128, "weight_decay": 0.0}
TEXT = Text(mean=40.0, longest=100.0, vocabulary=3000.0)


def peak(
    resources: Resources | None = None, seconds: float = 1e9, **settings: Any
) -> tuple[float, float]:
    found = peak_memory(
        "target", {**SETTINGS, **settings}, 10_000, MODEL, TEXT, resources or Resources(),
        seconds=seconds,
    )  # fmt: skip
    return found.process, found.gpu


def test_activations_are_what_autograd_keeps() -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=500, hidden_size=64, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=256, max_position_embeddings=128,
    )  # fmt: skip
    network = BertModel(config, add_pooling_layer=False).train()
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 500, (8, 100))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = network(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert states.requires_grad
    expected = activation_bytes(MODEL, 8, 100, Resources())
    # Masks of dropout and the layer of embeddings are not counted.
    assert 0.75 * sum(kept.values()) < expected < sum(kept.values())


def test_what_needs_less_memory() -> None:
    whole = peak()[0]
    assert peak(Resources(activation_checkpointing=True))[0] < whole
    assert peak(Resources(micro_batch=8))[0] < whole
    assert peak(batching="pieces")[0] < whole
    assert peak(freeze={"embeddings": True, "layers": 2})[0] < whole
    decayed = peak(weight_decay=0.01)[0]
    assert decayed > whole, "all rows of the table are trained"
    assert peak(seconds=1.0, weight_decay=0.01)[0] < decayed, "a short training saves no progress"
    assert peak(select={"checkpoint": "best"})[0] > whole


def test_on_a_gpu_the_state_is_there() -> None:
    large = ModelFacts(
        "xlm-roberta-large", 24, 1024, 512, "", vocabulary_size=250_002, num_heads=16
    )

    def gib(**resources: Any) -> tuple[float, float]:
        found = peak_memory(
            "target", {**SETTINGS, "weight_decay": 0.01}, 10_000, large, TEXT,
            Resources(gpus_per_worker=1, **resources), progress=ProgressSettings(),
        )  # fmt: skip
        return found.process / 2**30, found.gpu / 2**30

    single = gib(precision="bf16-mixed")
    # 16 bytes for each of 560 million parameters; the batch comes on top.
    assert 8.3 < single[1] < 14
    split = gib(precision="bf16-mixed", workers=4, zero_stage=3)
    assert split[1] < single[1] / 2
    assert gib(precision="bf16", workers=4, zero_stage=2, offload="optimizer")[1] < single[1] / 2
