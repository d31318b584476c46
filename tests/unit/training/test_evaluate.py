"""Languages that are predicted in one pass, and in bf16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xlt_ray.config.methods import NoFusion
from xlt_ray.config.trial import Model
from xlt_ray.data.batches.evaluation import EvalSplit, eval_split
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.modeling.network import Network, build_network
from xlt_ray.training import evaluate
from xlt_ray.training.evaluate import EvalPass, EvalSet

LANGUAGES = ("qab", "qac", "qae")
EXAMPLES, BATCH_SIZE = 40, 8


@pytest.fixture(scope="module")
def toy() -> ToySource:
    return ToySource()


@pytest.fixture(scope="module")
def tokenizer(toy: ToySource) -> Any:
    return load_tokenizer(Model(name="toy:1x32"), toy.vocabulary())


def network_for(name: str, tokenizer: Any) -> Network:
    task = task_named(name)
    encoder = load_encoder(Model(name="toy:1x32"), tokenizer, 0)
    return build_network(encoder, task.kind, NoFusion(), len(task.labels), 0).eval()


def splits_of(name: str, toy: ToySource, tokenizer: Any, cache: Path) -> list[EvalSplit]:
    task, pipeline = task_named(name), TextPipeline(tokenizer, "toy", 24, cache)
    access = LabelAccess("evaluate", name, "qaa")
    return [
        eval_split(toy, task, access, language, "test", EXAMPLES, pipeline)
        for language in LANGUAGES
    ]


def predicted(network: Network, splits: list[EvalSplit], **how: Any) -> list[Any]:
    eval_pass = EvalPass([EvalSet(split) for split in splits], BATCH_SIZE, **how)
    return [part for parts in evaluate._predicted(network, eval_pass) for part in parts]


def numbers_of(predictions: Any) -> np.ndarray:
    return np.array([np.asarray(vector) for vector in predictions], np.float64)


@pytest.mark.parametrize("name", ["toy-tagging", "toy-paraphrase", "toy-choice", "toy-qa"])
def test_languages_in_one_pass_are_predicted_as_each_alone(
    name: str, toy: ToySource, tokenizer: Any, tmp_path: Path
) -> None:
    network, splits = network_for(name, tokenizer), splits_of(name, toy, tokenizer, tmp_path)
    together = predicted(network, splits)
    alone = [part for split in splits for part in predicted(network, [split])]
    assert together == alone
    assert [part.language for part in together] == list(LANGUAGES)


@pytest.mark.parametrize("name", ["toy-similarity", "toy-retrieval"])
def test_numbers_of_one_pass_are_those_of_each_language_but_for_rounding(
    name: str, toy: ToySource, tokenizer: Any, tmp_path: Path
) -> None:
    layer = 1 if name == "toy-retrieval" else None
    network = network_for("toy-similarity", tokenizer)
    splits = splits_of(name, toy, tokenizer, tmp_path)
    for split, together in zip(splits, predicted(network, splits, layer=layer), strict=True):
        (alone,) = predicted(network, [split], layer=layer)
        np.testing.assert_allclose(
            numbers_of(together.predicted), numbers_of(alone.predicted), rtol=1e-4, atol=1e-5
        )


def test_the_dev_set_of_a_language_belongs_to_its_own_test_set(
    toy: ToySource, tokenizer: Any, tmp_path: Path
) -> None:
    network = network_for("toy-paraphrase", tokenizer)
    test_sets = splits_of("toy-paraphrase", toy, tokenizer, tmp_path)
    dev_sets = [None, *test_sets[:2]]
    eval_sets = [EvalSet(*both) for both in zip(test_sets, dev_sets, strict=True)]
    (parts_of_pass,) = [
        parts for parts in evaluate._predicted(network, EvalPass(eval_sets, 8)) if parts
    ]
    assert [part.language for part in parts_of_pass] == list(LANGUAGES)
    assert parts_of_pass[0].dev is None
    assert [part.dev for part in parts_of_pass[1:]] == [
        (part.gold, part.predicted) for part in parts_of_pass[:2]
    ]


def test_autocast_computes_in_bf16_and_leaves_the_weights(
    toy: ToySource, tokenizer: Any, tmp_path: Path
) -> None:
    network = network_for("toy-similarity", tokenizer)
    splits = splits_of("toy-similarity", toy, tokenizer, tmp_path)[:1]
    types = set()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda *call: types.add(call[-1].dtype))
    (rounded,) = predicted(network, splits, autocast="bf16")
    assert types == {torch.bfloat16}
    assert {weights.dtype for weights in network.parameters()} == {torch.float32}
    (exact,) = predicted(network, splits)
    assert rounded.predicted != exact.predicted
    np.testing.assert_allclose(
        numbers_of(rounded.predicted), numbers_of(exact.predicted), atol=0.05
    )


def test_a_pass_takes_no_further_split_once_it_has_enough_items(
    toy: ToySource, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = splits_of("toy-paraphrase", toy, tokenizer, tmp_path)
    requests = [
        (evaluate.EvalRequest("target", "toy-paraphrase", split.language, "test"), EvalSet(split))
        for split in splits
    ]
    assert list(evaluate._chunks(requests)) == [requests]
    monkeypatch.setattr(evaluate, "MAX_ITEMS", 2 * EXAMPLES)
    assert list(evaluate._chunks(requests)) == [requests[:2], requests[2:]]
