"""What is scored and diagnosed in the middle of a training leaves it as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from xlt_ray.config.diagnostics import Diagnosis
from xlt_ray.config.methods import NoFusion
from xlt_ray.config.trial import Model
from xlt_ray.data.batches.evaluation import EvalSplit
from xlt_ray.data.task import task_named
from xlt_ray.data.text.parallel_sample import ParallelSample, SampledPair
from xlt_ray.data.text.pipeline import encode_words, template_of
from xlt_ray.data.types.base import Frame
from xlt_ray.data.types.pair import PairExample
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.modeling.network import Network, build_network
from xlt_ray.training.diagnose import profiles
from xlt_ray.training.evaluate import EvalPass, EvalSet, score

TASK = task_named("toy-nli")
MODEL, WORDS = Model(name="toy:1x32"), ("a", "b", "c", "d")
OWN = [["a", "b"], ["c"], ["b", "d", "a"], ["d", "c"]]
THEIRS = [["b", "a"], ["d"], ["a", "c", "b"], ["c", "a"]]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(MODEL, WORDS)


@pytest.fixture
def network(tokenizer: Any) -> Network:
    return build_network(load_encoder(MODEL, tokenizer, 0), "pair", NoFusion(), 3, 0).eval()


def measure(network: Network, tokenizer: Any, rows: tuple[int, ...] = (0, 1, 2, 3)) -> Any:
    links = tuple(np.array([[0, 0]]) for _ in rows)
    sentences = {
        "x": encode_words(OWN, tokenizer),
        "y": encode_words([THEIRS[row] for row in rows], tokenizer),
    }
    diagnosis = Diagnosis(("retrieval", "cka", "alignment"), "x", ("y",), 4, 16)
    sample = ParallelSample(diagnosis, (SampledPair("y", rows, links),), sentences, tokenizer)
    return profiles(network.encoder, sample, 3)


def evaluate(network: Network, tokenizer: Any) -> dict[str, float]:
    """Scores of four pairs of sentences, two at a time."""
    pairs = list(zip(OWN, THEIRS, strict=True))
    examples = tuple(
        PairExample(str(number), " ".join(first), " ".join(second), TASK.labels[0])
        for number, (first, second) in enumerate(pairs)
    )
    sentences = encode_words([words for pair in pairs for words in pair], tokenizer)
    frame = Frame(template_of(tokenizer), 16)
    split = EvalSplit(TASK, "x", frame, sentences, examples)
    (scores,) = score(network, EvalPass([EvalSet(split)], batch_size=2))
    return scores


@pytest.mark.parametrize("is_diagnosis", [True, False])
def test_what_is_made_while_measuring_can_be_trained_afterwards(
    network: Network, tokenizer: Any, is_diagnosis: bool
) -> None:
    made: list[torch.Tensor] = []

    def gathered(layer: nn.Module, _: object) -> None:
        # As ZeRO 3 does: weights are put together when a layer is called, and may stay.
        layer.weight.data = layer.weight.data.clone()  # type: ignore[operator, union-attr]
        made.append(layer.weight)  # type: ignore[arg-type]

    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(gathered)
    if is_diagnosis:
        measure(network, tokenizer)
    else:
        assert evaluate(network, tokenizer).keys() == set(TASK.metrics)
    assert made
    assert not any(tensor.is_inference() for tensor in made)
    ids = torch.full((2, 5), 5)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    network.predict(batch).sum().backward()


def test_a_diagnosis_keeps_no_graph_and_leaves_no_gradient(
    network: Network, tokenizer: Any
) -> None:
    seen: list[bool] = []
    network.encoder.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    measure(network, tokenizer)
    assert set(seen) == {False}
    assert all(parameter.grad is None for parameter in network.parameters())


def test_translations_are_found_whatever_the_order_of_the_sample(
    network: Network, tokenizer: Any
) -> None:
    plain = {profile.diagnostic: profile.values for profile in measure(network, tokenizer)}
    turned = {
        profile.diagnostic: profile.values for profile in measure(network, tokenizer, (3, 1, 0, 2))
    }
    assert plain.keys() == turned.keys() == {"retrieval", "cka", "alignment"}
    for name, values in plain.items():
        assert turned[name] == pytest.approx(values, abs=1e-6)
