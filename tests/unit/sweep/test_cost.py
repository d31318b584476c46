"""The arithmetic of stages, and what is learnt of its time."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from tests.unit.modeling.test_architectures import ARCHITECTURES
from tests.unit.modeling.test_architectures import PLAIN as PLAIN_BERT
from xlt_ray.config.facts import Facts, ModelFacts
from xlt_ray.config.trial import Freeze
from xlt_ray.modeling.freeze import freeze
from xlt_ray.modeling.model_info import shape_of
from xlt_ray.sweep.cost import (
    NOISE,
    Arithmetic,
    Maker,
    Observation,
    Throughput,
    Work,
    forward_flops,
    interval,
    trained_parameters,
    training_flops,
)

SHAPE = {"num_layers": 3, "hidden_size": 32, "max_positions": 64}
MODEL = ModelFacts("m", **SHAPE, weights="", vocabulary_size=500, intermediate_size=96)  # type: ignore[arg-type]
PLAIN = {"weight_decay": 0.01}


def encoder() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=500, hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=96, max_position_embeddings=64, attn_implementation="eager",
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


@pytest.mark.parametrize(
    "frozen",
    [Freeze(), Freeze(layers=2), Freeze(embeddings=True), Freeze(embeddings=True, layers=1)],
)
def test_operations_are_what_pytorch_counts(frozen: Freeze) -> None:
    network, counter = encoder(), FlopCounterMode(display=False)
    freeze(network, frozen)
    with counter:
        network(torch.full((2, 16), 7)).last_hidden_state.sum().backward()
    settings = {"freeze": frozen.model_dump()}
    expected = training_flops(MODEL, 16, settings) * 2 * 16
    # The lowest layer that is trained needs no gradient of its inputs if nothing below it is.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.13)
    if frozen == Freeze():
        assert counter.get_total_flops() == expected


def test_parameters_are_those_of_the_network() -> None:
    network = encoder()
    whole = sum(parameter.numel() for parameter in network.parameters())
    # Not counted: token types and the norm of the embeddings.
    assert MODEL.num_parameters == whole - 2 * 32 - 2 * 32
    freeze(network, Freeze(layers=1))
    trained = sum(part.numel() for part in network.parameters() if part.requires_grad)
    settings = {**PLAIN, "freeze": {"embeddings": False, "layers": 1}}
    assert trained_parameters(MODEL, settings, 400) == trained - 2 * 32 - 2 * 32
    trimmed = trained_parameters(MODEL, {"weight_decay": 0.0}, 100)
    assert trained_parameters(MODEL, PLAIN, 100) - trimmed == 400 * 32


WIDE = {"hidden_size": 128, "intermediate_size": 256}
FAMILIES = {
    "modernbert": ARCHITECTURES["modernbert"],
    "gte": ARCHITECTURES["gte"],
    "albert": ("Albert", {**PLAIN_BERT, "embedding_size": 16}),
    "gemma3": (
        "Gemma3Text",
        {**PLAIN_BERT, "num_key_value_heads": 1, "head_dim": 64, "bos_token_id": 1,
         "eos_token_id": 2, "use_bidirectional_attention": True},
    ),
}  # fmt: skip
"""Gated layers, shared ones, and keys that heads share."""


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_have_the_weights_and_operations_of_their_own_layers(family: str) -> None:
    name, settings = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**settings, **WIDE})
    with torch.device("meta"):
        network = transformers.AutoModel.from_config(config, attn_implementation="eager")
    model = shape_of(family, json.loads(config.to_json_string(use_diff=False)))
    weights = {
        name: part.numel() for name, part in network.named_parameters() if "pooler" not in name
    }
    assert model.num_parameters == pytest.approx(sum(weights.values()), rel=0.01)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros((2, 16), dtype=torch.long, device="meta"))
    # Not counted: widening the embeddings, angles of rotary positions, a pooler.
    assert counter.get_total_flops() == pytest.approx(forward_flops(model, 16) * 32, rel=0.02)


CPU = Maker(sweep="now")
STAGE = Work((2.0, 5.0, 20.0), CPU, "target", "m", (32, 128, "none", False))


def seen(work: Work, factor: float, sweep: str = "before") -> Observation:
    return Observation(
        replace(work, maker=replace(work.maker, sweep=sweep)), factor * sum(work.terms)
    )


def expected(throughput: Throughput, work: Work) -> tuple[float, float, float]:
    draws = throughput.draw([work], 4000)
    draws *= throughput.scatter([work], 4000)
    return float(draws[0, 0]), *interval(draws[:, 0])


def test_nothing_known_is_a_wide_guess() -> None:
    median, low, high = expected(Throughput([]), STAGE)
    assert median == pytest.approx(27.0)
    assert low < 27 / 3
    assert high > 27 * 3


def test_a_measured_shape_is_predicted_by_its_own_times() -> None:
    slow = Throughput([seen(STAGE, 3.0)] * 6)
    median, low, high = expected(slow, STAGE)
    assert median == pytest.approx(81, rel=0.1)
    assert 1.2 < high / low < 3
    assert slow.knows(STAGE)
    assert not slow.knows(replace(STAGE, model="other"))


def test_another_shape_learns_the_speed_of_the_device_and_stays_less_certain() -> None:
    slow = Throughput([seen(STAGE, 3.0)] * 6)
    other = replace(STAGE, model="other", shape=(16, 64, "none", False))
    median, low, high = expected(slow, other)
    assert 2.2 * 27 < median < 3.2 * 27
    same = expected(slow, STAGE)
    assert high / low > same[2] / same[1]
    gpu = replace(STAGE, maker=replace(CPU, device="H200"))
    assert expected(slow, gpu)[0] == pytest.approx(27)
    assert not slow.knows_device(gpu)


def test_what_trials_take_besides_stages_tells_nothing_of_the_speed_of_stages() -> None:
    trial = Work((4.0, 0.0, 0.0), Maker(), "trial", "")
    slow = Throughput([seen(trial, 20.0, sweep="now")] * 12)
    assert expected(slow, STAGE) == pytest.approx(expected(Throughput([]), STAGE), rel=0.05)
    median, low, high = expected(slow, replace(trial, maker=CPU))
    assert median == pytest.approx(80, rel=0.2)
    assert high / low < 6


def test_a_stage_of_another_task_tells_of_its_shape_but_less_than_one_of_this_task() -> None:
    settings = {
        "precision": "fp32", "batch_size": 32, "max_length": 128, "weight_decay": 0.01,
        "task": {"name": "other"}, "source_language": "en",
    }  # fmt: skip
    arithmetic = Arithmetic(Facts({}, {}), {})
    other = arithmetic.work("target", settings, 320, MODEL, CPU)
    own = replace(other, is_measured=True, tasks="this")
    assert not other.is_measured
    assert other.group == own.group

    def width(*made: Work) -> float:
        median, low, high = expected(Throughput([seen(work, 3.0) for work in made]), own)
        assert not made or median > 1.5 * sum(own.terms)
        return high / low

    assert width(own, own, own) < width(other, other, other) < width()


def test_stages_of_several_lengths_tell_loading_from_computing() -> None:
    def length(factor: float) -> Work:
        first, *rest = STAGE.terms
        return replace(STAGE, terms=(first, factor * rest[0], factor * rest[1]))

    # Loading takes 6 times as long as assumed, computing half.
    times = {size: 12.0 + size * 12.5 for size in (0.1, 0.3, 1.0)}
    made = [
        Observation(replace(length(size), maker=replace(CPU, sweep=f"{size} {n}")), took)
        for size, took in times.items()
        for n in range(4)
    ]
    assert expected(Throughput(made), length(4.0))[0] == pytest.approx(12 + 50, rel=0.25)


def test_intervals_hold_their_share_of_times_drawn_from_the_prior() -> None:
    shapes = [replace(STAGE, model=model, shape=(size,)) for model in "ab" for size in (8, 32)]
    inside = []
    for seed in range(120):
        # One draw of everything; the median is not one.
        truth = Throughput([]).draw(
            [replace(w, maker=replace(CPU, sweep="one")) for w in shapes], 2, seed
        )
        noise = np.exp(NOISE[0] * np.random.default_rng(seed).standard_normal((4, 3)))
        made = [
            Observation(replace(work, maker=replace(CPU, sweep="one")), truth[1, n] * noise[n, m])
            for n, work in enumerate(shapes[:3])
            for m in range(2)
        ]
        wanted = replace(shapes[3], maker=replace(CPU, sweep="one"))
        draws = Throughput(made).draw([wanted], 400)
        low, high = interval(draws[:, 0])
        inside.append(low <= truth[1, 3] <= high)
    share = sum(inside) / len(inside)
    assert abs(share - 0.8) < 3 * math.sqrt(0.16 / len(inside))
